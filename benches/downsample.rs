//! Rollups: samples per second and core from sorted samples to the Parquet files of all three
//! resolutions, and on standard output what each costs per raw sample.

#![expect(clippy::unwrap_used, reason = "a bench that panics has failed")]

#[path = "../tests/columnar/data.rs"]
#[expect(dead_code, reason = "shared with the other benches and the tests")]
mod data;

use std::time::Duration;

use aetherdb::columnar::aggregate::{RollupColumns, roll_up_rows, roll_up_samples};
use aetherdb::columnar::parquet::{LabelColumns, RollupFileWriter, RollupWriterOptions};
use aetherdb::model::{METRIC_NAME, Resolution, Samples};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use parquet::file::reader::{FileReader, SerializedFileReader};

use data::DataSet;

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
        let options = RollupWriterOptions::default();
        RollupFileWriter::new(Vec::new(), columns, resolution.ms(), &options).unwrap()
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

criterion_group! { name = benches; config = config(); targets = kernels, files }
criterion_main!(benches);
