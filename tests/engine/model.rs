//! Writes in any order, duplicates, flushes and restarts, with nothing going wrong: the store
//! and a map say the same after each step.

use std::sync::Arc;

use aetherdb::storage::vfs::SimVfs;

use super::{Model, add, batch, contents, open, options, random_rows};
use crate::support::{Random, setting};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_store_equals_a_map() {
    let seed = setting("AETHER_MODEL_SEED", 11);
    for case in 0..setting("AETHER_MODEL_CASES", 40) {
        let mut random = Random(seed.wrapping_add(case));
        let disk = SimVfs::new(seed);
        let mut engine = open(options(), Arc::new(disk.clone())).unwrap();
        let mut model = Model::new();
        for step in 0..25 {
            match random.below(10) {
                0 | 1 => {
                    engine.flush().await.unwrap();
                }
                2 => {
                    engine.close().await.unwrap();
                    drop(engine);
                    engine = open(options(), Arc::new(disk.clone())).unwrap();
                }
                3 => {
                    drop(engine);
                    engine = open(options(), Arc::new(disk.clone())).unwrap();
                }
                _ => {
                    let rows = random_rows(&mut random, 8);
                    engine.append(batch(&engine, &rows).unwrap()).await.unwrap();
                    add(&mut model, &rows);
                }
            }
            let found = contents(&engine.snapshot()).unwrap();
            assert_eq!(found, model, "case {case}, step {step}");
        }
        engine.close().await.unwrap();
    }
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
