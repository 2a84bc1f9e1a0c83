//! Several ordered streams of sample batches become one: flush merges sealed runs with what came
//! late, compaction merges blocks.
//!
//! Linear: stretches that no other source reaches into are copied whole. Sources stand in order of
//! their writes, and where two have the same (series, timestamp) the later source's sample stays.
//!
//! Invariant: if each source is ordered and without duplicates, so is the result.

use std::cmp::Ordering;

use arrow::array::{AsArray, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{Float64Type, TimestampMillisecondType, UInt32Type};

use crate::columnar::error::ColumnarError;
use crate::columnar::schema::{self, BATCH_ROWS_MAX, SampleColumns};
use crate::model::Labels;

/// Ordered batches of the samples schema.
pub type Batches<'a> = Box<dyn Iterator<Item = Result<RecordBatch, ColumnarError>> + Send + 'a>;

/// One stream and the ascending labels that its `series` column refers to.
pub struct MergeSource<'a> {
    pub labels: Vec<Labels>,
    pub batches: Batches<'a>,
}

/// The labels of all sources, ascending, and the merged batches that refer to them.
///
/// `sources` stand in order of their writes, the latest last.
pub fn merge(sources: Vec<MergeSource<'_>>) -> (Vec<Labels>, MergedBatches<'_>) {
    let (lists, batches): (Vec<_>, Vec<_>) =
        sources.into_iter().map(|source| (source.labels, source.batches)).unzip();
    let (labels, numbers) = merge_labels(lists);
    let inputs = batches
        .into_iter()
        .zip(numbers)
        .map(|(batches, numbers)| Input {
            batches,
            numbers,
            rows: Rows::default(),
            row: 0,
            ended: false,
        })
        .collect();
    (labels, MergedBatches { inputs, failed: false })
}

/// The merged list, and for each list the places of its labels in it.
fn merge_labels(lists: Vec<Vec<Labels>>) -> (Vec<Labels>, Vec<Vec<u32>>) {
    let mut numbers: Vec<Vec<u32>> =
        lists.iter().map(|list| Vec::with_capacity(list.len())).collect();
    let mut heads: Vec<_> = lists.into_iter().map(|list| list.into_iter().peekable()).collect();
    let mut merged: Vec<Labels> = Vec::new();
    while let Some(least) = heads.iter_mut().filter_map(|head| head.peek().cloned()).min() {
        let number = u32::try_from(merged.len()).expect("series have numbers of 32 bits");
        for (head, numbers) in heads.iter_mut().zip(&mut numbers) {
            // A list that repeats a label set would only repeat the number.
            while head.next_if(|labels| *labels == least).is_some() {
                numbers.push(number);
            }
        }
        merged.push(least);
    }
    (merged, numbers)
}

/// Merged batches of at most [`BATCH_ROWS_MAX`] rows. Ends after the first error.
pub struct MergedBatches<'a> {
    inputs: Vec<Input<'a>>,
    failed: bool,
}

struct Input<'a> {
    batches: Batches<'a>,
    /// Merged number of each of the source's series.
    numbers: Vec<u32>,
    rows: Rows,
    /// The next of `rows`.
    row: usize,
    ended: bool,
}

/// A batch's columns, taken out once. Equally long.
#[derive(Default)]
struct Rows {
    series: ScalarBuffer<u32>,
    timestamps: ScalarBuffer<i64>,
    values: ScalarBuffer<f64>,
}

/// Where a row belongs in the result.
type Key = (u32, i64);

impl Input<'_> {
    /// Makes sure that a row is at hand, unless the source has ended.
    #[inline]
    fn fill(&mut self) -> Result<(), ColumnarError> {
        while self.row >= self.rows.series.len() && !self.ended {
            self.row = 0;
            self.rows = match self.batches.next().transpose()? {
                Some(batch) => Rows::of(&batch, self.numbers.len())?,
                None => Rows::default(),
            };
            self.ended = self.rows.series.is_empty();
        }
        Ok(())
    }

    #[inline]
    fn key(&self) -> Option<Key> {
        let series = self.rows.series.get(self.row)?;
        Some((self.numbers[*series as usize], self.rows.timestamps[self.row]))
    }

    /// Copies the rows of the series at hand that come before `bound`, `room` at most.
    fn copy(&mut self, (number, _): Key, bound: Option<Key>, room: usize, out: &mut Columns) {
        let Rows { series, timestamps, values } = &self.rows;
        let start = self.row;
        let most = series.len().min(start + room);
        let run = gallop(&series[start..most], |other| *other == series[start]);
        let run = match bound {
            Some((series, at)) if series == number => {
                gallop(&timestamps[start..start + run], |timestamp| *timestamp < at)
            }
            _ => run,
        };
        // The key at hand is the least, so something is copied and the merge moves on.
        let end = start + run.max(1);
        out.series.resize(out.series.len() + (end - start), number);
        out.timestamps.extend_from_slice(&timestamps[start..end]);
        out.values.extend_from_slice(&values[start..end]);
        self.row = end;
    }
}

