//! Rollups: samples per second and core of the kernels alone, from sorted samples to the Parquet
//! files of all three resolutions, and of the whole way from blocks to files that a manifest
//! names; on standard output what each resolution costs per raw sample.

#![expect(clippy::unwrap_used, reason = "a bench that panics has failed")]

#[path = "../tests/columnar/data.rs"]
#[expect(dead_code, reason = "shared with the other benches and the tests")]
mod data;
mod store;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aetherdb::columnar::aggregate::{RollupColumns, roll_up_rows, roll_up_samples};
use aetherdb::columnar::parquet::{LabelColumns, ROW_GROUP_ROWS, RollupFileWriter};
use aetherdb::model::{METRIC_NAME, Resolution, Samples};
use aetherdb::storage::{StorageOptions, WalSync};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use parquet::file::reader::{FileReader, SerializedFileReader};
use tokio::runtime::Runtime;

use data::DataSet;

/// The whole of it, as the server does: blocks of a day are read, rolled up, written to a local
/// directory and named in its manifest. One thread does all but the writing itself.
fn whole(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = c.benchmark_group("rollup/whole");
    for (name, set) in
        [("node, 24 h", data::node_exporter(1, 5_760)), ("tsbs, 24 h", data::tsbs_cpu(60, 8_640))]
    {
        let dir = tempfile::tempdir().unwrap();
        let filled = dir.path().join("filled");
        runtime.block_on(fill(&filled, &set));
        let samples = set.samples() as u64;
        drop(set);
        group.throughput(Throughput::Elements(samples));
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                let mut took = Duration::ZERO;
                for _ in 0..rounds {
                    let work = dir.path().join("work");
                    store::copy(&filled, &work);
                    // From the start on, since the server begins by itself.
                    #[expect(clippy::disallowed_methods, reason = "a bench measures")]
                    let started = Instant::now();
                    let engine = store::open(options(&work, true));
                    runtime.block_on(engine.downsample(Arc::default())).unwrap();
                    took += started.elapsed();
                    let status = engine.rollup_status().unwrap();
                    assert_eq!(status.resolutions[&Resolution::OneMinute].samples, samples);
                    runtime.block_on(engine.close()).unwrap();
                    fs::remove_dir_all(&work).unwrap();
                }
                took
            });
        });
    }
    group.finish();
}

fn options(dir: &Path, rollups: bool) -> StorageOptions {
    StorageOptions { wal_sync: WalSync::Never, rollups, ..StorageOptions::new(dir) }
}

/// A store with the set in one block for each day.
async fn fill(dir: &Path, set: &DataSet) {
    let engine = store::open(options(dir, false));
    store::fill(&engine, set).await;
    engine.flush().await.unwrap();
    engine.compact().await.unwrap();
    engine.close().await.unwrap();
}

fn kernels(c: &mut Criterion) {
    let mut group = c.benchmark_group("rollup/kernel");
    let set = data::node_exporter(1, 480);
    let series: Vec<Samples> = samples(&set);
    group.throughput(Throughput::Elements(set.samples() as u64));
    let mut rows = [const { RollupColumns::new() }; 3];
    group.bench_function("all resolutions", |b| {
        b.iter(|| series.iter().for_each(|samples| roll_up(samples, &mut rows)));
    });
    group.finish();
}

fn files(c: &mut Criterion) {
    let mut group = c.benchmark_group("rollup/files");
    for (name, set) in [
        ("node, 2 h", data::node_exporter(4, 480)),
        ("node, 24 h", data::node_exporter(1, 5_760)),
        ("tsbs, 2 h", data::tsbs_cpu(100, 720)),
        ("tsbs, 24 h", data::tsbs_cpu(60, 8_640)),
    ] {
        let series = samples(&set);
        let columns = columns(&set);
        for (resolution, bytes) in Resolution::ALL.iter().zip(write(&set, &series, &columns)) {
            let per_sample = bytes.len() as f64 / set.samples() as f64;
            println!("{name}: {resolution} {per_sample:.4} B/raw sample");
            if *resolution == Resolution::OneMinute {
                by_column(bytes, set.samples());
            }
        }
        group.throughput(Throughput::Elements(set.samples() as u64));
        group.bench_function(name, |b| b.iter(|| write(&set, &series, &columns)));
    }
    group.finish();
}

/// What each column costs.
fn by_column(bytes: Vec<u8>, samples: usize) {
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
    let metadata = reader.metadata();
    let schema = metadata.file_metadata().schema_descr();
    for (number, column) in schema.columns().iter().enumerate() {
        let bytes: i64 =
            metadata.row_groups().iter().map(|group| group.column(number).compressed_size()).sum();
        println!("    {:12} {:.4}", column.name(), bytes as f64 / samples as f64);
    }
}

fn samples(set: &DataSet) -> Vec<Samples> {
    let column = |(timestamps, values): &(Vec<i64>, Vec<f64>)| Samples {
        timestamps: timestamps.clone(),
        values: values.clone(),
    };
    set.columns.iter().map(column).collect()
}

fn columns(set: &DataSet) -> LabelColumns {
    let mut columns = LabelColumns::new();
    for labels in &set.labels {
        let names = labels.iter().map(|(name, _)| name).filter(|name| *name != METRIC_NAME);
        names.for_each(|name| columns.add(name));
    }
    columns
}

fn roll_up(samples: &Samples, [minutes, fives, hours]: &mut [RollupColumns; 3]) {
    minutes.clear();
    fives.clear();
    hours.clear();
    roll_up_samples(samples, Resolution::OneMinute.ms(), minutes);
    roll_up_rows(minutes, Resolution::FiveMinutes.ms(), fives);
    roll_up_rows(fives, Resolution::OneHour.ms(), hours);
}

fn write(set: &DataSet, series: &[Samples], columns: &LabelColumns) -> [Vec<u8>; 3] {
    let mut writers = Resolution::ALL.map(|resolution| {
        RollupFileWriter::new(Vec::new(), columns, resolution.ms(), ROW_GROUP_ROWS).unwrap()
    });
    let mut rows = [const { RollupColumns::new() }; 3];
    for (labels, samples) in set.labels.iter().zip(series) {
        roll_up(samples, &mut rows);
        for (writer, rows) in writers.iter_mut().zip(&rows) {
            writer.push(labels, rows).unwrap();
        }
    }
    writers.map(|writer| writer.finish().unwrap().0)
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! { name = benches; config = config(); targets = kernels, files, whole }
criterion_main!(benches);
