//! What a scan reads: the head, a block, later a rollup file.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use crate::columnar::block::Settle;
use crate::model::{Labels, Matcher, Samples, TimeRange};
use crate::storage::error::StorageError;
use crate::storage::tombstone::Tombstone;
use crate::storage::wal::Lsn;

/// A series as one part knows it.
#[derive(Debug, Clone)]
pub struct PartSeries {
    pub labels: Labels,
    /// Number of the series inside its part; means nothing elsewhere.
    pub local: u32,
}

/// What reading cost.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ReadStats {
    pub samples: u64,
    pub chunks: u64,
    /// Chunks that were settled by what their directory says, without reading them.
    pub settled: u64,
    pub bytes: u64,
}

impl ReadStats {
    pub fn add(&mut self, other: ReadStats) {
        self.samples += other.samples;
        self.chunks += other.chunks;
        self.settled += other.settled;
        self.bytes += other.bytes;
    }
}

/// An immutable or append-only set of series with samples.
pub trait Part: Send + Sync + Debug {
    /// For messages: a file name, or `head`.
    fn name(&self) -> String;

    /// Where its samples lie; `None` if it has none.
    fn time_range(&self) -> Option<TimeRange>;

    /// The last write in it. A part that is not in a block yet has later writes than any block.
    fn lsn_last(&self) -> Lsn {
        Lsn::MAX
    }

    /// Whether it may hold samples that the tombstone hides.
    fn is_touched_by(&self, tombstone: &Tombstone) -> bool {
        self.lsn_last() <= tombstone.lsn
            && self.time_range().is_some_and(|of_part| of_part.overlaps(tombstone.range))
    }

    /// The series that satisfy all matchers and may have samples in `range`, ascending by labels.
    fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<PartSeries>, StorageError>;

    /// A cursor over the part's samples. It may keep caches, so one scan uses one reader.
    fn reader(self: Arc<Self>) -> Box<dyn SeriesReader>;

    /// Adds the label names of the series that [`Part::select`] would give.
    /// Parts with an index answer without touching every series.
    fn label_names(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        names: &mut BTreeSet<String>,
    ) -> Result<(), StorageError> {
        for series in self.select(matchers, range)? {
            for (name, _) in series.labels.iter() {
                if !names.contains(name) {
                    names.insert(name.to_owned());
                }
            }
        }
        Ok(())
    }

    /// Adds the values that label `name` has in the series that [`Part::select`] would give.
    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
        values: &mut BTreeSet<String>,
    ) -> Result<(), StorageError> {
        for series in self.select(matchers, range)? {
            if let Some(value) = series.labels.get(name)
                && !values.contains(value)
            {
                values.insert(value.to_owned());
            }
        }
        Ok(())
    }
}

/// Reads series of one part.
pub trait SeriesReader: Send {
    /// Appends the series' samples in `range` to `out`: ascending by time, no timestamp twice.
    fn read(
        &mut self,
        local: u32,
        range: TimeRange,
        out: &mut Samples,
    ) -> Result<ReadStats, StorageError>;

    /// As [`SeriesReader::read`], but a part with a directory of chunks shows them to `settle`, and
    /// leaves out those of which no sample is needed. In `shared` the part's samples are not all
    /// that there is, or are hidden: chunks that reach into it are read as ever.
    fn read_unsettled(
        &mut self,
        local: u32,
        range: TimeRange,
        _shared: &[TimeRange],
        _settle: &mut Settle<'_>,
        out: &mut Samples,
    ) -> Result<ReadStats, StorageError> {
        self.read(local, range, out)
    }

    /// Whether the series has a sample in `range`. Parts with an index need not decode values.
    fn holds(&mut self, local: u32, range: TimeRange) -> Result<bool, StorageError> {
        let mut samples = Samples::default();
        self.read(local, range, &mut samples)?;
        Ok(!samples.is_empty())
    }
}
