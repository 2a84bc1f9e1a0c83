//! Random lives of a store, as `rollups::model` makes them: samples in memory and in blocks, out of
//! order, overlapping, deleted, rolled up, over restarts. After every step SQL equals a plain loop
//! over what the store should hold, and the plans that fold samples where they are read equal
//! DataFusion's own.

use std::collections::BTreeMap;

use aetherdb::columnar::parquet::LabelColumns;
use aetherdb::model::{Labels, METRIC_NAME, Resolution, is_stale};

use crate::rollups::model::{step, stretch, value};
use crate::rollups::{Bed, Row, naive};
use crate::sql::script::{Sql, cells};
use crate::support::{Random, setting};

const STEPS: u64 = 10;

/// One sample.
type Sample<'a> = (&'a Labels, i64, f64);

/// A key in SQL, and what it is of a sample.
struct Key {
    text: &'static str,
    of: fn(&Labels, i64) -> String,
}

/// As SQL prints it.
fn label(labels: &Labels, name: &str) -> String {
    labels.get(name).unwrap_or("NULL").to_owned()
}

fn start(at: i64, width: i64, origin: i64) -> String {
    let start = (at - origin).div_euclid(width) * width + origin;
    chrono::DateTime::from_timestamp_millis(start).unwrap().timestamp().to_string()
}

