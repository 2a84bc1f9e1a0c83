//! Sizes and bounds of the log, and their defaults.

use std::time::Duration;

use crate::storage::options::WalSync;

/// Sizes and bounds of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalOptions {
    /// When a write is acknowledged.
    pub sync: WalSync,
    /// Length of a segment file.
    pub segment_bytes: u64,
    /// Most bytes that one write to the log has. A single record may be larger.
    pub group_bytes_max: usize,
    /// Most bytes (records and the batches they came from) that wait to be written; appenders
    /// wait when there are more.
    pub pending_bytes_max: usize,
    /// Disk space that the log leaves to flush and compaction: no new segment that would go below
    /// it. Writes are taken again at twice that.
    pub disk_free_bytes_min: u64,
    /// How long after the last write a mark is written that vouches for it.
    pub idle_mark_after: Duration,
    /// How often a full disk is looked at again.
    pub retry_after: Duration,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            sync: WalSync::default(),
            segment_bytes: 128 << 20,
            group_bytes_max: 16 << 20,
            pending_bytes_max: 64 << 20,
            disk_free_bytes_min: 256 << 20,
            idle_mark_after: Duration::from_millis(100),
            retry_after: Duration::from_millis(500),
        }
    }
}
