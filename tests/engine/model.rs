//! Writes in any order, duplicates, deletions, flushes, compactions and restarts, with nothing
//! going wrong: the store and a map say the same after each step.

use std::collections::BTreeSet;
use std::sync::Arc;

use aetherdb::model::TimeRange;
use aetherdb::storage::vfs::SimVfs;
use aetherdb::storage::{Deletion, DeletionCount, Snapshot};

use super::{
    Model, add, batch, contents, is_deleted, open, options, random_deletion, random_rows, remove,
    selection,
};
use crate::support::{Random, setting};

const SERIES: u64 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_store_equals_a_map() {
    let seed = setting("AETHER_MODEL_SEED", 11);
    for case in 0..setting("AETHER_MODEL_CASES", 200) {
        let mut random = Random(seed.wrapping_add(case));
        let mut disk = SimVfs::new(seed);
        let mut engine = open(options(), Arc::new(disk.clone())).unwrap();
        let mut model = Model::new();
        for step in 0..25 {
            match random.below(20) {
                0..=2 => {
                    engine.flush().await.unwrap();
                }
                3 => {
                    engine.close().await.unwrap();
                    drop(engine);
                    engine = open(options(), Arc::new(disk.clone())).unwrap();
                }
                4 => {
                    // As after `kill -9`; what background threads still do, they do elsewhere.
                    disk = disk.copy();
                    drop(engine);
                    engine = open(options(), Arc::new(disk.clone())).unwrap();
                }
                5 | 6 => {
                    engine.compact().await.unwrap();
                }
                7 => {
                    engine.clean_tombstones().await.unwrap();
                    assert!(engine.snapshot().tombstones().is_empty());
                }
                8..=10 => {
                    let deletions: Vec<_> = (0..1 + random.below(3))
                        .map(|_| random_deletion(&mut random, SERIES))
                        .collect();
                    let counted = engine.count_deletions(deletions.clone()).await.unwrap();
                    let expected: Vec<_> =
                        deletions.iter().map(|deletion| count(&model, deletion)).collect();
                    assert_eq!(counted, expected, "case {case}, step {step}");
                    engine.delete(deletions.clone()).await.unwrap();
                    remove(&mut model, &deletions);
                }
                _ => {
                    let rows = random_rows(&mut random, SERIES);
                    engine.append(batch(&engine, &rows).unwrap()).await.unwrap();
                    add(&mut model, &rows);
                }
            }
            let snapshot = engine.snapshot();
            assert_eq!(contents(&snapshot).unwrap(), model, "case {case}, step {step}");
            check_queries(&snapshot, &model, &mut random);
        }
        engine.close().await.unwrap();
    }
}

/// A query for some of it, and the label values of all of it.
fn check_queries(snapshot: &Snapshot, model: &Model, random: &mut Random) {
    let some = random_deletion(random, SERIES);
    let mut expected = model.clone();
    expected.retain(|(series, at), _| is_deleted(*series, *at, &some));
    assert_eq!(selection(snapshot, &some.matchers, some.range).unwrap(), expected, "{some:?}");
    let numbers: BTreeSet<String> = model.keys().map(|(series, _)| series.to_string()).collect();
    assert_eq!(snapshot.label_values("n", &[], TimeRange::ALL).unwrap(), numbers);
    let has_names = !snapshot.label_names(&[], TimeRange::ALL).unwrap().is_empty();
    assert_eq!(has_names, !model.is_empty());
}

fn count(model: &Model, deletion: &Deletion) -> DeletionCount {
    let deleted = |(series, at): &&(u32, i64)| is_deleted(*series, *at, deletion);
    let series: BTreeSet<u32> = model.keys().filter(deleted).map(|(series, _)| *series).collect();
    let samples = model.keys().filter(deleted).count() as u64;
    DeletionCount { series: series.len() as u64, samples }
}

/// Acknowledged means visible, to everybody, at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_is_in_the_next_snapshot() {
    let engine = open(options(), Arc::new(SimVfs::new(1))).unwrap();
    let writers: Vec<_> = (0..4u32)
        .map(|writer| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move {
                for round in 0..150i64 {
                    let rows = vec![(writer, round, round.unsigned_abs())];
                    engine.append(batch(&engine, &rows).unwrap()).await.unwrap();
                    let found = contents(&engine.snapshot()).unwrap();
                    assert_eq!(found.get(&(writer, round)), Some(&round.unsigned_abs()));
                    if round % 50 == 49 {
                        engine.flush().await.unwrap();
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(contents(&engine.snapshot()).unwrap().len(), 600);
    engine.close().await.unwrap();
}
