//! Random questions about generated series, before and after late data, deletions and rebuilding.

use std::collections::BTreeMap;

use aetherdb::model::{MatchOp, Matcher, TimeRange};
use aetherdb::promql::QueryKind;
use aetherdb::storage::Deletion;

use super::data::{Kind, below, generate};
use super::{Closeness, HOUR, MINUTE, START, World, hourly};
use crate::support::{Random, setting};

const HOURS: i64 = 9;

/// What a question is made of; `M` stands for the metric, `D` for the window, `O` for an offset.
const QUESTIONS: [(&str, Exact); 30] = [
    ("delta(M[D]O)", Exact::Always),
    ("increase(M[D]O)", Exact::OfWholeNumbers),
    ("rate(M[D]O)", Exact::OfWholeNumbers),
    ("resets(M[D]O)", Exact::Always),
    ("changes(M[D]O)", Exact::Always),
    ("min_over_time(M[D]O)", Exact::Always),
    ("max_over_time(M[D]O)", Exact::Always),
    ("count_over_time(M[D]O)", Exact::Always),
    ("first_over_time(M[D]O)", Exact::Always),
    ("last_over_time(M[D]O)", Exact::Always),
    ("present_over_time(M[D]O)", Exact::Always),
    ("absent_over_time(M{pace=\"sparse\"}[D]O)", Exact::Always),
    ("ts_of_first_over_time(M[D]O)", Exact::Always),
    ("ts_of_last_over_time(M[D]O)", Exact::Always),
    ("sum_over_time(M[D]O)", Exact::OfWholeNumbers),
    ("avg_over_time(M[D]O)", Exact::OfWholeNumbers),
    ("M O", Exact::Always),
    ("timestamp(M O)", Exact::Always),
    ("absent(M{pace=\"gaps\"} O)", Exact::Always),
    ("sum by (job) (M O)", Exact::Always),
    ("increase(M[D] anchored O)", Exact::OfWholeNumbers),
    ("rate(M[D] anchored O)", Exact::OfWholeNumbers),
    ("delta(M[D] anchored O)", Exact::Always),
    ("resets(M[D] anchored O)", Exact::Always),
    ("changes(M[D] anchored O)", Exact::Always),
    ("count by (job) (M[D]O)", Exact::Always),
    ("min(M[D]O)", Exact::Always),
    ("max by (pace) (M[D]O)", Exact::Always),
    ("sum by (pace) (M[D]O)", Exact::OfWholeNumbers),
    // The mean of whole numbers is rounded too, and groups of series are merged.
    ("avg by (job) (M[D]O)", Exact::Never),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exact {
    Always,
    OfWholeNumbers,
    Never,
}

/// Rollups of each resolution that took part in the answers to a question.
type Answered = BTreeMap<(&'static str, &'static str), u32>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollups_give_what_raw_samples_give() {
    let seed = setting("AETHER_EQUALITY_SEED", 4);
    let rounds = setting("AETHER_EQUALITY_ROUNDS", 1);
    for case in 0..setting("AETHER_EQUALITY_CASES", 1) {
        let mut random = Random(seed.wrapping_add(case));
        let world = World::new();
        let data = generate(&mut random, HOURS);
        // The last hour stays in memory.
        for (labels, rows) in &data {
            let early = rows.iter().filter(|(at, _)| *at <= START + (HOURS - 1) * HOUR);
            world.write(labels, &early.copied().collect()).await;
        }
        world.downsample().await;
        let mut answered = Answered::new();
        ask(&world, &mut random, rounds, Aim::Anywhere, &mut answered).await;

        // Late data makes one span dirty, a deletion another; both are read raw.
        for (labels, rows) in data.iter().step_by(2) {
            let late = rows.iter().filter(|(at, _)| (*at - START) / HOUR == 3).step_by(7);
            world.write(labels, &late.map(|(at, value)| (at + 1, value + 3.0)).collect()).await;
        }
        let matchers = vec![Matcher::new(MatchOp::Equal, "pace", "aligned").unwrap()];
        let range = TimeRange::new(START + 5 * HOUR, START + 5 * HOUR + 17 * MINUTE).unwrap();
        world.engine.delete(vec![Deletion { matchers, range }]).await.unwrap();
        for (labels, rows) in &data {
            let last = rows.iter().filter(|(at, _)| *at > START + (HOURS - 1) * HOUR);
            world.write(labels, &last.copied().collect()).await;
        }
        ask(&world, &mut random, rounds, Aim::Anywhere, &mut answered).await;

        // Now everything is summed up again.
        world.downsample().await;
        ask(&world, &mut random, rounds, Aim::Anywhere, &mut answered).await;
        ask(&world, &mut random, 1, Aim::Buckets, &mut answered).await;
        for (question, _) in QUESTIONS {
            for resolution in ["1m", "5m", "1h"] {
                let count = answered.get(&(question, resolution)).copied().unwrap_or(0);
                assert!(count > 0, "no {resolution} rollup answered {question}");
            }
        }
    }
}

/// What windows are aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    /// Whole buckets, mostly.
    Anywhere,
    /// Whole buckets.
    Buckets,
}

