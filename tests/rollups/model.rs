//! Random lives of a store: writes in order, late and twice, flushes, compactions, deletions,
//! builds asked for and unasked, restarts. Whatever happens, rows that are said to be right are
//! what the model sums up to, and after a build all of them are right.

use std::time::Duration;

use aetherdb::model::{Labels, Matcher, Resolution, TimeRange, stale_nan};
use aetherdb::storage::Deletion;

use super::{Bed, EVERYTHING, HOUR, Rows, T0, labels, naive, rows, same};
use crate::support::{Random, setting};

const STEPS: u64 = 14;
/// Two days, so that files of one day are merged and cut.
const HOURS: u64 = 40;

fn series(number: u64) -> Labels {
    let value = number.to_string();
    // Label sets of one metric that differ in their names.
    let pairs = [("a", value.as_str()), ("Day", "x")];
    labels(
        ["m", "n"][usize::try_from(number % 2).unwrap()],
        &pairs[..usize::try_from(number % 3).unwrap()],
    )
}

pub(crate) fn value(random: &mut Random) -> f64 {
    match random.below(12) {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => -0.0,
        3 => stale_nan(),
        4 => random.below(1000) as f64 / 10.0,
        _ => random.below(20) as f64,
    }
}

/// A stretch of one series' samples, often on the edges of buckets and windows.
pub(crate) fn stretch(random: &mut Random) -> Vec<(Labels, i64, f64)> {
    let labels = series(random.below(6));
    let start = T0 + i64::try_from(random.below(HOURS)).unwrap() * HOUR;
    let start = start - i64::try_from(random.below(3)).unwrap();
    let step =
        [1_000, 15_000, 60_000, 300_000, 3_600_000][usize::try_from(random.below(5)).unwrap()];
    // Most series are of plain numbers.
    let is_plain = random.below(2) == 0;
    (0..1 + i64::try_from(random.below(60)).unwrap())
        .map(|number| {
            let value = if is_plain { random.below(20) as f64 } else { value(random) };
            (labels.clone(), start + number * step, value)
        })
        .collect()
}

impl Bed {
    /// What is said to be right is right.
    async fn check_clean(&self) {
        let snapshot = self.engine.snapshot();
        for resolution in Resolution::ALL {
            let clean = snapshot.rollups().unwrap().clean(resolution);
            let only_clean = |rows: Rows| -> Rows {
                let is_clean = |end: i64| clean.iter().any(|span| span.contains(end));
                rows.into_iter().filter(|((_, end), _)| is_clean(*end)).collect()
            };
            let found = rows(&snapshot, resolution, &[], EVERYTHING).await;
            same(&only_clean(naive(&self.model, resolution)), &only_clean(found), resolution);
        }
    }

    pub(crate) async fn delete(&mut self, random: &mut Random) {
        let start = T0 + i64::try_from(random.below(HOURS * 60)).unwrap() * 60_000;
        let end = start + i64::try_from(random.below(HOURS * 60)).unwrap() * 60_000;
        let range = TimeRange::new(start, end).unwrap();
        let matchers = vec![Matcher::equal("a", random.below(6).to_string())];
        self.model.retain(|(labels, at), _| {
            !(range.contains(*at) && matchers.iter().all(|matcher| matcher.matches_labels(labels)))
        });
        self.engine.delete(vec![Deletion { matchers, range }]).await.unwrap();
    }
}

/// One random thing that happens to a store.
pub(crate) async fn step(bed: &mut Bed, random: &mut Random) {
    match random.below(10) {
        0..4 => {
            for _ in 0..1 + random.below(4) {
                bed.write(&stretch(random)).await;
            }
        }
        4 => drop(bed.engine.flush().await.unwrap()),
        5 => bed.delete(random).await,
        6 => bed.restart().await,
        7 => bed.clock.advance(Duration::from_secs(3600 * (1 + random.below(30)))),
        8 => drop(bed.engine.compact().await.unwrap()),
        _ => {
            bed.downsample().await;
            bed.check().await;
        }
    }
}

async fn life(seed: u64) {
    let mut random = Random(seed);
    let mut bed = Bed::new();
    for _ in 0..STEPS {
        step(&mut bed, &mut random).await;
        bed.check_clean().await;
    }
    bed.downsample().await;
    bed.check().await;
    bed.engine.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_said_to_be_right_are_right() {
    let seed = setting("AETHER_TEST_SEED", 1);
    for number in 0..setting("AETHER_ROLLUP_LIVES", 3) {
        let seed = seed.wrapping_add(number);
        println!("AETHER_TEST_SEED={seed}");
        life(seed).await;
    }
}
