//! How long the windows of blocks are at each level of compaction.

use std::fmt;
use std::str::FromStr;

use crate::storage::plan::WINDOW_MS;

/// The longest window of a block; rollups and retention go by it.
pub(super) const DAY_MS: i64 = 24 * HOUR_MS;
const HOUR_MS: i64 = 60 * 60 * 1000;

/// Window lengths in milliseconds, shortest first: two hours, as blocks are flushed, then each a
/// multiple of the one before and a divisor of a day.
///
/// Blocks of other lengths, written under other levels, are served as they are, and merged where
/// a window of these levels holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels(Vec<i64>);

impl Levels {
    /// The highest level's number; flushed blocks are of level 0.
    pub(crate) fn highest(&self) -> u8 {
        u8::try_from(self.0.len() - 1).expect("divisors of a day are few")
    }

    pub(crate) fn window_ms(&self, level: u8) -> i64 {
        self.0[usize::from(level)]
    }
}

impl Default for Levels {
    /// 2 h, 6 h, 24 h.
    fn default() -> Self {
        Self(vec![WINDOW_MS, 3 * WINDOW_MS, DAY_MS])
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (level, window_ms) in self.0.iter().enumerate() {
            let comma = if level > 0 { "," } else { "" };
            write!(f, "{comma}{}h", window_ms / HOUR_MS)?;
        }
        Ok(())
    }
}

impl FromStr for Levels {
    type Err = String;

    /// Hours, as in `2h,6h,24h`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut windows = Vec::new();
        for part in text.split(',') {
            let hours = part.strip_suffix('h').and_then(|hours| hours.parse::<i64>().ok());
            let Some(hours) = hours.filter(|hours| (1..=24).contains(hours)) else {
                return Err(format!("`{part}` is not a number of hours up to 24h"));
            };
            let window_ms = hours * HOUR_MS;
            let fits = match windows.last() {
                None if window_ms != WINDOW_MS => {
                    return Err("the first level is 2h, as blocks are flushed".to_owned());
                }
                None => true,
                Some(below) => window_ms > *below && window_ms % below == 0,
            };
            if !fits || DAY_MS % window_ms != 0 {
                let rule = "a multiple of the level before it and a divisor of 24h";
                return Err(format!("`{part}` is not {rule}"));
            }
            windows.push(window_ms);
        }
        Ok(Self(windows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_as_they_are_written() {
        for text in ["2h", "2h,24h", "2h,6h,24h", "2h,4h,12h,24h"] {
            assert_eq!(text.parse::<Levels>().unwrap().to_string(), text);
        }
        assert_eq!("2h,6h,24h".parse(), Ok(Levels::default()));
        for bad in ["", "6h", "2h,", "2h,3h", "2h,2h", "2h,10h", "2h,6h,8h", "2h,48h", "2h,-4h"] {
            assert!(bad.parse::<Levels>().is_err(), "{bad}");
        }
    }
}
