//! Builds the rollup files of a run of spans: one pass over the raw samples gives the rows of all
//! resolutions, each from the finer one.

use std::sync::atomic::{AtomicBool, Ordering};

use uuid::Uuid;

use crate::columnar::aggregate::{RollupColumns, roll_up_rows, roll_up_samples};
use crate::columnar::parquet::LabelColumns;
use crate::model::{Resolution, Samples, Span, Timestamp};
use crate::storage::error::StorageError;
use crate::storage::plan::WINDOW_MS;
use crate::storage::rollup::file::{BuiltSpan, FileFacts, span_at};
use crate::storage::rollup::plan::{Floors, day_start};
use crate::storage::rollup::upload::{NewRollupFile, Target};
use crate::storage::snapshot::Snapshot;
use crate::storage::wal::Lsn;

/// Series between two looks at whether to stop.
const SERIES_PER_LOOK: usize = 256;

/// Raw samples as they are in blocks, and what is known of them.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) snapshot: Snapshot,
    /// Everything up to here is in the snapshot.
    pub(crate) lsn: Lsn,
    /// The last tombstone that the snapshot knows of.
    pub(crate) cleaned: u64,
}

/// What came of a run: a file for each resolution that has rows, and the spans they hold.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) files: Vec<FileFacts>,
    pub(crate) spans: Vec<BuiltSpan>,
}

/// Builds the spans that begin at `first`, `first + 2 h`, … up to `last`, all of one day.
/// Labels that are new get a column. Of a resolution that the floors let go there is no file.
pub(crate) fn build_run(
    target: &Target,
    source: &Source,
    floors: &Floors,
    (first, last): (Timestamp, Timestamp),
    labels: &mut LabelColumns,
    stop: &AtomicBool,
) -> Result<Built, StorageError> {
    let run = Span { start: first, end: span_at(last).end };
    let range = run.range().ok_or_else(|| StorageError::Internal("an empty run".to_owned()))?;
    let series = source.snapshot.select(&[], range)?;
    for one in &series {
        one.labels
            .iter()
            .filter(|(name, _)| *name != crate::model::METRIC_NAME)
            .for_each(|(name, _)| labels.add(name));
    }
    let mut files = Vec::with_capacity(Resolution::ALL.len());
    for resolution in Resolution::ALL {
        // Rows that are not kept are made only for the coarser ones.
        let is_kept = !floors.expired(resolution, last);
        let path = file_path(resolution, first);
        let new = || NewRollupFile::create(target, path, resolution, labels);
        files.push(is_kept.then(new).transpose()?);
    }
    let starts = (first..=last).step_by(usize::try_from(WINDOW_MS).unwrap_or(usize::MAX));
    let mut spans: Vec<BuiltSpan> = starts
        .map(|start_ms| BuiltSpan {
            start_ms,
            source_lsn: source.lsn,
            cleaned: source.cleaned,
            samples: 0,
        })
        .collect();
    let mut reader = source.snapshot.reader();
    let mut samples = Samples::default();
    let mut rows = [const { RollupColumns::new() }; Resolution::ALL.len()];
    for (number, one) in series.iter().enumerate() {
        if number % SERIES_PER_LOOK == 0 && stop.load(Ordering::Relaxed) {
            return Err(StorageError::ShuttingDown);
        }
        reader.read(one, range, &mut samples)?;
        roll_up(&samples, &mut rows);
        for (rows, file) in rows.iter().zip(&mut files) {
            if let Some(file) = file {
                file.push(&one.labels, rows)?;
            }
        }
        count(&rows[0], run, &mut spans);
    }
    // A snapshot gives what it can; rows must sum up everything.
    if let Some(warning) = source.snapshot.warnings().first() {
        return Err(StorageError::Internal(format!("a source of a rollup is damaged: {warning}")));
    }
    let mut built = Built { files: Vec::new(), spans: spans.clone() };
    for file in files.into_iter().flatten() {
        built.files.extend(file.finish(spans.clone())?);
    }
    Ok(built)
}

/// Replaces `rows`, which are those of all resolutions, finest first.
fn roll_up(samples: &Samples, rows: &mut [RollupColumns; Resolution::ALL.len()]) {
    let [minutes, fives, hours] = rows;
    minutes.clear();
    fives.clear();
    hours.clear();
    roll_up_samples(samples, Resolution::OneMinute.ms(), minutes);
    roll_up_rows(minutes, Resolution::FiveMinutes.ms(), fives);
    roll_up_rows(fives, Resolution::OneHour.ms(), hours);
}

/// Adds how many samples the rows sum up to the spans they lie in.
fn count(rows: &RollupColumns, run: Span, spans: &mut [BuiltSpan]) {
    for (end, count) in rows.bucket_end.iter().zip(&rows.count) {
        let span = end.saturating_sub(1).abs_diff(run.start) / WINDOW_MS.unsigned_abs();
        if let Some(span) = usize::try_from(span).ok().and_then(|span| spans.get_mut(span)) {
            span.samples += count;
        }
    }
}

/// A name that was never used before, in the directory of the day that holds `start`.
pub(crate) fn file_path(resolution: Resolution, start: Timestamp) -> String {
    let day = chrono::DateTime::from_timestamp_millis(day_start(start))
        .map_or_else(|| "unknown".to_owned(), |day| day.format("%Y-%m-%d").to_string());
    format!("resolution={resolution}/day={day}/{}.parquet", Uuid::new_v4().simple())
}
