//! Bodies to resolved samples: parse and resolve against the real series table, one core.
//!
//! Every body is one request of a few thousand lines or series, as clients send them; series are
//! known before the measurement begins, but for `line/100k/new`. Throughput is samples per second
//! of this thread's CPU time, which other work on the machine disturbs less than the clock.

#![expect(clippy::unwrap_used, reason = "a bench that panics has failed")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use aetherdb::ingest::{
    Encoding, Limits, ParseOptions, decompress, influx, line_protocol, remote_write,
};
use aetherdb::model::SampleBatch;
use aetherdb::storage::series::{KEY_CACHE_BYTES_MAX, KeyCache, RegistrationLog, SeriesTable};
use aetherdb::telemetry::Telemetry;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

type Bench = Criterion<CpuTime>;

const NOW_MS: i64 = 1_700_000_000_000;
const LINES_PER_REQUEST: usize = 10_000;
const SERIES_PER_REQUEST: usize = 2_000;

/// Registrations cost the table's work, not the log's.
#[derive(Debug)]
struct NoLog;

impl RegistrationLog for NoLog {
    fn log_series(&self, _id: u64, _key: &[u8]) {}
}

struct Store {
    table: SeriesTable,
    cache: KeyCache,
    options: ParseOptions,
}

#[derive(Clone, Copy)]
enum Format {
    Line,
    Influx,
    RemoteWriteV1,
    RemoteWriteV2,
}

impl Store {
    fn new() -> Self {
        Self {
            table: SeriesTable::new(Arc::new(NoLog), u32::MAX),
            cache: KeyCache::new(KEY_CACHE_BYTES_MAX, Arc::new(Telemetry::default())),
            options: ParseOptions::new(NOW_MS, Limits::default()),
        }
    }

    fn request(&self, format: Format, body: &[u8]) -> usize {
        // A batch of its own, as the engine takes it over.
        let mut batch = SampleBatch::default();
        let mut resolver = self.cache.resolver(&self.table);
        let (options, resolver) = (&self.options, &mut resolver);
        let outcome = match format {
            Format::Line => line_protocol::parse(body, options, resolver, &mut batch),
            Format::Influx => influx::parse(body, options, resolver, &mut batch),
            Format::RemoteWriteV1 => remote_write::parse_v1(body, options, resolver, &mut batch),
            Format::RemoteWriteV2 => remote_write::parse_v2(body, options, resolver, &mut batch),
        }
        .unwrap();
        assert_eq!(outcome.rejected, 0);
        black_box(&batch).len()
    }

    fn requests(&self, format: Format, bodies: &[Vec<u8>]) -> usize {
        bodies.iter().map(|body| self.request(format, body)).sum()
    }
}

fn measure(c: &mut Bench, name: &str, format: Format, bodies: &[Vec<u8>]) {
    let store = Store::new();
    let samples = store.requests(format, bodies);
    let mut group = c.benchmark_group("ingest");
    group.sample_size(10).throughput(Throughput::Elements(samples as u64));
    group.bench_function(name, |b| b.iter(|| store.requests(format, bodies)));
    group.finish();
}

/// Seven labels and 138 bytes, as `cpu` of a fleet.
fn lines(series: usize) -> Vec<String> {
    (0..series)
        .map(|n| {
            format!(
                "cpu_usage_percent,host=host-{n:07},region=eu-central-{},dc=dc-{},rack=r{:02},\
                 os=Ubuntu24.04,arch=x64,team=team-{:02} {}.{} {}\n",
                n % 4,
                n % 9,
                n % 60,
                n % 17,
                n % 100,
                n % 10,
                NOW_MS - 100_000 + (n as i64 % 1000),
            )
        })
        .collect()
}

fn join(lines: &[String], per_request: usize) -> Vec<Vec<u8>> {
    lines.chunks(per_request).map(|lines| lines.concat().into_bytes()).collect()
}

/// The order of a shuffle with a fixed seed.
fn shuffle<T>(list: &mut [T]) {
    let mut state = 0x5eed_u64;
    for index in (1..list.len()).rev() {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        list.swap(index, usize::try_from((state >> 33) % (index as u64 + 1)).unwrap());
    }
}

