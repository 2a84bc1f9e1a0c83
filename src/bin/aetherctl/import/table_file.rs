//! Parquet files, Arrow streams and Arrow files.

use std::io::BufReader;

use aetherdb::columnar::table::{LABELS_KEY, TableRows};
use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::Format;
use crate::client::Failure;
use crate::import::remote::Request;
use crate::import::source::Source;
use crate::import::{Origin, Sender};

/// Rows that are decoded at once.
const BATCH_ROWS: usize = 64 << 10;

/// Batches of a file, and what its metadata says of labels.
struct Batches {
    labels: Option<String>,
    batches: Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>,
}

pub(super) async fn import(sender: &mut Sender<'_>, mut source: Source) -> Result<(), Failure> {
    let Batches { labels, batches } = open(&mut source)?;
    let mut request = Request::default();
    // Rows from 1, of those that were read and of those that were sent.
    let (mut read, mut first) = (0u64, 1u64);
    for batch in batches {
        let batch = batch.map_err(|error| source.broken(error))?;
        let rows = TableRows::new(&batch, labels.as_deref());
        let rows = rows.map_err(|error| source.broken(error))?;
        for (labels, range) in rows.runs().map_err(|error| source.broken(error))? {
            let (mut timestamps, mut values) =
                (&rows.timestamps()[range.clone()], &rows.values()[range]);
            while !timestamps.is_empty() {
                let fits = request.room().clamp(1, timestamps.len());
                let (now, later) = timestamps.split_at(fits);
                let (values_now, values_later) = values.split_at(fits);
                request.push(&labels, now, values_now);
                (timestamps, values) = (later, values_later);
                read += fits as u64;
                if request.room() == 0 {
                    let origin = Origin { path: &source.path, first, last: read };
                    request.send(sender, &origin).await?;
                    first = read + 1;
                }
            }
        }
    }
    request.send(sender, &Origin { path: &source.path, first, last: read }).await?;
    source.progress.finish_and_clear();
    Ok(())
}

fn open(source: &mut Source) -> Result<Batches, Failure> {
    if source.format == Format::Parquet {
        let file = source.file.take().ok_or_else(|| {
            Failure::Usage(
                "a Parquet file has its table of contents at its end: say its name instead of -"
                    .to_owned(),
            )
        })?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file);
        let builder = builder.map_err(|error| source.broken(error))?;
        let labels = builder.schema().metadata().get(LABELS_KEY).cloned();
        let reader = builder.with_batch_size(BATCH_ROWS).build();
        let reader = reader.map_err(|error| source.broken(error))?;
        return Ok(Batches { labels, batches: Box::new(reader) });
    }
    let head = source.input().fill_buf().map(|head| head.starts_with(b"ARROW1"));
    let is_file = head.map_err(|error| source.broken(error))?;
    match source.file.take().filter(|_| is_file) {
        Some(file) => {
            let reader = FileReader::try_new(BufReader::new(file), None);
            let reader = reader.map_err(|error| source.broken(error))?;
            let labels = reader.schema().metadata().get(LABELS_KEY).cloned();
            Ok(Batches { labels, batches: Box::new(reader) })
        }
        None => {
            let input = source.take_input();
            let reader = StreamReader::try_new(input, None);
            let reader = reader.map_err(|error| source.broken(error))?;
            let labels = reader.schema().metadata().get(LABELS_KEY).cloned();
            Ok(Batches { labels, batches: Box::new(reader) })
        }
    }
}
