//! A log that is damaged in the middle: the start is refused, salvage keeps all that is whole,
//! and nothing it does or leaves half done loses more.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aetherdb::clock::ManualClock;
use aetherdb::storage::vfs::{SimVfs, Vfs};
use aetherdb::storage::{Salvage, SalvageReport, StorageError, StorageOptions, salvage};
use aetherdb::telemetry::Telemetry;

use super::{Model, Rows, add, batch, contents, open, options};
use crate::support::{Random, setting};

const COMMAND: &str = "`aetherctl wal salvage --data-dir=/data`";
const RECORDS_OFFSET: usize = 4096;
const BATCHES: usize = 60;

fn small() -> StorageOptions {
    StorageOptions { wal_segment_bytes: 12 << 10, ..options() }
}

/// A store whose first batches are in blocks and whose log has several segments, after a crash;
/// and the batches, the first of which registers all series.
async fn store(random: &mut Random) -> (SimVfs, Vec<Rows>) {
    let disk = SimVfs::new(random.next());
    let engine = open(small(), Arc::new(disk.clone())).unwrap();
    let mut batches = Vec::new();
    for number in 0..BATCHES as i64 {
        let rows: Rows = match number {
            0 => (0..10).map(|series| (series, 0, 1)).collect(),
            _ => (0..50)
                .map(|row| (row % 10, number * 100 + i64::from(row), random.next()))
                .collect(),
        };
        engine.append(batch(&engine, &rows).unwrap()).await.unwrap();
        batches.push(rows);
        if number == 10 {
            engine.flush().await.unwrap();
        }
    }
    drop(engine);
    (disk.copy(), batches)
}

fn perform(disk: &SimVfs, mode: Salvage) -> Result<SalvageReport, StorageError> {
    let clock = Arc::new(ManualClock::at(1_700_000_000_000));
    salvage(small(), Arc::new(disk.clone()), clock, Arc::new(Telemetry::default()), mode)
}

/// Segments with records, oldest first.
fn segments(disk: &SimVfs) -> Vec<PathBuf> {
    let entries = disk.list(Path::new("/data/wal")).unwrap();
    let used = |path: &PathBuf| disk.bytes(path).unwrap().iter().any(|byte| *byte != 0);
    entries.into_iter().map(|entry| entry.path).filter(used).collect()
}

/// The samples of all batches but some.
fn without(batches: &[Rows], lost: &BTreeSet<usize>) -> Model {
    let mut model = Model::new();
    for (number, rows) in batches.iter().enumerate() {
        if !lost.contains(&number) {
            add(&mut model, rows);
        }
    }
    model
}

/// Which batches are missing from what a store shows. A batch must be there whole or not at all.
fn missing(found: &Model, batches: &[Rows]) -> BTreeSet<usize> {
    let is_there = |rows: &Rows| {
        let (series, at, bits) = rows[rows.len() - 1];
        found.get(&(series, at)) == Some(&bits)
    };
    let lost = (0..batches.len()).filter(|number| !is_there(&batches[*number])).collect();
    assert_eq!(*found, without(batches, &lost), "every batch is whole or absent");
    lost
}

