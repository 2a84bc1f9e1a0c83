//! Quantiles and fractions of classic histograms: buckets of an upper bound (`le`) and the count
//! of all observations up to it.
//!
//! Bounds are assumed to be numbers. The functions sort, merge and repair the buckets in place.

use crate::promql::printer::format_general;

/// An upper bound and the number of observations not above it.
pub type Bucket = (f64, f64);

/// Counts of adjacent buckets that differ by less than this share of their mean are the same:
/// the difference comes from rounding.
const SMALL_DIFFERENCE: f64 = 1e-12;

/// What had to be changed because counts fell from one bucket to the next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MonotonicityRepair {
    /// Bounds of the lowest and highest bucket changed.
    pub bucket_min: f64,
    pub bucket_max: f64,
    /// The largest change.
    pub difference_max: f64,
}

/// The upper bound that a bucket's `le` label states.
pub fn upper_bound(le: &str) -> Option<f64> {
    le.parse().ok().filter(|_| !le.is_empty())
}

/// The value below which a share `quantile` of the observations lies, interpolated linearly in
/// its bucket; a lowest bucket above zero begins at zero, and in the highest, which has no end,
/// the answer is where it begins.
///
/// `buckets` is not empty.
pub fn quantile(quantile: f64, buckets: &mut Vec<Bucket>) -> (f64, Option<MonotonicityRepair>) {
    if quantile.is_nan() {
        return (f64::NAN, None);
    }
    if quantile < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if quantile > 1.0 {
        return (f64::INFINITY, None);
    }
    if !settle(buckets) {
        return (f64::NAN, None);
    }
    let repair = make_monotonic(buckets);
    (quantile_of_settled(quantile, buckets), repair)
}

fn quantile_of_settled(quantile: f64, buckets: &[Bucket]) -> f64 {
    let [finite @ .., (_, observations)] = buckets else { return f64::NAN };
    let Some((highest_finite, _)) = finite.last() else { return f64::NAN };
    if *observations == 0.0 {
        return f64::NAN;
    }
    let rank = quantile * observations;
    let at = finite.iter().position(|(_, count)| *count >= rank).unwrap_or(finite.len());
    let Some(&(end, count)) = finite.get(at) else { return *highest_finite };
    if at == 0 && end <= 0.0 {
        return end;
    }
    let (start, below) = if at == 0 { (0.0, 0.0) } else { finite[at - 1] };
    start + (end - start) * ((rank - below) / (count - below))
}

/// The share of the observations in `(lower, upper]`, interpolated as for [`quantile`].
///
/// `buckets` is not empty.
pub fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if !settle(buckets) {
        return f64::NAN;
    }
    let count = buckets.last().map_or(0.0, |(_, count)| *count);
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank(upper, buckets, count) - rank(lower, buckets, count)) / count
}

/// The number of observations up to `value`, at most `count`.
fn rank(value: f64, buckets: &[Bucket], count: f64) -> f64 {
    // If the lowest bucket ends above zero, there is nothing below zero.
    let lowest = buckets.first().map_or(0.0, |(end, _)| *end);
    let mut start = if lowest <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
    let mut below: f64 = 0.0;
    for (end, up_to) in buckets {
        if start >= value {
            return below.min(count);
        }
        if *end > value {
            // A bucket without beginning has all of its observations at its end.
            let inside = if start == f64::NEG_INFINITY {
                *up_to
            } else {
                below + (up_to - below) * (value - start) / (end - start)
            };
            return if inside > count { count } else { inside };
        }
        (start, below) = (*end, *up_to);
    }
    count
}

/// Sorts by bound and adds up buckets of the same bound. Says no if the highest bucket ends: then
/// some observations may be in none.
fn settle(buckets: &mut Vec<Bucket>) -> bool {
    buckets.sort_by(|one, two| one.0.total_cmp(&two.0));
    buckets.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    buckets.last().is_some_and(|(end, _)| *end == f64::INFINITY)
}

/// Counts cannot fall with rising bounds, but scrapes at different moments, and rounding, make
/// them do so: they are raised to the largest count below.
fn make_monotonic(buckets: &mut [Bucket]) -> Option<MonotonicityRepair> {
    let mut repair: Option<MonotonicityRepair> = None;
    let mut highest = buckets.first()?.1;
    for (bound, count) in &mut buckets[1..] {
        if *count == highest {
            continue;
        }
        if almost_equal(highest, *count) {
            *count = highest;
        } else if *count < highest {
            let repair = repair.get_or_insert(MonotonicityRepair {
                bucket_min: *bound,
                bucket_max: *bound,
                difference_max: 0.0,
            });
            repair.bucket_max = *bound;
            repair.difference_max = repair.difference_max.max(highest - *count);
            *count = highest;
        } else {
            highest = *count;
        }
    }
    repair
}

fn almost_equal(one: f64, two: f64) -> bool {
    if one.is_nan() || two.is_nan() {
        return one.is_nan() && two.is_nan();
    }
    let sum = one.abs() + two.abs();
    let difference = (one - two).abs();
    if one == 0.0 || two == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < SMALL_DIFFERENCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < SMALL_DIFFERENCE
}

