//! Raw samples as a flat table that any tool reads: the Arrow and Parquet shape of exports.
//!
//! ```text
//! metric      dictionary<utf8>            the metric name, "" if the series has none
//! <label>…    dictionary<utf8>, nullable  one column per label, null where the series lacks it
//! timestamp   timestamp(ms, UTC)
//! value       double                      every bit pattern, stale markers included
//! ```
//!
//! Labels have the columns that [`LabelColumns`] gives them; the schema's metadata says which is
//! whose, so that they can be told back: `aetherdb.labels` is a JSON object of column to label.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Float64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, Float64Type, Int32Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType,
};
use arrow::error::ArrowError;

use crate::columnar::error::ColumnarError;
use crate::columnar::parquet::columns::{METRIC, TIMESTAMP, VALUE};
use crate::columnar::parquet::{LabelColumns, LabelRuns};
use crate::model::{Labels, METRIC_NAME, Samples};

/// The key of the schema's metadata that maps columns to labels.
pub const LABELS_KEY: &str = "aetherdb.labels";

/// Gathers samples series by series.
#[derive(Debug)]
pub struct SampleTable {
    schema: SchemaRef,
    labels: LabelRuns,
    samples: Samples,
}

impl SampleTable {
    pub fn new(columns: &LabelColumns) -> Self {
        let (schema, labels) = (schema(columns), LabelRuns::new(columns));
        Self { schema, labels, samples: Samples::default() }
    }

    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    pub fn len(&self) -> usize {
        self.samples.len()
    }

    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Adds samples of one series, all of whose labels must have columns.
    pub fn push(&mut self, labels: &Labels, samples: &Samples) {
        self.labels.push(labels, samples.len());
        self.samples.timestamps.extend_from_slice(&samples.timestamps);
        self.samples.values.extend_from_slice(&samples.values);
    }

    /// All rows so far as one batch; starts anew.
    pub fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let Samples { timestamps, values } = std::mem::take(&mut self.samples);
        let mut columns = self.labels.take(timestamps.len())?;
        columns.push(Arc::new(TimestampMillisecondArray::from(timestamps).with_timezone("UTC")));
        columns.push(Arc::new(Float64Array::from(values)));
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }
}

fn schema(columns: &LabelColumns) -> SchemaRef {
    let text = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let mut fields = vec![Field::new(METRIC, text(), false)];
    fields.extend(columns.iter().map(|(_, column)| Field::new(column, text(), true)));
    fields.push(Field::new(TIMESTAMP, time, false));
    fields.push(Field::new(VALUE, DataType::Float64, false));
    let metadata = HashMap::from([(LABELS_KEY.to_owned(), labels_json(columns))]);
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

/// What [`LABELS_KEY`] holds.
pub fn labels_json(columns: &LabelColumns) -> String {
    let pairs = columns.iter().map(|(label, column)| (column.to_owned(), label.into()));
    serde_json::Value::Object(pairs.collect()).to_string()
}

/// Rows of a table as runs of one series each.
///
/// Reads tables of other programs too, as long as they have the columns `timestamp` and `value`
/// and text columns for the rest: without our metadata a column's label is its name.
#[derive(Debug)]
pub struct TableRows {
    texts: Vec<(String, DictionaryArray<Int32Type>)>,
    timestamps: TimestampMillisecondArray,
    values: Float64Array,
}

impl TableRows {
    /// `labels` is what the metadata of the table says under [`LABELS_KEY`].
    pub fn new(batch: &RecordBatch, labels: Option<&str>) -> Result<Self, ColumnarError> {
        let schema = batch.schema();
        let labels: HashMap<String, String> = match labels {
            Some(json) => serde_json::from_str(json)
                .map_err(|error| invalid(format!("metadata {LABELS_KEY}: {error}")))?,
            None => HashMap::new(),
        };
        for name in [TIMESTAMP, VALUE] {
            if schema.index_of(name).is_err() {
                return Err(invalid(format!("there is no column {name:?}: this holds no samples")));
            }
        }
        let (mut texts, mut timestamps, mut values) = (Vec::new(), None, None);
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            match field.name().as_str() {
                TIMESTAMP => timestamps = Some(times(column)?),
                VALUE => values = Some(numbers(column)?),
                METRIC => texts.push((METRIC_NAME.to_owned(), text(METRIC, column)?)),
                name => {
                    let label = labels.get(name).map_or(name, String::as_str);
                    texts.push((label.to_owned(), text(name, column)?));
                }
            }
        }
        Ok(Self {
            texts,
            timestamps: timestamps.expect("the column is there"),
            values: values.expect("the column is there"),
        })
    }

    /// The stretches of rows that belong to one series, in order.
    pub fn runs(&self) -> Result<Vec<(Labels, Range<usize>)>, ColumnarError> {
        let texts: Vec<Text<'_>> = self.texts.iter().map(Text::new).collect();
        let rows = self.timestamps.len();
        let (mut runs, mut start) = (Vec::new(), 0);
        for row in 1..=rows {
            if row < rows && texts.iter().all(|text| text.same(row - 1, row)) {
                continue;
            }
            let pairs = texts.iter().map(|text| (text.label, text.get(start)));
            let labels = Labels::from_pairs(pairs)
                .map_err(|error| invalid(format!("labels of row {start}: {error}")))?;
            runs.push((labels, start..row));
            start = row;
        }
        Ok(runs)
    }

    pub fn timestamps(&self) -> &[i64] {
        self.timestamps.values()
    }

    pub fn values(&self) -> &[f64] {
        self.values.values()
    }
}

/// A text column in the reading.
struct Text<'a> {
    label: &'a str,
    column: &'a DictionaryArray<Int32Type>,
    values: &'a StringArray,
}

