//! All rows of an input at once, for nodes that cannot work row by row.

use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use futures::StreamExt;

use crate::query::QueryError;
use crate::query::batch::VectorRows;
use crate::query::node::Run;

const NONE: u32 = u32::MAX;

/// The rows of a vector, found by their number in its table.
#[derive(Debug)]
pub(crate) struct Matrix {
    steps: usize,
    values: Vec<f64>,
    /// Table number to place in `values`.
    places: Vec<u32>,
    /// Table numbers in order of arrival.
    order: Vec<u32>,
    reservation: MemoryReservation,
}

impl Matrix {
    pub(crate) fn new(rows: usize, steps: usize, reservation: MemoryReservation) -> Self {
        let (values, order) = (Vec::new(), Vec::new());
        Self { steps, values, places: vec![NONE; rows], order, reservation }
    }

    /// Collects an input whose table has so many rows.
    pub(crate) async fn collect(
        run: &Run,
        input: usize,
        rows: usize,
        steps: usize,
    ) -> Result<Self, QueryError> {
        let name = format!("{input} of {rows} series");
        let reservation = MemoryConsumer::new(name).register(run.context.memory_pool());
        let mut matrix = Self::new(rows, steps, reservation);
        let mut batches = run.gather(input)?;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            for (number, row) in VectorRows::of(&batch)?.iter() {
                matrix.push(number, row)?;
            }
        }
        Ok(matrix)
    }

    pub(crate) fn push(&mut self, number: u32, row: &[f64]) -> Result<(), QueryError> {
        self.reservation.try_grow(row.len() * 8).map_err(QueryError::from)?;
        let place = u32::try_from(self.order.len())
            .map_err(|_| QueryError::Internal("too many rows".to_owned()))?;
        self.places[number as usize] = place;
        self.order.push(number);
        self.values.extend_from_slice(row);
        Ok(())
    }

    /// The cells of a row, if it arrived.
    pub(crate) fn row(&self, number: u32) -> Option<&[f64]> {
        let place = self.places[number as usize];
        if place == NONE {
            return None;
        }
        let start = place as usize * self.steps;
        Some(&self.values[start..start + self.steps])
    }

    /// Numbers of the rows that arrived, in order.
    pub(crate) fn order(&self) -> &[u32] {
        &self.order
    }

    /// The rows of each group, in order; `groups` has the group of each number.
    pub(crate) fn members(&self, groups: &[u32], group_count: usize) -> Vec<Vec<u32>> {
        let mut members = vec![Vec::new(); group_count];
        for number in &self.order {
            members[groups[*number as usize] as usize].push(*number);
        }
        members
    }
}