fn line(c: &mut Bench) {
    for (name, series) in [("10k", 10_000), ("1M", 1_000_000)] {
        let mut lines = lines(series);
        let in_order = join(&lines, LINES_PER_REQUEST);
        measure(c, &format!("line/{name}/in_order"), Format::Line, &in_order);
        drop(in_order);
        shuffle(&mut lines);
        // Two orders in turn, so that what followed last time tells nothing.
        let first = join(&lines, LINES_PER_REQUEST);
        shuffle(&mut lines);
        let both = [first, join(&lines, LINES_PER_REQUEST)].concat();
        measure(c, &format!("line/{name}/shuffled"), Format::Line, &both);
    }
    let bodies = join(&lines(100_000), LINES_PER_REQUEST);
    let mut group = c.benchmark_group("ingest");
    group.sample_size(10).throughput(Throughput::Elements(100_000));
    group.bench_function("line/100k/new", |b| {
        b.iter_batched(
            Store::new,
            |store| store.requests(Format::Line, &bodies),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// TSBS' cpu-only lines: ten tags, ten fields, nanoseconds.
fn tsbs(c: &mut Bench) {
    let fields = [
        "user",
        "system",
        "idle",
        "nice",
        "iowait",
        "irq",
        "softirq",
        "steal",
        "guest",
        "guest_nice",
    ];
    let lines: Vec<String> = (0..10_000)
        .map(|host| {
            let values: Vec<String> = fields
                .iter()
                .enumerate()
                .map(|(index, field)| format!("usage_{field}={}i", (host * 7 + index * 13) % 100))
                .collect();
            format!(
                "cpu,hostname=host_{host},region=eu-west-1,datacenter=eu-west-1b,rack={},\
                 os=Ubuntu16.04LTS,arch=x64,team=SF,service={},service_version=0,\
                 service_environment=production {} {}000000\n",
                host % 100,
                host % 20,
                values.join(","),
                NOW_MS - 1000,
            )
        })
        .collect();
    measure(c, "influx/tsbs_10_fields", Format::Influx, &join(&lines, 1000));
}

/// Appends a field of bytes.
fn push_bytes(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn sample(value: f64, timestamp: i64) -> Vec<u8> {
    let mut message = vec![0x09];
    message.extend_from_slice(&value.to_le_bytes());
    message.push(0x10);
    push_varint(&mut message, timestamp.cast_unsigned());
    message
}

/// Twelve labels as Kubernetes gives them.
fn labels(n: usize) -> Vec<(&'static str, String)> {
    vec![
        ("__name__", format!("container_metric_{}", n % 200)),
        ("cluster", "production-eu-central-1".to_owned()),
        ("container", format!("container-{}", n % 50)),
        ("endpoint", "https-metrics".to_owned()),
        ("id", format!("/kubepods/burstable/pod{:08x}/{:016x}", n / 200, n)),
        ("image", format!("registry.example.org/team/app-{}:v1.2.{}", n % 50, n % 30)),
        ("instance", format!("10.0.{}.{}:10250", n / 200 % 250, n % 250)),
        ("job", "kubelet".to_owned()),
        ("metrics_path", "/metrics/cadvisor".to_owned()),
        ("namespace", format!("namespace-{}", n % 40)),
        ("node", format!("node-{:03}", n / 200 % 250)),
        ("pod", format!("app-{}-{:08x}", n % 50, n / 200)),
    ]
}

fn remote_write_v1(series: usize) -> Vec<Vec<u8>> {
    (0..series)
        .collect::<Vec<_>>()
        .chunks(SERIES_PER_REQUEST)
        .map(|numbers| {
            let mut body = Vec::new();
            for &n in numbers {
                let mut message = Vec::new();
                for (name, value) in labels(n) {
                    let mut label = Vec::new();
                    push_bytes(&mut label, 1, name.as_bytes());
                    push_bytes(&mut label, 2, value.as_bytes());
                    push_bytes(&mut message, 1, &label);
                }
                push_bytes(&mut message, 2, &sample(n as f64 * 0.5, NOW_MS - 5));
                push_bytes(&mut body, 1, &message);
            }
            body
        })
        .collect()
}

fn remote_write_v2(series: usize) -> Vec<Vec<u8>> {
    (0..series)
        .collect::<Vec<_>>()
        .chunks(SERIES_PER_REQUEST)
        .map(|numbers| {
            let mut symbols = vec![String::new()];
            let mut numbers_of = std::collections::HashMap::new();
            let mut messages = Vec::new();
            for &n in numbers {
                let mut references = Vec::new();
                for (name, value) in labels(n) {
                    for text in [name.to_owned(), value] {
                        let number = *numbers_of.entry(text.clone()).or_insert_with(|| {
                            symbols.push(text);
                            symbols.len() - 1
                        });
                        push_varint(&mut references, number as u64);
                    }
                }
                let mut message = Vec::new();
                push_bytes(&mut message, 1, &references);
                push_bytes(&mut message, 2, &sample(n as f64 * 0.5, NOW_MS - 5));
                push_bytes(&mut message, 5, &[0x08, 2]);
                messages.push(message);
            }
            let mut body = Vec::new();
            symbols.iter().for_each(|symbol| push_bytes(&mut body, 4, symbol.as_bytes()));
            messages.iter().for_each(|message| push_bytes(&mut body, 5, message));
            body
        })
        .collect()
}

fn remote(c: &mut Bench) {
    for (name, series) in [("50k", 50_000), ("500k", 500_000)] {
        let bodies = remote_write_v1(series);
        measure(c, &format!("remote_write_1/{name}"), Format::RemoteWriteV1, &bodies);
        if series == 50_000 {
            snappy(c, "remote_write_1/50k/snappy", Format::RemoteWriteV1, &bodies);
        }
        drop(bodies);
        let bodies = remote_write_v2(series);
        measure(c, &format!("remote_write_2/{name}"), Format::RemoteWriteV2, &bodies);
        if series == 50_000 {
            snappy(c, "remote_write_2/50k/snappy", Format::RemoteWriteV2, &bodies);
        }
    }
}

/// Decompression included.
fn snappy(c: &mut Bench, name: &str, format: Format, bodies: &[Vec<u8>]) {
    let store = Store::new();
    let samples = store.requests(format, bodies);
    let packed: Vec<Vec<u8>> =
        bodies.iter().map(|body| snap::raw::Encoder::new().compress_vec(body).unwrap()).collect();
    let mut plain = Vec::new();
    let mut group = c.benchmark_group("ingest");
    group.sample_size(10).throughput(Throughput::Elements(samples as u64));
    group.bench_function(name, |b| {
        b.iter(|| {
            for body in &packed {
                decompress(Encoding::Snappy, body, &Limits::default(), &mut plain).unwrap();
                store.request(format, &plain);
            }
        });
    });
    group.finish();
}

/// CPU time of the thread, from Linux' scheduler.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = u64;
    type Value = Duration;

    fn start(&self) -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        text.split_ascii_whitespace().next().unwrap().parse().unwrap()
    }

    fn end(&self, start: u64) -> Duration {
        Duration::from_nanos(self.start() - start)
    }

    fn add(&self, left: &Duration, right: &Duration) -> Duration {
        *left + *right
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

criterion_group!(
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = line, tsbs, remote
);
criterion_main!(benches);
