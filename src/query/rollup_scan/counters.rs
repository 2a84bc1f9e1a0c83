//! What a scan of rollups tells of itself.

use datafusion::physical_plan::metrics::{Count, MetricBuilder};

use crate::query::node::Run;
use crate::storage::ReadStats;

/// What EXPLAIN ANALYZE shows of a scan.
#[derive(Clone)]
pub(super) struct RollupCounters {
    pub(super) rows: Count,
    pub(super) rows_decoded: Count,
    samples: Count,
    chunks: Count,
    pub(super) bytes: Count,
    pub(super) compute: datafusion::physical_plan::metrics::Time,
}

impl RollupCounters {
    pub(super) fn new(run: &Run) -> Self {
        let counter =
            |name: &'static str| MetricBuilder::new(&run.metrics).counter(name, run.partition);
        Self {
            rows: counter("rows"),
            rows_decoded: counter("rows_decoded"),
            samples: counter("samples"),
            chunks: counter("chunks"),
            bytes: counter("bytes"),
            compute: run.baseline.elapsed_compute().clone(),
        }
    }

    pub(super) fn add_raw(&self, stats: ReadStats) {
        let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        self.samples.add(count(stats.samples));
        self.chunks.add(count(stats.chunks));
        self.bytes.add(count(stats.bytes));
    }
}
