//! Runs one script.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aetherdb::clock::ManualClock;
use aetherdb::model::{Labels, METRIC_NAME, MatchOp, Samples, stale_nan};
use aetherdb::promql::parse_selector;
use aetherdb::query::{QueryOptions, QuerySession};
use aetherdb::sql::{SqlEngine, SqlError, SqlQuery, SqlStats};
use aetherdb::storage::Snapshot;
use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::promqltest::MemoryPart;

/// What `now()` is in scripts: an hour after 1970 began.
const NOW_MS: i64 = 3_600_000;

/// A session and the engine over it.
pub(crate) struct Sql {
    pub(crate) session: QuerySession,
    pub(crate) engine: SqlEngine,
}

impl Sql {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let session = QuerySession::new(QueryOptions::default(), clock).unwrap();
        let engine = SqlEngine::new(&session);
        Self { session, engine }
    }

    pub(crate) async fn query(
        &self,
        snapshot: &Snapshot,
        text: &str,
    ) -> Result<Vec<RecordBatch>, SqlError> {
        self.ask(snapshot, text).await.map(|(batches, _)| batches)
    }

    /// The rows, and what they took.
    pub(crate) async fn ask(
        &self,
        snapshot: &Snapshot,
        text: &str,
    ) -> Result<(Vec<RecordBatch>, SqlStats), SqlError> {
        let query = SqlQuery::new(text, self.session.limits());
        let mut rows = self.engine.query(&self.session, snapshot, &query).await?;
        let mut batches = Vec::new();
        while let Some(batch) = rows.next().await? {
            batches.push(batch);
        }
        Ok((batches, rows.stats()))
    }
}

/// Cells as text, NULL where there is none.
pub(crate) fn cells(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|column| column.value(row).to_string()).collect());
        }
    }
    rows
}

pub(crate) async fn run(file: &Path, wrong: &mut Vec<String>) {
    let text = std::fs::read_to_string(file).unwrap();
    let sql = Sql::new();
    let mut snapshot = Snapshot::default();
    let mut lines = text.lines().enumerate().peekable();
    let print = std::env::var_os("AETHER_SQL_PRINT").is_some();
    while let Some((number, line)) = lines.next() {
        let place = format!("{}:{}", file.display(), number + 1);
        let mut until = |end: &str| -> Vec<&str> {
            lines.by_ref().map(|(_, line)| line).take_while(|line| *line != end).collect()
        };
        let mut words = line.split(' ');
        match words.next() {
            None | Some("" | "#") => {}
            Some("load") => snapshot = load(&until("end")),
            Some("query") => {
                let how = words.next();
                let statement = until("----").join("\n");
                let expected = until("");
                let found = match sql.query(&snapshot, &statement).await {
                    Ok(batches) => cells(&batches),
                    Err(error) => vec![vec![format!("error: {error}")]],
                };
                let mut found: Vec<_> = found.iter().map(|row| row.join("\t")).collect();
                let mut expected: Vec<_> = expected.iter().map(|row| (*row).to_owned()).collect();
                if how == Some("rowsort") {
                    found.sort();
                    expected.sort();
                }
                if print {
                    println!("{place}\n{statement}\n{}\n", found.join("\n"));
                }
                let all = found.join("\n");
                let fits = match how {
                    Some("contains") => expected.iter().all(|part| all.contains(part)),
                    _ => found == expected,
                };
                if !fits {
                    let expected = expected.join("\n");
                    wrong.push(format!("{place}: {statement}\n{all}\ninstead of\n{expected}\n"));
                }
            }
            Some("statement") => {
                let part = words.skip(1).collect::<Vec<_>>().join(" ");
                let statement = until("").join("\n");
                match sql.query(&snapshot, &statement).await {
                    Ok(_) => wrong.push(format!("{place}: {statement}: no error")),
                    Err(error) if error.to_string().contains(&part) => {}
                    Err(error) => wrong.push(format!("{place}: {statement}: {error}")),
                }
            }
            Some(_) => panic!("{place}: {line}"),
        }
    }
}

/// `cpu{host="a"} 1@0 stale@1000`, one series a line.
fn load(lines: &[&str]) -> Snapshot {
    let mut series: BTreeMap<Labels, Samples> = BTreeMap::new();
    for line in lines {
        let (selector, points) = line.rsplit_once("} ").unwrap_or_else(|| panic!("{line}"));
        let matchers = parse_selector(&format!("{selector}}}")).unwrap();
        assert!(matchers.iter().all(|matcher| matcher.op() == MatchOp::Equal), "{line}");
        let labels = Labels::from_pairs(matchers.iter().map(|m| (m.name(), m.value()))).unwrap();
        assert!(labels.get(METRIC_NAME).is_some(), "{line}");
        let samples = series.entry(labels).or_default();
        for point in points.split(' ') {
            let (value, time) = point.split_once('@').unwrap();
            let value = if value == "stale" { stale_nan() } else { value.parse().unwrap() };
            samples.push(time.parse().unwrap(), value);
        }
    }
    let series = series.into_iter().collect();
    Snapshot::new(vec![Arc::new(MemoryPart { series })], Vec::new(), Vec::new())
}