impl<'a> Text<'a> {
    fn new((label, column): &'a (String, DictionaryArray<Int32Type>)) -> Self {
        Self { label, column, values: column.values().as_string() }
    }

    /// Empty where the column is null.
    fn get(&self, row: usize) -> &'a str {
        match self.column.key(row) {
            Some(key) if self.values.is_valid(key) => self.values.value(key),
            _ => "",
        }
    }

    fn same(&self, left: usize, right: usize) -> bool {
        self.column.key(left) == self.column.key(right) || self.get(left) == self.get(right)
    }
}

fn text(name: &str, column: &ArrayRef) -> Result<DictionaryArray<Int32Type>, ColumnarError> {
    let is_text =
        |kind: &DataType| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let wanted = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let readable = match column.data_type() {
        DataType::Dictionary(_, values) => is_text(values),
        // What a column without any value comes as.
        DataType::Null => true,
        other => is_text(other),
    };
    if !readable {
        let kind = column.data_type();
        return Err(invalid(format!("column {name:?} is {kind}, a label is text")));
    }
    Ok(cast(column, &wanted).map_err(|error| invalid(error.to_string()))?.as_dictionary().clone())
}

/// Timestamps of any unit, or integers that are milliseconds.
fn times(column: &ArrayRef) -> Result<TimestampMillisecondArray, ColumnarError> {
    let kind = column.data_type();
    if !(matches!(kind, DataType::Timestamp(..)) || kind.is_integer()) {
        return Err(invalid(format!("column {TIMESTAMP:?} is {kind}, say timestamps or integers")));
    }
    let column = match kind.is_integer() {
        true => cast(column, &DataType::Int64),
        false => Ok(Arc::clone(column)),
    };
    let wanted = DataType::Timestamp(TimeUnit::Millisecond, None);
    let column = column.and_then(|column| cast(&column, &wanted));
    let column = column.map_err(|error| invalid(error.to_string()))?;
    without_nulls(TIMESTAMP, &column)?;
    Ok(column.as_primitive::<TimestampMillisecondType>().clone())
}

fn numbers(column: &ArrayRef) -> Result<Float64Array, ColumnarError> {
    if !column.data_type().is_numeric() {
        let kind = column.data_type();
        return Err(invalid(format!("column {VALUE:?} is {kind}, say numbers")));
    }
    let column = cast(column, &DataType::Float64).map_err(|error| invalid(error.to_string()))?;
    without_nulls(VALUE, &column)?;
    Ok(column.as_primitive::<Float64Type>().clone())
}

fn without_nulls(name: &str, column: &ArrayRef) -> Result<(), ColumnarError> {
    match column.null_count() {
        0 => Ok(()),
        nulls => Err(invalid(format!("column {name:?} has {nulls} rows without a value"))),
    }
}

fn invalid(reason: String) -> ColumnarError {
    ColumnarError::InvalidBatch(reason)
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;
    use crate::model::stale_nan;

    fn series(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn tables_give_back_series_and_bits() {
        let sets = [
            series(&[(METRIC_NAME, "a"), ("Value", "x")]),
            series(&[(METRIC_NAME, "a"), ("Value", "y"), ("value", "é")]),
            series(&[("metric", "odd")]),
        ];
        let mut columns = LabelColumns::new();
        for label in ["Value", "metric", "value"] {
            columns.add(label);
        }
        let samples = Samples {
            timestamps: vec![-1, 0, 5],
            values: vec![-0.0, stale_nan(), f64::from_bits(0xfff8_0000_0000_00ff)],
        };
        let mut table = SampleTable::new(&columns);
        for labels in &sets {
            table.push(labels, &samples);
        }
        assert_eq!(table.len(), 9);
        let batch = table.take().unwrap();
        assert!(table.is_empty());
        assert_eq!(batch.schema().field(1).name(), "label_Value");
        let schema = batch.schema();
        let labels = schema.metadata().get(LABELS_KEY).map(String::as_str);
        let rows = TableRows::new(&batch, labels).unwrap();
        let runs = rows.runs().unwrap();
        assert_eq!(runs.iter().map(|(labels, _)| labels.clone()).collect::<Vec<_>>(), sets);
        for (_, range) in runs {
            assert_eq!(rows.timestamps()[range.clone()], samples.timestamps);
            let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&rows.values()[range]), bits(&samples.values));
        }
    }

    #[test]
    fn tables_of_other_programs_are_read_and_nonsense_is_refused() {
        let column = |name: &str, column: ArrayRef| (name.to_owned(), column);
        let read = |columns: Vec<(String, ArrayRef)>| {
            TableRows::new(&RecordBatch::try_from_iter(columns).unwrap(), None)
        };
        let hosts = || column("host", Arc::new(StringArray::from(vec!["a", "a", "b"])) as _);
        let times = || column("timestamp", Arc::new(Int64Array::from(vec![1, 2, 1])) as _);
        let values = || column("value", Arc::new(Int64Array::from(vec![1, 2, 3])) as _);
        let rows = read(vec![hosts(), times(), values()]).unwrap();
        let runs = rows.runs().unwrap();
        assert_eq!((runs.len(), runs[0].1.clone()), (2, 0..2));
        assert_eq!(rows.values(), [1.0, 2.0, 3.0]);
        assert!(read(vec![hosts(), times()]).is_err());
        let (_, numbers) = values();
        assert!(read(vec![column("host", numbers), times(), values()]).is_err());
        let gaps = Arc::new(Int64Array::from(vec![Some(1), None, Some(2)]));
        assert!(read(vec![column("timestamp", gaps), values()]).is_err());
    }
}