/// A quantile as the value of a label: as OpenMetrics writes numbers, `0.5`, `1.0`, `1e+06`.
pub fn format_quantile(quantile: f64) -> String {
    let text = format_general(quantile);
    let is_whole = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if is_whole { format!("{text}.0") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f64 = f64::INFINITY;

    #[test]
    fn quantiles_are_interpolated() {
        let buckets = [(0.1, 10.0), (0.2, 30.0), (1.0, 40.0), (INF, 50.0)];
        for (asked, expected) in [
            (0.0, 0.0),
            (0.1, 0.05),
            (0.4, 0.15000000000000002),
            (0.7, 0.6),
            (0.9, 1.0),
            (1.0, 1.0),
            (-0.1, f64::NEG_INFINITY),
            (1.1, INF),
        ] {
            let mut input = buckets.to_vec();
            // The order of the input has no meaning.
            input.reverse();
            let (got, repair) = quantile(asked, &mut input);
            assert!((got - expected).abs() < 1e-15 || got == expected, "{asked}: {got}");
            assert_eq!(repair, None);
        }
        assert!(quantile(f64::NAN, &mut buckets.to_vec()).0.is_nan());
    }

    #[test]
    fn a_lowest_bucket_below_zero_has_no_beginning() {
        let mut buckets = vec![(-1.0, 10.0), (0.0, 10.0), (1.0, 20.0), (INF, 20.0)];
        assert_eq!(quantile(0.2, &mut buckets).0, -1.0);
        assert_eq!(quantile(0.75, &mut buckets).0, 0.5);
        assert_eq!(fraction(-5.0, -0.5, &mut buckets), 0.0);
        assert_eq!(fraction(-INF, 0.5, &mut buckets), 0.75);
    }

    #[test]
    fn incomplete_histograms_have_no_quantile() {
        for buckets in [
            vec![(1.0, 1.0)],
            vec![(1.0, 1.0), (2.0, 2.0)],
            vec![(INF, 5.0)],
            vec![(1.0, 0.0), (INF, 0.0)],
        ] {
            assert!(quantile(0.5, &mut buckets.clone()).0.is_nan(), "{buckets:?}");
        }
        assert!(fraction(0.0, 1.0, &mut vec![(1.0, 1.0)]).is_nan());
        assert!(fraction(0.0, 1.0, &mut vec![(1.0, 0.0), (INF, 0.0)]).is_nan());
    }

    #[test]
    fn equal_bounds_are_added_up() {
        // `1` and `1.0` are two series, and one bound.
        let mut buckets = vec![(1.0, 5.0), (INF, 10.0), (1.0, 5.0), (INF, 10.0), (2.0, 20.0)];
        assert_eq!(quantile(0.5, &mut buckets), (1.0, None));
        assert_eq!(buckets.len(), 3);
    }

    #[test]
    fn falling_counts_are_repaired_and_told() {
        let mut buckets = vec![(1.0, 10.0), (2.0, 4.0), (3.0, 12.0), (4.0, 11.0), (INF, 12.0)];
        let repair = MonotonicityRepair { bucket_min: 2.0, bucket_max: 4.0, difference_max: 6.0 };
        assert_eq!(quantile(1.0, &mut buckets), (3.0, Some(repair)));
        // A difference that rounding makes is repaired in silence, up and down.
        let mut buckets = vec![(1.0, 10.0), (2.0, 10.0 - 1e-12), (3.0, 10.0 + 1e-12), (INF, 20.0)];
        assert_eq!(quantile(0.5, &mut buckets), (1.0, None));
        assert_eq!(buckets[1].1, 10.0);
    }

    #[test]
    fn fractions_are_differences_of_ranks() {
        let buckets = [(1.0, 10.0), (2.0, 30.0), (INF, 40.0)];
        for (lower, upper, expected) in [
            (0.0, 2.0, 0.75),
            (0.5, 1.5, 0.375),
            (-INF, INF, 1.0),
            (2.0, INF, 0.25),
            // In the highest bucket nothing is known.
            (5.0, 10.0, 0.0),
            (1.0, 1.0, 0.0),
            (2.0, 1.0, 0.0),
            (-3.0, -1.0, 0.0),
        ] {
            assert_eq!(fraction(lower, upper, &mut buckets.to_vec()), expected, "{lower} {upper}");
        }
        assert!(fraction(f64::NAN, 1.0, &mut buckets.to_vec()).is_nan());
    }

    #[test]
    fn bounds_and_quantiles_as_labels() {
        assert_eq!(upper_bound("+Inf"), Some(INF));
        assert_eq!(upper_bound("1e-3"), Some(0.001));
        assert_eq!(upper_bound(""), None);
        assert_eq!(upper_bound("x"), None);
        for (value, text) in [
            (0.5, "0.5"),
            (1.0, "1.0"),
            (0.0, "0.0"),
            (-1.0, "-1.0"),
            (1e6, "1e+06"),
            (INF, "+Inf"),
        ] {
            assert_eq!(format_quantile(value), text);
        }
    }
}
