//! Writes, late writes, flushes, compactions, deletions, restarts and rollups in any order: rollups
//! that call themselves right are what the model's samples sum up to, at every moment.

use aetherdb::model::{Labels, Matcher, Resolution, Samples, TimeRange};
use aetherdb::storage::Deletion;

use super::{Bed, EVERYTHING, HOUR, Row, Rows, T0, labels, naive, rows, same};
use crate::support::{Random, setting};

const STEPS: usize = 20;

/// Three series over five hours, on and off the minute, now and then exactly on a bucket's edge.
fn random_rows(random: &mut Random) -> Vec<(Labels, i64, f64)> {
    let mut number = |bound: u64| i64::try_from(random.below(bound)).unwrap();
    let base = T0 + number(9) * HOUR / 2;
    (0..1 + number(30))
        .map(|_| {
            let series = labels("m", &[("n", &number(3).to_string())]);
            let at = match number(4) {
                0 => base + number(12) * 300_000,
                _ => base + number(3_600) * 1_000,
            };
            let value = match number(12) {
                0 => f64::from_bits(0x7ff0_0000_0000_0002),
                _ => number(40) as f64 / 4.0 - 2.0,
            };
            (series, at, value)
        })
        .collect()
}

fn random_deletion(random: &mut Random) -> Deletion {
    let mut number = |bound: u64| i64::try_from(random.below(bound)).unwrap();
    let matchers = match number(3) {
        0 => vec![Matcher::equal("n", number(3).to_string())],
        _ => vec![Matcher::equal("__name__", "m")],
    };
    let start = T0 + number(300) * 60_000 + number(2);
    let range = match number(4) {
        0 => TimeRange::ALL,
        _ => TimeRange::new(start, start + number(90) * 60_000).unwrap(),
    };
    Deletion { matchers, range }
}

/// Raw samples, and the rows of the stretches that are said to be right.
async fn check(bed: &Bed, at: &str) {
    let snapshot = bed.engine.snapshot();
    let mut raw = Vec::new();
    let mut samples = Samples::default();
    let mut reader = snapshot.reader();
    for series in snapshot.select(&[], TimeRange::ALL).unwrap() {
        reader.read(&series, TimeRange::ALL, &mut samples).unwrap();
        let pairs = samples.timestamps.iter().zip(&samples.values);
        raw.extend(pairs.map(|(at, value)| ((series.labels.clone(), *at), value.to_bits())));
    }
    let wanted: Vec<_> =
        bed.model.iter().map(|(key, value)| (key.clone(), value.to_bits())).collect();
    assert_eq!(raw, wanted, "{at}");
    for resolution in Resolution::ALL {
        let clean = snapshot.rollups().unwrap().clean(resolution);
        let is_clean =
            |(key, _): &(&(Labels, i64), &mut Row)| clean.iter().any(|span| span.contains(key.1));
        let only_clean = |mut all: Rows| -> Rows {
            all.retain(|key, row| is_clean(&(key, row)));
            all
        };
        let found = only_clean(rows(&snapshot, resolution, &[], EVERYTHING).await);
        println!("{at}: {resolution}, {} rows", found.len());
        same(&only_clean(naive(&bed.model, resolution)), &found, resolution);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn rollups_that_are_called_clean_are_right_after_every_step() {
    let seed = setting("AETHER_MODEL_SEED", 23);
    for case in 0..setting("AETHER_ROLLUP_CASES", 6) {
        let mut random = Random(seed.wrapping_add(case));
        let mut bed = Bed::new();
        for step in 0..STEPS {
            match random.below(12) {
                0 => _ = bed.engine.flush().await.unwrap(),
                1 => _ = bed.engine.compact().await.unwrap(),
                2 => bed.engine.clean_tombstones().await.unwrap(),
                3 => bed.restart().await,
                4 | 5 => _ = bed.downsample().await,
                6 | 7 => {
                    let deletion = random_deletion(&mut random);
                    bed.engine.delete(vec![deletion.clone()]).await.unwrap();
                    let Deletion { matchers, range } = deletion;
                    bed.model.retain(|(labels, at), _| {
                        let selected = matchers.iter().all(|one| one.matches_labels(labels));
                        !(selected && range.contains(*at))
                    });
                }
                _ => bed.write(&random_rows(&mut random)).await,
            }
            check(&bed, &format!("case {case}, step {step}")).await;
        }
        bed.downsample().await;
        bed.check().await;
        check(&bed, &format!("case {case}, at its end")).await;
        bed.engine.close().await.unwrap();
    }
}
