//! Random series and random conditions: SQL over raw samples equals a plain loop over them.

use std::collections::BTreeMap;
use std::sync::Arc;

use aetherdb::model::{Labels, METRIC_NAME, Samples, stale_nan};
use aetherdb::storage::Snapshot;

use crate::promqltest::MemoryPart;
use crate::sql::script::{Sql, cells};
use crate::support::{Random, setting};

type Series = Vec<(Labels, Samples)>;

fn series(random: &mut Random) -> Series {
    // One series has every label, so that each has a column.
    let full = Labels::from_pairs([(METRIC_NAME, "m"), ("host", "h1"), ("zone", "z1")]).unwrap();
    let one = Samples { timestamps: vec![1_000], values: vec![3.0] };
    let mut all = BTreeMap::from([(full, one)]);
    for _ in 0..=random.below(12) {
        let (host, zone) = (format!("h{}", random.below(4)), format!("z{}", random.below(3)));
        let mut pairs = vec![(METRIC_NAME, "m"), ("host", host.as_str())];
        if random.below(3) > 0 {
            pairs.push(("zone", zone.as_str()));
        }
        let mut samples = Samples::default();
        let mut time = 0;
        for _ in 0..random.below(300) {
            time += 1 + i64::try_from(random.below(20_000)).unwrap();
            let value = match random.below(20) {
                0 => stale_nan(),
                // Whole numbers add without rounding, in whatever order.
                _ => f64::from(u32::try_from(random.below(1_000)).unwrap()) - 500.0,
            };
            samples.push(time, value);
        }
        all.insert(Labels::from_pairs(pairs).unwrap(), samples);
    }
    all.into_iter().collect()
}

/// A condition in SQL, and whether it holds for a sample.
struct Condition {
    text: String,
    holds: Holds,
}

type Holds = Box<dyn Fn(&Labels, i64, f64) -> bool>;

fn condition(random: &mut Random) -> Condition {
    let host = format!("h{}", random.below(5));
    let zone = format!("z{}", random.below(4));
    let at = i64::try_from(random.below(2_000_000)).unwrap();
    let time = |ms: i64| format!("to_timestamp_millis({ms})");
    let is = |labels: &Labels, name: &str, value: &str| labels.get(name) == Some(value);
    let (text, holds): (String, Holds) = match random.below(10) {
        0 => (format!("host = '{host}'"), Box::new(move |labels, _, _| is(labels, "host", &host))),
        1 => (
            format!("zone <> '{zone}'"),
            Box::new(move |labels, _, _| labels.get("zone").is_some_and(|found| found != zone)),
        ),
        2 => ("zone IS NULL".to_owned(), Box::new(|labels, _, _| labels.get("zone").is_none())),
        3 => (
            format!("host IN ('{host}', 'h1') OR zone = '{zone}'"),
            Box::new(move |labels, _, _| {
                is(labels, "host", &host) || is(labels, "host", "h1") || is(labels, "zone", &zone)
            }),
        ),
        4 => (format!("time > {}", time(at)), Box::new(move |_, time, _| time > at)),
        5 => (
            format!("time BETWEEN {} AND {}", time(at / 2), time(at)),
            Box::new(move |_, time, _| at / 2 <= time && time <= at),
        ),
        6 => (
            format!("time <= {} OR value > 400", time(at)),
            Box::new(move |_, time, value| time <= at || value > 400.0),
        ),
        7 => (
            "zone LIKE 'z%' AND host ~ '[12]$'".to_owned(),
            Box::new(|labels, _, _| {
                let host = labels.get("host").unwrap();
                labels.get("zone").is_some() && (host.ends_with('1') || host.ends_with('2'))
            }),
        ),
        8 => ("NOT (value < 0)".to_owned(), Box::new(|_, _, value| value >= 0.0)),
        _ => (
            format!("(host = '{host}' AND value > 0) OR (host = 'h2' AND time < {})", time(at)),
            Box::new(move |labels, time, value| {
                (is(labels, "host", &host) && value > 0.0)
                    || (is(labels, "host", "h2") && time < at)
            }),
        ),
    };
    Condition { text, holds }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aggregates_equal_a_plain_loop() {
    let mut random = Random(setting("AETHER_SQL_SEED", 20_261_125));
    let sql = Sql::new();
    for _ in 0..setting("AETHER_SQL_CASES", 40) {
        let series = series(&mut random);
        let conditions: Vec<_> = (0..=random.below(2)).map(|_| condition(&mut random)).collect();
        let clauses: Vec<_> = conditions.iter().map(|one| format!("({})", one.text)).collect();
        let clause = clauses.join(" AND ");
        let table = ["m", "samples"][usize::try_from(random.below(2)).unwrap()];
        let columns = |text: &str| match table {
            "m" => text.to_owned(),
            _ => text.replace("host", "labels['host']").replace("zone", "labels['zone']"),
        };
        let query = format!(
            "SELECT {} AS g, count(*), sum(value), min(value), max(value), first(value, time) \
             FROM {table} WHERE {} GROUP BY g ORDER BY g",
            columns("host"),
            columns(&clause)
        );
        let mut wanted: BTreeMap<&str, Vec<(i64, f64)>> = BTreeMap::new();
        for (labels, samples) in &series {
            for (time, value) in samples.timestamps.iter().zip(&samples.values) {
                let fits = conditions.iter().all(|one| (one.holds)(labels, *time, *value));
                if value.to_bits() != stale_nan().to_bits() && fits {
                    let group = wanted.entry(labels.get("host").unwrap()).or_default();
                    group.push((*time, *value));
                }
            }
        }
        // Of several samples at the earliest time any may be the first.
        let first_of = |samples: &[(i64, f64)]| {
            let first = samples.iter().map(|(time, _)| *time).min().unwrap();
            samples.iter().filter(|one| one.0 == first).map(|one| one.1).collect::<Vec<_>>()
        };
        let part = MemoryPart { series: series.clone() };
        let snapshot = Snapshot::new(vec![Arc::new(part)], Vec::new(), Vec::new());
        let found = match sql.query(&snapshot, &query).await {
            Ok(batches) => cells(&batches),
            Err(error) => panic!("{query}: {error}"),
        };
        assert_eq!(found.len(), wanted.len(), "{query}\n{found:?}\n{wanted:?}");
        for (row, (host, samples)) in found.iter().zip(&wanted) {
            let fold = |fold: fn(f64, f64) -> f64| samples.iter().map(|one| one.1).reduce(fold);
            let (sum, min, max) = (fold(|a, b| a + b), fold(f64::min), fold(f64::max));
            let numbers = [sum, min, max].map(|number| format!("{:?}", number.unwrap()));
            assert_eq!(row[0], **host, "{query}");
            assert_eq!(row[1], samples.len().to_string(), "{query}");
            assert_eq!(row[2..5], numbers, "{query}");
            let first: f64 = row[5].parse().unwrap();
            assert!(first_of(samples).contains(&first), "{query}: {first}");
        }
    }
}
