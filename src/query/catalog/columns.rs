//! The columns of SQL's tables of raw samples: which label stands in which column.
//!
//! ```text
//! a metric's table                       raw.samples
//! <label>…   text, null where absent     metric   text
//! time       timestamp(ms, UTC)          labels   map<text, text>
//! value      double                      time, value as there
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, MapBuilder, MapFieldNames, StringBuilder, StringViewBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::columnar::parquet::LabelColumns;
use crate::columnar::parquet::columns::{LABELS, METRIC, TIME, VALUE};
use crate::model::{Labels, METRIC_NAME};
use crate::query::catalog::filters::SeriesColumns;

/// What stands in one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SampleColumn {
    /// The value of one label; the metric's name is one too.
    Label(String),
    /// All labels but the metric's name.
    Labels,
    Time,
    Value,
}

impl SampleColumn {
    /// Whether every row of a series has the same value in this column.
    pub(crate) fn is_of_series(&self) -> bool {
        matches!(self, SampleColumn::Label(_) | SampleColumn::Labels)
    }
}

/// The columns of one table.
#[derive(Debug, Clone)]
pub(crate) struct SampleColumns {
    pub(crate) columns: Arc<[SampleColumn]>,
    pub(crate) schema: SchemaRef,
}

impl SampleColumns {
    /// The table of one metric, whose series have these label names. `known` says which columns
    /// labels have elsewhere.
    pub(crate) fn of_metric(names: &BTreeSet<String>, known: &LabelColumns) -> Self {
        let mut all = known.clone();
        let names = || names.iter().filter(|name| *name != METRIC_NAME);
        names().for_each(|name| all.add(name));
        let labels = names().filter_map(|name| {
            let column = all.column(name)?;
            Some((SampleColumn::Label(name.clone()), Field::new(column, text(), true)))
        });
        Self::new(labels)
    }

    /// The table of all metrics.
    pub(crate) fn of_all() -> Self {
        let metric = SampleColumn::Label(METRIC_NAME.to_owned());
        Self::new([
            (metric, Field::new(METRIC, text(), false)),
            (SampleColumn::Labels, Field::new(LABELS, map(), false)),
        ])
    }

    fn new(of_series: impl IntoIterator<Item = (SampleColumn, Field)>) -> Self {
        let of_sample = [
            (SampleColumn::Time, Field::new(TIME, time(), false)),
            (SampleColumn::Value, Field::new(VALUE, DataType::Float64, false)),
        ];
        let (columns, fields): (Vec<_>, Vec<_>) = of_series.into_iter().chain(of_sample).unzip();
        Self { columns: columns.into(), schema: Arc::new(Schema::new(fields)) }
    }

    fn by_name(&self, name: &str) -> Option<&SampleColumn> {
        Some(&self.columns[self.schema.index_of(name).ok()?])
    }

    /// These columns, in this order.
    pub(crate) fn project(&self, indices: &[usize]) -> Self {
        let columns = indices.iter().map(|index| self.columns[*index].clone()).collect();
        let fields: Vec<_> =
            indices.iter().map(|index| Arc::clone(&self.schema.fields()[*index])).collect();
        Self { columns, schema: Arc::new(Schema::new(fields)) }
    }
}

impl SeriesColumns for SampleColumns {
    fn label(&self, column: &str) -> Option<&str> {
        match self.by_name(column)? {
            SampleColumn::Label(name) => Some(name),
            _ => None,
        }
    }

    fn is_map(&self, column: &str) -> bool {
        self.by_name(column) == Some(&SampleColumn::Labels)
    }
}

/// Text columns are views: what repeats is written once, and grouping by them is quick.
pub(crate) fn text() -> DataType {
    DataType::Utf8View
}

pub(crate) fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// The type of [`labels_column`].
pub(crate) fn map() -> DataType {
    let names = MapFieldNames::default();
    let pair = vec![
        Field::new(names.key, DataType::Utf8, false),
        Field::new(names.value, DataType::Utf8, true),
    ];
    let entries = Field::new(names.entry, DataType::Struct(pair.into()), false);
    DataType::Map(Arc::new(entries), false)
}

/// The values of one label, one row per series.
pub(crate) fn label_column<'a>(
    series: impl IntoIterator<Item = &'a Labels>,
    name: &str,
) -> ArrayRef {
    let mut column = StringViewBuilder::new();
    for labels in series {
        match labels.get(name) {
            // A series without a name has the empty one: the column is never null.
            None if name == METRIC_NAME => column.append_value(""),
            value => column.append_option(value),
        }
    }
    Arc::new(column.finish())
}

/// All labels but the metric's name, one map per series.
pub(crate) fn labels_column<'a>(series: impl IntoIterator<Item = &'a Labels>) -> ArrayRef {
    let mut column = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for labels in series {
        for (name, value) in labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
            column.keys().append_value(name);
            column.values().append_value(value);
        }
        column.append(true).expect("a key and a value each");
    }
    Arc::new(column.finish())
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;

    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn labels_that_collide_with_a_column_are_renamed_as_in_rollups() {
        let table = SampleColumns::of_metric(
            &names(&[METRIC_NAME, "host", "time", "Value", "count"]),
            &LabelColumns::new(),
        );
        let columns: Vec<_> = table.schema.fields().iter().map(|field| field.name()).collect();
        assert_eq!(columns, ["label_Value", "label_count", "host", "label_time", "time", "value"]);
        assert_eq!(table.by_name("label_count"), Some(&SampleColumn::Label("count".to_owned())));
        assert_eq!(table.by_name("count"), None);
    }

    #[test]
    fn columns_have_the_types_that_the_schema_says() {
        let series = Labels::from_pairs([(METRIC_NAME, "m"), ("a", "1"), ("b", "2")]).unwrap();
        let labels = labels_column([&series]);
        assert_eq!(labels.data_type(), &map());
        assert_eq!(label_column([&series], "c").null_count(), 1);
        assert_eq!(label_column([&Labels::empty()], METRIC_NAME).null_count(), 0);
    }
}