impl Rows {
    /// `series` is the count of series that the batch may name.
    fn of(batch: &RecordBatch, series: usize) -> Result<Self, ColumnarError> {
        let columns = SampleColumns::of(batch)?;
        // Ordered rows have the greatest number last, but an unordered batch must not panic.
        if let Some(stranger) = columns.series.iter().find(|number| **number as usize >= series) {
            let reason = format!("series {stranger} of {series}");
            return Err(ColumnarError::InvalidBatch(reason));
        }
        Ok(Self {
            series: batch.column(0).as_primitive::<UInt32Type>().values().clone(),
            timestamps: batch.column(1).as_primitive::<TimestampMillisecondType>().values().clone(),
            values: batch.column(2).as_primitive::<Float64Type>().values().clone(),
        })
    }
}

/// The batch in the making.
struct Columns {
    series: Vec<u32>,
    timestamps: Vec<i64>,
    values: Vec<f64>,
}

impl Columns {
    fn with_room() -> Self {
        Self {
            series: Vec::with_capacity(BATCH_ROWS_MAX),
            timestamps: Vec::with_capacity(BATCH_ROWS_MAX),
            values: Vec::with_capacity(BATCH_ROWS_MAX),
        }
    }
}

impl MergedBatches<'_> {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, ColumnarError> {
        let mut out = Columns::with_room();
        while out.series.len() < BATCH_ROWS_MAX {
            let Some((winner, key, bound)) = self.least()? else { break };
            let room = BATCH_ROWS_MAX - out.series.len();
            self.inputs[winner].copy(key, bound, room, &mut out);
        }
        if out.series.is_empty() {
            return Ok(None);
        }
        schema::batch(out.series, out.timestamps, out.values).map(Some)
    }

    /// The input with the least key, and the least key of the others. Of inputs with equal keys
    /// the last is taken, and the others' rows are dropped.
    fn least(&mut self) -> Result<Option<(usize, Key, Option<Key>)>, ColumnarError> {
        let mut best: Option<(usize, Key)> = None;
        let mut bound: Option<Key> = None;
        for index in 0..self.inputs.len() {
            self.inputs[index].fill()?;
            let Some(key) = self.inputs[index].key() else { continue };
            let Some((winner, least)) = best else {
                best = Some((index, key));
                continue;
            };
            match key.cmp(&least) {
                Ordering::Greater => bound = Some(bound.map_or(key, |bound| bound.min(key))),
                Ordering::Less => {
                    bound = Some(least);
                    best = Some((index, key));
                }
                Ordering::Equal => {
                    let beaten = &mut self.inputs[winner];
                    beaten.row += 1;
                    beaten.fill()?;
                    let next = beaten.key();
                    bound = [bound, next].into_iter().flatten().min();
                    best = Some((index, key));
                }
            }
        }
        Ok(best.map(|(winner, key)| (winner, key, bound)))
    }
}

impl Iterator for MergedBatches<'_> {
    type Item = Result<RecordBatch, ColumnarError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let batch = self.next_batch().transpose();
        self.failed = matches!(batch, Some(Err(_)));
        batch
    }
}

