//! What reading costs: rollups answer only where that pays.

use crate::model::Span;
use crate::query::resolution::choice::Stored;
use crate::query::resolution::source::{Source, Stretch};

/// Rollup files hold one day, sorted by series: to read an hour of a series is to read its day.
pub(super) const FILE_MS: i64 = 86_400_000;
/// Raw chunks are decoded whole; this is how much time one of them holds at least.
pub(super) const CHUNK_MS: i64 = 7_200_000;

/// What reading costs, in raw samples. Rollups answer when they are cheaper by the factor
/// `gain_min`.
///
/// Measured by `benches/rollups.rs` with one thread: a raw sample takes 2 to 9 ns, a row 30 (`avg`,
/// two columns) to 85 (`rate`, seven), a file 0.4 to 0.7 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollupCosts {
    /// One row of a rollup, whatever is read of it.
    pub row: u64,
    /// One column of a row.
    pub column: u64,
    /// To open a file and decode what stands beside the rows that are wanted.
    pub file: u64,
    /// How much cheaper rollups must be.
    pub gain_min: u64,
}

impl RollupCosts {
    /// Rollups answer whatever they can, which is what tests want.
    pub const FREE: Self = Self { row: 0, column: 0, file: 0, gain_min: 1 };
}

impl Default for RollupCosts {
    fn default() -> Self {
        Self { row: 5, column: 2, file: 100_000, gain_min: 2 }
    }
}

pub(super) fn cost(stored: &Stored<'_>, stretches: &[Stretch], costs: &RollupCosts) -> u64 {
    let reads = reads(stretches);
    let of = |source| reads.iter().filter(move |read| read.source == source).map(|read| read.span);
    let mut total = raw_cost(stored, of(Source::Raw));
    for (resolution, _) in stored.clean {
        let files = of(Source::Rollup(*resolution)).map(|span| blocks(span, FILE_MS));
        let rows = unsigned(FILE_MS / resolution.ms()).saturating_mul(stored.series);
        let row = costs.column.saturating_mul(stored.columns).saturating_add(costs.row);
        let file = rows.saturating_mul(row).saturating_add(costs.file);
        total = total.saturating_add(files.fold(0, u64::saturating_add).saturating_mul(file));
    }
    total
}

/// Neighbours of one source are read at one go if no more than a file or a chunk lies between them.
fn reads(stretches: &[Stretch]) -> Vec<Stretch> {
    let mut reads: Vec<Stretch> = Vec::new();
    for stretch in stretches {
        match reads.last_mut() {
            Some(last) if last.joins(stretch) => last.span.end = stretch.span.end,
            _ => reads.push(*stretch),
        }
    }
    reads
}

/// Samples that are decoded by reading each of these spans.
pub(super) fn raw_cost(stored: &Stored<'_>, spans: impl Iterator<Item = Span>) -> u64 {
    let Some(raw) = stored.raw else { return 0 };
    let chunks = spans.filter_map(|span| span.intersect(raw)).map(|span| blocks(span, CHUNK_MS));
    let samples = unsigned(CHUNK_MS / stored.interval_ms.max(1)).max(1);
    chunks.fold(0, u64::saturating_add).saturating_mul(samples).saturating_mul(stored.series)
}

/// How many stretches `(k·length, (k + 1)·length]` the span touches.
fn blocks(span: Span, length: i64) -> u64 {
    let last = span.end.saturating_sub(1).div_euclid(length);
    last.abs_diff(span.start.div_euclid(length)).saturating_add(1)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
