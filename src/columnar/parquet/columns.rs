//! Names and types of a rollup file's columns.
//!
//! ```text
//! metric        dictionary<utf8>            the metric name, "" if the series has none
//! <label>…      dictionary<utf8>, nullable  one column per label, null where the series lacks it
//! bucket_start  timestamp(ms, UTC)          left-open:  samples are later than this
//! bucket_end    timestamp(ms, UTC)          right-closed: a sample at this instant is inside
//! count         int64                       samples; 0 if there is only a stale marker
//! sum min max first last   double, nullable null where count is 0
//! first_ts last_ts         timestamp(ms, UTC), nullable
//! reset_sum     double                      sum of the values right before each drop
//! resets changes           int64
//! stale         timestamp(ms, UTC), nullable  a stale marker that ends the bucket
//! ```

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// Version of the layout above, kept in every file and in the directory's manifest.
pub const ROLLUP_SCHEMA_VERSION: u32 = 1;

pub const METRIC: &str = "metric";
pub const BUCKET_START: &str = "bucket_start";
pub const BUCKET_END: &str = "bucket_end";
pub const COUNT: &str = "count";
pub const SUM: &str = "sum";
pub const MIN: &str = "min";
pub const MAX: &str = "max";
pub const FIRST: &str = "first";
pub const LAST: &str = "last";
pub const FIRST_TS: &str = "first_ts";
pub const LAST_TS: &str = "last_ts";
pub const RESET_SUM: &str = "reset_sum";
pub const RESETS: &str = "resets";
pub const CHANGES: &str = "changes";
pub const STALE: &str = "stale";

/// Keys of the directory layout, which readers show as columns too.
pub const RESOLUTION_KEY: &str = "resolution";
pub const DAY_KEY: &str = "day";

/// Columns of tables of raw samples, so that a label has one column name in every table:
/// exported files say `timestamp`, SQL says `time`.
pub const TIMESTAMP: &str = "timestamp";
pub const TIME: &str = "time";
pub const VALUE: &str = "value";
pub const LABELS: &str = "labels";

/// Names that no label may take.
const RESERVED: [&str; 21] = [
    METRIC,
    LABELS,
    TIMESTAMP,
    TIME,
    VALUE,
    BUCKET_START,
    BUCKET_END,
    COUNT,
    SUM,
    MIN,
    MAX,
    FIRST,
    LAST,
    FIRST_TS,
    LAST_TS,
    RESET_SUM,
    RESETS,
    CHANGES,
    STALE,
    RESOLUTION_KEY,
    DAY_KEY,
];

/// Some of the columns of numbers; `bucket_end` always comes along.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RollupColumnSet(u16);

impl RollupColumnSet {
    pub const NONE: Self = Self(0);
    pub const COUNT: Self = Self(1);
    pub const SUM: Self = Self(1 << 1);
    pub const MIN: Self = Self(1 << 2);
    pub const MAX: Self = Self(1 << 3);
    pub const FIRST: Self = Self(1 << 4);
    pub const LAST: Self = Self(1 << 5);
    pub const FIRST_TS: Self = Self(1 << 6);
    pub const LAST_TS: Self = Self(1 << 7);
    pub const RESET_SUM: Self = Self(1 << 8);
    pub const RESETS: Self = Self(1 << 9);
    pub const CHANGES: Self = Self(1 << 10);
    pub const STALE: Self = Self(1 << 11);
    pub const ALL: Self = Self((1 << 12) - 1);

    /// By the bits of the constants above.
    const NAMES: [&str; 12] =
        [COUNT, SUM, MIN, MAX, FIRST, LAST, FIRST_TS, LAST_TS, RESET_SUM, RESETS, CHANGES, STALE];

    /// The columns of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Their names in the file.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let has = move |(bit, _): &(usize, &str)| self.0 & (1 << bit) != 0;
        Self::NAMES.into_iter().enumerate().filter(has).map(|(_, name)| name)
    }
}

/// Put before a label's name until it is free.
const PREFIX: &str = "label_";