/// Length of the prefix that satisfies `holds`, which no item behind it does. Quick for short
/// prefixes, logarithmic for long ones.
fn gallop<T>(items: &[T], holds: impl Fn(&T) -> bool) -> usize {
    let mut step = 1;
    let mut low = 0;
    while low + step <= items.len() && holds(&items[low + step - 1]) {
        low += step;
        step *= 2;
    }
    low + items[low..items.len().min(low + step)].partition_point(holds)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn labels(number: u32) -> Labels {
        Labels::from_pairs([("id", format!("{number:05}").as_str())]).unwrap()
    }

    /// Rows as (label number, timestamp, value).
    type Rows = Vec<(u32, i64, f64)>;

    /// A source whose own numbers are dense, in batches of `batch_rows`.
    fn source(rows: &Rows, batch_rows: usize) -> MergeSource<'static> {
        let mut known: Vec<u32> = rows.iter().map(|row| row.0).collect();
        known.dedup();
        let local = |number: u32| u32::try_from(known.binary_search(&number).unwrap()).unwrap();
        let batches: Vec<_> = rows
            .chunks(batch_rows)
            .map(|rows| {
                schema::batch(
                    rows.iter().map(|row| local(row.0)).collect(),
                    rows.iter().map(|row| row.1).collect(),
                    rows.iter().map(|row| row.2).collect(),
                )
            })
            .collect();
        let labels = known.iter().map(|number| labels(*number)).collect();
        MergeSource { labels, batches: Box::new(batches.into_iter()) }
    }

    fn merged(sources: &[Rows], batch_rows: usize) -> Vec<(Labels, i64, u64)> {
        let sources = sources.iter().map(|rows| source(rows, batch_rows)).collect();
        let (labels, batches) = merge(sources);
        assert!(labels.is_sorted_by(|left, right| left < right));
        let mut out = Vec::new();
        for batch in batches {
            let batch = batch.unwrap();
            let columns = SampleColumns::of(&batch).unwrap();
            for row in 0..batch.num_rows() {
                let labels = labels[columns.series[row] as usize].clone();
                out.push((labels, columns.timestamps[row], columns.values[row].to_bits()));
            }
        }
        out
    }

    #[test]
    fn the_later_source_wins() {
        let sources = [
            vec![(1, 10, 1.0), (1, 20, 2.0), (3, 5, 3.0)],
            vec![(0, 1, 9.0), (1, 20, 4.0), (1, 30, 5.0)],
            vec![(1, 20, 6.0), (3, 5, f64::NAN)],
        ];
        let rows = merged(&sources, 2);
        let expected = [(0, 1, 9.0), (1, 10, 1.0), (1, 20, 6.0), (1, 30, 5.0), (3, 5, f64::NAN)];
        let expected =
            expected.map(|(id, at, value): (u32, i64, f64)| (labels(id), at, value.to_bits()));
        assert_eq!(rows, expected);
        assert!(merged(&[], 1).is_empty());
        assert!(merged(&[vec![], vec![]], 1).is_empty());
    }

    #[test]
    fn long_stretches_split_into_batches() {
        let rows: Rows = (0..150_000).map(|i| (i / 70_000, i64::from(i), f64::from(i))).collect();
        let all = merged(&[rows.clone(), vec![(1, 75_000, -1.0)]], 50_000);
        assert_eq!(all.len(), rows.len());
        assert_eq!(all[75_000].2, (-1.0f64).to_bits());
    }

    #[test]
    fn an_error_ends_the_stream() {
        let bad = MergeSource {
            labels: vec![labels(0)],
            batches: Box::new(std::iter::once(schema::batch(vec![1], vec![1], vec![1.0]))),
        };
        let (_, mut batches) = merge(vec![bad]);
        assert!(batches.next().is_some_and(|batch| batch.is_err()));
        assert!(batches.next().is_none());
    }

    #[test]
    fn galloping_finds_the_end() {
        let items: Vec<u32> = (0..100).collect();
        for end in 0..=100 {
            assert_eq!(gallop(&items, |item| *item < end), end as usize);
        }
    }

    fn rows() -> impl Strategy<Value = Rows> {
        proptest::collection::btree_map((0u32..6, 0i64..40), any::<u64>(), 0..60).prop_map(|map| {
            map.into_iter().map(|((id, at), bits)| (id, at, f64::from_bits(bits))).collect()
        })
    }

    proptest! {
        #![proptest_config(crate::columnar::codec::test_config())]

        #[test]
        fn merging_is_inserting_in_order(
            sources in proptest::collection::vec(rows(), 0..5),
            batch_rows in 1usize..20,
        ) {
            let mut model = BTreeMap::new();
            for (id, at, value) in sources.iter().flatten() {
                model.insert((labels(*id), *at), value.to_bits());
            }
            let model: Vec<_> = model.into_iter().map(|((id, at), bits)| (id, at, bits)).collect();
            prop_assert_eq!(merged(&sources, batch_rows), model);
        }
    }
}
