//! Series table and memtable: registrations, selections, and what a sample costs from append to
//! read. Bytes per series and per sample go to standard output.

#![expect(clippy::unwrap_used, reason = "a bench that panics has failed")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use aetherdb::model::{
    Labels, METRIC_NAME, MatchOp, Matcher, SampleBatch, Samples, SeriesRef, TimeRange,
};
use aetherdb::storage::Part;
use aetherdb::storage::memtable::Memtable;
use aetherdb::storage::series::{RegistrationLog, SeriesRegistry, SeriesTable};
use criterion::{BatchSize, BenchmarkGroup, Criterion, SamplingMode, Throughput};
use criterion::{criterion_group, criterion_main, measurement::WallTime};

/// Series of the large table.
const SERIES: u32 = 1_000_000;
/// Rows of one write request.
const BATCH_ROWS: usize = 10_000;
/// Rows that one iteration appends, seals or reads.
const ROWS: usize = 4_000_000;
const START: i64 = 1_700_006_400_000;

#[derive(Debug)]
struct NoLog;

impl RegistrationLog for NoLog {
    fn log_series(&self, _: u64, _: &[u8]) {}
}

fn empty_table() -> SeriesTable {
    SeriesTable::new(Arc::new(NoLog), u32::MAX)
}

fn registered(labels: &[Labels]) -> SeriesTable {
    let table = empty_table();
    for labels in labels {
        table.get_or_register(labels).unwrap();
    }
    table
}

/// Labels as Kubernetes gives them: 20 metrics of 50,000 containers, of which one in ten has been
/// replaced lately.
fn pods(series: u32) -> Vec<Labels> {
    let one = |number: u32| {
        let (metric, pod) = (number % 20, number / 20);
        let (app, node) = (pod % 250, pod % 997);
        let text = |prefix: &str, number: u32| format!("{prefix}{number}");
        let pod = format!("app-{app}-{:08x}-{pod:05x}", pod.wrapping_mul(0x9E37_79B9));
        Labels::from_pairs([
            (METRIC_NAME, text("container_metric_", metric).as_str()),
            ("cluster", "production-eu-1"),
            ("namespace", text("team-", app % 40).as_str()),
            ("app", text("app-", app).as_str()),
            ("pod", pod.as_str()),
            ("node", text("ip-10-0-0-", node).as_str()),
            ("container", "main"),
            ("job", "kubelet"),
            ("zone", ["a", "b", "c"][node as usize % 3]),
        ])
        .unwrap()
    };
    (0..series).map(one).collect()
}

fn random(state: &mut u64, bound: u32) -> u32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    u32::try_from(*state >> 33).unwrap() % bound
}

/// Requests of [`BATCH_ROWS`] rows, [`ROWS`] in all: scrapes of `series` series, one after the
/// other, whose values walk by whole hundredths.
fn requests(series: u32, order: Order) -> Vec<SampleBatch> {
    let mut state = 7;
    let mut ids: Vec<u32> = (0..series).collect();
    let mut values: Vec<i64> = ids.iter().map(|id| i64::from(id % 10_000)).collect();
    let mut requests = vec![SampleBatch::default()];
    for row in 0..ROWS {
        let (scrape, place) = (row / series as usize, row % series as usize);
        if place == 0 && matches!(order, Order::Shuffled) {
            for at in (1..series).rev() {
                ids.swap(at as usize, random(&mut state, at + 1) as usize);
            }
        }
        let id = ids[place];
        let value = &mut values[id as usize];
        *value += i64::from(random(&mut state, 201)) - 100;
        if requests.last().unwrap().len() == BATCH_ROWS {
            requests.push(SampleBatch::default());
        }
        let batch = requests.last_mut().unwrap();
        batch.push(SeriesRef(id), START + scrape as i64 * 10_000, *value as f64 / 100.0);
    }
    requests
}

#[derive(Clone, Copy)]
enum Order {
    Same,
    Shuffled,
}

fn append(memtable: &Memtable, requests: &[SampleBatch]) {
    requests.iter().for_each(|batch| memtable.append(batch));
}

