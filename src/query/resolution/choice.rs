//! The cheapest cover of what the windows need.

use crate::model::{Resolution, Span, Timestamp};
use crate::query::resolution::cost::{RollupCosts, cost, raw_cost};
use crate::query::resolution::rounding::Rounding;
use crate::query::resolution::source::{Source, SourceResolution, Stretch};
use crate::query::resolution::window::Demand;

/// Stretches of one selector: each is a read of its own.
const STRETCHES_MAX: usize = 65_536;

/// What is stored, as far as it matters for the choice.
#[derive(Debug, Clone)]
pub struct Stored<'a> {
    /// Where rows of each resolution equal the samples.
    pub clean: &'a [(Resolution, Vec<Span>)],
    /// Where there are samples at all; `None` if there are none.
    pub raw: Option<Span>,
    pub rounding: &'a Rounding,
    pub series: u64,
    /// Columns of a row that are read.
    pub columns: u64,
    /// From one sample of a series to the next.
    pub interval_ms: i64,
}

/// How a selector is answered with the help of rollups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub stretches: Vec<Stretch>,
    /// Raw samples alone cannot answer: some have expired.
    pub is_needed: bool,
}

/// The cheapest way to answer, if it involves rollups.
pub fn choose(
    demand: &Demand,
    stored: &Stored<'_>,
    cap: SourceResolution,
    costs: &RollupCosts,
) -> Option<Choice> {
    // Coarsest first.
    let mut usable: Vec<_> =
        stored.clean.iter().filter(|(resolution, _)| cap.allows(*resolution)).collect();
    usable.sort_by_key(|(resolution, _)| std::cmp::Reverse(*resolution));
    let hull = Span { start: demand.needed.first()?.start, end: demand.needed.last()?.end };
    let raw_only = raw_cost(stored, std::iter::once(hull));
    let is_needed = stored.rounding.overlaps(hull);
    let mut best: Option<(u64, Vec<Stretch>)> = None;
    for chosen in 1..1usize << usable.len() {
        let levels = usable.iter().enumerate().filter(|(level, _)| chosen >> level & 1 == 1);
        let levels: Vec<_> = levels.map(|(_, (resolution, clean))| (*resolution, clean)).collect();
        let Some(stretches) = cover(demand, &levels) else { continue };
        let mut raw = stretches.iter().filter(|stretch| stretch.source == Source::Raw);
        let misses = is_needed && raw.clone().any(|stretch| stored.rounding.overlaps(stretch.span));
        if misses || raw.by_ref().count() == stretches.len() {
            continue;
        }
        let cost = cost(stored, &stretches, costs);
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            best = Some((cost, stretches));
        }
    }
    let (cost, stretches) = best?;
    let pays = cost.saturating_mul(costs.gain_min) <= raw_only;
    (is_needed || pays).then_some(Choice { stretches, is_needed })
}

/// Covers what is needed: each place by the first level that can, or raw. `None` if that takes too
/// many stretches.
pub(super) fn cover(demand: &Demand, levels: &[(Resolution, &Vec<Span>)]) -> Option<Vec<Stretch>> {
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut next_cut = 0;
    let mut pieces = Pieces { levels, found: Vec::new() };
    for needed in &demand.needed {
        let mut start = needed.start;
        while start < needed.end {
            // `start` may lie before the first cut of what is needed: what ends at that cut may
            // begin anywhere after the cut before.
            while demand.cuts[next_cut] <= start {
                next_cut += 1;
            }
            let end = demand.cuts[next_cut];
            let floor = next_cut.checked_sub(1).map_or(i64::MIN, |cut| demand.cuts[cut]);
            pieces.cover(Span { start, end }, floor, 0);
            for piece in pieces.found.drain(..) {
                match stretches.last_mut() {
                    Some(last)
                        if last.source == piece.source && last.span.end == piece.span.start =>
                    {
                        last.span.end = piece.span.end;
                    }
                    _ => stretches.push(piece),
                }
            }
            if stretches.len() > STRETCHES_MAX {
                return None;
            }
            start = end;
        }
    }
    Some(stretches)
}

struct Pieces<'a> {
    levels: &'a [(Resolution, &'a Vec<Span>)],
    found: Vec<Stretch>,
}

impl Pieces<'_> {
    /// Covers `span`, in which there is no cut, by levels from `level` on. The first bucket may
    /// begin before the span, but not before `floor`.
    fn cover(&mut self, span: Span, floor: Timestamp, level: usize) {
        let Some((resolution, clean)) = self.levels.get(level) else {
            if !span.is_empty() {
                self.found.push(Stretch { span, source: Source::Raw });
            }
            return;
        };
        let (length, mut start, mut floor) = (resolution.ms(), span.start, floor);
        let down = start - start.rem_euclid(length);
        let buckets = Span {
            start: if down >= floor { down } else { down.saturating_add(length) },
            end: span.end - span.end.rem_euclid(length),
        };
        let first = clean.partition_point(|stretch| stretch.end <= buckets.start);
        for whole in clean[first..].iter().map_while(|stretch| stretch.intersect(buckets)) {
            if whole.end <= start {
                continue;
            }
            self.cover(Span { start, end: whole.start.max(start) }, floor, level + 1);
            self.found.push(Stretch { span: whole, source: Source::Rollup(*resolution) });
            (start, floor) = (whole.end, whole.end);
        }
        self.cover(Span { start, end: span.end }, floor, level + 1);
    }
}
