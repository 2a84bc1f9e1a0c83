//! What the process counts about itself, and its text form at `/metrics`.
//!
//! Every metric's name, kind and help text stands in the one table below; other folders only
//! touch the fields. Nothing here is counted per sample: callers add per batch.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn add(&self, by: i64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the latency buckets, in seconds.
pub const LATENCY_BOUNDS_SECONDS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Durations as a classic histogram.
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [AtomicU64; LATENCY_BOUNDS_SECONDS.len() + 1],
    sum_ns: AtomicU64,
}

impl Latency {
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = LATENCY_BOUNDS_SECONDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }
}

/// One line in the exposition for each kind of metric.
trait Expose {
    const KIND: &'static str;
    fn expose(&self, name: &str, out: &mut String);
}

impl Expose for Counter {
    const KIND: &'static str = "counter";
    fn expose(&self, name: &str, out: &mut String) {
        out.push_str(&format!("{name} {}\n", self.get()));
    }
}

impl Expose for Gauge {
    const KIND: &'static str = "gauge";
    fn expose(&self, name: &str, out: &mut String) {
        out.push_str(&format!("{name} {}\n", self.get()));
    }
}

impl Expose for Latency {
    const KIND: &'static str = "histogram";
    fn expose(&self, name: &str, out: &mut String) {
        let mut count = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            let bound = LATENCY_BOUNDS_SECONDS
                .get(index)
                .map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
            out.push_str(&format!("{name}_bucket{{le=\"{bound}\"}} {count}\n"));
        }
        let seconds = Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)).as_secs_f64();
        out.push_str(&format!("{name}_sum {seconds}\n{name}_count {count}\n"));
    }
}

macro_rules! metrics {
    ($($field:ident: $kind:ty = $name:literal, $help:literal;)*) => {
        /// All of the process' own metrics.
        #[derive(Debug, Default)]
        pub struct Telemetry {
            $(#[doc = $help] pub $field: $kind,)*
        }

        impl Telemetry {
            /// Appends all metrics in Prometheus' text exposition format 0.0.4.
            pub fn expose(&self, out: &mut String) {
                $(
                    out.push_str(concat!("# HELP ", $name, " ", $help, "\n"));
                    out.push_str(&format!("# TYPE {} {}\n", $name, <$kind>::KIND));
                    self.$field.expose($name, out);
                )*
            }
        }
    };
}

metrics! {
    samples_accepted: Counter = "aether_ingest_samples_accepted_total", "Samples acknowledged as durable.";
    samples_rejected: Counter = "aether_ingest_samples_rejected_total", "Samples or lines refused, told to the client.";
    write_requests: Counter = "aether_ingest_requests_total", "Write requests received.";
    write_latency: Latency = "aether_ingest_request_duration_seconds", "Time from the first byte of a write request to its answer.";
    series_created: Counter = "aether_series_created_total", "Series registered since the process started.";
    series_active: Gauge = "aether_series_active", "Series in the head's table.";
    key_cache_hits: Counter = "aether_key_cache_hits_total", "Raw keys of series and symbols that were known, predicted or by hash.";
    key_cache_misses: Counter = "aether_key_cache_misses_total", "Raw keys that were new and had to be parsed.";
    wal_bytes: Counter = "aether_wal_written_bytes_total", "Bytes written to the write-ahead log.";
    wal_syncs: Counter = "aether_wal_syncs_total", "Group commits made durable.";
    wal_commit_latency: Latency = "aether_wal_commit_duration_seconds", "Time to write and sync one group.";
    wal_segments: Gauge = "aether_wal_segments", "Log segments on disk.";
    head_samples: Gauge = "aether_head_samples", "Samples in memory, not yet in a block.";
    head_bytes: Gauge = "aether_head_bytes", "Memory that the memtables hold.";
    flushes: Counter = "aether_flushes_total", "Memtables flushed to blocks.";
    flush_failures: Counter = "aether_flush_failures_total", "Flushes that failed and will be tried again.";
    compactions: Counter = "aether_compactions_total", "Merges of blocks into one.";
    compaction_failures: Counter = "aether_compaction_failures_total", "Merges and removals of blocks that failed and will be tried again.";
    compaction_samples: Counter = "aether_compaction_samples_total", "Samples of the blocks that were merged.";
    compaction_read_bytes: Counter = "aether_compaction_read_bytes_total", "Bytes of the blocks that were merged.";
    compaction_written_bytes: Counter = "aether_compaction_written_bytes_total", "Bytes of the blocks that came of merges.";
    blocks: Gauge = "aether_blocks", "Block files in the manifest.";
    block_bytes: Gauge = "aether_block_bytes", "Bytes of all block files.";
    blocks_expired: Counter = "aether_blocks_expired_total", "Blocks dropped because they were past their retention.";
    blocks_quarantined: Counter = "aether_blocks_quarantined_total", "Blocks set aside because they were damaged.";
    rollup_spans: Counter = "aether_rollup_spans_total", "Two-hour spans summed up to rollups.";
    rollup_samples: Counter = "aether_rollup_samples_total", "Raw samples summed up to rollups.";
    rollup_failures: Counter = "aether_rollup_failures_total", "Attempts to build rollups that failed and will be repeated.";
    rollup_bytes: Gauge = "aether_rollup_bytes", "Bytes of all rollup files.";
    rollup_dirty_spans: Gauge = "aether_rollup_dirty_spans", "Two-hour spans that have samples in blocks and no rows that sum them up.";
    read_only: Gauge = "aether_read_only", "1 while writes are refused because the disk is full.";
    queries: Counter = "aether_queries_total", "Queries started.";
    query_failures: Counter = "aether_query_failures_total", "Queries that ended with an error.";
    query_latency: Latency = "aether_query_duration_seconds", "Time from a query's arrival to its result.";
    query_samples: Counter = "aether_query_samples_total", "Samples that queries read.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposition_has_help_type_and_cumulative_buckets() {
        let telemetry = Telemetry::default();
        telemetry.samples_accepted.add(3);
        telemetry.write_latency.observe(Duration::from_millis(2));
        telemetry.write_latency.observe(Duration::from_secs(60));
        let mut text = String::new();
        telemetry.expose(&mut text);
        assert!(text.contains("# TYPE aether_ingest_samples_accepted_total counter\n"));
        assert!(text.contains("\naether_ingest_samples_accepted_total 3\n"));
        assert!(text.contains("aether_ingest_request_duration_seconds_bucket{le=\"0.0025\"} 1\n"));
        assert!(text.contains("aether_ingest_request_duration_seconds_bucket{le=\"+Inf\"} 2\n"));
        assert!(text.contains("aether_ingest_request_duration_seconds_count 2\n"));
    }
}