fn registration(c: &mut Criterion) {
    let mut group = slow(c, "series");
    group.throughput(Throughput::Elements(u64::from(SERIES)));
    let labels = pods(SERIES);
    group.bench_function("register/new", |b| {
        b.iter_batched_ref(
            empty_table,
            |table| labels.iter().for_each(|set| drop(black_box(table.get_or_register(set)))),
            BatchSize::PerIteration,
        );
    });
    let table = registered(&labels);
    group.bench_function("register/known", |b| {
        b.iter(|| labels.iter().for_each(|set| drop(black_box(table.get_or_register(set)))));
    });
    // What the first query after a million registrations waits for.
    let metric = [Matcher::equal(METRIC_NAME, "container_metric_7")];
    group.bench_function("index/first", |b| {
        b.iter_batched_ref(
            || registered(&labels),
            |table| table.select(&metric),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("order/first", |b| {
        b.iter_batched_ref(
            || {
                let table = registered(&labels);
                table.select(&metric);
                table
            },
            |table| table.in_order(&table.select(&[])),
            BatchSize::PerIteration,
        );
    });
    table.select(&metric);
    println!("series/table: {} B/series", table.bytes() / u64::from(SERIES));
    group.finish();

    let mut group = c.benchmark_group("select");
    let regex = |name: &str, value: &str| Matcher::new(MatchOp::Regex, name, value).unwrap();
    let not = |name: &str, value: &str| Matcher::new(MatchOp::NotEqual, name, value).unwrap();
    let pod = labels[123_456].get("pod").unwrap();
    for (name, matchers) in [
        ("one", vec![metric[0].clone(), Matcher::equal("pod", pod)]),
        ("metric", vec![metric[0].clone()]),
        ("join", vec![metric[0].clone(), Matcher::equal("app", "app-7"), not("zone", "a")]),
        ("prefix", vec![metric[0].clone(), regex("pod", "app-77-.*")]),
        ("contains", vec![metric[0].clone(), regex("pod", ".*fff0.*")]),
        ("not", vec![metric[0].clone(), not("pod", pod)]),
        ("any", vec![metric[0].clone(), regex("pod", ".+")]),
        ("all", vec![]),
    ] {
        println!("select/{name}: {} series", table.select(&matchers).len());
        group.bench_function(format!("{name}/ids"), |b| b.iter(|| table.select(&matchers)));
        group.bench_function(format!("{name}/labels"), |b| {
            b.iter(|| table.in_order(&table.select(&matchers)));
        });
    }
    group.finish();
}

/// A memtable whose chunks go back to the pool when it is done with, which is not measured.
struct Filled(Memtable);

impl Drop for Filled {
    fn drop(&mut self) {
        self.0.seal_all();
    }
}

fn read(part: &Arc<dyn Part>, matchers: &[Matcher]) -> u64 {
    let mut reader = Arc::clone(part).reader();
    let mut out = Samples::default();
    let mut count = 0;
    for series in part.select(matchers, TimeRange::ALL).unwrap() {
        out.clear();
        reader.read(series.local, TimeRange::ALL, &mut out).unwrap();
        count += out.len() as u64;
    }
    count
}

fn samples(c: &mut Criterion) {
    for (name, series, order) in [
        ("1k", 1_000, Order::Same),
        ("1M", SERIES, Order::Same),
        ("1M-shuffled", SERIES, Order::Shuffled),
    ] {
        let mut group = slow(c, &format!("memtable-{name}"));
        group.throughput(Throughput::Elements(ROWS as u64));
        let requests = requests(series, order);
        let table = Arc::new(registered(&pods(series)));
        let one = [
            Matcher::equal(METRIC_NAME, "container_metric_7"),
            Matcher::equal("pod", table.labels(SeriesRef(7)).unwrap().get("pod").unwrap()),
        ];
        table.in_order(&table.select(&[]));
        // Successors share the memory of what was sealed, as in a store that has run for a while.
        let first = Filled(Memtable::new(table));
        let filled = || {
            let next = Filled(first.0.successor());
            append(&next.0, &requests);
            next
        };
        append(&first.0, &requests);
        first.0.seal_all();
        println!("memtable-{name}: {:.3} B/sample sealed", first.0.bytes() as f64 / ROWS as f64);

        group.bench_function("append", |b| {
            b.iter_batched(
                || Filled(first.0.successor()),
                |memtable| {
                    append(&memtable.0, &requests);
                    memtable
                },
                BatchSize::PerIteration,
            );
        });
        group.bench_function("seal", |b| {
            b.iter_batched_ref(filled, |memtable| memtable.0.seal_all(), BatchSize::PerIteration);
        });
        group.bench_function("read/sealed", |b| b.iter(|| read(&first.0.snapshot(), &[])));
        // Includes the index of each chunk, which the first query makes.
        group.bench_function("read/log", |b| {
            b.iter_batched_ref(
                filled,
                |memtable| read(&memtable.0.snapshot(), &[]),
                BatchSize::PerIteration,
            );
        });
        group.finish();

        let mut group = slow(c, &format!("point-{name}"));
        group.bench_function("sealed", |b| b.iter(|| read(&first.0.snapshot(), &one)));
        group.bench_function("log/first", |b| {
            b.iter_batched_ref(
                filled,
                |memtable| read(&memtable.0.snapshot(), &one),
                BatchSize::PerIteration,
            );
        });
        let memtable = filled();
        group.bench_function("log/again", |b| b.iter(|| read(&memtable.0.snapshot(), &one)));
        group.finish();
    }
}

fn slow<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat);
    group
}

criterion_group! {
    name = memtable;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(800));
    targets = registration, samples
}
criterion_main!(memtable);
