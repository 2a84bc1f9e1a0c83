//! Where things lie in the data directory, and what their names look like.
//!
//! ```text
//! LOCK  MANIFEST  METADATA
//! wal/                       log segments, named by `wal`
//! blocks/0000000000000007.block
//! series/0000000000000008.series
//! quarantine/                files set aside, for a human to look at
//! snapshots/<name>/          copies with the same layout
//! ```
//!
//! A `.tmp` behind a name is a file that was being written. Only names of these patterns are
//! ever removed: what somebody else put into the directory is left alone.

use std::path::{Path, PathBuf};

/// The paths of one data directory.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    dir: PathBuf,
}

/// A file of ours, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileName {
    pub(crate) id: u64,
    /// Being written when the process ended.
    pub(crate) temporary: bool,
}

impl Layout {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf() }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.dir.join("LOCK")
    }

    pub(crate) fn metadata(&self) -> PathBuf {
        self.dir.join("METADATA")
    }

    pub(crate) fn wal_dir(&self) -> PathBuf {
        self.dir.join("wal")
    }

    pub(crate) fn blocks_dir(&self) -> PathBuf {
        self.dir.join("blocks")
    }

    pub(crate) fn series_dir(&self) -> PathBuf {
        self.dir.join("series")
    }

    pub(crate) fn quarantine_dir(&self) -> PathBuf {
        self.dir.join("quarantine")
    }

    pub(crate) fn snapshots_dir(&self) -> PathBuf {
        self.dir.join("snapshots")
    }

    pub(crate) fn block(&self, id: u64) -> PathBuf {
        self.blocks_dir().join(format!("{id:016x}{BLOCK_SUFFIX}"))
    }

    pub(crate) fn series_file(&self, id: u64) -> PathBuf {
        self.series_dir().join(format!("{id:016x}{SERIES_SUFFIX}"))
    }
}

pub(crate) const BLOCK_SUFFIX: &str = ".block";
pub(crate) const SERIES_SUFFIX: &str = ".series";

/// Takes a name apart; `None` if it is not exactly one of ours.
pub(crate) fn parse_name(name: &str, suffix: &str) -> Option<FileName> {
    let (name, temporary) = match name.strip_suffix(".tmp") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let digits = name.strip_suffix(suffix)?;
    let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digits.len() != 16 || !digits.bytes().all(lower_hex) {
        return None;
    }
    let id = u64::from_str_radix(digits, 16).ok()?;
    Some(FileName { id, temporary })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_known() {
        let layout = Layout::new(Path::new("d"));
        let path = layout.block(0xab);
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(name, "00000000000000ab.block");
        let parsed = FileName { id: 0xab, temporary: false };
        assert_eq!(parse_name(name, BLOCK_SUFFIX), Some(parsed));
        let temporary = FileName { temporary: true, ..parsed };
        assert_eq!(parse_name(&format!("{name}.tmp"), BLOCK_SUFFIX), Some(temporary));
        for foreign in [
            "00000000000000AB.block",
            "ab.block",
            "+0000000000000ab.block",
            "00000000000000ab.series",
            "00000000000000ab.block.tmp.tmp",
            "backup-00000000000000ab.block",
        ] {
            assert_eq!(parse_name(foreign, BLOCK_SUFFIX), None, "{foreign}");
        }
    }
}
