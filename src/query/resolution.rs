//! Which source answers which stretch of time: raw samples, or rollups that give the same.
//!
//! Read walk: plan → here → `query::rollup_scan`. Pure: windows and spans in, stretches out.
//!
//! A *cut* is an instant at which a window starts or ends. A bucket may stand for its samples
//! if no cut lies strictly inside it: then every window holds all of it or nothing of it. Cut
//! buckets, and buckets whose rows may differ from the samples, are read from a finer resolution
//! or raw: raw edges around rollup middles.
//!
//! Invariant: stretches are disjoint and ascend; each is made of whole, clean, uncut buckets of its
//! resolution, or is raw; together they hold everything that any window looks at.

use std::fmt;
use std::str::FromStr;

use crate::model::{Resolution, Span, Timestamp};
use crate::query::grid::Grid;

/// Rollup files hold one day, sorted by series: to read an hour of a series is to read its day.
const FILE_MS: i64 = 86_400_000;
/// Raw chunks are decoded whole; this is how much time one of them holds at least.
const CHUNK_MS: i64 = 7_200_000;
/// Stretches of one selector: each is a read of its own.
const STRETCHES_MAX: usize = 65_536;

/// The coarsest resolution that may answer: `max_source_resolution`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SourceResolution {
    /// `0s`: raw samples only.
    Raw,
    /// This one or a finer one.
    AtMost(Resolution),
    /// Whatever is cheapest.
    #[default]
    Auto,
}

impl SourceResolution {
    fn allows(self, resolution: Resolution) -> bool {
        match self {
            Self::Raw => false,
            Self::AtMost(coarsest) => resolution <= coarsest,
            Self::Auto => true,
        }
    }
}

/// There is no such bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no source resolution: choose 0s, 1m, 5m, 1h or auto")]
pub struct UnknownSourceResolution(String);

impl FromStr for SourceResolution {
    type Err = UnknownSourceResolution;

    fn from_str(text: &str) -> Result<Self, UnknownSourceResolution> {
        match text {
            "0s" => Ok(Self::Raw),
            "auto" => Ok(Self::Auto),
            _ => match text.parse() {
                Ok(resolution) => Ok(Self::AtMost(resolution)),
                Err(_) => Err(UnknownSourceResolution(text.to_owned())),
            },
        }
    }
}

/// What reading costs, in raw samples of the same time. Rollups answer when they are cheaper by
/// the factor `gain_min`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollupCosts {
    /// One row of a rollup.
    pub row: u64,
    /// To open a file and decode what stands beside the rows that are wanted.
    pub file: u64,
    /// How much cheaper rollups must be.
    pub gain_min: u64,
}

impl RollupCosts {
    /// Rollups answer whatever they can, which is what tests want.
    pub const FREE: Self = Self { row: 0, file: 0, gain_min: 1 };
}

impl Default for RollupCosts {
    fn default() -> Self {
        Self { row: 8, file: 100_000, gain_min: 2 }
    }
}

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
    fn overlaps(&self, span: Span) -> bool {
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
    fn window(&self, step_at: Timestamp) -> Span {
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

/// Who answers a stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Raw,
    Rollup(Resolution),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Raw => f.write_str("raw"),
            Source::Rollup(resolution) => resolution.fmt(f),
        }
    }
}

/// A stretch of time and who answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    pub span: Span,
    pub source: Source,
}

impl Stretch {
    /// Whether the next one, with nothing of another source in between, is read at the same go.
    fn joins(&self, next: &Stretch) -> bool {
        let gap_max = match self.source {
            Source::Raw => CHUNK_MS,
            Source::Rollup(_) => FILE_MS,
        };
        self.source == next.source && next.span.start.saturating_sub(self.span.end) <= gap_max
    }
}

