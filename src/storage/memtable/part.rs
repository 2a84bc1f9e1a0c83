//! The head as a scan sees it: runs and chunks of one moment.

use std::collections::BTreeSet;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::model::{Matcher, Samples, TimeRange};
use crate::storage::error::StorageError;
use crate::storage::memtable::log::{ChunkIndex, LogChunk};
use crate::storage::memtable::run::{ColumnCache, SealedRun};
use crate::storage::part::{Part, PartSeries, ReadStats, SeriesReader};
use crate::storage::series::SeriesTable;
use crate::storage::snapshot::merge_pieces;

/// Selections up to this are looked up in every run, larger ones by bitmaps of whole runs.
const LOOKED_UP_SERIES_MAX: u64 = 256;

/// A memtable at one moment.
#[derive(Debug)]
pub struct HeadPart {
    series: Arc<SeriesTable>,
    runs: Vec<Arc<SealedRun>>,
    /// With the number of rows that belong to this moment.
    chunks: Vec<(usize, Arc<LogChunk>)>,
    range: Option<TimeRange>,
}

impl HeadPart {
    pub(crate) fn new(
        series: Arc<SeriesTable>,
        runs: Vec<Arc<SealedRun>>,
        mut chunks: Vec<(usize, Arc<LogChunk>)>,
    ) -> Self {
        chunks.retain(|(len, _)| *len > 0);
        let of_chunks = chunks.iter().filter_map(|(_, chunk)| chunk.range());
        let range = runs.iter().map(|run| run.range()).chain(of_chunks).reduce(TimeRange::hull);
        Self { series, runs, chunks, range }
    }

    /// Series that satisfy the matchers and may have samples in `range`.
    fn ids(&self, matchers: &[Matcher], range: TimeRange) -> RoaringBitmap {
        let selected = self.series.select(matchers);
        let runs = self.runs.iter().filter(|run| run.range().overlaps(range));
        let indexes: Vec<Arc<ChunkIndex>> = self
            .chunks
            .iter()
            .filter(|(_, chunk)| chunk.range().is_some_and(|of_chunk| of_chunk.overlaps(range)))
            .map(|(len, chunk)| chunk.index(*len))
            .collect();
        if selected.len() <= LOOKED_UP_SERIES_MAX {
            let held = |id: &u32| {
                runs.clone().any(|run| run.holds(*id, range))
                    || indexes.iter().any(|index| index.series().binary_search(id).is_ok())
            };
            return selected.iter().filter(held).collect();
        }
        let mut present = RoaringBitmap::new();
        runs.for_each(|run| present |= run.ids());
        for index in indexes {
            present |= RoaringBitmap::from_sorted_iter(index.series().iter().copied())
                .expect("an index lists its series in order");
        }
        selected & present
    }
}

impl Part for HeadPart {
    fn name(&self) -> String {
        "head".to_owned()
    }

    fn time_range(&self) -> Option<TimeRange> {
        self.range
    }

    fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<PartSeries>, StorageError> {
        let ordered = self.series.in_order(&self.ids(matchers, range));
        Ok(ordered.into_iter().map(|(labels, local)| PartSeries { labels, local }).collect())
    }

    fn reader(self: Arc<Self>) -> Box<dyn SeriesReader> {
        let runs = self.runs.iter().map(|_| ColumnCache::default()).collect();
        let indexes = self.chunks.iter().map(|_| None).collect();
        Box::new(HeadReader {
            part: self,
            caches: runs,
            indexes,
            ends: Vec::new(),
            gathered: Samples::default(),
            merged: Samples::default(),
        })
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        names: &mut BTreeSet<String>,
    ) -> Result<(), StorageError> {
        self.series.label_names(&self.ids(matchers, range), names);
        Ok(())
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
        values: &mut BTreeSet<String>,
    ) -> Result<(), StorageError> {
        self.series.label_values(name, &self.ids(matchers, range), values);
        Ok(())
    }
}

/// Reads series of the head, merging what came out of order.
struct HeadReader {
    part: Arc<HeadPart>,
    caches: Vec<ColumnCache>,
    indexes: Vec<Option<Arc<ChunkIndex>>>,
    /// End of each piece in `gathered`.
    ends: Vec<usize>,
    gathered: Samples,
    merged: Samples,
}

impl SeriesReader for HeadReader {
    fn read(
        &mut self,
        local: u32,
        range: TimeRange,
        out: &mut Samples,
    ) -> Result<ReadStats, StorageError> {
        self.gathered.clear();
        self.ends.clear();
        let mut stats = ReadStats::default();
        let mut in_order = true;
        let mut end_piece = |gathered: &Samples, ends: &mut Vec<usize>| {
            let start = ends.last().copied().unwrap_or(0);
            if gathered.len() > start {
                in_order &=
                    start == 0 || gathered.timestamps[start - 1] < gathered.timestamps[start];
                ends.push(gathered.len());
            }
        };
        for (run, cache) in self.part.runs.iter().zip(&mut self.caches) {
            if run.range().overlaps(range) {
                stats.add(run.read(local, range, cache, &mut self.gathered)?);
                end_piece(&self.gathered, &mut self.ends);
            }
        }
        for ((len, chunk), index) in self.part.chunks.iter().zip(&mut self.indexes) {
            if chunk.range().is_some_and(|of_chunk| of_chunk.overlaps(range)) {
                let before = self.gathered.len();
                let index = index.get_or_insert_with(|| chunk.index(*len));
                index.read(chunk, local, range, &mut self.gathered);
                stats.samples += (self.gathered.len() - before) as u64;
                end_piece(&self.gathered, &mut self.ends);
            }
        }
        if !in_order {
            merge_pieces(&self.gathered, &self.ends, &mut self.merged);
            std::mem::swap(&mut self.gathered, &mut self.merged);
        }
        out.timestamps.extend_from_slice(&self.gathered.timestamps);
        out.values.extend_from_slice(&self.gathered.values);
        Ok(stats)
    }
}
