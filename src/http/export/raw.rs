//! Exports of raw samples: the series are selected first, then read one after the other.

use std::collections::BTreeSet;
use std::io;

use crate::columnar::parquet::LabelColumns;
use crate::http::export::csv::Csv;
use crate::http::export::format::ExportFormat;
use crate::http::export::job::Broken;
use crate::http::export::json_lines::JsonLines;
use crate::http::export::openmetrics::{self, Family, OpenMetrics};
use crate::http::export::request::ExportRequest;
use crate::http::export::running::Progress;
use crate::http::export::stream::ChunkSender;
use crate::http::export::table::{Arrow, Parquet};
use crate::model::{Labels, METRIC_NAME, Samples, TimeRange};
use crate::storage::{MetadataStore, SelectedSeries, Snapshot, SnapshotReader, StorageError};

/// Samples of a series that are held at once, about: the length of the slices in which a series
/// is read follows from how dense it is.
const SLICE_SAMPLES: usize = 256 << 10;
/// The first slice of a series, and the longest.
const SLICE_MS: i64 = 86_400_000;
const SLICE_MS_MAX: i64 = 32 * SLICE_MS;
/// How much longer the next slice is where a series is sparse.
const SLICE_GROWTH: i64 = 4;

/// Turns series into the bytes of one format.
pub(super) trait Encoder {
    /// Adds samples of a series: ascending, and after those it had before.
    fn push(&mut self, labels: &Labels, samples: &Samples) -> io::Result<()>;

    fn sink(&self) -> &ChunkSender;

    /// Writes what is left.
    fn finish(self: Box<Self>) -> io::Result<ChunkSender>;
}

/// What is to be read, known before the first byte.
#[derive(Debug)]
pub(super) struct RawExport {
    snapshot: Snapshot,
    /// `None` if there is nothing to read.
    range: Option<TimeRange>,
    format: ExportFormat,
    rows_per_line_max: usize,
    /// Ascending by labels, or by family for OpenMetrics.
    series: Vec<SelectedSeries>,
    /// Of OpenMetrics only.
    families: Vec<Family>,
    /// Label names of the series, for formats that have columns.
    labels: BTreeSet<String>,
}

impl RawExport {
    /// The first pass: which series there are, and which labels they have.
    pub(super) fn select(
        snapshot: Snapshot,
        request: &ExportRequest,
        metadata: &MetadataStore,
    ) -> Result<Self, StorageError> {
        let stored = snapshot.time_range();
        let range = request.range.zip(stored).and_then(|(asked, stored)| asked.intersect(stored));
        let mut series = Vec::new();
        if let Some(range) = range {
            for matchers in &request.selectors {
                series.append(&mut snapshot.select(matchers, range)?);
            }
        }
        if request.selectors.len() > 1 {
            series.sort_by(|left, right| left.labels.cmp(&right.labels));
            series.dedup_by(|left, right| left.labels == right.labels);
        }
        let mut labels = BTreeSet::new();
        series.iter().for_each(|series| add_names(&series.labels, &mut labels));
        let mut families = Vec::new();
        if request.format == ExportFormat::OpenMetrics {
            (series, families) = openmetrics::by_family(series, metadata);
        }
        let (format, rows_per_line_max) = (request.format, request.rows_per_line_max);
        Ok(Self { snapshot, range, format, rows_per_line_max, series, families, labels })
    }

    pub(super) fn series_count(&self) -> usize {
        self.series.len()
    }

    /// What is known to be missing before anything is read.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.snapshot.warnings()
    }

    /// Reads, encodes and sends everything; gives the bytes of it.
    pub(super) fn run(mut self, sink: ChunkSender, progress: &Progress) -> Result<u64, Broken> {
        let known = self.warnings();
        let mut encoder = self.encoder(sink)?;
        let mut slices = Slices::new(&self.snapshot);
        if let Some(range) = self.range {
            for series in &self.series {
                encoder.sink().check()?;
                slices.read(series, range, |slice| {
                    progress.add_rows(slice.len());
                    encoder.push(&series.labels, slice)
                })?;
                progress.add_series();
            }
        }
        if let Some(missing) = self.warnings().into_iter().find(|found| !known.contains(found)) {
            return Err(Broken::Incomplete(missing));
        }
        Ok(encoder.finish()?.end()?)
    }

    fn encoder(&mut self, sink: ChunkSender) -> io::Result<Box<dyn Encoder>> {
        Ok(match self.format {
            ExportFormat::JsonLines => Box::new(JsonLines::new(sink, self.rows_per_line_max)),
            ExportFormat::Csv => Box::new(Csv::new(sink, &self.labels)?),
            ExportFormat::Parquet => Box::new(Parquet::new(sink, &columns(&self.labels))?),
            ExportFormat::Arrow => Box::new(Arrow::new(sink, &columns(&self.labels))?),
            ExportFormat::OpenMetrics => {
                Box::new(OpenMetrics::new(sink, std::mem::take(&mut self.families)))
            }
        })
    }
}