/// What is stored, as far as it matters for the choice.
#[derive(Debug, Clone)]
pub struct Stored<'a> {
    /// Where rows of each resolution equal the samples.
    pub clean: &'a [(Resolution, Vec<Span>)],
    /// Where there are samples at all; `None` if there are none.
    pub raw: Option<Span>,
    pub rounding: &'a Rounding,
    pub series: u64,
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
fn cover(demand: &Demand, levels: &[(Resolution, &Vec<Span>)]) -> Option<Vec<Stretch>> {
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

fn cost(stored: &Stored<'_>, stretches: &[Stretch], costs: &RollupCosts) -> u64 {
    let reads = reads(stretches);
    let of = |source| reads.iter().filter(move |read| read.source == source).map(|read| read.span);
    let mut total = raw_cost(stored, of(Source::Raw));
    for (resolution, _) in stored.clean {
        let files = of(Source::Rollup(*resolution)).map(|span| blocks(span, FILE_MS));
        let rows = unsigned(FILE_MS / resolution.ms()).saturating_mul(stored.series);
        let file = rows.saturating_mul(costs.row).saturating_add(costs.file);
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
fn raw_cost(stored: &Stored<'_>, spans: impl Iterator<Item = Span>) -> u64 {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 3_600_000;
    const DAY: i64 = 24 * HOUR;

    fn shape(range_ms: i64, before_ms: i64) -> WindowShape {
        WindowShape { range_ms, offset_ms: 0, at: None, before_ms }
    }

    fn all_clean(end: i64) -> [(Resolution, Vec<Span>); 3] {
        Resolution::ALL.map(|resolution| (resolution, vec![Span { start: 0, end }]))
    }

    /// What answers, as text; times in minutes.
    fn chosen(shape: WindowShape, grid: Grid, cap: &str, costs: &RollupCosts) -> String {
        let clean = all_clean(100 * DAY);
        let raw = Some(Span { start: 0, end: 100 * DAY });
        let rounding = &Rounding::default();
        let stored = Stored { clean: &clean, raw, rounding, series: 100, interval_ms: 15_000 };
        let demand = shape.demand(grid, rounding);
        let stretches = choose(&demand, &stored, cap.parse().unwrap(), costs);
        shown(stretches.map_or_else(Vec::new, |choice| choice.stretches))
    }

    /// What answers if every resolution is taken where it can.
    fn covered(shape: WindowShape, grid: Grid) -> String {
        let clean = all_clean(100 * DAY);
        let levels: Vec<_> = clean.iter().rev().map(|(level, clean)| (*level, clean)).collect();
        shown(cover(&shape.demand(grid, &Rounding::default()), &levels).unwrap())
    }

    fn shown(stretches: Vec<Stretch>) -> String {
        let text = |stretch: Stretch| {
            let Span { start, end } = stretch.span;
            format!("{} {}..{}", stretch.source, start as f64 / 6e4, end as f64 / 6e4)
        };
        stretches.into_iter().map(text).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn the_coarsest_resolution_that_no_window_cuts_answers() {
        let free = RollupCosts::FREE;
        let hourly = Grid::range(10 * HOUR, 20 * HOUR, HOUR).unwrap();
        assert_eq!(chosen(shape(HOUR, 0), hourly, "auto", &free), "1h 540..1200");
        assert_eq!(chosen(shape(HOUR, 0), hourly, "5m", &free), "5m 540..1200");
        assert_eq!(chosen(shape(HOUR, 0), hourly, "0s", &free), "");
        // Windows that begin at half past.
        assert_eq!(chosen(shape(90 * MINUTE, 0), hourly, "auto", &free), "5m 510..1200");
        // Nothing is aligned.
        let odd = Grid::range(10 * HOUR + 7, 20 * HOUR, 15_000).unwrap();
        assert_eq!(chosen(shape(5 * MINUTE, 0), odd, "auto", &free), "");
    }

    #[test]
    fn raw_edges_surround_rollup_middles() {
        // Of 24 h 3 min before 12:34 and 30 s.
        let at = 2 * DAY + 12 * HOUR + 34 * MINUTE + 30_000;
        let (shape, grid) = (shape(DAY + 3 * MINUTE, 0), Grid::instant(at));
        let levels = "raw 2191.5..2192, 1m 2192..2195, 5m 2195..2220, 1h 2220..3600, \
                      5m 3600..3630, 1m 3630..3634, raw 3634..3634.5";
        assert_eq!(covered(shape, grid), levels);
        // The chunks at the edges are decoded anyway.
        let found = chosen(shape, grid, "auto", &RollupCosts::FREE);
        assert_eq!(found, "raw 2191.5..2220, 1h 2220..3600, raw 3600..3634.5");
    }

    #[test]
    fn the_last_sample_may_come_from_a_bucket_longer_than_the_lookback() {
        let hourly = Grid::range(10 * HOUR, 12 * HOUR, HOUR).unwrap();
        let latest = shape(0, 5 * MINUTE);
        assert_eq!(chosen(latest, hourly, "auto", &RollupCosts::FREE), "1h 540..720");
        let half = Grid::range(10 * HOUR, 12 * HOUR, HOUR / 2).unwrap();
        // Eleven's hour is cut at half past ten.
        let levels = "1h 540..600, 5m 625..630, 5m 655..660";
        assert!(covered(latest, half).starts_with(levels), "{}", covered(latest, half));
    }

    #[test]
    fn rollups_answer_only_if_that_pays() {
        let costs = RollupCosts::default();
        let month = Grid::range(30 * DAY, 60 * DAY, HOUR).unwrap();
        assert!(chosen(shape(HOUR, 0), month, "auto", &costs).starts_with("1h "));
        // One window of five minutes is read raw, and so is what 1m rows hardly shorten.
        assert_eq!(chosen(shape(HOUR, 0), Grid::instant(DAY), "auto", &costs), "");
        assert_eq!(chosen(shape(HOUR, 0), month, "1m", &costs), "");
    }

    #[test]
    fn slices_read_what_their_windows_need_in_whole_buckets() {
        let grid = Grid::range(DAY, 3 * DAY, 12 * HOUR).unwrap();
        let shape = shape(HOUR, 0);
        let whole = Span { start: 0, end: 3 * DAY };
        let stretches = [Stretch { span: whole, source: Source::Rollup(Resolution::OneHour) }];
        let slices = slices(&shape, grid, &Rounding::default(), &stretches, DAY);
        let steps: Vec<_> = slices.iter().map(|slice| slice.steps.clone()).collect();
        assert_eq!(steps, [0..1, 1..3, 3..5]);
        let spans =
            |slice: &Slice| slice.stretches.iter().map(|stretch| stretch.span).collect::<Vec<_>>();
        // Two windows of one file are read at one go.
        assert_eq!(spans(&slices[1]), [Span { start: 35 * HOUR, end: 48 * HOUR }]);
    }

    #[test]
    fn edges_are_rounded_to_the_finest_resolution_that_is_left() {
        let span = |start, end| vec![Span { start: start * HOUR, end: end * HOUR }];
        let expired = [
            (Resolution::OneMinute, span(8, 10)),
            (Resolution::FiveMinutes, span(4, 10)),
            (Resolution::OneHour, span(0, 10)),
        ];
        let auto = Rounding::new(&expired, SourceResolution::Auto);
        let odd = 17 * MINUTE + 1;
        assert_eq!(auto.down(9 * HOUR + odd), 9 * HOUR + 17 * MINUTE);
        assert_eq!(auto.down(5 * HOUR + odd), 5 * HOUR + 15 * MINUTE);
        assert_eq!(auto.down(odd), 0);
        assert_eq!(auto.down(10 * HOUR + odd), 10 * HOUR + odd);
        assert_eq!(auto.down(10 * HOUR), 10 * HOUR);
        let capped = Rounding::new(&expired, "5m".parse().unwrap());
        assert_eq!(capped.down(9 * HOUR + odd), 9 * HOUR + 17 * MINUTE);
        // Nothing is left there that may answer.
        assert_eq!(capped.down(odd), odd);
        let all: Vec<_> = auto.within(Span { start: 3 * HOUR, end: 11 * HOUR }).collect();
        let expected = [span(3, 4), span(4, 8), span(8, 10)].concat();
        assert_eq!(all, expected);
    }

    fn spans(bounds: &[i64], length: i64) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut start = 0;
        for pair in bounds.chunks_exact(2) {
            let first = start + pair[0] * length;
            start = first + pair[1] * length;
            spans.push(Span { start: first, end: start });
            start += length;
        }
        spans
    }

    proptest! {
        /// Whatever the windows and whatever is clean: what is needed is covered once, by buckets
        /// that are whole, clean and uncut.
        #[test]
        fn stretches_keep_their_promises(
            start in 0..4 * HOUR,
            whole in any::<bool>(),
            step in prop::sample::select(vec![15_000, MINUTE, 5 * MINUTE, 7 * MINUTE, HOUR]),
            steps in 1..60usize,
            range in prop::sample::select(vec![0, 90_000, MINUTE, 5 * MINUTE, HOUR, 5 * HOUR]),
            before in prop::sample::select(vec![0, 5 * MINUTE, 2 * HOUR]),
            holes in prop::collection::vec(1..4i64, 0..8),
            cap in prop::sample::select(vec!["1m", "5m", "auto"]),
            is_expired in any::<bool>(),
        ) {
            let start = 6 * HOUR + if whole { start / HOUR * HOUR } else { start };
            let grid = Grid::range(start, start + step * (steps as i64 - 1), step).unwrap();
            let shape = shape(range, if range == 0 { before.max(1) } else { before });
            // Coarser rows reach further back.
            let expired_from = [4 * HOUR, 2 * HOUR, 0].map(|start| Span { start, end: 10 * HOUR });
            let expired: Vec<_> = Resolution::ALL
                .into_iter()
                .zip(expired_from)
                .map(|(resolution, span)| (resolution, Vec::from_iter(is_expired.then_some(span))))
                .collect();
            let cap = cap.parse().unwrap();
            let rounding = Rounding::new(&expired, cap);
            let demand = shape.demand(grid, &rounding);
            let holes = if is_expired { vec![0, 50] } else { holes };
            let clean = Resolution::ALL.map(|resolution| (resolution, spans(&holes, 2 * HOUR)));
            let raw = Some(Span { start: 0, end: 100 * DAY });
            let stored =
                Stored { clean: &clean, raw, rounding: &rounding, series: 3, interval_ms: 15_000 };
            let Some(Choice { stretches, .. }) =
                choose(&demand, &stored, cap, &RollupCosts::FREE) else { return Ok(()) };
            let raw = stretches.iter().filter(|stretch| stretch.source == Source::Raw);
            prop_assert_eq!(raw.filter(|stretch| rounding.overlaps(stretch.span)).count(), 0);
            prop_assert!(stretches.windows(2).all(|pair| pair[0].span.end <= pair[1].span.start));
            for stretch in &stretches {
                let Source::Rollup(resolution) = stretch.source else { continue };
                let Span { start, end } = stretch.span;
                prop_assert!(start % resolution.ms() == 0 && end % resolution.ms() == 0);
                prop_assert!(clean[0].1.iter().any(|clean| clean.contains_span(stretch.span)));
                for cut in &demand.cuts {
                    let inside = (start..=end).contains(cut);
                    prop_assert!(!inside || cut % resolution.ms() == 0, "{cut} in {stretch:?}");
                }
            }
            let inside = |stretches: &[Stretch], needed: Span| {
                let held = stretches.iter().filter_map(|stretch| stretch.span.intersect(needed));
                held.map(|span| span.end - span.start).sum::<i64>()
            };
            for needed in &demand.needed {
                prop_assert_eq!(inside(&stretches, *needed), needed.end - needed.start);
            }
            // And so do slices, each for its own steps.
            for slice in slices(&shape, grid, &rounding, &stretches, DAY) {
                for needed in shape.demand(grid.part(slice.steps.clone()), &rounding).needed {
                    prop_assert_eq!(inside(&slice.stretches, needed), needed.end - needed.start);
                }
            }
        }
    }
}
