//! The log as its users see it.

mod sim;

use std::time::Duration;

use crate::clock::SystemClock;
use crate::model::SeriesRef;
use crate::storage::vfs::RealVfs;
use crate::storage::wal::*;

/// Rows of a batch, with the bits of their values.
type Rows = Vec<(u32, i64, u64)>;

/// What a sink was given, for live and replayed records alike.
#[derive(Debug, Default, Clone, PartialEq)]
struct Story {
    series: Vec<(u64, Vec<u8>)>,
    samples: Vec<(Lsn, Rows)>,
    metadata: Vec<(Lsn, String, Metadata)>,
    boundaries: Vec<Lsn>,
}

fn rows(batch: &SampleBatch) -> Rows {
    (0..batch.len())
        .map(|row| (batch.series[row].0, batch.timestamps[row], batch.values[row].to_bits()))
        .collect()
}

impl ReplaySink for Story {
    fn series(&mut self, id: u64, key: &[u8]) -> Result<(), StorageError> {
        self.series.push((id, key.to_vec()));
        Ok(())
    }

    fn samples(&mut self, lsn: Lsn, batch: &SampleBatch) -> Result<(), StorageError> {
        self.samples.push((lsn, rows(batch)));
        Ok(())
    }

    fn metadata(&mut self, lsn: Lsn, name: &str, metadata: &Metadata) -> Result<(), StorageError> {
        self.metadata.push((lsn, name.to_owned(), metadata.clone()));
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Live(Mutex<Story>);

impl CommitSink for Live {
    fn apply(&self, lsn: Lsn, batch: &SampleBatch) {
        self.0.lock().samples.push((lsn, rows(batch)));
    }

    fn apply_metadata(&self, lsn: Lsn, name: &str, metadata: &Metadata) {
        self.0.lock().metadata.push((lsn, name.to_owned(), metadata.clone()));
    }

    fn group_applied(&self, _lsn: Lsn) {}

    fn rotated(&self, boundary: Lsn) {
        self.0.lock().boundaries.push(boundary);
    }
}

const DATABASE: Uuid = Uuid::from_u128(0xae);

fn small() -> WalOptions {
    WalOptions {
        segment_bytes: 64 << 10,
        disk_free_bytes_min: 0,
        retry_after: Duration::from_millis(5),
        idle_mark_after: Duration::from_millis(5),
        ..WalOptions::default()
    }
}

fn real(dir: &tempfile::TempDir, options: WalOptions) -> Wal {
    let dir = dir.path().join("wal");
    let clock = Arc::new(SystemClock::new());
    Wal::new(Arc::new(RealVfs), dir, DATABASE, options, clock, Arc::default())
}

fn batch(seed: u32, len: u32) -> SampleBatch {
    let mut batch = SampleBatch::default();
    for row in 0..len {
        batch.push(SeriesRef(row), i64::from(seed) * 1000, f64::from(seed * 7 + row) / 100.0);
    }
    batch
}

#[tokio::test]
async fn what_is_acknowledged_is_replayed_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = Metadata { help: "Help.".to_owned(), ..Metadata::default() };
    let live = Arc::new(Live::default());
    {
        let wal = real(&dir, small());
        let report = wal.recover(0, &mut Story::default()).unwrap();
        assert_eq!(report, ReplayReport::default());
        wal.start(Arc::clone(&live) as Arc<dyn CommitSink>).unwrap();
        for id in 0..10u64 {
            wal.log_series(id, format!("series {id}").as_bytes());
        }
        for seed in 0..200 {
            let lsn = wal.append(batch(seed, 300)).await.unwrap().await.unwrap();
            assert_eq!(live.0.lock().samples.last().map(|(lsn, _)| *lsn), Some(lsn));
        }
        wal.append_metadata(vec![("m".to_owned(), metadata)]).await.unwrap().await.unwrap();
        let before = wal.status().written_lsn;
        assert_eq!(wal.append_mark().await.unwrap().await.unwrap(), before + 1);
        assert!(wal.status().segments > 1);
        wal.close().await.unwrap();
        assert!(matches!(wal.append(batch(0, 1)).await, Err(StorageError::ShuttingDown)));
    }
    let wal = real(&dir, small());
    let mut replayed = Story::default();
    let report = wal.recover(0, &mut replayed).unwrap();
    assert_eq!(report.samples, 200 * 300);
    assert_eq!(report.torn_tail, None);
    let expected: Vec<_> = (0..10).map(|id| (id, format!("series {id}").into_bytes())).collect();
    assert_eq!(replayed.series, expected);
    let live = live.0.lock().clone();
    assert_eq!(replayed.samples, live.samples);
    assert_eq!(replayed.metadata, live.metadata);
}

#[tokio::test]
async fn rotation_sets_a_boundary_and_truncation_frees_what_is_before() {
    let dir = tempfile::tempdir().unwrap();
    let live = Arc::new(Live::default());
    let wal = real(&dir, small());
    wal.recover(0, &mut Story::default()).unwrap();
    wal.start(Arc::clone(&live) as Arc<dyn CommitSink>).unwrap();
    for seed in 0..100 {
        wal.append(batch(seed, 300)).await.unwrap().await.unwrap();
    }
    let boundary = wal.rotate().await.unwrap();
    assert_eq!(boundary, wal.status().written_lsn);
    let after = wal.append(batch(100, 10)).await.unwrap().await.unwrap();
    assert!(after > boundary);
    assert_eq!(live.0.lock().boundaries, [boundary]);
    let before = wal.status().segments;
    assert!(wal.truncate_through(boundary).unwrap() >= before - 2);
    drop(wal);

    let wal = real(&dir, small());
    let mut replayed = Story::default();
    wal.recover(boundary, &mut replayed).unwrap();
    assert_eq!(replayed.samples, [(after, rows(&batch(100, 10)))]);
}
