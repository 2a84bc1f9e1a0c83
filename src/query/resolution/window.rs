//! What the windows of a grid look at.

use crate::model::{Span, Timestamp};
use crate::query::grid::Grid;
use crate::query::resolution::rounding::Rounding;

/// How a kernel's windows lie: `(end - range_ms, end]` for every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowShape {
    /// 0 if only the last sample up to the end matters.
    pub range_ms: i64,
    pub offset_ms: i64,
    /// Every window ends here, before the offset.
    pub at: Option<Timestamp>,
    /// How far before the window its start still needs the last sample. The kernel itself turns
    /// down what is older.
    pub before_ms: i64,
}

impl WindowShape {
    /// The window of a step.
    pub(super) fn window(&self, step_at: Timestamp) -> Span {
        let end = self.at.unwrap_or(step_at).saturating_sub(self.offset_ms);
        Span { start: end.saturating_sub(self.range_ms), end }
    }

    /// Whether rounding moves the edge of any window.
    pub(crate) fn is_moved(&self, grid: Grid, rounding: &Rounding) -> bool {
        !rounding.is_empty()
            && grid.timestamps().any(|at| {
                let Span { start, end } = self.window(at);
                rounding.down(start) != start || rounding.down(end) != end
            })
    }

    /// What all steps of a grid look at.
    pub fn demand(&self, grid: Grid, rounding: &Rounding) -> Demand {
        let mut cuts = Vec::with_capacity(grid.steps() * 2);
        let mut needed: Vec<Span> = Vec::new();
        // Pinned windows are all the same.
        let steps = if self.at.is_some() { 1 } else { grid.steps() };
        for at in grid.timestamps().take(steps) {
            let Span { start, end } = self.window(at);
            let (start, end) = (rounding.down(start), rounding.down(end));
            cuts.extend([start, end]);
            let reach = Span { start: start.saturating_sub(self.before_ms), end };
            if reach.is_empty() {
                continue;
            }
            match needed.last_mut() {
                Some(last) if reach.start <= last.end => last.end = reach.end,
                _ => needed.push(reach),
            }
        }
        cuts.sort_unstable();
        cuts.dedup();
        Demand { cuts, needed }
    }
}

/// What the windows of a grid look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// Where windows start and end: ascending, each once.
    pub cuts: Vec<Timestamp>,
    /// Ascending, disjoint, not touching. Each ends with a cut.
    pub needed: Vec<Span>,
}
