//! Damaged files: what is read back is right, or the damage is named. Never a wrong or a missing
//! acknowledged sample without a word.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aetherdb::storage::vfs::{SimVfs, Vfs};

use super::{Model, add, batch, contents, open, options};

/// Where records begin in a log segment.
const RECORDS_OFFSET: usize = 4096;
/// Of all bits of manifest, series and block files, every so-manieth is flipped.
const FLIP_EVERY: usize = 5;

/// A store with a few batches in its log, after a crash; the model after each batch.
async fn log_of_a_few_batches() -> (SimVfs, PathBuf, Vec<Model>) {
    let disk = SimVfs::new(1);
    let engine = open(options(), Arc::new(disk.clone())).unwrap();
    let mut models = vec![Model::new()];
    for round in 0..4i64 {
        let rows = (0..3).map(|series| (series, round * 1_000, round.unsigned_abs())).collect();
        engine.append(batch(&engine, &rows).unwrap()).await.unwrap();
        let mut model = models[models.len() - 1].clone();
        add(&mut model, &rows);
        models.push(model);
    }
    drop(engine);
    let used = files(&disk, "/data/wal")
        .into_iter()
        .find(|path| disk.bytes(path).unwrap().iter().any(|byte| *byte != 0))
        .unwrap();
    (disk, used, models)
}

/// A store whose samples are in a block, after a crash.
async fn flushed() -> (SimVfs, Model) {
    let disk = SimVfs::new(2);
    let engine = open(options(), Arc::new(disk.clone())).unwrap();
    let mut model = Model::new();
    let rows = (0..60).map(|row| (row % 3, i64::from(row) * 500, u64::from(row) * 7)).collect();
    engine.append(batch(&engine, &rows).unwrap()).await.unwrap();
    add(&mut model, &rows);
    engine.flush().await.unwrap();
    drop(engine);
    (disk, model)
}

fn files(disk: &SimVfs, dir: &str) -> Vec<PathBuf> {
    disk.list(Path::new(dir)).unwrap().into_iter().map(|entry| entry.path).collect()
}

/// What a store on a copy of the disk holds, with one file changed.
fn reopened(disk: &SimVfs, path: &Path, bytes: &[u8]) -> Result<Model, String> {
    let copy = disk.copy();
    copy.set_bytes(path, bytes);
    let engine = open(options(), Arc::new(copy)).map_err(|error| error.to_string())?;
    contents(&engine.snapshot())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_log_cut_at_any_byte_gives_an_exact_prefix() {
    let (disk, path, models) = log_of_a_few_batches().await;
    let bytes = disk.bytes(&path).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    assert_eq!(reopened(&disk, &path, &bytes).unwrap(), models[models.len() - 1]);
    let mut longest = 0;
    for len in RECORDS_OFFSET..=used {
        // As a cut leaves it: the rest of the segment reads as zeros.
        let mut cut = bytes.clone();
        cut[len..].fill(0);
        let found = reopened(&disk, &path, &cut).unwrap_or_else(|error| panic!("{len}: {error}"));
        let prefix = models.iter().position(|model| *model == found);
        let prefix = prefix.unwrap_or_else(|| panic!("{len}: no prefix of the batches: {found:?}"));
        assert!(prefix >= longest, "{len}: a longer log gives less");
        longest = prefix;
    }
    assert_eq!(longest, models.len() - 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_bit_flip_in_manifest_series_or_block_file_is_found_or_harmless() {
    let (disk, wanted) = flushed().await;
    let mut all = vec![PathBuf::from("/data/MANIFEST")];
    all.extend(files(&disk, "/data/blocks"));
    all.extend(files(&disk, "/data/series"));
    assert_eq!(all.len(), 3);
    for path in all {
        let bytes = disk.bytes(&path).unwrap();
        let mut found = 0;
        // Every bit is flipped where the format is tested; here it is who hears of it.
        for bit in (0..bytes.len() * 8).step_by(FLIP_EVERY) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match reopened(&disk, &path, &flipped) {
                Ok(model) => assert_eq!(model, wanted, "{}: bit {bit}", path.display()),
                Err(_) => found += 1,
            }
        }
        println!("{}: {found} of {} flips found", path.display(), bytes.len() * 8 / FLIP_EVERY);
        assert!(found > 0, "{}", path.display());
    }
}
