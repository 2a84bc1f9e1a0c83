//! Other tools open what we export.

use std::process::Command;

use crate::export::{Corpus, done, server_with};

/// Reads an export with pyarrow, DuckDB, Polars and pandas; prints rows, and the labels' mapping.
const SCRIPT: &str = r#"
import json, sys
import pyarrow as pa, pyarrow.parquet as pq, pyarrow.ipc as ipc
import duckdb, polars, pandas
parquet, arrow = sys.argv[1:]
table = pq.read_table(parquet)
labels = json.loads(table.schema.metadata[b"aetherdb.labels"])
stream = ipc.open_stream(arrow).read_all()
assert stream.num_rows == table.num_rows, (stream.num_rows, table.num_rows)
assert stream.column_names == table.column_names
assert str(table.schema.field("timestamp").type) == "timestamp[ms, tz=UTC]", table.schema
count = duckdb.sql(f"select count(*), count(distinct metric), max(timestamp) from read_parquet('{parquet}')").fetchall()[0]
assert count[0] == table.num_rows, count
assert polars.read_parquet(parquet).height == table.num_rows
assert len(pandas.read_parquet(parquet)) == table.num_rows
print(table.num_rows, json.dumps(labels))
"#;

#[tokio::test(flavor = "multi_thread")]
async fn pyarrow_duckdb_polars_and_pandas_open_exports() {
    let modules = "import pyarrow, duckdb, polars, pandas";
    if !Command::new("python3").args(["-c", modules]).output().is_ok_and(|o| o.status.success()) {
        println!("skipped: `{modules}` fails");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let corpus = Corpus::random(7, 20);
    let server = server_with(&corpus, &home.path().join("data")).await;
    let files = ["export.parquet", "export.arrow"].map(|name| home.path().join(name));
    for file in &files {
        done(&server, &["export", "--output", file.to_str().unwrap()]);
    }
    let output = Command::new("python3").arg("-c").arg(SCRIPT).args(&files).output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}");
    let (rows, labels) = out.split_once(' ').unwrap();
    assert_eq!(rows, corpus.samples().to_string());
    let labels: serde_json::Value = serde_json::from_str(labels).unwrap();
    // `label_value` is a label of its own here, so `value` has to give way twice.
    assert_eq!(labels["label_label_value"], "value", "{labels}");
}
