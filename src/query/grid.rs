//! The steps at which a vector has values.

use std::ops::Range;

use crate::model::{TimeRange, Timestamp};

/// Evenly spaced timestamps: `start, start + step, …`; one step for an instant.
///
/// Invariant: at least one step, and the last one is a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grid {
    start: Timestamp,
    step_ms: i64,
    steps: usize,
    /// The number of the first step in the grid that this is a part of.
    first: usize,
}

impl Grid {
    pub fn instant(at: Timestamp) -> Self {
        Self { start: at, step_ms: 1, steps: 1, first: 0 }
    }

    /// All of `start, start + step_ms, …` that are not after `end`; `None` if there are none, or
    /// more than a query may ever have.
    pub fn range(start: Timestamp, end: Timestamp, step_ms: i64) -> Option<Self> {
        if end < start || step_ms <= 0 {
            return None;
        }
        let steps = end.checked_sub(start)? / step_ms;
        let steps = usize::try_from(steps).ok()?.checked_add(1)?;
        Some(Self { start, step_ms, steps, first: 0 })
    }

    pub fn start(self) -> Timestamp {
        self.start
    }

    pub fn step_ms(self) -> i64 {
        self.step_ms
    }

    /// How many steps there are.
    pub fn steps(self) -> usize {
        self.steps
    }

    #[inline]
    pub fn at(self, step: usize) -> Timestamp {
        self.start + self.step_ms * signed(step)
    }

    /// The number of a step in the grid that this is a part of.
    #[inline]
    pub fn number(self, step: usize) -> usize {
        self.first + step
    }

    pub fn last(self) -> Timestamp {
        self.at(self.steps - 1)
    }

    pub fn timestamps(self) -> impl ExactSizeIterator<Item = Timestamp> {
        (0..self.steps).map(move |step| self.at(step))
    }

    /// Some of the steps.
    ///
    /// # Panics
    /// If there are none of these steps.
    pub fn part(self, steps: Range<usize>) -> Self {
        assert!(steps.start < steps.end && steps.end <= self.steps, "{steps:?} of {self}");
        let first = self.first + steps.start;
        Self { start: self.at(steps.start), step_ms: self.step_ms, steps: steps.len(), first }
    }

    /// From the first step to the last.
    pub fn span(self) -> TimeRange {
        TimeRange::new(self.start, self.last()).unwrap_or(TimeRange::at(self.start))
    }
}

/// A count as a signed number; counts of things in memory fit.
#[expect(clippy::cast_possible_wrap, reason = "no more than isize::MAX things fit in memory")]
fn signed(count: usize) -> i64 {
    count as i64
}

impl std::fmt::Display for Grid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.steps {
            1 => write!(f, "{}", self.start),
            steps => {
                write!(f, "{}..={} step={}ms steps={steps}", self.start, self.last(), self.step_ms)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_at_or_before_its_end() {
        let grid = Grid::range(10, 29, 10).unwrap();
        assert_eq!(grid.timestamps().collect::<Vec<_>>(), [10, 20]);
        assert_eq!((grid.last(), grid.steps()), (20, 2));
        assert_eq!(Grid::range(10, 10, 10).unwrap().steps(), 1);
        assert_eq!(Grid::range(10, 9, 10), None);
        assert_eq!(Grid::range(10, 20, 0), None);
        assert_eq!(Grid::range(i64::MIN, i64::MAX, 1), None);
        assert_eq!(Grid::instant(-5).span(), TimeRange::at(-5));
        let grid = Grid::range(10, 100, 10).unwrap();
        let part = grid.part(2..6).part(0..2);
        assert_eq!(part.timestamps().collect::<Vec<_>>(), [30, 40]);
        assert_eq!((part.number(1), grid.number(1)), (3, 1));
    }
}
