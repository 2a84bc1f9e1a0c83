//! What steers the store: each option with its unit, its default and why it is that.
//!
//! Options are plain values; `config` fills them from flags and environment. Constants that
//! nobody should need to turn stand beside the code they steer.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;

use crate::storage::plan::{Levels, Retention};

/// How the store is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageOptions {
    /// Where everything lives: `wal/`, `blocks/`, `MANIFEST`, `LOCK`. Default `./data`.
    pub data_dir: PathBuf,
    /// When a write is acknowledged. Default [`WalSync::Always`]: after it is on disk.
    pub wal_sync: WalSync,
    /// Bytes of memory that the head may hold before it is flushed to blocks. Default 512 MiB:
    /// some 200 million samples at rest, and small beside what a machine for metrics has.
    pub head_bytes_max: u64,
    /// Bytes of log that may be needed for a restart before the head is flushed. Default 1 GiB,
    /// which two cores replay in well under ten seconds.
    pub wal_bytes_max: u64,
    /// Length of a log segment's file, zeroed before it is used. Default 128 MiB; tests have less.
    pub wal_segment_bytes: u64,
    /// Milliseconds after a two-hour window's end at which the head is flushed, so that late
    /// samples of that window still go with it. Default ten minutes.
    pub flush_grace_ms: i64,
    /// Series that the head's table may hold; more are refused, known ones are still written.
    /// Default ten million, at less than 700 bytes each.
    pub series_max: u32,
    /// Bytes of decoded block pages that are kept for the next query. Default 64 MiB.
    pub block_cache_bytes_max: u64,
    /// Free bytes on the data directory's disk below which the store turns read-only. Default
    /// 256 MiB, room for a flush to finish. It turns back at twice that.
    pub disk_free_bytes_min: u64,
    /// Windows that blocks are merged to. Default 2 h, 6 h, 24 h.
    pub compaction_levels: Levels,
    /// How long samples and rollups are kept. Default for ever.
    pub retention: Retention,
    /// Bytes that blocks, log and rollup files may have before the oldest data go. Default 0, which
    /// is no bound.
    pub retention_bytes: u64,
    /// Whether samples are summed up to rollups, by themselves. Default yes: queries over long
    /// times live from them.
    pub rollups: bool,
    /// Where rollups lie: a directory or the URL of an object store. Default `rollups/` in the
    /// data directory.
    pub rollup_url: Option<String>,
    /// An object store handed over instead of named, as tests do.
    pub rollup_store: Option<GivenStore>,
}

/// An object store that the caller has made.
#[derive(Debug, Clone)]
pub struct GivenStore(pub Arc<dyn ObjectStore>);

impl PartialEq for GivenStore {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for GivenStore {}

impl StorageOptions {
    /// The defaults, in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), ..Self::default() }
    }
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./data"),
            wal_sync: WalSync::default(),
            head_bytes_max: 512 << 20,
            wal_bytes_max: 1 << 30,
            wal_segment_bytes: 128 << 20,
            flush_grace_ms: 10 * 60 * 1000,
            series_max: 10_000_000,
            block_cache_bytes_max: 64 << 20,
            disk_free_bytes_min: 256 << 20,
            compaction_levels: Levels::default(),
            retention: Retention::default(),
            retention_bytes: 0,
            rollups: true,
            rollup_url: None,
            rollup_store: None,
        }
    }
}

/// When a write is acknowledged, and so what an acknowledgement is worth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WalSync {
    /// After its record is on disk.
    #[default]
    Always,
    /// After its record is handed to the operating system, which is told to write every so often.
    Interval(Duration),
    /// After its record is handed to the operating system, which writes when it likes.
    Never,
}

impl WalSync {
    /// What survives, in words for the status page.
    pub fn survives(self) -> String {
        match self {
            WalSync::Always => "a power cut".to_owned(),
            WalSync::Interval(period) => {
                format!("a killed process; a power cut loses up to the last {period:?}")
            }
            WalSync::Never => {
                "a killed process; a power cut loses what the system had not written".to_owned()
            }
        }
    }
}

/// As the flag is written: `always`, `none`, or a period such as `100ms`.
impl fmt::Display for WalSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WalSync::Always => f.write_str("always"),
            WalSync::Interval(period) => write!(f, "{}ms", period.as_millis()),
            WalSync::Never => f.write_str("none"),
        }
    }
}

impl FromStr for WalSync {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "always" => return Ok(WalSync::Always),
            "none" => return Ok(WalSync::Never),
            _ => {}
        }
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let ms_per_unit = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            _ => 0,
        };
        match number.parse::<u64>().ok().and_then(|number| number.checked_mul(ms_per_unit)) {
            None | Some(0) => Err(format!(
                "`{text}` is not a sync mode: say `always`, `none`, or a period such as `100ms`"
            )),
            Some(ms) => Ok(WalSync::Interval(Duration::from_millis(ms))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sync_modes_are_read_as_they_are_written() {
        for mode in [WalSync::Always, WalSync::Never, WalSync::Interval(Duration::from_millis(20))]
        {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert_eq!("1s".parse(), Ok(WalSync::Interval(Duration::from_secs(1))));
        for bad in ["", "0ms", "5", "ms", "-1s", "99999999999999999999s", "1h"] {
            assert!(bad.parse::<WalSync>().is_err(), "{bad}");
        }
    }
}
