//! Queries over samples in memory: what the engine costs above a hand-written loop.

#![expect(clippy::unwrap_used, reason = "a bench that panics has failed")]

mod memory;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use aetherdb::clock::SystemClock;
use aetherdb::promql::{Query, QueryKind, evaluate};
use aetherdb::query::{QueryOptions, QuerySession};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};

use memory::{Memory, Random, counter, labels};

const INTERVAL_MS: i64 = 15_000;
const STEP_MS: i64 = 60_000;
const RANGE_MS: i64 = 300_000;
const GROUPS: usize = 20;

/// Ten million samples, as few long series or many short ones.
fn data(series: usize, samples: usize) -> Arc<Memory> {
    let mut random = Random::new(1);
    let all = (0..series).map(|number| {
        (labels("m", number % GROUPS, number), counter(&mut random, samples, INTERVAL_MS))
    });
    Memory::new(all.collect())
}

fn end_ms(samples: usize) -> i64 {
    i64::try_from(samples).unwrap() * INTERVAL_MS
}

/// `sum by (g) (rate(m[5m]))` as one would write it for this very data.
fn by_hand(memory: &Memory, steps: usize) -> BTreeMap<String, Vec<f64>> {
    let mut groups: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (labels, samples) in memory.series() {
        let group = labels.get("g").unwrap();
        if !groups.contains_key(group) {
            groups.insert(group.to_owned(), vec![0.0; steps]);
        }
        let sums = groups.get_mut(group).unwrap();
        let (timestamps, values) = (&samples.timestamps, &samples.values);
        let (mut low, mut high) = (0, 0);
        for (step, sum) in sums.iter_mut().enumerate() {
            let end = i64::try_from(step).unwrap() * STEP_MS;
            while high < timestamps.len() && timestamps[high] <= end {
                high += 1;
            }
            while low < high && timestamps[low] <= end - RANGE_MS {
                low += 1;
            }
            if high - low < 2 {
                continue;
            }
            let mut increase = values[high - 1] - values[low];
            for row in low + 1..high {
                if values[row] < values[row - 1] {
                    increase += values[row - 1];
                }
            }
            let seconds = |ms: i64| ms as f64 / 1_000.0;
            let sampled = seconds(timestamps[high - 1] - timestamps[low]);
            let between = sampled / (high - low - 1) as f64;
            let mut to_start = seconds(timestamps[low] - (end - RANGE_MS));
            let mut to_end = seconds(end - timestamps[high - 1]);
            if to_start >= between * 1.1 {
                to_start = between / 2.0;
            }
            if increase > 0.0 && values[low] >= 0.0 {
                to_start = to_start.min(sampled * (values[low] / increase));
            }
            if to_end >= between * 1.1 {
                to_end = between / 2.0;
            }
            *sum += increase * ((sampled + to_start + to_end) / sampled / seconds(RANGE_MS));
        }
    }
    groups
}

fn queries(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (shape, series, samples) in [("long", 1_000, 10_000), ("short", 100_000, 100)] {
        let memory = data(series, samples);
        let snapshot = memory.snapshot();
        let end = end_ms(samples);
        let steps = usize::try_from(end / STEP_MS).unwrap() + 1;
        let mut group = c.benchmark_group(format!("query/{shape}"));
        group.throughput(Throughput::Elements((series * samples) as u64));
        group.sample_size(10).measurement_time(Duration::from_secs(3));
        group.bench_function("by hand, 1 thread", |b| {
            b.iter(|| black_box(by_hand(&memory, steps)));
        });
        for threads in [1, 2] {
            let options = QueryOptions { threads, ..QueryOptions::default() };
            let session = QuerySession::new(options, Arc::new(SystemClock::new())).unwrap();
            let kind = QueryKind::Range { start: 0, end, step_ms: STEP_MS };
            let ask = |group: &mut BenchmarkGroup<'_, _>, text: &str| {
                let query = Query::new(text, kind, session.limits());
                group.bench_function(format!("{text}, {threads} threads"), |b| {
                    b.iter(|| runtime.block_on(evaluate(&snapshot, &query, &session)).unwrap());
                });
            };
            ask(&mut group, "sum by (g) (rate(m[5m]))");
            if threads == 1 {
                for function in ["avg_over_time", "max_over_time", "stddev_over_time"] {
                    ask(&mut group, &format!("max({function}(m[5m]))"));
                    ask(&mut group, &format!("max({function}(m[1h]))"));
                }
                ask(&mut group, "max(quantile_over_time(0.9, m[5m]))");
                for aggregation in ["sum", "avg", "max", "stddev"] {
                    ask(&mut group, &format!("{aggregation} by (g) (m)"));
                }
                ask(&mut group, "avg by (g) (m[5m])");
                ask(&mut group, "topk(5, m)");
                ask(&mut group, "sum(m / m)");
            }
        }
        group.finish();
    }
}

/// What a query costs that finds almost nothing: a dashboard's small panels.
fn small(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let snapshot = data(1, 100).snapshot();
    let options = QueryOptions { threads: 2, ..QueryOptions::default() };
    let session = QuerySession::new(options, Arc::new(SystemClock::new())).unwrap();
    let kind = QueryKind::Instant { time: end_ms(100) };
    let query = Query::new("sum by (g) (rate(m[5m]))", kind, session.limits());
    c.bench_function("query/small", |b| {
        b.iter(|| runtime.block_on(evaluate(&snapshot, &query, &session)).unwrap());
    });
}

criterion_group!(benches, queries, small);
criterion_main!(benches);
