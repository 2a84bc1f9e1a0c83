//! When raw samples have expired, rollups answer alone: exactly where windows are whole buckets, and
//! else for windows that are rounded down to buckets, which the answer says.

use aetherdb::clock::Clock;
use aetherdb::model::{Labels, METRIC_NAME, Matcher, TimeRange};
use aetherdb::promql::QueryKind;
use aetherdb::storage::{Deletion, Retention};

use super::{Closeness, HOUR, MINUTE, Rows, START, World, assert_same, hourly, rows, series};

const DAY: i64 = 24 * HOUR;
/// The clock stands ten days after the first sample.
const RAW_KEPT: i64 = 9 * DAY;

/// Two days of one series, and one that ended on the first day.
fn data() -> Vec<(Labels, Rows)> {
    let rows = |hours: i64, slope: i64| -> Rows {
        (1..hours * 60)
            .map(|minute| (START + minute * MINUTE + 1, (minute % 500 * slope) as f64))
            .collect()
    };
    let named = |n| series(&[(METRIC_NAME, "c_total"), ("n", n)]);
    vec![(named("ended"), rows(7, 3)), (named("lives"), rows(48, 2))]
}

/// A store that has all samples, and one whose first day has expired.
async fn worlds(one_minute_ms: Option<i64>) -> (World, World) {
    worlds_keeping(Retention { raw_ms: Some(RAW_KEPT), one_minute_ms, ..Retention::default() })
        .await
}

async fn worlds_keeping(retention: Retention) -> (World, World) {
    let (whole, expired) = (World::new(), World::keeping(retention));
    for world in [&whole, &expired] {
        let now_ms = world.clock.now_ms();
        world.clock.set(START + 3 * DAY);
        for (labels, rows) in data() {
            world.write(&labels, &rows).await;
        }
        world.downsample().await;
        world.engine.compact().await.unwrap();
        // Days are blocks when they expire.
        world.clock.set(now_ms);
        world.engine.compact().await.unwrap();
    }
    let first = expired.engine.status().time_range.unwrap().start();
    assert!(first >= START + 10 * DAY - retention.raw_ms.unwrap(), "the first day is still there");
    (whole, expired)
}