async fn ask(world: &World, random: &mut Random, rounds: u64, aim: Aim, answered: &mut Answered) {
    for _ in 0..rounds {
        for (question, exact) in QUESTIONS {
            for (cap, resolution_ms) in [("1m", MINUTE), ("5m", 5 * MINUTE), ("1h", HOUR)] {
                let kind = Kind::ALL[usize::try_from(random.below(4)).unwrap()];
                let exact = match exact {
                    Exact::Always => true,
                    Exact::OfWholeNumbers => kind.is_exact(),
                    Exact::Never => false,
                };
                let closeness = if exact { Closeness::Bits } else { Closeness::Relative };
                let (text, grid) = instance(random, question, kind, resolution_ms, aim);
                let (_, by) = world.compare(&text, grid, cap, closeness).await;
                for resolution in by {
                    *answered.entry((question, resolution)).or_default() += 1;
                }
            }
        }
    }
}

/// A question about one metric; `unit` is the length of the buckets that its windows suit.
fn instance(
    random: &mut Random,
    question: &str,
    kind: Kind,
    unit: i64,
    aim: Aim,
) -> (String, QueryKind) {
    let mut window_ms = (1 + below(random, 3)) * unit;
    let mut offset = String::new();
    match random.below(6) {
        0 => offset = format!(" offset {}s", unit / 1_000),
        1 if aim == Aim::Anywhere => offset = " offset -37s".to_owned(),
        2 if aim == Aim::Anywhere => window_ms += 45_000,
        3 => offset = format!(" @ {}", (START + 4 * HOUR) / 1_000),
        _ => {}
    }
    let text = question
        .replace(" O", &offset)
        .replace('O', &offset)
        .replace('D', &format!("{}s", window_ms / 1_000))
        .replace('M', kind.metric());
    let mut start = START + below(random, 3) * HOUR + below(random, HOUR / unit) * unit;
    let mut step_ms = unit * (1 + below(random, 3));
    match random.below(5) {
        0 if aim == Aim::Anywhere => start += below(random, unit),
        1 if aim == Aim::Anywhere => step_ms = unit + 11_000,
        2 => return (text, QueryKind::Instant { time: start + 3 * HOUR }),
        _ => {}
    }
    (text, QueryKind::Range { start, end: start + 6 * HOUR, step_ms })
}

/// Subqueries ask their inner selector at their own steps; operators see what rollups gave.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollups_answer_inside_of_larger_questions() {
    let mut random = Random(setting("AETHER_EQUALITY_SEED", 4));
    let world = World::new();
    for (labels, rows) in generate(&mut random, HOURS) {
        world.write(&labels, &rows).await;
    }
    world.downsample().await;
    for text in [
        "max_over_time(rate(whole_total[1h])[3h:1h])",
        "quantile_over_time(0.5, increase(whole_total[1h])[4h:1h])",
        "sum by (job) (increase(whole_total[2h])) / count by (job) (whole_total)",
        "topk(2, increase(whole_total[1h]))",
        "increase(whole_total[1h]) > 10 or changes(wild[1h])",
        "last_over_time(wild[2h:1h])",
    ] {
        world.compare_from(text, hourly(4, 8), "1h", Closeness::Bits).await;
    }
}

/// Who reads the plan sees which rollups answered and what they cost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_shows_the_scan_of_rollups() {
    let mut random = Random(setting("AETHER_EQUALITY_SEED", 4));
    let world = World::new();
    for (labels, rows) in generate(&mut random, HOURS) {
        world.write(&labels, &rows).await;
    }
    world.downsample().await;
    let plan = world.explain("sum by (job) (rate(whole_total[1h]))", hourly(2, 8)).await;
    for expected in
        ["RollupScanExec: whole_total series=5", "resolution=1h", "stretches=[1h (", "rows="]
    {
        assert!(plan.contains(expected), "{expected:?} in\n{plan}");
    }
    let plan = world.explain("quantile_over_time(0.9, whole_total[1h])", hourly(2, 8)).await;
    assert!(plan.contains("SeriesScanExec"), "{plan}");
    let outcome = world.ask("rate(whole_total[1h])", hourly(2, 8), "auto").await;
    let expected =
        "whole_total: answered from rollup 1h for 2023-11-14T01:00:00Z..2023-11-14T08:00:00Z";
    assert!(outcome.infos.contains(&expected.to_owned()), "{:?}", outcome.infos);
}
