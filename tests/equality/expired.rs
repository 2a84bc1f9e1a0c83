//! When raw samples have expired, rollups answer alone: exactly where windows are whole buckets, and
//! else for windows that are rounded down to buckets, which the answer says.

use aetherdb::model::{Labels, METRIC_NAME};
use aetherdb::promql::QueryKind;
use aetherdb::storage::Retention;

use super::{Closeness, HOUR, MINUTE, Rows, START, World, assert_same, hourly, series};

const DAY: i64 = 24 * HOUR;
/// The clock stands ten days after the first sample.
const RAW_KEPT: i64 = 9 * DAY;

/// Two days of one series, and one that ended on the first day.
fn data() -> Vec<(Labels, Rows)> {
    let rows = |hours: i64, slope: i64| -> Rows {
        (1..hours * 60)
            .map(|minute| (START + minute * MINUTE + 1, (minute % 500 * slope) as f64))
            .collect()
    };
    let named = |n| series(&[(METRIC_NAME, "c_total"), ("n", n)]);
    vec![(named("ended"), rows(7, 3)), (named("lives"), rows(48, 2))]
}

/// A store that has all samples, and one whose first day has expired.
async fn worlds(one_minute_ms: Option<i64>) -> (World, World) {
    let retention = Retention { raw_ms: Some(RAW_KEPT), one_minute_ms, ..Retention::default() };
    let (whole, expired) = (World::new(), World::keeping(retention));
    for world in [&whole, &expired] {
        for (labels, rows) in data() {
            world.write(&labels, &rows).await;
        }
        world.downsample().await;
        world.engine.compact().await.unwrap();
    }
    let first = expired.engine.status().time_range.unwrap().start();
    assert!(first >= START + DAY, "the first day is still there");
    (whole, expired)
}

const QUESTIONS: [&str; 7] = [
    "c_total",
    "timestamp(c_total)",
    "increase(c_total[2h])",
    "sum(rate(c_total[1h]))",
    "resets(c_total[3h] anchored)",
    "max_over_time(c_total[90m])",
    "avg by (n) (c_total[1h])",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_buckets_are_still_exact() {
    let (whole, expired) = worlds(None).await;
    for text in QUESTIONS {
        for grid in [hourly(1, 40), hourly(3, 9), hourly(22, 26)] {
            let raw = whole.ask(text, grid, "0s").await;
            let rolled = expired.ask(text, grid, "auto").await;
            assert_same(&raw.value, &rolled.value, Closeness::Relative, text);
            let rounded = rolled.infos.iter().any(|info| info.contains("expired"));
            assert!(!rounded, "{text}: {:?}", rolled.infos);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_windows_are_rounded_down_and_the_answer_says_so() {
    for (one_minute_ms, bucket) in [(None, MINUTE), (Some(RAW_KEPT), 5 * MINUTE)] {
        let (whole, expired) = worlds(one_minute_ms).await;
        for text in QUESTIONS {
            let time = START + 6 * HOUR + 34 * MINUTE + 11_000;
            let instant = |time| QueryKind::Instant { time };
            let raw = whole.ask(text, instant(time - time % bucket), "0s").await;
            let rolled = expired.ask(text, instant(time), "auto").await;
            let at =
                |series: &aetherdb::promql::VectorSample| (series.labels.clone(), series.value);
            let values = |outcome: &aetherdb::promql::QueryOutcome| match &outcome.value {
                aetherdb::promql::Value::Vector(samples) => {
                    samples.iter().map(at).collect::<Vec<_>>()
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(values(&raw), values(&rolled), "{text}");
            let says = |text: &str| rolled.infos.iter().any(|info| info.contains(text));
            assert!(says("begin and end with a bucket"), "{text}: {:?}", rolled.infos);
        }
        // Where samples are left, nothing is rounded.
        let time = START + 30 * HOUR + 34 * MINUTE + 11_000;
        for text in QUESTIONS {
            let raw = whole.ask(text, QueryKind::Instant { time }, "0s").await;
            let rolled = expired.ask(text, QueryKind::Instant { time }, "auto").await;
            assert_same(&raw.value, &rolled.value, Closeness::Relative, text);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rollups_cannot_answer_is_said() {
    let (_, expired) = worlds(None).await;
    let outcome = expired.ask("quantile_over_time(0.5, c_total[1h])", hourly(5, 6), "auto").await;
    let expected = "c_total: raw samples of 2023-11-14T04:00:00Z..2023-11-14T06:00:00Z have \
                    expired, and rollups cannot answer this";
    assert!(outcome.infos.contains(&expected.to_owned()), "{:?}", outcome.infos);
}
