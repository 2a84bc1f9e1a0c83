//! Builds the text columns of a table whose rows belong to series: metric and labels as
//! dictionaries, from one push per series instead of one per row.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanBufferBuilder, DictionaryArray, Int32Array, StringArray, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Int32Type};
use arrow::error::ArrowError;

use crate::columnar::parquet::columns::LabelColumns;
use crate::model::{Labels, METRIC_NAME};

/// The metric and label columns of the rows in hand.
#[derive(Debug)]
pub struct LabelRuns {
    metric: TextRuns,
    /// Ascending by label.
    labels: Vec<(String, TextRuns)>,
}

impl LabelRuns {
    pub fn new(columns: &LabelColumns) -> Self {
        let labels = columns.iter().map(|(label, _)| (label.to_owned(), TextRuns::default()));
        Self { metric: TextRuns::default(), labels: labels.collect() }
    }

    /// Adds `rows` rows of one series. A label without a column is an error of the caller, who
    /// must have added it to the [`LabelColumns`].
    pub fn push(&mut self, labels: &Labels, rows: usize) {
        self.metric.extend(labels.metric_name(), rows);
        let mut known = self.labels.iter_mut();
        for (name, value) in labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
            // Both sides ascend by name, so one walk finds them all.
            for (column, runs) in known.by_ref() {
                if column == name {
                    runs.extend(value, rows);
                    break;
                }
                assert!(column.as_str() < name, "label {name:?} has no column in this table");
                runs.skip(rows);
            }
        }
        known.for_each(|(_, runs)| runs.skip(rows));
    }

    /// The columns of the `rows` rows so far, metric first; starts anew.
    pub fn take(&mut self, rows: usize) -> Result<Vec<ArrayRef>, ArrowError> {
        let columns = std::iter::once(&mut self.metric);
        let columns = columns.chain(self.labels.iter_mut().map(|(_, runs)| runs));
        columns.map(|runs| runs.take(rows)).collect()
    }
}

/// One text column as runs: a series has one value for all its rows.
#[derive(Debug, Default)]
struct TextRuns {
    /// Distinct values so far.
    keys: HashMap<String, i32>,
    values: Vec<String>,
    /// Key (−1 is null) and number of rows.
    runs: Vec<(i32, usize)>,
}

impl TextRuns {
    fn extend(&mut self, value: &str, rows: usize) {
        let key = match self.keys.get(value) {
            Some(key) => *key,
            None => {
                let key = i32::try_from(self.values.len()).expect("fewer values than rows");
                self.keys.insert(value.to_owned(), key);
                self.values.push(value.to_owned());
                key
            }
        };
        self.push_run(key, rows);
    }

    fn skip(&mut self, rows: usize) {
        self.push_run(-1, rows);
    }

    fn push_run(&mut self, key: i32, rows: usize) {
        match self.runs.last_mut() {
            Some((last, count)) if *last == key => *count += rows,
            _ => self.runs.push((key, rows)),
        }
    }

    /// The column as an array; starts anew.
    fn take(&mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        let runs = std::mem::take(self);
        let values = StringArray::from(runs.values);
        if values.is_empty() {
            let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
            return Ok(new_null_array(&text, rows));
        }
        let mut keys = Vec::with_capacity(rows);
        for &(key, count) in &runs.runs {
            keys.resize(keys.len() + count, key.max(0));
        }
        let all_present = runs.runs.iter().all(|(key, _)| *key >= 0);
        let nulls = (!all_present).then(|| {
            let mut present = BooleanBufferBuilder::new(rows);
            runs.runs.iter().for_each(|(key, count)| present.append_n(*count, *key >= 0));
            NullBuffer::new(present.finish())
        });
        let keys = Int32Array::new(keys.into(), nulls);
        Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, Arc::new(values))?))
    }
}
