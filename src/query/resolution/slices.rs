//! Slices: steps that are evaluated at one go, so that the rows held at once stay few.

use crate::model::Span;
use crate::query::grid::Grid;
use crate::query::resolution::rounding::Rounding;
use crate::query::resolution::source::{Source, Stretch};
use crate::query::resolution::window::WindowShape;

/// Steps that are evaluated at one go, and what is read for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    pub steps: std::ops::Range<usize>,
    pub stretches: Vec<Stretch>,
}

/// Cuts a grid into slices whose windows end within the same `length_ms`, a multiple of a file's
/// day so that few files are read twice.
pub fn slices(
    shape: &WindowShape,
    grid: Grid,
    rounding: &Rounding,
    stretches: &[Stretch],
    length_ms: i64,
) -> Vec<Slice> {
    let place = |step: usize| (shape.window(grid.at(step)).end - 1).div_euclid(length_ms);
    let mut slices = Vec::new();
    let mut start = 0;
    while start < grid.steps() {
        let mut end = start + 1;
        while end < grid.steps() && place(end) == place(start) {
            end += 1;
        }
        let needed = shape.demand(grid.part(start..end), rounding).needed;
        slices.push(Slice { steps: start..end, stretches: within(stretches, &needed) });
        start = end;
    }
    slices
}

/// The parts of `stretches` that hold what is needed, as whole buckets, joined where they are read
/// at one go.
fn within(stretches: &[Stretch], needed: &[Span]) -> Vec<Stretch> {
    let mut parts: Vec<Stretch> = Vec::new();
    let mut first = 0;
    let mut last_index = usize::MAX;
    for needed in needed {
        while first < stretches.len() && stretches[first].span.end <= needed.start {
            first += 1;
        }
        for (index, stretch) in stretches.iter().enumerate().skip(first) {
            let Some(both) = stretch.span.intersect(*needed) else { break };
            let span = match stretch.source {
                Source::Raw => both,
                Source::Rollup(resolution) => {
                    let length = resolution.ms();
                    let start = both.start - both.start.rem_euclid(length);
                    Span { start, end: both.end + (-both.end).rem_euclid(length) }
                }
            };
            let part = Stretch { span, source: stretch.source };
            // Nothing of another source stands between two that come one after the other.
            let follows = index == last_index || index == last_index.wrapping_add(1);
            match parts.last_mut() {
                Some(last) if follows && last.joins(&part) => {
                    last.span.end = last.span.end.max(span.end);
                }
                _ => parts.push(part),
            }
            last_index = index;
        }
    }
    parts
}
