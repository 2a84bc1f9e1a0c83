//! What other systems' rollups got wrong, each with the issue that tells the story. All of it is
//! asked of rollups of one hour unless said otherwise.

use aetherdb::model::{Labels, METRIC_NAME, stale_nan};
use aetherdb::promql::{QueryKind, Value};

use super::{Closeness, HOUR, MINUTE, Rows, START, World, hourly, rows, series};

/// A sample every 15 s from just after [`START`] on; `value` is given the number of the sample.
fn scraped(hours: i64, value: impl Fn(i64) -> f64) -> Rows {
    (1..=hours * 240).map(|number| (START + number * 15_000, value(number))).collect()
}

fn counter() -> Labels {
    series(&[(METRIC_NAME, "c_total"), ("job", "a")])
}

async fn world(all: &[(Labels, Rows)]) -> World {
    let world = World::new();
    for (labels, rows) in all {
        world.write(labels, rows).await;
    }
    world.downsample().await;
    world
}

fn values(value: &Value) -> Vec<f64> {
    rows(value).first().map(|row| row.values.clone()).unwrap_or_default()
}

/// Thanos #922: `sum(metric)` took the sum column, and was too large by the number of samples in a
/// bucket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sum_over_series_is_not_inflated_by_the_samples_of_a_bucket() {
    let gauge = |number: i64| series(&[(METRIC_NAME, "g"), ("n", &number.to_string())]);
    let all: Vec<_> = (0..10).map(|number| (gauge(number), scraped(6, |_| 5.0))).collect();
    let world = world(&all).await;
    let value = world.compare_from("sum(g)", hourly(1, 6), "1h", Closeness::Bits).await;
    assert_eq!(values(&value), [50.0; 6]);
    let value = world.compare_from("avg(g[1h])", hourly(1, 6), "1h", Closeness::Bits).await;
    assert_eq!(values(&value), [5.0; 6]);
}

/// Our own: a file was passed over for a metric whose name begins another's, because keys, by which
/// series are ordered, put `g` behind `g_a`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_metric_whose_name_begins_anothers_is_found() {
    let gauge = |name| series(&[(METRIC_NAME, name)]);
    let all = ["g", "g_a", "g_a_b"].map(|name| (gauge(name), scraped(6, |_| 5.0)));
    let world = world(&all).await;
    for text in ["avg_over_time(g[1h])", "avg_over_time(g_a[1h])", "avg_over_time(g_a_b[1h])"] {
        let value = world.compare_from(text, hourly(1, 6), "1h", Closeness::Bits).await;
        assert_eq!(values(&value), [5.0; 6], "{text}");
    }
}

/// Thanos #1568: a reset between two chunks of aggregates was lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_exactly_on_the_edge_of_a_bucket_counts() {
    // The counter starts anew with the first sample after every full hour.
    let all = [(counter(), scraped(6, |number| ((number - 1) % 240) as f64))];
    let world = world(&all).await;
    for resolution in ["1m", "5m", "1h"] {
        let ask = |text: &'static str| {
            world.compare_from(text, hourly(2, 6), resolution, Closeness::Bits)
        };
        assert_eq!(values(&ask("resets(c_total[2h])").await), [1.0; 5], "{resolution}");
        let value = ask("increase(c_total[2h] anchored)").await;
        assert_eq!(values(&value)[1..], [478.0; 4], "{resolution}");
        ask("increase(c_total[2h])").await;
        ask("rate(c_total[2h])").await;
    }
}

/// Thanos #1115: `rate(x[5m])` needs two samples, and downsampled data had one per window.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_of_one_bucket_has_a_rate() {
    let world = world(&[(counter(), scraped(6, |number| number as f64))]).await;
    for (text, resolution) in
        [("rate(c_total[5m])", "5m"), ("rate(c_total[1m])", "1m"), ("rate(c_total[1h])", "1h")]
    {
        let value = world.compare_from(text, hourly(2, 6), resolution, Closeness::Bits).await;
        assert_eq!(values(&value).len(), 5, "{text}");
        // And if a coarser resolution may answer, the answer is still there.
        world.compare(text, hourly(2, 6), "1h", Closeness::Bits).await;
    }
}