const KEYS: [Key; 9] = [
    Key { text: "a", of: |labels, _| label(labels, "a") },
    Key { text: r#""label_Day""#, of: |labels, _| label(labels, "Day") },
    Key {
        text: "upper(coalesce(a, 'q'))",
        of: |labels, _| labels.get("a").unwrap_or("Q").to_owned(),
    },
    Key { text: "a IS NULL", of: |labels, _| labels.get("a").is_none().to_string() },
    Key { text: "time_bucket('5 minutes', time)", of: |_, at| start(at, 300_000, 0) },
    Key {
        text: "date_bin(INTERVAL '7 seconds', time, TIMESTAMP '2023-11-15T00:00:01Z')",
        of: |_, at| start(at, 7_000, 1_700_006_401_000),
    },
    Key { text: "date_trunc('hour', time)", of: |_, at| start(at, 3_600_000, 0) },
    Key {
        text: "time_bucket(INTERVAL '1 day', time) + INTERVAL '1 hour'",
        of: |_, at| {
            let day = at.div_euclid(86_400_000) * 86_400 + 3_600;
            day.to_string()
        },
    },
    Key {
        text: "date_part('hour', time)",
        of: |_, at| (at.div_euclid(3_600_000) % 24).to_string(),
    },
];

/// What is asked of a group; of the last three, the first two may be any of several samples, and
/// the last is computed from rows alone.
const AGGREGATES: [&str; 11] = [
    "count(*)",
    "sum(value)",
    "avg(value)",
    "min(value)",
    "max(value)",
    "CAST(date_part('epoch', min(time)) * 1000 AS BIGINT)",
    "CAST(date_part('epoch', max(time)) * 1000 AS BIGINT)",
    "count(*) FILTER (WHERE value > 3)",
    "first(value, time)",
    "last(value, time)",
    "stddev(value)",
];
/// Those for which a chunk's summary may do.
const OF_CHUNKS: [usize; 9] = [0, 1, 2, 3, 4, 5, 6, 8, 9];

/// A condition in SQL, and whether it holds.
struct Condition {
    text: String,
    holds: Holds,
}

type Holds = Box<dyn Fn(&Labels, i64, f64) -> bool>;

fn condition(random: &mut Random) -> Condition {
    let at = 1_699_992_000_000 + i64::try_from(random.below(40 * 3_600)).unwrap() * 1_000;
    let number = random.below(6).to_string();
    match random.below(6) {
        0 => Condition { text: "true".to_owned(), holds: Box::new(|_, _, _| true) },
        1 => Condition {
            text: format!("time > to_timestamp_millis({at})"),
            holds: Box::new(move |_, time, _| time > at),
        },
        2 => Condition {
            text: "value > 5".to_owned(),
            holds: Box::new(|_, _, value| {
                // NaN is greater than any number.
                value > 5.0 || value.is_nan()
            }),
        },
        3 => Condition {
            text: format!("a = '{number}'"),
            holds: Box::new(move |labels, _, _| labels.get("a") == Some(&number)),
        },
        4 => Condition {
            text: format!("value <= 3 OR time = to_timestamp_millis({at})"),
            holds: Box::new(move |_, time, value| value <= 3.0 || time == at),
        },
        _ => Condition {
            text: format!("value < 15 AND a <> '{number}'"),
            holds: Box::new(move |labels, _, value| {
                value < 15.0 && labels.get("a").is_some_and(|found| found != number)
            }),
        },
    }
}

/// Whether two numbers in SQL's words are the same but for the order in which they were added.
fn near(found: &str, wanted: &str) -> bool {
    if found == wanted {
        return true;
    }
    match (found.parse::<f64>(), wanted.parse::<f64>()) {
        (Ok(found), Ok(wanted)) => {
            (found.is_nan() && wanted.is_nan())
                || (found - wanted).abs() <= 1e-9 * (1.0 + wanted.abs())
        }
        _ => false,
    }
}

/// One random aggregation. Gives how many chunks were settled without being read.
async fn check_raw(bed: &Bed, sql: &Sql, random: &mut Random) -> u64 {
    let metric = ["m", "n"][usize::try_from(random.below(2)).unwrap()];
    let has = |name: &str| {
        bed.model.iter().any(|((labels, _), _)| {
            labels.get(METRIC_NAME) == Some(metric) && labels.get(name).is_some()
        })
    };
    // Columns exist only for labels that some series has.
    if !has("a") || !has("Day") {
        return 0;
    }
    let keys: Vec<&Key> = (0..random.below(4))
        .map(|_| &KEYS[usize::try_from(random.below(KEYS.len() as u64)).unwrap()])
        .collect();
    let condition = condition(random);
    let shown =
        |key: &Key, number: usize| match key.text.contains("time") && !key.text.contains("part") {
            true => format!("CAST(date_part('epoch', {}) AS BIGINT) AS k{number}", key.text),
            false => format!("{} AS k{number}", key.text),
        };
    let select: Vec<_> = keys.iter().enumerate().map(|(number, key)| shown(key, number)).collect();
    let by: Vec<_> = keys.iter().map(|key| key.text).collect();
    let asked: Vec<usize> = match random.below(3) {
        0 => (0..AGGREGATES.len()).collect(),
        _ => OF_CHUNKS.into_iter().filter(|_| random.below(3) == 0).collect(),
    };
    let aggregates: Vec<_> =
        asked.iter().map(|one| AGGREGATES[*one]).chain(["count(value)"]).collect();
    let aggregates = aggregates.join(", ");
    let group_by =
        if by.is_empty() { String::new() } else { format!("GROUP BY {}", by.join(", ")) };
    let query = |more: &str| {
        let columns: Vec<_> =
            select.iter().map(String::as_str).chain([aggregates.as_str()]).collect();
        format!(
            "SELECT {} FROM {metric} WHERE ({}) {more} {group_by}",
            columns.join(", "),
            condition.text
        )
    };
    let mut groups: BTreeMap<Vec<String>, Vec<Sample>> = BTreeMap::new();
    if by.is_empty() {
        groups.insert(Vec::new(), Vec::new());
    }
    for ((labels, at), value) in &bed.model {
        if labels.get(METRIC_NAME) == Some(metric)
            && !is_stale(*value)
            && (condition.holds)(labels, *at, *value)
        {
            let key = keys.iter().map(|key| (key.of)(labels, *at)).collect();
            groups.entry(key).or_default().push((labels, *at, *value));
        }
    }
    let snapshot = bed.engine.snapshot();
    let folded = query("");
    let run = async |query: &str| {
        let failed = |error| panic!("{query}: {error}");
        let (rows, stats) = sql.ask(&snapshot, query).await.unwrap_or_else(failed);
        let mut rows = cells(&rows);
        rows.sort();
        (rows, stats.read.settled)
    };
    let (found, settled) = run(&folded).await;
    assert_eq!(found.len(), groups.len(), "{folded}\n{found:?}\n{groups:?}");
    for row in &found {
        let samples = &groups[&row[..keys.len()]];
        check_group(&folded, &asked, &row[keys.len()..], samples);
    }
    let (plan, _) = run(&format!("EXPLAIN {folded}")).await;
    assert!(format!("{plan:?}").contains("SampleFoldExec"), "{folded}: {plan:?}");
    // A condition on labels and values at once is not for the scan, nor for the fold.
    let plain = query("AND (abs(value) >= 0 OR a = 'none')");
    let (plan, _) = run(&format!("EXPLAIN {plain}")).await;
    assert!(format!("{plan:?}").contains("mode=Partial"), "{plain}: {plan:?}");
    let (rows, _) = run(&plain).await;
    assert_eq!(rows.len(), found.len(), "{folded}\n{found:?}\n{rows:?}");
    // Of several samples at the earliest time any may be the first.
    let exact = |cell: usize| {
        let aggregate = cell.checked_sub(keys.len()).and_then(|cell| asked.get(cell));
        !aggregate.is_some_and(|aggregate| [8, 9].contains(aggregate))
    };
    for (row, folded_row) in rows.iter().zip(&found) {
        for (cell, (one, other)) in row.iter().zip(folded_row).enumerate() {
            assert!(!exact(cell) || near(one, other), "{folded}: {row:?} is not {folded_row:?}");
        }
    }
    settled
}

/// `asked` are the aggregates that were found, before the number of values.
fn check_group(query: &str, asked: &[usize], found: &[String], samples: &[Sample]) {
    let values: Vec<f64> = samples.iter().map(|sample| sample.2).collect();
    let at = |at: Option<i64>| at.map_or("NULL".to_owned(), |at| at.to_string());
    let number = |number: Option<f64>| number.map_or("NULL".to_owned(), |one| format!("{one:?}"));
    let sum = values.iter().copied().reduce(|sum, value| sum + value).map(|sum| sum + 0.0);
    let times = || samples.iter().map(|sample| sample.1);
    let mut wanted = vec![
        samples.len().to_string(),
        number(sum),
        number(sum.map(|sum| sum / values.len() as f64)),
        number(values.iter().copied().min_by(f64::total_cmp)),
        number(values.iter().copied().max_by(f64::total_cmp)),
        at(times().min()),
        at(times().max()),
        values.iter().filter(|value| **value > 3.0 || value.is_nan()).count().to_string(),
    ];
    assert_eq!(found[asked.len()], wanted[0], "{query}");
    for (aggregate, end) in [(8, times().min()), (9, times().max())] {
        let of_end = samples.iter().filter(|sample| Some(sample.1) == end);
        let choice: Vec<_> = of_end.map(|sample| number(Some(sample.2))).collect();
        let place = asked.iter().position(|asked| *asked == aggregate);
        let cell = place.map_or("", |place| &found[place]);
        let is_one = place.is_none() || choice.is_empty() || choice.iter().any(|one| one == cell);
        assert!(is_one, "{query}: {cell}, not {choice:?}");
        wanted.push(cell.to_owned());
    }
    // Whatever the rest is, the plan that reads rows gives the same.
    for (found, aggregate) in found.iter().zip(asked).filter(|(_, one)| **one < wanted.len()) {
        let wanted = &wanted[*aggregate];
        let is_exact = found == wanted || near(found, wanted);
        assert!(is_exact, "{query}\n{found}, not {wanted}\n{samples:?}");
    }
}

/// Every row of every resolution, through SQL.
async fn check_rollups(bed: &Bed, sql: &Sql) {
    let snapshot = bed.engine.snapshot();
    let columns: &LabelColumns = snapshot.rollups().unwrap().label_columns();
    let column = |name: &str| match columns.column(name) {
        Some(column) => format!("\"{column}\""),
        None => "NULL".to_owned(),
    };
    for resolution in Resolution::ALL {
        let schema = format!("rollup_{resolution}");
        let epoch = |name: &str| format!("CAST(date_part('epoch', {name}) * 1000 AS BIGINT)");
        let query = format!(
            "SELECT metric, {}, {}, {}, count, sum, min, max, first, last, {}, {}, reset_sum, \
             resets, changes FROM {schema}.samples",
            column("a"),
            column("Day"),
            epoch("bucket_end"),
            epoch("first_ts"),
            epoch("last_ts"),
        );
        let mut found = cells(&sql.query(&snapshot, &query).await.unwrap());
        found.sort();
        let number = |row: &Row, number: f64| match row.count {
            0 => "NULL".to_owned(),
            _ => format!("{number:?}"),
        };
        let time = |row: &Row, at: i64| match row.count {
            0 => "NULL".to_owned(),
            _ => at.to_string(),
        };
        let mut wanted: Vec<Vec<String>> = naive(&bed.model, resolution)
            .iter()
            .map(|((labels, end), row)| {
                vec![
                    label(labels, METRIC_NAME),
                    label(labels, "a"),
                    label(labels, "Day"),
                    end.to_string(),
                    row.count.to_string(),
                    number(row, row.sum),
                    number(row, row.min),
                    number(row, row.max),
                    number(row, row.first),
                    number(row, row.last),
                    time(row, row.first_ts),
                    time(row, row.last_ts),
                    format!("{:?}", row.reset_sum),
                    row.resets.to_string(),
                    row.changes.to_string(),
                ]
            })
            .collect();
        wanted.sort();
        assert_eq!(found.len(), wanted.len(), "{query}");
        for (found, wanted) in found.iter().zip(&wanted) {
            let same = found.iter().zip(wanted).all(|(found, wanted)| near(found, wanted));
            assert!(same, "{query}\n{found:?}\n{wanted:?}");
        }
        // By metric and label, with what prunes files and rows.
        let total = |metric: &str, a: &str| {
            let of = wanted.iter().filter(|row| row[0] == metric && row[1] == a);
            of.map(|row| row[4].parse::<u64>().unwrap()).sum::<u64>().to_string()
        };
        for (metric, a) in [("m", "2"), ("n", "1")] {
            if !wanted.iter().any(|row| row[0] == metric && row[1] == a) {
                continue;
            }
            let query = format!("SELECT sum(count) FROM {schema}.{metric} WHERE a = '{a}'");
            let found = cells(&sql.query(&snapshot, &query).await.unwrap());
            assert_eq!(found, [[total(metric, a)]], "{query}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_equals_a_plain_loop_whatever_happened_to_the_store() {
    let seed = setting("AETHER_SQL_SEED", 20_261_126);
    let sql = Sql::new();
    for life in 0..setting("AETHER_SQL_LIVES", 2) {
        let seed = seed.wrapping_add(life);
        println!("AETHER_SQL_SEED={seed}");
        let mut random = Random(seed);
        let mut bed = Bed::new();
        for _ in 0..STEPS {
            step(&mut bed, &mut random).await;
            for _ in 0..3 {
                check_raw(&bed, &sql, &mut random).await;
            }
        }
        bed.downsample().await;
        check_rollups(&bed, &sql).await;
        bed.engine.close().await.unwrap();
    }
}

/// Blocks over blocks: the same samples written again with other values, some deleted. A chunk may
/// stand for its samples only where it is all there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_stand_for_their_samples_only_where_nothing_overlaps_them() {
    let seed = setting("AETHER_SQL_SEED", 20_261_126);
    let sql = Sql::new();
    let mut settled = 0;
    for life in 0..setting("AETHER_SQL_LIVES", 2) * 2 {
        let seed = seed.wrapping_add(life);
        println!("AETHER_SQL_SEED={seed}");
        let mut random = Random(seed);
        let mut bed = Bed::new();
        for _ in 0..STEPS {
            let mut rows: Vec<_> = (0..12).flat_map(|_| stretch(&mut random)).collect();
            bed.write(&rows).await;
            bed.engine.flush().await.unwrap();
            let from = usize::try_from(random.below(rows.len() as u64)).unwrap();
            for (_, _, of_sample) in &mut rows[from..] {
                *of_sample = value(&mut random);
            }
            bed.write(&rows[from..]).await;
            match random.below(4) {
                // What was written again stays in memory, or gets blocks of its own.
                0 => {}
                1 => bed.delete(&mut random).await,
                2 => drop(bed.engine.compact().await.unwrap()),
                _ => drop(bed.engine.flush().await.unwrap()),
            }
            for _ in 0..4 {
                settled += check_raw(&bed, &sql, &mut random).await;
            }
        }
        bed.engine.close().await.unwrap();
    }
    println!("{settled} chunks were settled by what their directory says");
    assert!(settled > 100, "only {settled} chunks were settled");
}