/// Which column holds which label.
///
/// A name that is taken, also if only its case differs (DuckDB folds case), gets the prefix
/// `label_`. Invariant: once given, a label's column never changes, so that files written at
/// different times agree; new labels only add columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelColumns {
    /// Label to column, sorted by label: the order of the columns in a file.
    by_label: BTreeMap<String, String>,
    /// Columns in use, in lower case.
    taken: HashSet<String>,
}

impl LabelColumns {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes back the pairs of [`LabelColumns::iter`]; `None` if they contradict the rule.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let mut columns = Self::new();
        for (label, column) in pairs {
            let folded = column.to_lowercase();
            let plain = column.strip_suffix(label).is_some_and(|prefix| {
                prefix.len() % PREFIX.len() == 0 && prefix.replace(PREFIX, "").is_empty()
            });
            let free = !RESERVED.contains(&folded.as_str()) && columns.taken.insert(folded);
            let new = columns.by_label.insert(label.to_owned(), column.to_owned()).is_none();
            if !(plain && free && new) {
                return None;
            }
        }
        Some(columns)
    }

    /// Gives `label` a column unless it has one.
    pub fn add(&mut self, label: &str) {
        if self.by_label.contains_key(label) {
            return;
        }
        let mut column = label.to_owned();
        loop {
            let folded = column.to_lowercase();
            if !RESERVED.contains(&folded.as_str()) && self.taken.insert(folded) {
                break;
            }
            column.insert_str(0, PREFIX);
        }
        self.by_label.insert(label.to_owned(), column);
    }

    /// The column of `label`, if it has one.
    pub fn column(&self, label: &str) -> Option<&str> {
        self.by_label.get(label).map(String::as_str)
    }

    /// Label and column, sorted by label.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.by_label.iter().map(|(label, column)| (label.as_str(), column.as_str()))
    }

    pub fn len(&self) -> usize {
        self.by_label.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_label.is_empty()
    }

    /// The Arrow schema of a rollup file with these labels.
    pub fn schema(&self) -> SchemaRef {
        let text = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let time = || DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        let mut fields = vec![Field::new(METRIC, text(), false)];
        fields.extend(self.iter().map(|(_, column)| Field::new(column, text(), true)));
        fields.push(Field::new(BUCKET_START, time(), false));
        fields.push(Field::new(BUCKET_END, time(), false));
        fields.push(Field::new(COUNT, DataType::Int64, false));
        for name in [SUM, MIN, MAX, FIRST, LAST] {
            fields.push(Field::new(name, DataType::Float64, true));
        }
        fields.push(Field::new(FIRST_TS, time(), true));
        fields.push(Field::new(LAST_TS, time(), true));
        fields.push(Field::new(RESET_SUM, DataType::Float64, false));
        fields.push(Field::new(RESETS, DataType::Int64, false));
        fields.push(Field::new(CHANGES, DataType::Int64, false));
        fields.push(Field::new(STALE, time(), true));
        Arc::new(Schema::new(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_collides_gets_the_prefix_until_it_is_free() {
        let mut columns = LabelColumns::new();
        for label in ["host", "Sum", "HOST", "label_sum", "day", "label_label_sum"] {
            columns.add(label);
        }
        assert_eq!(columns.column("host"), Some("host"));
        assert_eq!(columns.column("Sum"), Some("label_Sum"));
        assert_eq!(columns.column("HOST"), Some("label_HOST"));
        assert_eq!(columns.column("label_sum"), Some("label_label_sum"));
        assert_eq!(columns.column("day"), Some("label_day"));
        assert_eq!(columns.column("label_label_sum"), Some("label_label_label_sum"));
        let back = LabelColumns::from_pairs(columns.iter());
        assert_eq!(back.as_ref(), Some(&columns));
    }

    #[test]
    fn pairs_that_break_the_rule_are_refused() {
        assert!(LabelColumns::from_pairs([("a", "b")]).is_none());
        assert!(LabelColumns::from_pairs([("sum", "sum")]).is_none());
        assert!(LabelColumns::from_pairs([("a", "a"), ("A", "A")]).is_none());
        assert!(LabelColumns::from_pairs([("a", "a"), ("a", "label_a")]).is_none());
    }
}
