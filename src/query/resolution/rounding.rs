//! Where raw samples have expired: what is rounded there, and where to look for series.

use crate::model::{Resolution, Span, Timestamp};
use crate::query::resolution::source::SourceResolution;

/// Where raw samples have expired, and to what windows' edges are rounded down there: the finest
/// resolution that is left. An answer is then exact for the rounded windows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rounding {
    /// Stretches without raw samples and the length of their buckets: ascending, disjoint.
    stretches: Vec<(Span, i64)>,
}

impl Rounding {
    /// `expired`: stretches of whole buckets that have rows of a resolution and no raw samples.
    pub fn new(expired: &[(Resolution, Vec<Span>)], cap: SourceResolution) -> Self {
        let mut levels: Vec<_> =
            expired.iter().filter(|(resolution, _)| cap.allows(*resolution)).collect();
        levels.sort_by_key(|(resolution, _)| *resolution);
        let stretches = first_of_each(&levels);
        let length = |(span, resolution): (Span, Resolution)| (span, resolution.ms());
        Self { stretches: stretches.into_iter().map(length).collect() }
    }

    pub fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }

    /// Where an edge at `at` is moved to.
    pub fn down(&self, at: Timestamp) -> Timestamp {
        let place = self.stretches.partition_point(|(span, _)| span.end < at);
        match self.stretches.get(place) {
            Some((span, length)) if span.contains(at) => at - at.rem_euclid(*length),
            _ => at,
        }
    }

    /// Whether there are no raw samples somewhere in `span`.
    pub(super) fn overlaps(&self, span: Span) -> bool {
        let place = self.stretches.partition_point(|(expired, _)| expired.end <= span.start);
        self.stretches[place..]
            .first()
            .is_some_and(|(expired, _)| expired.intersect(span).is_some())
    }

    /// The stretches without raw samples in `span`.
    pub fn within(&self, span: Span) -> impl Iterator<Item = Span> {
        self.stretches.iter().filter_map(move |(expired, _)| expired.intersect(span))
    }
}

/// Which resolution is the first of the levels to have each stretch; ascending.
fn first_of_each(levels: &[&(Resolution, Vec<Span>)]) -> Vec<(Span, Resolution)> {
    let mut taken: Vec<(Span, Resolution)> = Vec::new();
    for (resolution, spans) in levels {
        let mut left = Vec::new();
        for span in spans {
            let mut start = span.start;
            for other in taken.iter().filter_map(|(other, _)| other.intersect(*span)) {
                left.push(Span { start, end: other.start });
                start = other.end;
            }
            left.push(Span { start, end: span.end });
        }
        taken.extend(left.into_iter().filter(|s| !s.is_empty()).map(|span| (span, *resolution)));
        taken.sort_unstable();
    }
    taken
}

/// Which rows to look at, the fewest, to see all series that have rows in `needed` but no samples.
pub(crate) fn fewest_rows(
    expired: &[(Resolution, Vec<Span>)],
    cap: SourceResolution,
    needed: Span,
) -> Vec<(Span, Resolution)> {
    let mut levels: Vec<_> =
        expired.iter().filter(|(resolution, _)| cap.allows(*resolution)).collect();
    levels.sort_by_key(|(resolution, _)| std::cmp::Reverse(*resolution));
    let whole = |(span, resolution): (Span, Resolution)| {
        let Span { start, end } = span.intersect(needed)?;
        let length = resolution.ms();
        let span = Span {
            start: start - start.rem_euclid(length),
            end: end.saturating_add((-end).rem_euclid(length)),
        };
        Some((span, resolution))
    };
    first_of_each(&levels).into_iter().filter_map(whole).collect()
}
