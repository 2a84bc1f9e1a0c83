//! How much time is read at once: what one slice of the grid may hold.

use crate::model::Resolution;
use crate::query::resolution::{Source, Stretch, WindowShape};
use crate::query::rollup_scan::scan::RollupRequest;
use crate::query::scan::ASSUMED_INTERVAL_MS;
use crate::storage::RollupView;

/// Rows that one slice aims to hold, in bytes.
const SLICE_BYTES: u64 = 64 << 20;
/// The share of a query's memory that cells and slices may take; with more than that the selector
/// is read raw, series by series.
const MEMORY_SHARE: u64 = 2;
/// One row of one series in memory: all columns.
pub(super) const ROW_BYTES: usize = 13 * 8;
/// How far back windows reach is read again for each slice, so a slice is at least this many
/// times as long.
const SLICE_REACHES: i64 = 4;
pub(super) const DAY_MS: i64 = 86_400_000;

/// From one sample of a series to the next, as rollups tell it.
pub(super) fn interval_ms(view: &RollupView) -> i64 {
    let counted = Resolution::ALL.into_iter().rev().find_map(|resolution| {
        let (mut rows, mut samples) = (0u64, 0u64);
        for file in view.files(resolution) {
            rows = rows.saturating_add(file.rows());
            samples = samples.saturating_add(file.samples());
        }
        (samples > 0).then(|| resolution.ms().unsigned_abs().saturating_mul(rows) / samples)
    });
    let interval = counted.and_then(|interval| i64::try_from(interval).ok());
    interval.unwrap_or(ASSUMED_INTERVAL_MS).max(1)
}

/// How much time one slice spans; `None` if the cells of all series, or the rows that one slice
/// needs, take more memory than they may.
pub(super) fn slice_ms(
    shape: &WindowShape,
    stretches: &[Stretch],
    request: &RollupRequest<'_>,
) -> Option<i64> {
    let bytes_max = request.bytes_max / MEMORY_SHARE;
    let series = request.series.len() as u64;
    let cells = (request.kernel.width() as u64).saturating_mul(request.grid.steps() as u64);
    let cell_bytes = series.saturating_mul(cells).saturating_mul(8);
    // Slices hold cells of their own until they are copied.
    let left = bytes_max.checked_sub(cell_bytes.saturating_mul(2))?;
    let rows = |stretch: &Stretch| {
        let length = stretch.span.end.abs_diff(stretch.span.start);
        match stretch.source {
            Source::Rollup(resolution) => length / resolution.ms().unsigned_abs(),
            // At most one for each cut.
            Source::Raw => cells.saturating_mul(2).min(length),
        }
    };
    let all_rows = stretches.iter().map(rows).fold(0, u64::saturating_add);
    let length = stretches.last()?.span.end.abs_diff(stretches.first()?.span.start).max(1);
    let bytes = all_rows.saturating_mul(series).saturating_mul(ROW_BYTES as u64);
    let day = DAY_MS.unsigned_abs();
    let bytes_a_day = (bytes / length.div_ceil(day)).max(1);
    let reach = shape.range_ms.saturating_add(shape.before_ms);
    let days = (SLICE_BYTES / bytes_a_day).clamp(1, length.div_ceil(day));
    let reach_days = reach.saturating_mul(SLICE_REACHES) / DAY_MS;
    let slice_days = i64::try_from(days).ok()?.max(reach_days).max(1);
    let held_days = slice_days.saturating_add(reach / DAY_MS + 1).unsigned_abs();
    let at_once = request.slices_at_once.max(1) as u64;
    let held = held_days.min(length.div_ceil(day)).saturating_mul(bytes_a_day);
    (held.saturating_mul(at_once) <= left).then(|| slice_days.saturating_mul(DAY_MS))
}
