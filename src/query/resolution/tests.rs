//! Choosing and slicing, example by example and at random.

use proptest::prelude::*;

use crate::model::{Resolution, Span};
use crate::query::grid::Grid;
use crate::query::resolution::choice::cover;
use crate::query::resolution::{
    Choice, RollupCosts, Rounding, Slice, Source, SourceResolution, Stored, Stretch, WindowShape,
    choose, slices,
};

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
    chosen_of((100, 2), shape, grid, cap, costs)
}

fn chosen_of(
    (series, columns): (u64, u64),
    shape: WindowShape,
    grid: Grid,
    cap: &str,
    costs: &RollupCosts,
) -> String {
    let clean = all_clean(100 * DAY);
    let raw = Some(Span { start: 0, end: 100 * DAY });
    let rounding = &Rounding::default();
    let interval_ms = 15_000;
    let stored = Stored { clean: &clean, raw, rounding, series, columns, interval_ms };
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
    // A row of 5 m stands for twenty samples: that pays for two columns, not for seven.
    assert!(chosen_of((1000, 2), shape(HOUR, 0), month, "5m", &costs).starts_with("5m "));
    assert_eq!(chosen_of((1000, 7), shape(HOUR, 0), month, "5m", &costs), "");
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
            Stored { clean: &clean, raw, rounding: &rounding, series: 3, columns: 2, interval_ms: 15_000 };
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