/// Adds the names of a series' labels, the metric's aside.
pub(super) fn add_names(labels: &Labels, names: &mut BTreeSet<String>) {
    for (name, _) in labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
        if !names.contains(name) {
            names.insert(name.to_owned());
        }
    }
}

/// The columns of labels; the same labels always have the same.
pub(super) fn columns(labels: &BTreeSet<String>) -> LabelColumns {
    let mut columns = LabelColumns::new();
    labels.iter().for_each(|label| columns.add(label));
    columns
}

/// Reads series slice by slice.
struct Slices {
    reader: SnapshotReader,
    /// Where there may be samples at all: ascending, gaps of more than a slice between them.
    stored: Vec<TimeRange>,
    samples: Samples,
}

impl Slices {
    fn new(snapshot: &Snapshot) -> Self {
        let ranges = snapshot.parts().iter().filter_map(|part| part.time_range());
        let mut ranges: Vec<TimeRange> = ranges.collect();
        ranges.sort_by_key(|range| range.start());
        let mut stored: Vec<TimeRange> = Vec::new();
        for range in ranges {
            match stored.last_mut() {
                // Blocks of scraped series leave a scrape's time between them: that is no gap.
                Some(last) if range.start() <= last.end().saturating_add(SLICE_MS) => {
                    *last = last.hull(range);
                }
                _ => stored.push(range),
            }
        }
        Self { reader: snapshot.reader(), stored, samples: Samples::default() }
    }

    fn read(
        &mut self,
        series: &SelectedSeries,
        range: TimeRange,
        mut each: impl FnMut(&Samples) -> io::Result<()>,
    ) -> Result<(), Broken> {
        for stretch in self.stored.iter().filter_map(|stored| stored.intersect(range)) {
            let (mut start, mut slice_ms) = (stretch.start(), SLICE_MS);
            loop {
                let end = start.saturating_add(slice_ms - 1).min(stretch.end());
                let slice = TimeRange::new(start, end).expect("starts where its stretch does");
                self.reader.read(series, slice, &mut self.samples)?;
                let count = self.samples.len();
                if count > 0 {
                    each(&self.samples)?;
                }
                if count > SLICE_SAMPLES {
                    slice_ms = (slice_ms / 2).max(1);
                } else if count < SLICE_SAMPLES / 8 {
                    slice_ms = (slice_ms * SLICE_GROWTH).min(SLICE_MS_MAX);
                }
                if end == stretch.end() {
                    break;
                }
                start = end + 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::Matcher;
    use crate::storage::{Part, PartSeries, ReadStats, SeriesReader};

    /// One series with a sample at each of these times.
    #[derive(Debug)]
    struct Times(Vec<i64>);

    impl Part for Times {
        fn name(&self) -> String {
            "times".to_owned()
        }

        fn time_range(&self) -> Option<TimeRange> {
            TimeRange::new(*self.0.first()?, *self.0.last()?)
        }

        fn select(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<PartSeries>, StorageError> {
            Ok(vec![PartSeries { labels: Labels::empty(), local: 0 }])
        }

        fn reader(self: Arc<Self>) -> Box<dyn SeriesReader> {
            Box::new(Reader(self))
        }
    }

    struct Reader(Arc<Times>);

    impl SeriesReader for Reader {
        fn read(
            &mut self,
            _: u32,
            range: TimeRange,
            out: &mut Samples,
        ) -> Result<ReadStats, StorageError> {
            let times = self.0.0.iter().filter(|at| range.contains(**at));
            times.for_each(|at| out.push(*at, 1.0));
            Ok(ReadStats::default())
        }
    }

    #[test]
    fn slices_give_every_sample_once_and_stay_short() {
        let dense: Vec<i64> = (0..3 << 20).map(|step| 1_700_000_000_000 + step * 100).collect();
        let sparse: Vec<i64> =
            (0..1000).map(|step| 1_600_000_000_000 + step * 50_000_000).collect();
        let parts = [vec![i64::MIN, i64::MIN + 1], vec![-1, 0], sparse, dense, vec![i64::MAX]];
        let mut times = parts.concat();
        times.sort_unstable();
        let parts = parts.map(|times| Arc::new(Times(times)) as Arc<dyn Part>);
        let view = Snapshot::new(parts.to_vec(), Vec::new(), Vec::new());
        let series = view.select(&[], TimeRange::ALL).unwrap();
        for range in [TimeRange::ALL, TimeRange::new(0, 1_690_000_000_000).unwrap()] {
            let (mut slices, mut found, mut longest) = (Slices::new(&view), Vec::new(), 0);
            let each = |slice: &Samples| {
                found.extend_from_slice(&slice.timestamps);
                longest = longest.max(slice.len());
                Ok(())
            };
            slices.read(&series[0], range, each).unwrap();
            let wanted: Vec<_> = times.iter().copied().filter(|at| range.contains(*at)).collect();
            assert_eq!(found, wanted);
            assert!(longest <= 4 * SLICE_SAMPLES, "{longest}");
        }
    }
}
