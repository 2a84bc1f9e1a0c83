//! SQL as data: scripts that load series and compare what queries print.
//!
//! ```text
//! load                          query             statement error <part of the message>
//! cpu{host="a"} 1@0 2@60000     SELECT …          DROP TABLE cpu
//! end                           ----
//!                               cells with tabs between
//! ```
//! `query rowsort` sorts the rows first, `query contains` only asks that every line is found in
//! the output. A blank line ends a record. `AETHER_SQL_PRINT=1` prints what queries give.

mod lives;
mod property;
pub(crate) mod script;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aetherdb::clock::{Clock, SystemClock};
use aetherdb::model::{Labels, METRIC_NAME, Matcher, TimeRange};
use aetherdb::storage::{Part, PartSeries, SeriesReader, Snapshot, StorageError};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_print_what_they_say() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sql");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let mut wrong = Vec::new();
    for file in files {
        script::run(&file, &mut wrong).await;
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deepest_statement_that_passes_is_planned() {
    let sql = script::Sql::new();
    let nothing = Snapshot::default();
    let chain = ["column1 = 1"; 165].join(" AND NOT ");
    let query = format!("SELECT count(*) FROM (VALUES (1)) WHERE {chain}");
    assert_eq!(script::cells(&sql.query(&nothing, &query).await.unwrap()), [["0"]]);
    let sum = ["column1"; 490].join(" + ");
    let rows = sql.query(&nothing, &format!("SELECT {sum} FROM (VALUES (1))")).await.unwrap();
    assert_eq!(script::cells(&rows), [["490"]]);
}

/// Metrics enough that one label's look-up each would be felt.
const METRICS: usize = 100_000;
/// What a list of them may take in a debug build on a busy machine.
const LISTED_WITHIN: Duration = Duration::from_secs(20);

/// A part with an index of metric names, which counts how often it is asked for labels.
#[derive(Debug)]
struct ManyMetrics {
    names: BTreeSet<String>,
    described: AtomicUsize,
}

impl Part for ManyMetrics {
    fn name(&self) -> String {
        "many".to_owned()
    }

    fn time_range(&self) -> Option<TimeRange> {
        Some(TimeRange::at(0))
    }

    fn select(&self, matchers: &[Matcher], _: TimeRange) -> Result<Vec<PartSeries>, StorageError> {
        self.described.fetch_add(1, Ordering::Relaxed);
        let named = matchers.iter().find_map(|matcher| self.names.get(matcher.value()));
        let series = |name: &String| PartSeries {
            labels: Labels::from_pairs([(METRIC_NAME, name.as_str()), ("host", "a")]).unwrap(),
            local: 0,
        };
        Ok(named.map(series).into_iter().collect())
    }

    fn reader(self: Arc<Self>) -> Box<dyn SeriesReader> {
        unreachable!("nothing is read")
    }

    fn label_values(
        &self,
        _: &str,
        _: &[Matcher],
        _: TimeRange,
        values: &mut BTreeSet<String>,
    ) -> Result<(), StorageError> {
        values.extend(self.names.iter().cloned());
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_metrics_are_listed_without_one_being_looked_at() {
    let sql = script::Sql::new();
    let names = (0..METRICS).map(|number| format!("metric_{number:06}_total")).collect();
    let part = Arc::new(ManyMetrics { names, described: AtomicUsize::new(0) });
    let snapshot = Snapshot::new(vec![Arc::clone(&part) as _], Vec::new(), Vec::new());
    let clock = SystemClock::new();
    let started = clock.monotonic();
    for (query, wanted, described) in [
        ("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'raw'", "100001", 0),
        (
            "SELECT count(*) FROM information_schema.tables WHERE table_name LIKE '%_0999%'",
            "120",
            0,
        ),
        (
            "SELECT count(*) FROM information_schema.columns WHERE table_name = 'metric_000007_total'",
            "3",
            2,
        ),
    ] {
        let before = part.described.load(Ordering::Relaxed);
        assert_eq!(
            script::cells(&sql.query(&snapshot, query).await.unwrap()),
            [[wanted]],
            "{query}"
        );
        let looked = part.described.load(Ordering::Relaxed) - before;
        assert!(looked <= described, "{query}: {looked} tables were made");
    }
    let error = sql.query(&snapshot, "SELECT * FROM metric_00007_total").await.unwrap_err();
    assert!(error.to_string().contains("did you mean metric_000007_total"), "{error}");
    let error = sql.query(&snapshot, "SELECT * FROM information_schema.columns").await;
    assert!(error.unwrap_err().to_string().contains("too many to list"));
    let took = clock.monotonic() - started;
    assert!(took < LISTED_WITHIN, "{took:?}");
}
