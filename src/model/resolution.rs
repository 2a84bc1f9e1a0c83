//! Resolutions of rollups: how long a bucket is.

use std::fmt;
use std::str::FromStr;

/// Length of the buckets of a rollup. Ordered from fine to coarse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resolution {
    OneMinute,
    FiveMinutes,
    OneHour,
}

impl Resolution {
    /// Every resolution, finest first.
    pub const ALL: [Self; 3] = [Self::OneMinute, Self::FiveMinutes, Self::OneHour];

    /// Length of a bucket in ms.
    pub const fn ms(self) -> i64 {
        match self {
            Self::OneMinute => 60_000,
            Self::FiveMinutes => 300_000,
            Self::OneHour => 3_600_000,
        }
    }

    /// `1m`, `5m` or `1h`: as in directory names, settings and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OneMinute => "1m",
            Self::FiveMinutes => "5m",
            Self::OneHour => "1h",
        }
    }
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no resolution of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no resolution: choose 1m, 5m or 1h")]
pub struct UnknownResolution(String);

impl FromStr for Resolution {
    type Err = UnknownResolution;

    fn from_str(name: &str) -> Result<Self, UnknownResolution> {
        let found = Self::ALL.into_iter().find(|resolution| resolution.name() == name);
        found.ok_or_else(|| UnknownResolution(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_each_divides_the_next() {
        for resolution in Resolution::ALL {
            assert_eq!(resolution.name().parse(), Ok(resolution));
        }
        for pair in Resolution::ALL.windows(2) {
            assert_eq!(pair[1].ms() % pair[0].ms(), 0);
        }
        assert!("2m".parse::<Resolution>().is_err());
    }
}
