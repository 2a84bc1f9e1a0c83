//! What start timestamps tell of a counter: that it began anew, and when it was zero.
//!
//! Source: prometheus/promql/functions.go, 3.14, `isStartTimestampReset`,
//! `checkStartTimeOverlap` and `extrapolatedRate`.

use crate::model::Timestamp;

/// What a sample has counted: from its start timestamp, 0 if that is unknown, to its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
}

impl Counted {
    /// Unknown starts do not count, nor those that are not before the sample: OpenTelemetry writes
    /// the sample's own time where it does not know.
    fn is_known(self) -> bool {
        self.start != 0 && self.start < self.end
    }

    /// When the counter was zero, if that lies after `window_start`.
    #[inline]
    pub(crate) fn zero_after(self, window_start: Timestamp) -> Option<Timestamp> {
        (self.is_known() && self.start > window_start).then_some(self.start)
    }
}

/// Whether the counter began anew after the last sample.
#[inline]
pub(crate) fn is_reset(last: Counted, next: Counted) -> bool {
    if !next.is_known() || next.start < last.end {
        return false;
    }
    // One that starts where the last sample ends is either a difference, which is a reset, or a
    // counter since an unknown time, which is not: the last sample's own start tells.
    next.start > last.end || last.is_known()
}

/// Whether a sample claims to have counted part of what the last one counted, from another start.
#[inline]
pub(crate) fn overlaps(last: Counted, next: Counted) -> bool {
    next.start != 0 && next.start < last.end && next.start != last.start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_and_overlaps_are_those_of_prometheus() {
        let counted = |start, end| Counted { start, end };
        let cases = [
            // Two samples of one counter, and one without starts.
            ((5, 10), (5, 20), false, false),
            ((0, 10), (0, 20), false, false),
            // Begun anew after the last sample.
            ((5, 10), (11, 20), true, false),
            ((0, 10), (11, 20), true, false),
            // Differences; the first since an unknown time.
            ((5, 10), (10, 20), true, false),
            ((0, 10), (10, 20), false, false),
            ((10, 10), (10, 20), false, false),
            ((11, 10), (10, 20), false, false),
            // No start that makes sense.
            ((5, 10), (20, 20), false, false),
            ((5, 10), (21, 20), false, false),
            // What was counted was counted before.
            ((5, 10), (7, 20), false, true),
            ((0, 10), (7, 20), false, true),
        ];
        for (last, next, reset, overlap) in cases {
            let (last, next) = (counted(last.0, last.1), counted(next.0, next.1));
            assert_eq!((is_reset(last, next), overlaps(last, next)), (reset, overlap), "{next:?}");
        }
        assert_eq!(counted(5, 10).zero_after(4), Some(5));
        assert_eq!(counted(5, 10).zero_after(5), None);
        assert_eq!(counted(10, 10).zero_after(4), None);
    }
}