/// Thanos #1326, #1788, #2401: counters that were stored twice were added up, or jumped at the seam.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_that_is_written_twice_counts_once() {
    let whole = scraped(6, |number| number as f64);
    let world = world(&[(counter(), whole.clone())]).await;
    let before = world.ask("increase(c_total[1h])", hourly(2, 6), "1h").await.value;
    // All of it again, and the middle once more after another flush.
    world.write(&counter(), &whole).await;
    world.downsample().await;
    world.write(&counter(), &whole[300..900].to_vec()).await;
    world.downsample().await;
    let after =
        world.compare_from("increase(c_total[1h])", hourly(2, 6), "1h", Closeness::Bits).await;
    assert_eq!(before, after);
    let value =
        world.compare_from("count_over_time(c_total[1h])", hourly(2, 6), "1h", Closeness::Bits);
    assert_eq!(values(&value.await), [240.0; 5]);
}

/// Thanos #3644, still open: `resets()` is 0 since resets are taken out where data is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_inside_of_buckets_are_counted() {
    let world = world(&[(counter(), scraped(6, |number| (number % 50) as f64))]).await;
    let value =
        world.compare_from("resets(c_total[1h])", hourly(1, 6), "1h", Closeness::Bits).await;
    assert!(values(&value).iter().all(|resets| *resets >= 4.0), "{value:?}");
    let value =
        world.compare_from("changes(c_total[1h])", hourly(1, 6), "1h", Closeness::Bits).await;
    assert_eq!(values(&value), [239.0; 6]);
}

/// Thanos drops stale markers from counter chunks: series that ended seemed to go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_series_that_ended_stays_ended() {
    let mut ends = scraped(6, |number| number as f64);
    // Half a minute before three o'clock.
    let end = ends.iter().position(|(at, _)| *at == START + 3 * HOUR - 30_000).unwrap();
    ends.truncate(end);
    ends.push((START + 3 * HOUR - 30_000, stale_nan()));
    let goes_on = series(&[(METRIC_NAME, "c_total"), ("job", "b")]);
    let world = world(&[(counter(), ends), (goes_on, scraped(6, |number| number as f64))]).await;
    let value = world.compare_from("c_total", hourly(1, 6), "1h", Closeness::Bits).await;
    let counts: Vec<_> = rows(&value).iter().map(|row| row.values.len()).collect();
    assert_eq!(counts, [2, 6]);
    // The marker is inside of its lookback, so its absence would show.
    let five = QueryKind::Range {
        start: START + 2 * HOUR + 50 * MINUTE,
        end: START + 3 * HOUR + 10 * MINUTE,
        step_ms: 5 * MINUTE,
    };
    let value = world.compare_from("count(c_total)", five, "5m", Closeness::Bits).await;
    assert_eq!(values(&value), [2.0, 2.0, 1.0, 1.0, 1.0]);
}

/// Thanos lengthens the lookback of coarse data, so that series live on after they ended: here the
/// last sample's own time decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lookback_shorter_than_a_bucket_is_kept() {
    let mut ends = scraped(6, |number| number as f64);
    ends.retain(|(at, _)| *at <= START + 3 * HOUR - 6 * MINUTE);
    let world = world(&[(counter(), ends)]).await;
    let value = world.compare_from("c_total", hourly(1, 6), "1h", Closeness::Bits).await;
    assert_eq!(values(&value).len(), 2);
}

/// Our own: a row's sum is rounded once, so where rows of both signs cancel out, what is left of
/// them is exact only as far as the magnitudes allow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sums_that_cancel_out_are_right_to_their_magnitudes() {
    let gauge = series(&[(METRIC_NAME, "g")]);
    let value = |number: i64| {
        let sign = if (number - 1) / 240 % 2 == 0 { 1.0 } else { -1.0 };
        sign * (1e6 + (number % 240) as f64 / 3.0)
    };
    let world = world(&[(gauge, scraped(8, value))]).await;
    for (text, count) in [("sum_over_time(g[2h])", 1.0), ("avg_over_time(g[2h])", 480.0)] {
        let raw = world.ask(text, hourly(2, 8), "0s").await;
        let rolled = world.ask(text, hourly(2, 8), "1h").await;
        assert!(rolled.infos.iter().any(|info| info.contains("rollup 1h")), "{:?}", rolled.infos);
        let (raw, rolled) = (values(&raw.value), values(&rolled.value));
        assert_eq!(raw.len(), 7);
        let bound = 1e-12 * 480.0 * 1e6 / count;
        for (raw, rolled) in raw.iter().zip(&rolled) {
            assert!((raw - rolled).abs() <= bound, "{text}: {raw:?} {rolled:?}");
        }
    }
}
