//! Puts the rows of one series together: rollups where they may answer, samples rolled up
//! between the windows' cuts elsewhere.

use crate::columnar::aggregate::{RollupColumns, roll_up_stretch};
use crate::columnar::parquet::RollupColumnSet;
use crate::model::{Samples, Timestamp};
use crate::query::error::QueryError;
use crate::query::resolution::{Slice, Source};
use crate::query::rollup_scan::counters::RollupCounters;
use crate::query::rollup_scan::evaluate::{Entry, Held};
use crate::query::rollup_scan::scan::RollupScan;
use crate::storage::{SelectedSeries, SnapshotReader};

/// Puts together the rows of one series after another.
pub(super) struct Gathering<'a> {
    pub(super) scan: &'a RollupScan,
    pub(super) reader: SnapshotReader,
    pub(super) samples: Samples,
    pub(super) rolled: RollupColumns,
    pub(super) rows: RollupColumns,
}

impl Gathering<'_> {
    /// Fills `rows` with the series' rows of the slice, ascending; returns how much was looked at.
    pub(super) fn gather(
        &mut self,
        series: &SelectedSeries,
        slice: &Slice,
        held: &Held,
        mut entries: &[Entry],
        counters: &RollupCounters,
    ) -> Result<u64, QueryError> {
        self.rows.clear();
        // A series without anything is not free either.
        let mut seen = 64;
        for (stretch, part) in (0u32..).zip(&slice.stretches) {
            match part.source {
                Source::Rollup(_) => {
                    let own = entries.partition_point(|entry| entry.stretch <= stretch);
                    for entry in &entries[..own] {
                        self.append(&held.batches[entry.batch], entry.rows.clone());
                        seen += entry.rows.len() as u64;
                    }
                    entries = &entries[own..];
                }
                Source::Raw => {
                    let Some(range) = part.span.range() else { continue };
                    let stats = self.reader.read(series, range, &mut self.samples)?;
                    self.scan.usage.add(stats)?;
                    counters.add_raw(stats);
                    seen += stats.samples;
                    let mut rolled = std::mem::take(&mut self.rolled);
                    rolled.clear();
                    roll_up_between(&self.samples, part.span.end, &self.scan.cuts, &mut rolled);
                    self.append(&rolled, 0..rolled.len());
                    self.rolled = rolled;
                }
            }
        }
        Ok(seen)
    }

    /// Appends rows; those without samples only if the kernel wants stale markers.
    fn append(&mut self, from: &RollupColumns, rows: std::ops::Range<usize>) {
        if self.scan.columns.contains(RollupColumnSet::STALE) {
            return self.rows.extend_range(from, rows);
        }
        let mut start = rows.start;
        while start < rows.end {
            let full = from.count[start..rows.end].iter().take_while(|count| **count > 0).count();
            self.rows.extend_range(from, start..start + full);
            start += full + 1;
        }
    }
}

/// One row for the samples between two cuts each; `end` is where the samples' stretch ends.
fn roll_up_between(samples: &Samples, end: Timestamp, cuts: &[Timestamp], out: &mut RollupColumns) {
    let (timestamps, values) = (&samples.timestamps, &samples.values);
    let Some(first) = timestamps.first() else { return };
    let mut cut = cuts.partition_point(|cut| cut < first);
    let mut from = 0;
    while from < timestamps.len() {
        while cut < cuts.len() && cuts[cut] < timestamps[from] {
            cut += 1;
        }
        let row_end = cuts.get(cut).map_or(end, |cut| end.min(*cut));
        let to = from + timestamps[from..].partition_point(|at| *at <= row_end);
        roll_up_stretch(&timestamps[from..to], &values[from..to], row_end, out);
        from = to;
    }
}
