//! Timestamps, closed time ranges and left-open spans, in milliseconds since the Unix epoch.

/// Milliseconds since the Unix epoch; negative before 1970.
pub type Timestamp = i64;

/// A closed range of timestamps `[start, end]`, in milliseconds.
///
/// PromQL's left-open window `(t - d, t]` is `TimeRange::new(t - d + 1, t)`.
///
/// Invariant: `start <= end`, so a range is never empty; [`TimeRange::new`] enforces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeRange {
    start: Timestamp,
    end: Timestamp,
}

impl TimeRange {
    /// Every timestamp there is.
    pub const ALL: TimeRange = TimeRange { start: i64::MIN, end: i64::MAX };

    /// `None` if `end < start`.
    pub fn new(start: Timestamp, end: Timestamp) -> Option<Self> {
        (start <= end).then_some(Self { start, end })
    }

    /// The range that holds only `at`.
    pub fn at(at: Timestamp) -> Self {
        Self { start: at, end: at }
    }

    pub fn start(self) -> Timestamp {
        self.start
    }

    /// The last timestamp that belongs to the range.
    pub fn end(self) -> Timestamp {
        self.end
    }

    pub fn contains(self, at: Timestamp) -> bool {
        self.start <= at && at <= self.end
    }

    pub fn contains_range(self, other: TimeRange) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    pub fn overlaps(self, other: TimeRange) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    pub fn intersect(self, other: TimeRange) -> Option<Self> {
        Self::new(self.start.max(other.start), self.end.min(other.end))
    }

    /// The smallest range that holds both.
    pub fn hull(self, other: TimeRange) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A half-open stretch `(start, end]`, in milliseconds: the shape of rollup buckets and of
/// PromQL's windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Does not belong to the stretch.
    pub start: Timestamp,
    /// Belongs to the stretch.
    pub end: Timestamp,
}

impl Span {
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }

    pub fn contains(self, at: Timestamp) -> bool {
        self.start < at && at <= self.end
    }

    pub fn contains_span(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// What both hold; `None` if nothing.
    pub fn intersect(self, other: Self) -> Option<Self> {
        let both = Self { start: self.start.max(other.start), end: self.end.min(other.end) };
        (!both.is_empty()).then_some(both)
    }

    /// The timestamps of the stretch as a closed range; `None` if it is empty.
    pub fn range(self) -> Option<TimeRange> {
        TimeRange::new(self.start.saturating_add(1), self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_never_empty() {
        assert_eq!(TimeRange::new(2, 1), None);
        let range = TimeRange::new(1, 1).unwrap();
        assert!(range.contains(1) && !range.contains(0) && !range.contains(2));
    }

    #[test]
    fn a_span_leaves_its_start_out() {
        let span = Span { start: 0, end: 10 };
        assert!(!span.contains(0) && span.contains(1) && span.contains(10));
        assert_eq!(span.range(), TimeRange::new(1, 10));
        assert_eq!(span.intersect(Span { start: 10, end: 20 }), None);
        assert_eq!(span.intersect(Span { start: 5, end: 20 }), Some(Span { start: 5, end: 10 }));
        assert_eq!(Span { start: 3, end: 3 }.range(), None);
    }

    #[test]
    fn ranges_meet_at_a_shared_timestamp() {
        let left = TimeRange::new(0, 10).unwrap();
        let right = TimeRange::new(10, 20).unwrap();
        assert!(left.overlaps(right));
        assert_eq!(left.intersect(right), Some(TimeRange::at(10)));
        assert_eq!(left.hull(right), TimeRange::new(0, 20).unwrap());
    }
}
