//! What the store says of itself: everything that `/api/v1/status` shows, as plain values.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::{TimeRange, Timestamp};
use crate::storage::options::WalSync;

/// The store at one moment.
#[derive(Debug, Clone)]
pub struct EngineStatus {
    /// Identity of the data directory, given when it was made.
    pub database_uuid: uuid::Uuid,
    pub data_dir: PathBuf,
    /// When writes are acknowledged; [`WalSync::survives`] says what that is worth.
    pub wal_sync: WalSync,
    /// Why writes are refused; `None` while they are taken.
    pub read_only: Option<String>,
    pub head: HeadStatus,
    pub wal: WalStatus,
    /// Oldest writes first.
    pub blocks: Vec<BlockStatus>,
    pub block_bytes: u64,
    pub block_samples: u64,
    /// Ascending; levels without blocks are left out.
    pub levels: Vec<LevelStatus>,
    pub compaction: CompactionStatus,
    pub retention: RetentionStatus,
    /// Blocks that were set aside because they are damaged or missing.
    pub quarantined: Vec<QuarantinedBlock>,
    /// The latest flush that succeeded since the start.
    pub last_flush: Option<FlushReport>,
    /// Why the latest flush failed; `None` once one has succeeded after it.
    pub flush_error: Option<String>,
    /// What the start found and did.
    pub recovery: RecoveryReport,
    /// Where samples lie, in head and blocks.
    pub time_range: Option<TimeRange>,
}

/// What is in memory and not yet in a block.
#[derive(Debug, Clone, Default)]
pub struct HeadStatus {
    /// Series in the head's table.
    pub series: u64,
    pub samples: u64,
    pub bytes: u64,
    pub time_range: Option<TimeRange>,
    /// Memtables that wait for their flush or are in it.
    pub frozen: usize,
}

/// What is in the log.
#[derive(Debug, Clone, Default)]
pub struct WalStatus {
    pub segments: u64,
    /// Bytes that a restart would have to replay.
    pub bytes: u64,
    /// Everything up to here is acknowledged and survives as the sync mode says.
    pub durable_lsn: u64,
    /// Everything up to here is in blocks.
    pub flushed_lsn: u64,
}

/// One block of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockStatus {
    pub file: String,
    /// 0 as flushed, higher once compacted.
    pub level: u8,
    pub time_range: TimeRange,
    pub series: u64,
    pub samples: u64,
    pub bytes: u64,
}

/// All blocks of one level together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LevelStatus {
    pub level: u8,
    pub blocks: usize,
    pub samples: u64,
    pub bytes: u64,
}

impl LevelStatus {
    pub(crate) fn of(blocks: &[BlockStatus]) -> Vec<Self> {
        let mut levels: BTreeMap<u8, Self> = BTreeMap::new();
        for block in blocks {
            let level = block.level;
            let of_level = levels.entry(level).or_insert(Self { level, ..Self::default() });
            of_level.blocks += 1;
            of_level.samples += block.samples;
            of_level.bytes += block.bytes;
        }
        levels.into_values().collect()
    }
}

/// How the merging of blocks goes.
#[derive(Debug, Clone, Default)]
pub struct CompactionStatus {
    pub running: Option<RunningMerge>,
    /// The latest merge that succeeded since the start.
    pub last: Option<MergeReport>,
    /// Why the latest merge failed; `None` once one has succeeded after it.
    pub error: Option<String>,
}

/// A merge that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningMerge {
    pub level: u8,
    pub window: TimeRange,
    pub blocks: usize,
    /// Of the sources.
    pub bytes: u64,
    /// Of the sources.
    pub samples: u64,
    pub samples_done: u64,
}

/// What one merge did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeReport {
    /// Of the result.
    pub level: u8,
    pub window: TimeRange,
    /// Sources.
    pub blocks: usize,
    /// Of the sources: what was overwritten or deleted is counted.
    pub samples: u64,
    pub bytes_before: u64,
    pub bytes_after: u64,
    pub took: Duration,
    /// When it ended, in milliseconds since the Unix epoch.
    pub finished_ms: i64,
}

/// What retention has dropped since the start; of rollups, `RollupStatus` tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetentionStatus {
    pub blocks: u64,
    pub samples: u64,
    pub bytes: u64,
    /// Samples before it are past their time and out of sight, in milliseconds since the Unix epoch.
    pub raw_floor_ms: Option<Timestamp>,
    /// What is stored in blocks, log and rollup files, which `retention_bytes` bounds.
    pub stored_bytes: u64,
    /// Why samples that are past their time are still there.
    pub waiting: Option<String>,
}

/// What [`crate::storage::Engine::compact`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompactReport {
    pub merges: u64,
    /// Samples that went through merges, some perhaps more than once.
    pub samples: u64,
    /// Blocks of the store, and their bytes.
    pub blocks_before: usize,
    pub blocks_after: usize,
    pub bytes_before: u64,
    pub bytes_after: u64,
    pub took: Duration,
}

/// A block that is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedBlock {
    pub block: BlockStatus,
    pub reason: String,
}

/// What one flush did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlushReport {
    /// Files written; 0 if there was nothing to flush.
    pub blocks: usize,
    pub samples: u64,
    pub series: u64,
    pub bytes: u64,
    pub took: Duration,
    /// When it ended, in milliseconds since the Unix epoch.
    pub finished_ms: i64,
}

impl FlushReport {
    /// Adds what a later flush did.
    pub(crate) fn add(&mut self, later: &FlushReport) {
        self.blocks += later.blocks;
        self.samples += later.samples;
        self.series += later.series;
        self.bytes += later.bytes;
        self.took += later.took;
        self.finished_ms = later.finished_ms;
    }
}

/// What a start found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    pub blocks: usize,
    /// Files that no manifest names, left by an interrupted flush, and removed.
    pub orphans_removed: usize,
    pub segments: u64,
    pub records: u64,
    pub samples: u64,
    pub series: u64,
    /// What was dropped at the log's end: writes that were never acknowledged.
    pub torn_tail: Option<String>,
    /// Flushes that replay needed to stay within its memory.
    pub flushes: usize,
    pub took: Duration,
}

/// How far a start has come; shared with the server, which answers while the store opens.
#[derive(Debug, Default)]
pub struct ReplayProgress {
    bytes_total: AtomicU64,
    bytes_done: AtomicU64,
    samples: AtomicU64,
}

impl ReplayProgress {
    pub(crate) fn add_samples(&self, samples: u64) {
        self.samples.fetch_add(samples, Ordering::Relaxed);
    }

    pub(crate) fn set_bytes(&self, done: u64, total: u64) {
        self.bytes_total.store(total, Ordering::Relaxed);
        self.bytes_done.store(done, Ordering::Relaxed);
    }

    /// Bytes of log to be read, at most: the last segment's end is only known when it is read.
    pub fn bytes_total(&self) -> u64 {
        self.bytes_total.load(Ordering::Relaxed)
    }

    pub fn bytes_done(&self) -> u64 {
        self.bytes_done.load(Ordering::Relaxed)
    }

    pub fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }
}