const QUESTIONS: [&str; 7] = [
    "c_total",
    "timestamp(c_total)",
    "increase(c_total[2h])",
    "sum(rate(c_total[1h]))",
    "resets(c_total[3h] anchored)",
    "max_over_time(c_total[90m])",
    "avg by (n) (c_total[1h])",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_buckets_are_still_exact() {
    let (whole, expired) = worlds(None).await;
    for text in QUESTIONS {
        for grid in [hourly(1, 40), hourly(3, 9), hourly(22, 26)] {
            let raw = whole.ask(text, grid, "0s").await;
            let rolled = expired.ask(text, grid, "auto").await;
            assert_same(&raw.value, &rolled.value, Closeness::Relative, text);
            let rounded = rolled.infos.iter().any(|info| info.contains("expired"));
            assert!(!rounded, "{text}: {:?}", rolled.infos);
        }
    }
}

/// A block half past its time is still there, and answers as if its first half were not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hidden_half_of_a_block_answers_from_rollups() {
    let kept = RAW_KEPT + 12 * HOUR;
    for one_minute_ms in [None, Some(kept)] {
        let retention = Retention { raw_ms: Some(kept), one_minute_ms, ..Retention::default() };
        let (whole, trimmed) = worlds_keeping(retention).await;
        let samples = |world: &World| world.engine.status().block_samples;
        assert_eq!(samples(&trimmed), samples(&whole), "no block was dropped or written anew");
        for text in QUESTIONS {
            for grid in [hourly(1, 40), hourly(3, 9), hourly(10, 14), hourly(22, 26)] {
                let raw = whole.ask(text, grid, "0s").await;
                let rolled = trimmed.ask(text, grid, "auto").await;
                assert_same(&raw.value, &rolled.value, Closeness::Relative, text);
            }
            let hidden = trimmed.ask(text, hourly(2, 8), "0s").await;
            assert_eq!(rows(&hidden.value).len(), 0, "{text}: {:?}", hidden.value);
        }
        // What only a sample can tell says so; its window has samples from the floor on.
        let text = "quantile_over_time(0.5, c_total[2h])";
        let outcome = trimmed.ask(text, hourly(13, 13), "auto").await;
        let said = "raw samples of 2023-11-14T11:00:00Z..2023-11-14T12:00:00Z have expired";
        assert!(outcome.infos.iter().any(|info| info.contains(said)), "{:?}", outcome.infos);
        let rest = whole.ask("quantile_over_time(0.5, c_total[1h])", hourly(13, 13), "0s").await;
        assert_same(&rest.value, &outcome.value, Closeness::Bits, text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_windows_are_rounded_down_and_the_answer_says_so() {
    for (one_minute_ms, bucket) in [(None, MINUTE), (Some(RAW_KEPT), 5 * MINUTE)] {
        let (whole, expired) = worlds(one_minute_ms).await;
        for text in QUESTIONS {
            let time = START + 6 * HOUR + 34 * MINUTE + 11_000;
            let instant = |time| QueryKind::Instant { time };
            let raw = whole.ask(text, instant(time - time % bucket), "0s").await;
            let rolled = expired.ask(text, instant(time), "auto").await;
            let at =
                |series: &aetherdb::promql::VectorSample| (series.labels.clone(), series.value);
            let values = |outcome: &aetherdb::promql::QueryOutcome| match &outcome.value {
                aetherdb::promql::Value::Vector(samples) => {
                    samples.iter().map(at).collect::<Vec<_>>()
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(values(&raw), values(&rolled), "{text}");
            let says = |text: &str| rolled.infos.iter().any(|info| info.contains(text));
            assert!(says("begin and end with a bucket"), "{text}: {:?}", rolled.infos);
        }
        // Where samples are left, nothing is rounded.
        let time = START + 30 * HOUR + 34 * MINUTE + 11_000;
        for text in QUESTIONS {
            let raw = whole.ask(text, QueryKind::Instant { time }, "0s").await;
            let rolled = expired.ask(text, QueryKind::Instant { time }, "auto").await;
            assert_same(&raw.value, &rolled.value, Closeness::Relative, text);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rollups_cannot_answer_is_said() {
    let (_, expired) = worlds(None).await;
    let outcome = expired.ask("quantile_over_time(0.5, c_total[1h])", hourly(5, 6), "auto").await;
    let expected = "c_total: raw samples of 2023-11-14T04:00:00Z..2023-11-14T06:00:00Z have \
                    expired, and rollups cannot answer this";
    assert!(outcome.infos.contains(&expected.to_owned()), "{:?}", outcome.infos);
}

/// A deletion of expired samples takes whole buckets of each resolution, so that an answer is the
/// one that raw samples would give had just those buckets been deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_of_expired_samples_takes_whole_buckets() {
    let (_, expired) = worlds(None).await;
    let deletion = |first: i64, last: i64| Deletion {
        matchers: vec![Matcher::equal("n", "lives")],
        range: TimeRange::new(first, last).unwrap(),
    };
    let (first, last) = (START + 2 * HOUR + 90_001, START + 4 * HOUR + 30_500);
    expired.engine.delete(vec![deletion(first, last)]).await.unwrap();
    expired.downsample().await;
    for (name, bucket) in [("1m", MINUTE), ("5m", 5 * MINUTE), ("1h", HOUR)] {
        let whole = World::new();
        for (labels, rows) in data() {
            whole.write(&labels, &rows).await;
        }
        let before = (first - 1).div_euclid(bucket) * bucket + 1;
        let behind = (last + bucket - 1).div_euclid(bucket) * bucket;
        whole.engine.delete(vec![deletion(before, behind)]).await.unwrap();
        for text in ["count_over_time(c_total[1h])", "sum_over_time(c_total[2h])", "c_total"] {
            let raw = whole.ask(text, hourly(1, 9), "0s").await;
            let rolled = expired.ask(text, hourly(1, 9), name).await;
            let context = format!("{text} from {name}: {:?}", rolled.infos);
            assert_same(&raw.value, &rolled.value, Closeness::Relative, &context);
        }
    }
}
