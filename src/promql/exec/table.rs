//! The label sets that a node's rows point to.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::model::Labels;
use crate::promql::error::PromqlError;

/// What is known of one row when the plan is made.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SeriesRow {
    pub(crate) labels: Labels,
    /// Whether the metric name goes away at the end. Until then functions and aggregations can
    /// still see it.
    pub(crate) drop_name: bool,
}

/// All rows a node may yield. Invariant: no two are equal.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SeriesTable {
    pub(crate) rows: Vec<SeriesRow>,
}

impl SeriesTable {
    pub(crate) fn of_one(labels: Labels) -> Arc<Self> {
        Arc::new(Self { rows: vec![SeriesRow { labels, drop_name: false }] })
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The same rows without their metric names, from the end of the query on.
    pub(crate) fn dropping_name(self: &Arc<Self>) -> Arc<Self> {
        if self.rows.iter().all(|row| row.drop_name) {
            return Arc::clone(self);
        }
        let drop = |row: &SeriesRow| SeriesRow { labels: row.labels.clone(), drop_name: true };
        Arc::new(Self { rows: self.rows.iter().map(drop).collect() })
    }

    /// The place of each row in Prometheus' order of label sets, in which it looks at series: it
    /// decides who comes first of equals.
    pub(crate) fn ranks(&self) -> Arc<[u32]> {
        let mut order: Vec<u32> = (0u32..).take(self.len()).collect();
        order.sort_by_cached_key(|row| self.labels(*row).prometheus_key());
        let mut ranks = vec![0; order.len()];
        for (rank, row) in (0u32..).zip(order) {
            ranks[row as usize] = rank;
        }
        ranks.into()
    }

    pub(crate) fn labels(&self, row: u32) -> &Labels {
        &self.rows[row as usize].labels
    }
}

/// Builds a table whose rows are found by what they are.
#[derive(Debug, Default)]
pub(crate) struct TableBuilder {
    rows: Vec<SeriesRow>,
    numbers: HashMap<SeriesRow, u32>,
}

impl TableBuilder {
    /// The number of the row, which is added if it is new.
    pub(crate) fn number(&mut self, row: SeriesRow) -> Result<u32, PromqlError> {
        if let Some(number) = self.numbers.get(&row) {
            return Ok(*number);
        }
        let number = u32::try_from(self.rows.len())
            .map_err(|_| PromqlError::execution("too many series in an intermediate result"))?;
        self.rows.push(row.clone());
        self.numbers.insert(row, number);
        Ok(number)
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn build(self) -> Arc<SeriesTable> {
        Arc::new(SeriesTable { rows: self.rows })
    }
}