/// Damages a few bytes of a random segment but the last.
fn damage(disk: &SimVfs, random: &mut Random) -> PathBuf {
    let segments = segments(disk);
    let path = segments[usize::try_from(random.below(segments.len() as u64 - 1)).unwrap()].clone();
    let mut bytes = disk.bytes(&path).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let at =
        RECORDS_OFFSET + usize::try_from(random.below((used - RECORDS_OFFSET) as u64)).unwrap();
    let len = [1, 8, 600][usize::try_from(random.below(3)).unwrap()].min(used + 1 - at);
    bytes[at..at + len].iter_mut().for_each(|byte| *byte ^= 0x55);
    disk.set_bytes(&path, &bytes);
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn salvage_keeps_everything_but_the_damaged_records() {
    let seed = setting("AETHER_SALVAGE_SEED", 1);
    let mut lost_at_all = 0;
    for case in 0..setting("AETHER_SALVAGE_CASES", 30) {
        let mut random = Random(seed.wrapping_add(case));
        let (disk, batches) = store(&mut random).await;
        let path = damage(&disk, &mut random);
        let before = disk.bytes(&path).unwrap();
        let refused = match open(small(), Arc::new(disk.copy())) {
            Ok(_) => continue, // Between records, or in what blocks hold already.
            Err(error) => error.to_string(),
        };
        assert!(refused.contains(COMMAND) && refused.contains(path.to_str().unwrap()), "{refused}");

        let preview = perform(&disk, Salvage::Preview).unwrap();
        assert!(preview.set_aside.is_empty() && preview.damage.is_some());
        assert_eq!(open(small(), Arc::new(disk.copy())).unwrap_err().to_string(), refused);
        let report = perform(&disk, Salvage::Perform).unwrap();
        assert_eq!(report.skipped, preview.skipped);
        assert_eq!(report.samples, preview.samples);
        // One stretch of the one file, of as many records as 600 bytes can touch; none if blocks
        // have all of them.
        let lost_max = match &report.skipped[..] {
            [] => 0,
            [skipped] if skipped.path == path => {
                let (first, last) = skipped.records.unwrap();
                last - first + 1
            }
            other => panic!("case {case}: {other:?}"),
        };
        assert!(lost_max <= 4, "case {case}: {:?}", report.skipped);
        assert_eq!(report.nameless, 0);
        let copy = report.set_aside.iter().find(|copy| copy.file_name() == path.file_name());
        assert_eq!(disk.bytes(copy.unwrap()).unwrap(), before, "nothing is deleted");

        let engine = open(small(), Arc::new(disk.clone())).unwrap();
        let lost = missing(&contents(&engine.snapshot()).unwrap(), &batches);
        assert!(lost.len() as u64 <= lost_max, "case {case}: {lost:?} of {:?}", report.skipped);
        lost_at_all += lost.len();
        // And it goes on as a store does.
        let rows = vec![(3, 77, 5)];
        engine.append(batch(&engine, &rows).unwrap()).await.unwrap();
        let mut model = without(&batches, &lost);
        add(&mut model, &rows);
        drop(engine);
        let disk = disk.copy();
        let engine = open(small(), Arc::new(disk.clone())).unwrap();
        assert_eq!(contents(&engine.snapshot()).unwrap(), model, "case {case}");
        engine.close().await.unwrap();
        let again = perform(&disk.copy(), Salvage::Perform).unwrap();
        assert_eq!(again, SalvageReport::default(), "there is nothing left to do");
    }
    assert!(lost_at_all > 0, "some damage hit samples");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_lost_segment_and_a_lost_header_cost_only_what_was_in_them() {
    let mut random = Random(7);
    let (disk, batches) = store(&mut random).await;
    let files = segments(&disk);
    assert!(files.len() >= 4, "{files:?}");

    // Without its header a segment's records are all there.
    let headless = disk.copy();
    let mut bytes = headless.bytes(&files[1]).unwrap();
    bytes[..64].fill(0xee);
    headless.set_bytes(&files[1], &bytes);
    assert!(open(small(), Arc::new(headless.copy())).unwrap_err().to_string().contains(COMMAND));
    let report = perform(&headless, Salvage::Perform).unwrap();
    assert_eq!(report.skipped, []);
    let engine = open(small(), Arc::new(headless)).unwrap();
    assert_eq!(missing(&contents(&engine.snapshot()).unwrap(), &batches), BTreeSet::new());

    // A file in the middle is gone.
    let gapped = disk.copy();
    gapped.remove(&files[2]).unwrap();
    let gapped = gapped.copy();
    assert!(open(small(), Arc::new(gapped.copy())).unwrap_err().to_string().contains(COMMAND));
    let report = perform(&gapped, Salvage::Perform).unwrap();
    let [skipped] = &report.skipped[..] else { panic!("{:?}", report.skipped) };
    assert_eq!((&skipped.path, skipped.bytes), (&files[1], 0));
    let (first, last) = skipped.records.unwrap();
    let engine = open(small(), Arc::new(gapped)).unwrap();
    let lost = missing(&contents(&engine.snapshot()).unwrap(), &batches);
    assert!(!lost.is_empty() && lost.len() as u64 <= last - first + 1, "{lost:?} of {skipped:?}");

    // So is the whole log.
    let empty = disk.copy();
    files.iter().for_each(|path| empty.remove(path).unwrap());
    let empty = empty.copy();
    assert!(open(small(), Arc::new(empty.copy())).unwrap_err().to_string().contains(COMMAND));
    perform(&empty, Salvage::Perform).unwrap();
    let engine = open(small(), Arc::new(empty)).unwrap();
    let lost = missing(&contents(&engine.snapshot()).unwrap(), &batches);
    assert_eq!(lost, (11..BATCHES).collect(), "blocks had the first ones");
}

/// What a sample is of stands in one record only, until a flush writes it down elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn samples_of_series_whose_registration_is_lost_are_counted_and_left_out() {
    let disk = SimVfs::new(1);
    let engine = open(small(), Arc::new(disk.clone())).unwrap();
    for number in 0..3i64 {
        let rows: Rows = vec![(0, number, 1), (1, number, 2)];
        engine.append(batch(&engine, &rows).unwrap()).await.unwrap();
    }
    let late: Rows = vec![(2, 9, 3), (0, 9, 4)];
    engine.append(batch(&engine, &late).unwrap()).await.unwrap();
    drop(engine);
    let disk = disk.copy();
    // The first record registers the first series, or the first two if they were logged together.
    let path = segments(&disk).remove(0);
    let mut bytes = disk.bytes(&path).unwrap();
    bytes[RECORDS_OFFSET + 30] ^= 1;
    disk.set_bytes(&path, &bytes);
    let report = perform(&disk, Salvage::Perform).unwrap();
    let mut kept = Model::from([((2, 9), 3)]);
    match (report.samples, report.nameless) {
        (1, 7) => {}
        (4, 4) => kept.extend((0..3i64).map(|number| ((1, number), 2))),
        _ => panic!("{report:?}"),
    }
    let engine = open(small(), Arc::new(disk)).unwrap();
    assert_eq!(contents(&engine.snapshot()).unwrap(), kept);
    // The lost series come back as new ones, with ids of their own.
    engine.append(batch(&engine, &vec![(0, 5, 6)]).unwrap()).await.unwrap();
    kept.insert((0, 5), 6);
    assert_eq!(contents(&engine.snapshot()).unwrap(), kept);
}

/// The power goes at each operation of a salvage: whatever is left, salvage and start still give
/// everything that was whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_interrupted_salvage_loses_nothing() {
    let mut random = Random(setting("AETHER_SALVAGE_SEED", 3));
    let (disk, batches) = store(&mut random).await;
    let path = damage(&disk, &mut random);
    let damaged = disk.bytes(&path).unwrap();
    open(small(), Arc::new(disk.copy())).unwrap_err();
    let whole = disk.copy();
    let before = whole.operations();
    perform(&whole, Salvage::Perform).unwrap();
    let operations = whole.operations() - before;
    let engine = open(small(), Arc::new(whole)).unwrap();
    let expected = contents(&engine.snapshot()).unwrap();
    assert!(missing(&expected, &batches).len() <= 4);
    assert!(operations > 20, "{operations}");
    for operation in 0..operations {
        let cut = disk.copy();
        cut.power_off_at(cut.operations() + operation);
        perform(&cut, Salvage::Perform).unwrap_err();
        let cut = cut.crash();
        // Either it was far enough for a start, or it is done again.
        let engine = match open(small(), Arc::new(cut.copy())) {
            Ok(engine) => engine,
            Err(error) => {
                assert!(error.to_string().contains(COMMAND), "operation {operation}: {error}");
                perform(&cut, Salvage::Perform).unwrap();
                let kept = cut.list(Path::new("/data/quarantine")).unwrap();
                let is_kept = kept.iter().any(|entry| cut.bytes(&entry.path).unwrap() == damaged);
                assert!(is_kept, "operation {operation}: the damaged file is set aside");
                open(small(), Arc::new(cut)).unwrap()
            }
        };
        let found = contents(&engine.snapshot()).unwrap();
        assert_eq!(found, expected, "operation {operation}");
    }
}

#[test]
fn salvage_is_refused_where_it_has_no_business() {
    let disk = SimVfs::new(1);
    disk.create_dir_all(Path::new("/data")).unwrap();
    let error = perform(&disk, Salvage::Perform).unwrap_err().to_string();
    assert!(error.contains("no data directory"), "{error}");
    let engine = open(small(), Arc::new(disk.clone())).unwrap();
    let error = perform(&disk, Salvage::Perform).unwrap_err();
    assert!(matches!(error, StorageError::Locked { .. }), "{error}");
    drop(engine);
}
