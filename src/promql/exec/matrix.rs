//! All rows of an input at once, for nodes that cannot work row by row.

use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use futures::StreamExt;

use crate::query::batch::VectorRows;
use crate::query::node::Run;
use crate::query::{ABSENT, QueryError};

const NONE: u32 = u32::MAX;

/// The rows of a vector, found by their number in its table.
#[derive(Debug)]
pub(crate) struct Matrix {
    cells: Cells,
    /// Table number to place in `cells`.
    places: Vec<u32>,
    /// Table numbers in order of arrival.
    order: Vec<u32>,
    reservation: MemoryReservation,
}

impl Matrix {
    pub(crate) fn new(rows: usize, steps: usize, reservation: MemoryReservation) -> Self {
        let (cells, order) = (Cells::new(steps), Vec::new());
        Self { cells, places: vec![NONE; rows], order, reservation }
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
        self.cells.push(row);
        Ok(())
    }

    /// The cells of a row, if it arrived.
    pub(crate) fn row(&self, number: u32) -> Option<&[f64]> {
        let place = self.places[number as usize];
        if place == NONE {
            return None;
        }
        Some(self.cells.row(place as usize))
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

/// Cells of one block.
const BLOCK_CELLS: usize = 1 << 20;

/// Rows of cells in blocks that do not move: to double what takes a gigabyte is to copy for long.
#[derive(Debug)]
pub(crate) struct Cells {
    steps: usize,
    rows_per_block: usize,
    blocks: Vec<Vec<f64>>,
    rows: usize,
}

impl Cells {
    pub(crate) fn new(steps: usize) -> Self {
        let rows_per_block = (BLOCK_CELLS / steps.max(1)).max(1);
        Self { steps, rows_per_block, blocks: Vec::new(), rows: 0 }
    }

    pub(crate) fn push(&mut self, row: &[f64]) {
        debug_assert_eq!(row.len(), self.steps);
        self.block().extend_from_slice(row);
        self.rows += 1;
    }

    /// Appends a row of absent cells.
    pub(crate) fn push_absent(&mut self) {
        let steps = self.steps;
        let block = self.block();
        block.resize(block.len() + steps, ABSENT);
        self.rows += 1;
    }

    /// The block in which the next row has its place.
    fn block(&mut self) -> &mut Vec<f64> {
        let block = self.rows / self.rows_per_block;
        if block == self.blocks.len() {
            self.blocks.push(Vec::new());
        }
        &mut self.blocks[block]
    }

    pub(crate) fn row(&self, place: usize) -> &[f64] {
        let start = place % self.rows_per_block * self.steps;
        &self.blocks[place / self.rows_per_block][start..start + self.steps]
    }

    pub(crate) fn row_mut(&mut self, place: usize) -> &mut [f64] {
        let start = place % self.rows_per_block * self.steps;
        &mut self.blocks[place / self.rows_per_block][start..start + self.steps]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_in_their_blocks() {
        for steps in [1, 1 << 19, (1 << 19) + 1, 1 << 21] {
            let mut cells = Cells::new(steps);
            for row in 0..4_u32 {
                cells.push(&vec![f64::from(row); steps]);
            }
            cells.push_absent();
            cells.row_mut(4)[0] = 7.0;
            for row in 0..4_u32 {
                let found = cells.row(row as usize);
                assert!(found.len() == steps && found.iter().all(|cell| *cell == f64::from(row)));
            }
            assert_eq!(cells.row(4)[0], 7.0);
        }
    }
}
