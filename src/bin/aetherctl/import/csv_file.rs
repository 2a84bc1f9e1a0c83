//! CSV as our export writes it: `metric`, one column per label, `timestamp`, `value`.

use aetherdb::ingest::parse_float;
use aetherdb::model::{Labels, METRIC_NAME};
use csv::{ReaderBuilder, StringRecord};

use crate::client::Failure;
use crate::import::remote::Request;
use crate::import::source::Source;
use crate::import::{Origin, Sender};

pub(super) async fn import(sender: &mut Sender<'_>, mut source: Source) -> Result<(), Failure> {
    let input = source.take_input();
    let mut reader = ReaderBuilder::new().from_reader(input);
    let header = reader.headers().map_err(|error| source.broken(error))?.clone();
    let columns: Vec<&str> = header.iter().collect();
    let ["metric", names @ .., "timestamp", "value"] = &columns[..] else {
        let wanted = "the header must be `metric`, names of labels, `timestamp`, `value`";
        return Err(source.broken(wanted));
    };
    let mut request = Request::default();
    let mut record = StringRecord::new();
    let mut series = Series::default();
    let (mut line, mut first) = (1, 2);
    while reader.read_record(&mut record).map_err(|error| source.broken(error))? {
        line = record.position().map_or(line, csv::Position::line);
        let bad = |what: &str| source.broken(format!("line {line}: {what}"));
        if !series.is(&record) {
            series.send_to(&mut request);
            series.start(&record, names).map_err(|reason| bad(&reason))?;
        }
        let cell = |column: usize| record.get(column).unwrap_or_default();
        let timestamp = cell(names.len() + 1).parse();
        series.timestamps.push(timestamp.map_err(|_| bad("the timestamp is no whole number"))?);
        let value = parse_float(cell(names.len() + 2));
        series.values.push(value.ok_or_else(|| bad("the value is not a number"))?);
        if series.values.len() >= request.room() {
            series.send_to(&mut request);
            let origin = Origin { path: &source.path, first, last: line };
            request.send(sender, &origin).await?;
            first = line + 1;
        }
    }
    series.send_to(&mut request);
    request.send(sender, &Origin { path: &source.path, first, last: line }).await?;
    source.progress.finish_and_clear();
    Ok(())
}

/// Rows of one series that follow each other.
#[derive(Default)]
struct Series {
    /// The cells in front of the timestamp.
    cells: Vec<String>,
    labels: Option<Labels>,
    timestamps: Vec<i64>,
    values: Vec<f64>,
}

impl Series {
    fn is(&self, record: &StringRecord) -> bool {
        self.labels.is_some() && self.cells.iter().map(String::as_str).eq(cells(record))
    }

    fn start(&mut self, record: &StringRecord, names: &[&str]) -> Result<(), String> {
        self.cells = cells(record).map(str::to_owned).collect();
        let names = std::iter::once(METRIC_NAME).chain(names.iter().copied());
        let labels = Labels::from_pairs(names.zip(cells(record)));
        self.labels = Some(labels.map_err(|error| error.to_string())?);
        Ok(())
    }

    fn send_to(&mut self, request: &mut Request) {
        if let Some(labels) = &self.labels
            && !self.values.is_empty()
        {
            request.push(labels, &self.timestamps, &self.values);
            self.timestamps.clear();
            self.values.clear();
        }
    }
}

/// Metric and labels of a row.
fn cells(record: &StringRecord) -> impl Iterator<Item = &str> {
    record.iter().take(record.len().saturating_sub(2))
}
