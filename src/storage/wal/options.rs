//! What can be set about the log, and its defaults.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncMode {
    /// After it is on disk.
    #[default]
    Always,
    /// After it is handed to the operating system, which is told to store it at this interval:
    /// a power cut loses at most that much.
    Interval(Duration),
    /// After it is handed to the operating system, which stores it when it likes.
    None,
}

/// Bounds and sizes of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalOptions {
    pub sync: SyncMode,
    /// Length of a segment file.
    pub segment_bytes: u64,
    /// Most bytes that one write to the log has. A single record may be larger.
    pub group_bytes_max: usize,
    /// Most bytes (records and the batches they came from) that wait to be written; appenders
    /// wait when there are more.
    pub pending_bytes_max: usize,
    /// Disk space that the log leaves to flush and compaction: without it, no new segment.
    pub reserve_bytes: u64,
    /// How long after the last write a mark is written that vouches for it.
    pub idle_mark_after: Duration,
    /// How often a full disk is looked at again.
    pub retry_after: Duration,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            sync: SyncMode::default(),
            segment_bytes: 128 << 20,
            group_bytes_max: 16 << 20,
            pending_bytes_max: 64 << 20,
            reserve_bytes: 128 << 20,
            idle_mark_after: Duration::from_millis(100),
            retry_after: Duration::from_millis(500),
        }
    }
}

/// The text is not a sync mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a sync mode: expected always, none, or a duration such as 250ms, 1s, 1m")]
pub struct SyncModeError(String);

/// Units of durations, largest first, in milliseconds.
const UNITS: [(&str, u64); 3] = [("m", 60_000), ("s", 1_000), ("ms", 1)];

impl FromStr for SyncMode {
    type Err = SyncModeError;

    fn from_str(text: &str) -> Result<Self, SyncModeError> {
        let error = || SyncModeError(text.to_owned());
        match text {
            "always" => return Ok(SyncMode::Always),
            "none" => return Ok(SyncMode::None),
            _ => {}
        }
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| error())?;
        let (_, unit_ms) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
        match number.checked_mul(unit_ms) {
            Some(ms) if ms > 0 => Ok(SyncMode::Interval(Duration::from_millis(ms))),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for SyncMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SyncMode::Always => f.write_str("always"),
            SyncMode::None => f.write_str("none"),
            SyncMode::Interval(interval) => {
                let ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
                let (unit, unit_ms) = UNITS
                    .into_iter()
                    .find(|(_, unit_ms)| ms.is_multiple_of(*unit_ms))
                    .expect("every number of milliseconds is a multiple of one");
                write!(f, "{}{unit}", ms / unit_ms)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sync_modes_read_back_as_written() {
        for text in ["always", "none", "250ms", "1s", "90s", "2m"] {
            assert_eq!(text.parse::<SyncMode>().unwrap().to_string(), text);
        }
        assert_eq!("1500ms".parse::<SyncMode>().unwrap().to_string(), "1500ms");
        assert_eq!("60s".parse::<SyncMode>().unwrap().to_string(), "1m");
        for text in ["", "0s", "s", "5", "1h", "-1s", "99999999999999999999s", "Always"] {
            assert!(text.parse::<SyncMode>().is_err(), "{text}");
        }
    }
}
