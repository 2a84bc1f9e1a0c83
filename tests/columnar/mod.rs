//! Block files as users of the crate see them: how small they are, and that old ones open.

mod data;

use std::sync::Arc;

use aetherdb::columnar::block::{
    BlockCache, BlockHeader, BlockOptions, BlockReader, BlockSummary, BlockWriter, ChunkView,
};
use aetherdb::columnar::schema;
use aetherdb::model::{Labels, METRIC_NAME, Samples, TimeRange, stale_nan};
use bytes::Bytes;

use data::DataSet;

fn cache() -> Arc<BlockCache> {
    Arc::new(BlockCache::new(1 << 20))
}

fn write(set: &DataSet, options: BlockOptions) -> (Bytes, BlockSummary) {
    let header = BlockHeader {
        level: 0,
        window: TimeRange::ALL,
        lsn_first: 1,
        lsn_last: set.samples() as u64,
    };
    let mut writer = BlockWriter::new(Vec::new(), header, &set.labels, options).unwrap();
    for batch in set.batches() {
        writer.write(&batch).unwrap();
    }
    let (bytes, summary) = writer.finish().unwrap();
    (bytes.into(), summary)
}

/// Writes the set, reads it back, and returns the file's bytes per sample.
fn bytes_per_sample(set: &DataSet, options: BlockOptions) -> f64 {
    let (bytes, summary) = write(set, options);
    let reader = Arc::new(BlockReader::open(Arc::new(bytes), cache()).unwrap());
    let mut cursor = reader.cursor();
    let mut samples = Samples::default();
    for ((labels, local), (timestamps, values)) in
        reader.select(&[], TimeRange::ALL).unwrap().iter().zip(&set.columns)
    {
        assert_eq!(labels, &set.labels[*local as usize]);
        samples.clear();
        cursor.read(*local, TimeRange::ALL, &mut samples).unwrap();
        assert_eq!((&samples.timestamps, &samples.values), (timestamps, values));
    }
    summary.bytes as f64 / summary.samples as f64
}

#[test]
fn constant_heavy_data_takes_a_quarter_byte_per_sample() {
    let set = data::node_exporter(1, 480);
    assert_eq!(set.labels.len(), 1_822);
    let (fresh, compacted) = (
        bytes_per_sample(&set, BlockOptions::FRESH),
        bytes_per_sample(&set, BlockOptions::COMPACTED),
    );
    println!("node_exporter-like: {fresh:.4} fresh, {compacted:.4} compacted B/sample");
    assert!(fresh <= 0.25, "{fresh}");
    // The same chunks: noise leaves zstd nothing to save, and small pages cost their entries.
    assert!(compacted <= fresh * 1.01, "{compacted}");
}

#[test]
fn integer_gauges_take_less_than_half_a_byte_per_sample() {
    let set = data::tsbs_cpu(60, 720);
    let (fresh, compacted) = (
        bytes_per_sample(&set, BlockOptions::FRESH),
        bytes_per_sample(&set, BlockOptions::COMPACTED),
    );
    println!("TSBS cpu-only: {fresh:.4} fresh, {compacted:.4} compacted B/sample");
    assert!(fresh <= 0.40, "{fresh}");
    assert!(compacted <= 0.36, "{compacted}");
}

#[test]
fn own_clocks_and_full_precision_cost_what_they_must() {
    let sensors = bytes_per_sample(&data::sensors(20, 960), BlockOptions::FRESH);
    let walk = data::full_precision(20, 960);
    assert_eq!(walk.varying().count(), 20);
    let walk = bytes_per_sample(&walk, BlockOptions::FRESH);
    println!("sensors: {sensors:.3}, full precision: {walk:.3} B/sample");
    // Values as in research/codec.md, and five bits for twenty milliseconds of jitter.
    assert!(sensors <= 1.25 + 0.70, "{sensors}");
    assert!(walk <= 6.2, "{walk}");
}

#[test]
fn a_series_of_one_sample_takes_few_bytes() {
    let set = data::churn(20_000);
    let bytes = bytes_per_sample(&set, BlockOptions::FRESH);
    println!("one sample per series, ten tags: {bytes:.1} B/series");
    assert!(bytes <= 42.0, "{bytes}");
}

/// The data of the golden file of version 1. Never change it: add another for another version.
fn golden() -> DataSet {
    let name = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied()).unwrap();
    let times =
        |count: i64| (0..count).map(|i| data::START + i * 15_000 + i % 3).collect::<Vec<_>>();
    let counter = |count: i32| (0..count).map(|i| f64::from(i * 3 % 500)).collect::<Vec<_>>();
    DataSet {
        labels: vec![
            name(&[(METRIC_NAME, "http_requests_total"), ("code", "200"), ("method", "GET")]),
            name(&[(METRIC_NAME, "http_requests_total"), ("code", "500")]),
            name(&[(METRIC_NAME, "odd"), ("é", "ü")]),
            name(&[(METRIC_NAME, "single")]),
            name(&[(METRIC_NAME, "temperature")]),
            name(&[(METRIC_NAME, "up")]),
        ],
        columns: vec![
            (times(600), counter(600)),
            (times(600)[100..300].to_vec(), counter(200)),
            (
                times(4),
                vec![f64::INFINITY, -0.0, f64::from_bits(0x7FF8_0000_0000_1234), stale_nan()],
            ),
            (vec![data::START + 77], vec![5e-324]),
            (times(50), (0..50).map(|i| f64::from(i * 37 % 101) / 10.0 - 3.0).collect()),
            (times(600), vec![1.0; 600]),
        ],
    }
}

#[test]
fn the_golden_block_of_version_1_opens() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/block/v1.block");
    if std::env::var_os("AETHER_WRITE_GOLDEN").is_some() {
        std::fs::write(path, write(&golden(), BlockOptions::COMPACTED).0).unwrap();
    }
    let bytes = Bytes::from(std::fs::read(path).unwrap());
    let reader = Arc::new(BlockReader::open(Arc::new(bytes), cache()).unwrap());
    reader.verify().unwrap();
    let set = golden();
    assert_eq!(reader.labels().unwrap(), set.labels);
    let mut cursor = reader.cursor();
    for (local, (timestamps, values)) in (0u32..).zip(&set.columns) {
        let mut samples = Samples::default();
        cursor.read(local, TimeRange::ALL, &mut samples).unwrap();
        assert_eq!(&samples.timestamps, timestamps);
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&samples.values), bits(values));
        let mut count = 0;
        let mut settle = |chunk: &mut ChunkView<'_>| {
            let summary = chunk.summary()?;
            count += summary.count + summary.stale;
            Ok(true)
        };
        cursor
            .read_unsettled(local, TimeRange::ALL, &[], &mut settle, &mut Samples::default())
            .unwrap();
        assert_eq!(count as usize, timestamps.len());
    }
    // A batch of the one schema, so that the scan is held too.
    let batch = reader.scan().next().unwrap().unwrap();
    assert_eq!(batch.schema(), schema::samples());
}
