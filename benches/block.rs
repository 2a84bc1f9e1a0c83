//! Codecs and block files: samples per second, and bytes per sample on standard output.

#![expect(clippy::unwrap_used, reason = "a bench that panics has failed")]

#[path = "../tests/columnar/data.rs"]
mod data;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use aetherdb::columnar::block::{BlockCache, BlockHeader, BlockOptions, BlockReader, BlockWriter};
use aetherdb::columnar::codec::timestamps::{self, TimestampEncoder};
use aetherdb::columnar::codec::values::{self, ValueEncoder};
use aetherdb::model::{METRIC_NAME, MatchOp, Matcher, Samples, TimeRange};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use data::DataSet;

/// Keeps nothing, so that every pass decodes.
fn cache() -> Arc<BlockCache> {
    Arc::new(BlockCache::new(0))
}

const CHUNK: usize = 480;

fn sets() -> Vec<(&'static str, DataSet)> {
    vec![
        ("node", data::node_exporter(1, 480)),
        ("tsbs", data::tsbs_cpu(60, 960)),
        ("sensor", data::sensors(100, 960)),
        ("walk", data::full_precision(100, 960)),
    ]
}

/// Chunks that are not constant: the others cost nothing.
fn codecs(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    for (name, set) in sets() {
        let chunks: Vec<&[f64]> = set.varying().flat_map(|values| values.chunks(CHUNK)).collect();
        let samples: usize = chunks.iter().map(|chunk| chunk.len()).sum();
        group.throughput(Throughput::Elements(samples as u64));
        let mut encoder = ValueEncoder::default();
        let mut out = Vec::new();
        group.bench_function(format!("values/encode/{name}"), |b| {
            b.iter(|| {
                out.clear();
                chunks.iter().for_each(|chunk| encoder.encode(chunk, &mut out));
            });
        });
        println!("values/{name}: {:.3} B/sample", out.len() as f64 / samples as f64);
        let payloads: Vec<(Vec<u8>, usize)> = chunks
            .iter()
            .map(|chunk| {
                let mut payload = Vec::new();
                encoder.encode(chunk, &mut payload);
                (payload, chunk.len())
            })
            .collect();
        let mut decoded = Vec::new();
        group.bench_function(format!("values/decode/{name}"), |b| {
            b.iter(|| {
                for (payload, count) in &payloads {
                    decoded.clear();
                    values::decode(payload, *count, &mut decoded).unwrap();
                    black_box(&decoded);
                }
            });
        });
    }
    let node = data::node_exporter(1, 480);
    let times = &node.columns[0].0;
    group.throughput(Throughput::Elements(times.len() as u64));
    let mut encoder = TimestampEncoder::default();
    let mut payload = Vec::new();
    group.bench_function("timestamps/encode/jitter", |b| {
        b.iter(|| {
            payload.clear();
            encoder.encode(times, &mut payload);
        });
    });
    println!("timestamps/jitter: {:.3} B/sample", payload.len() as f64 / times.len() as f64);
    let mut decoded = Vec::new();
    group.bench_function("timestamps/decode/jitter", |b| {
        b.iter(|| {
            decoded.clear();
            timestamps::decode(&payload, times.len(), &mut decoded).unwrap();
        });
    });
    group.finish();
}

fn write(set: &DataSet, batches: &[arrow::array::RecordBatch], options: BlockOptions) -> Bytes {
    let header = BlockHeader { level: 0, window: TimeRange::ALL, lsn_first: 0, lsn_last: 0 };
    let mut writer = BlockWriter::new(Vec::new(), header, &set.labels, options).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.finish().unwrap().0.into()
}

fn blocks(c: &mut Criterion) {
    let mut group = c.benchmark_group("block");
    let compressed_fresh = BlockOptions { compress_values: true, ..BlockOptions::FRESH };
    for (name, set) in [
        ("node", data::node_exporter(4, 480)),
        ("tsbs", data::tsbs_cpu(100, 1440)),
        ("sensor", data::sensors(200, 1440)),
    ] {
        let batches = set.batches();
        let samples = set.samples();
        group.throughput(Throughput::Elements(samples as u64));
        for (kind, options) in [
            ("fresh", BlockOptions::FRESH),
            ("fresh+zstd", compressed_fresh),
            ("compacted", BlockOptions::COMPACTED),
        ] {
            let bytes = write(&set, &batches, options);
            println!("block/{name}/{kind}: {:.4} B/sample", bytes.len() as f64 / samples as f64);
            group.bench_function(format!("write/{name}/{kind}"), |b| {
                b.iter(|| write(&set, &batches, options));
            });
            let reader = Arc::new(BlockReader::open(Arc::new(bytes), cache()).unwrap());
            let series = u32::try_from(set.labels.len()).unwrap();
            let mut out = Samples::default();
            group.bench_function(format!("read/{name}/{kind}"), |b| {
                b.iter(|| {
                    let mut cursor = reader.cursor();
                    for local in 0..series {
                        out.clear();
                        cursor.read(local, TimeRange::ALL, &mut out).unwrap();
                        black_box(&out);
                    }
                });
            });
            group.bench_function(format!("scan/{name}/{kind}"), |b| {
                b.iter(|| reader.scan().map(|batch| batch.unwrap().num_rows()).sum::<usize>());
            });
        }
    }
    group.finish();
}

/// Many series of one sample: what the index costs.
fn index(c: &mut Criterion) {
    let mut group = c.benchmark_group("index");
    let set = data::churn(200_000);
    let batches = set.batches();
    group.throughput(Throughput::Elements(set.labels.len() as u64));
    let bytes = write(&set, &batches, BlockOptions::FRESH);
    println!("index/churn: {:.2} B/series", bytes.len() as f64 / set.labels.len() as f64);
    group.bench_function("write/churn", |b| {
        b.iter(|| write(&set, &batches, BlockOptions::FRESH));
    });
    let open = || Arc::new(BlockReader::open(Arc::new(bytes.clone()), cache()).unwrap());
    let one = [Matcher::equal("hostname", "host_77777")];
    let some = [
        Matcher::equal(METRIC_NAME, "request_seconds"),
        Matcher::new(MatchOp::Regex, "hostname", "host_77.*").unwrap(),
        Matcher::equal("os", "Ubuntu16.10"),
    ];
    for (name, matchers) in [("one", &one[..]), ("some", &some), ("all", &[])] {
        let reader = open();
        println!("select/{name}: {}", reader.select(matchers, TimeRange::ALL).unwrap().len());
        group.bench_function(format!("select/{name}/warm"), |b| {
            b.iter(|| reader.select(matchers, TimeRange::ALL).unwrap());
        });
        group.bench_function(format!("select/{name}/cold"), |b| {
            b.iter(|| open().select(matchers, TimeRange::ALL).unwrap());
        });
    }
    group.finish();
}

criterion_group! {
    name = block;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800));
    targets = codecs, blocks, index
}
criterion_main!(block);
