use std::collections::BTreeSet;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use bytes::Bytes;
use futures::TryStreamExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::columnar::aggregate::{RollupColumns, roll_up_samples};
use crate::columnar::parquet::RollupColumnSet;
use crate::columnar::parquet::reader::{append_rows, series_runs};
use crate::http::export::format::ExportFormat;
use crate::http::export::raw::columns;
use crate::http::export::rollups::RollupExport;
use crate::http::export::stream;
use crate::model::{Labels, METRIC_NAME, Resolution, Samples, stale_nan};

/// Two files of two series; the last bucket has only a stale marker.
fn rows() -> Vec<(Labels, RollupColumns)> {
    let mut all = Vec::new();
    for file in 0..2 {
        for host in ["a", "b,c"] {
            let labels = Labels::from_pairs([(METRIC_NAME, "m"), ("host", host)]).unwrap();
            let mut samples = Samples::default();
            samples.push(file * 600_000 + 15_000, 5.0);
            samples.push(file * 600_000 + 30_000, 2.0);
            samples.push(file * 600_000 + 90_000, stale_nan());
            let mut rows = RollupColumns::default();
            roll_up_samples(&samples, 60_000, &mut rows);
            all.push((labels, rows));
        }
    }
    all
}

async fn encoded(format: ExportFormat) -> Vec<u8> {
    let export = RollupExport {
        resolution: Resolution::OneMinute,
        source: None,
        selectors: Vec::new(),
        format,
        rows_per_line_max: 100,
        labels: BTreeSet::from(["host".to_owned()]),
        series_count: 2,
        warnings: Vec::new(),
    };
    let (sink, body) = stream::channel(Duration::from_secs(60));
    let writing = tokio::task::spawn_blocking(move || {
        let mut encoder = export.encoder(sink).unwrap();
        for (labels, rows) in rows() {
            encoder.push(&labels, &rows, 0..rows.len()).unwrap();
        }
        encoder.finish().unwrap().end().unwrap()
    });
    let (written, body) = futures::join!(writing, body.try_collect::<Vec<Bytes>>());
    let body = body.unwrap().concat();
    assert_eq!(body.len() as u64, written.unwrap());
    body
}

#[tokio::test]
async fn text_has_every_column_and_no_value_where_there_is_none() {
    let csv = String::from_utf8(encoded(ExportFormat::Csv).await).unwrap();
    let lines: Vec<&str> = csv.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 9);
    assert_eq!(
        lines[0],
        "metric,host,bucket_start,bucket_end,count,sum,min,max,first,last,first_ts,last_ts,\
         reset_sum,resets,changes,stale"
    );
    assert_eq!(lines[1], "m,a,0,60000,2,7,2,5,5,2,15000,30000,5,1,1,");
    assert_eq!(lines[4], "m,\"b,c\",60000,120000,0,,,,,,,,0,0,0,90000");

    let json = String::from_utf8(encoded(ExportFormat::JsonLines).await).unwrap();
    let line: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    let wanted = serde_json::json!({
        "metric": {"__name__": "m", "host": "a"}, "bucket_start": [0, 60000],
        "bucket_end": [60000, 120_000], "count": [2, 0], "sum": [7, null], "min": [2, null],
        "max": [5, null], "first": [5, null], "last": [2, null], "first_ts": [15000, null],
        "last_ts": [30000, null], "reset_sum": [5, 0], "resets": [1, 0], "changes": [1, 0],
        "stale": [null, 90000],
    });
    assert_eq!(line, wanted);
}

#[tokio::test]
async fn tables_give_the_rows_back() {
    let parquet = Bytes::from(encoded(ExportFormat::Parquet).await);
    let reader = ParquetRecordBatchReaderBuilder::try_new(parquet).unwrap();
    assert_eq!(reader.metadata().num_row_groups(), 2, "labels begin anew in the second file");
    let parquet: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    let arrow = encoded(ExportFormat::Arrow).await;
    let arrow = StreamReader::try_new(&arrow[..], None).unwrap();
    let arrow: Vec<RecordBatch> = arrow.map(Result::unwrap).collect();
    let columns = columns(&BTreeSet::from(["host".to_owned()]));
    for batches in [parquet, arrow] {
        let mut found = Vec::new();
        for batch in &batches {
            for (labels, range) in series_runs(batch, &columns).unwrap() {
                let mut rows = RollupColumns::default();
                append_rows(batch, range, RollupColumnSet::ALL, &mut rows).unwrap();
                found.push((labels, rows));
            }
        }
        assert_eq!(found, rows());
    }
}
