//! Power cuts, failing disks and full disks at random moments, in flushes, compactions, deletions
//! and recoveries: what was acknowledged is there afterwards with its bits, what is in doubt is
//! there whole or not at all, and nothing else is.
//!
//! The seed decides the script and what survives; how far background threads have come when the
//! power goes is up to the machine.

use std::sync::Arc;

use aetherdb::storage::Deletion;
use aetherdb::storage::vfs::{Fault, SimVfs};

use super::{
    Model, Rows, add, batch, contents, open, options, random_deletion, random_rows, remove,
};
use crate::support::{Random, setting};

const LIVES: usize = 3;
const STEPS: u64 = 8;
/// Starts that a disk which fails now and then may need.
const STARTS_MAX: usize = 20;

/// What was asked for when the disk failed: it is there whole afterwards, or not at all.
enum Doubt {
    Write(Rows),
    Delete(Vec<Deletion>),
}

impl Doubt {
    fn apply(&self, model: &mut Model) {
        match self {
            Doubt::Write(rows) => add(model, rows),
            Doubt::Delete(deletions) => remove(model, deletions),
        }
    }
}

/// One disk's story. `Err` says what was lost or wrong.
async fn story(seed: u64, disk: SimVfs) -> Result<(), String> {
    let mut random = Random(seed);
    let mut disk = disk;
    let mut model = Model::new();
    let mut in_doubt: Option<Doubt> = None;
    for life in 0..LIVES {
        let mut started = None;
        let mut trouble = String::new();
        for _ in 0..STARTS_MAX {
            // Trouble may come in the middle of a recovery, too.
            arm(&disk, &mut random);
            match open(options(), Arc::new(disk.clone())) {
                Ok(engine) => match contents(&engine.snapshot()) {
                    Ok(found) => {
                        started = Some((engine, found));
                        break;
                    }
                    Err(warning) => trouble = warning,
                },
                Err(error) if error.to_string().contains("damaged") => {
                    return Err(format!("life {life}: refused to start: {error}"));
                }
                Err(error) => trouble = error.to_string(),
            }
            disk = disk.crash();
        }
        let (engine, found) = started.ok_or(format!("life {life}: never started: {trouble}"))?;
        if found != model {
            let mut with_doubt = model.clone();
            in_doubt.iter().for_each(|doubt| doubt.apply(&mut with_doubt));
            if found != with_doubt {
                return Err(format!("life {life}: {}", difference(&model, &found)));
            }
            model = with_doubt;
        }
        in_doubt = None;
        for _ in 0..STEPS {
            // What only moves samples may fail and loses nothing.
            match random.below(10) {
                0 | 1 => _ = engine.flush().await,
                2 => _ = engine.compact().await,
                3 => _ = engine.clean_tombstones().await,
                4 => {
                    let deletions = vec![random_deletion(&mut random, 6)];
                    if engine.delete(deletions.clone()).await.is_err() {
                        in_doubt = Some(Doubt::Delete(deletions));
                        break;
                    }
                    remove(&mut model, &deletions);
                }
                _ => {
                    let rows = random_rows(&mut random, 6);
                    let written = match batch(&engine, &rows) {
                        Ok(batch) => engine.append(batch).await.is_ok(),
                        Err(_) => false,
                    };
                    if !written {
                        in_doubt = Some(Doubt::Write(rows));
                        break;
                    }
                    add(&mut model, &rows);
                }
            }
            let shown = contents(&engine.snapshot());
            // A disk that fails reads gives warnings, and those are not wrong answers.
            if shown.as_ref().is_ok_and(|shown| *shown != model) {
                return Err(format!("life {life}: {}", difference(&model, &shown?)));
            }
        }
        if random.below(3) == 0 && in_doubt.is_none() {
            let _ = engine.close().await;
        }
        drop(engine);
        disk = disk.crash();
    }
    Ok(())
}

/// Plans trouble for the operations to come.
fn arm(disk: &SimVfs, random: &mut Random) {
    let soon = disk.operations() + 1 + random.below(120);
    match random.below(8) {
        0..=3 => disk.power_off_at(soon),
        4 => disk.fail_at(soon, Fault::Io),
        5 => disk.fail_at(soon, Fault::ShortWrite),
        6 => disk.fail_at(soon, Fault::LostSync),
        _ => disk.fail_at(soon, Fault::DiskFull),
    }
}

fn difference(model: &Model, found: &Model) -> String {
    let lost = model.iter().find(|(at, bits)| found.get(at) != Some(bits));
    let invented = found.iter().find(|(at, bits)| model.get(at) != Some(bits));
    format!("acknowledged but not there: {lost:?}; there but not acknowledged: {invented:?}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_sample_is_lost_whatever_the_disk_does() {
    let first = setting("AETHER_SIM_SEED", 1);
    let seeds = setting("AETHER_SIM_SEEDS", 2_000);
    for seed in first..first + seeds {
        if let Err(wrong) = story(seed, SimVfs::new(seed)).await {
            panic!("seed {seed}: {wrong}");
        }
    }
}

/// The control: on a disk whose syncs do nothing the same stories must lose something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stories_notice_a_disk_that_does_not_sync() {
    let mut caught = 0;
    for seed in 1..=40 {
        let disk = SimVfs::new(seed);
        disk.ignore_syncs();
        caught += usize::from(story(seed, disk).await.is_err());
    }
    println!("{caught} of 40 stories lost acknowledged samples without syncs");
    assert!(caught >= 20, "only {caught} of 40");
}
