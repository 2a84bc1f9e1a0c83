//! Arithmetic and comparison of two vectors.
//!
//! Which rows meet is settled once per query, by the signatures of their labels; what is left
//! for each step is to see who is there.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::error::Result as DataFusionResult;
use datafusion::physical_plan::ExecutionPlan;
use hashbrown::HashMap;

use crate::model::is_stale;
use crate::promql::exec::map::{MergedRows, SAME_LABELSET};
use crate::promql::exec::matrix::Matrix;
use crate::query::batch::vector_schema;
use crate::query::node::{BatchStream, Node, NodeExec, Run, yield_after};
use crate::query::pace::Pace;
use crate::query::{ABSENT, QueryError};

/// Stands for a row that is not there and whose value is filled in.
pub(crate) const FILLED: u32 = u32::MAX;

/// What the operator costs on one pair of cells, in cells read; `^` is not quick.
const PAIR_LOOKS: usize = 4;
/// The same where it must be remembered who met whom.
const WATCHED_PAIR_LOOKS: usize = 32;

/// The value of `left op right`, or [`ABSENT`] if a comparison does not hold.
pub(crate) type CellOp = Arc<dyn Fn(f64, f64) -> f64 + Send + Sync>;

/// How rows of two vectors meet. The "one" side has at most one row of each signature at a time.
#[derive(Debug)]
pub(crate) struct Matching {
    pub(crate) signatures: usize,
    /// Row to signature.
    pub(crate) many: Vec<u32>,
    pub(crate) one: Vec<u32>,
    pub(crate) outputs: Outputs,
    /// Whether each row of the many side must be the only one of its signature.
    pub(crate) one_to_one: bool,
    /// Whether the many side is the right-hand side.
    pub(crate) swapped: bool,
    /// Values for rows that find nobody on the other side.
    pub(crate) fill_many: Option<f64>,
    pub(crate) fill_one: Option<f64>,
    /// Output rows that several pairs may write.
    pub(crate) shared: Vec<bool>,
}

/// The output row of each pair of rows.
#[derive(Debug)]
pub(crate) enum Outputs {
    /// It depends on the many side alone; rows of the one side for when it is filled in.
    OfMany { many: Vec<u32>, one: Vec<u32> },
    /// It has labels of both.
    OfPair(HashMap<(u32, u32), u32>),
}

impl Outputs {
    fn of(&self, many: u32, one: u32) -> u32 {
        match self {
            Outputs::OfMany { one: rows, .. } if many == FILLED => rows[one as usize],
            Outputs::OfMany { many: rows, .. } => rows[many as usize],
            Outputs::OfPair(pairs) => pairs.get(&(many, one)).copied().unwrap_or(FILLED),
        }
    }
}

/// Describes the clash of two rows of the one side.
pub(crate) type Clash = Arc<dyn Fn(u32, u32) -> String + Send + Sync>;

/// A binary operator between vectors.
pub(crate) struct Binary {
    title: String,
    op: CellOp,
    matching: Matching,
    clash: Clash,
    steps: usize,
}

impl fmt::Debug for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}

impl Binary {
    /// The inputs are the many side and the one side.
    pub(crate) fn plan(
        inputs: [Arc<dyn ExecutionPlan>; 2],
        title: String,
        op: CellOp,
        matching: Matching,
        clash: Clash,
        steps: usize,
    ) -> Arc<dyn ExecutionPlan> {
        let node = Self { title, op, matching, clash, steps };
        NodeExec::plan(node, vector_schema(steps), inputs.into())
    }

    async fn evaluate(self: Arc<Self>, run: Run) -> Result<Vec<RecordBatch>, QueryError> {
        let matching = &self.matching;
        let (many, one) = futures::try_join!(
            Matrix::collect(&run, 0, matching.many.len(), self.steps),
            Matrix::collect(&run, 1, matching.one.len(), self.steps),
        )?;
        let timer = run.baseline.elapsed_compute().timer();
        let mut pace = Pace::default();
        let partners = self.partners(&many, &one, &mut pace).await?;
        let mut output = Output::new(&self);
        for number in many.order() {
            let signature = matching.many[*number as usize];
            let row = many.row(*number).unwrap_or_default();
            match &partners[signature as usize] {
                Partner::Row(partner) if !output.tracks(signature, *number) => {
                    let Some(other) = one.row(*partner) else { continue };
                    let cells = output.merged.row(matching.outputs.of(*number, *partner));
                    for ((cell, value), other) in cells.iter_mut().zip(row).zip(other) {
                        if !is_stale(*value) && !is_stale(*other) {
                            *cell = self.apply(*value, *other);
                        }
                    }
                    pace.look(row.len() * PAIR_LOOKS).await;
                }
                partner => {
                    for (step, value) in row.iter().enumerate() {
                        if is_stale(*value) {
                            continue;
                        }
                        let found = partner.at(step, &one);
                        let (partner, other) = match (found, matching.fill_one) {
                            (Some(found), _) => found,
                            (None, Some(fill)) => (FILLED, fill),
                            (None, None) => continue,
                        };
                        output.put(step, signature, (*number, partner), (*value, other))?;
                    }
                    pace.look(row.len() * WATCHED_PAIR_LOOKS).await;
                }
            }
        }
        if let Some(fill) = matching.fill_many {
            for number in one.order() {
                let signature = matching.one[*number as usize];
                let row = one.row(*number).unwrap_or_default();
                for (step, value) in row.iter().enumerate() {
                    if !is_stale(*value) && !output.is_matched(signature, step) {
                        output.put(step, signature, (FILLED, *number), (fill, *value))?;
                    }
                }
                pace.look(row.len() * WATCHED_PAIR_LOOKS).await;
            }
        }
        timer.done();
        output.merged.finish(&run).await
    }

    fn apply(&self, many: f64, one: f64) -> f64 {
        if self.matching.swapped { (self.op)(one, many) } else { (self.op)(many, one) }
    }

    /// For each signature, its row of the one side.
    async fn partners(
        &self,
        many: &Matrix,
        one: &Matrix,
        pace: &mut Pace,
    ) -> Result<Vec<Partner>, QueryError> {
        let mut rows: Vec<Vec<u32>> = vec![Vec::new(); self.matching.signatures];
        for number in one.order() {
            rows[self.matching.one[*number as usize] as usize].push(*number);
        }
        let mut asked: Option<Vec<bool>> = None;
        let mut partners = Vec::with_capacity(rows.len());
        for rows in rows {
            partners.push(match rows[..] {
                [] => Partner::Nobody,
                [row] => Partner::Row(row),
                _ => {
                    let asked = match &mut asked {
                        Some(asked) => asked,
                        none => none.insert(self.asked(many, pace).await),
                    };
                    pace.look(rows.len() * self.steps).await;
                    match self.alternate(&rows, one, asked) {
                        Some(there) => Partner::Rows(there),
                        None => return Err(self.first_clash(one, asked)),
                    }
                }
            });
        }
        Ok(partners)
    }

    /// Steps at which the one side matters at all.
    async fn asked(&self, many: &Matrix, pace: &mut Pace) -> Vec<bool> {
        let filled = self.matching.fill_many.is_some() || self.matching.fill_one.is_some();
        let mut asked = vec![filled; self.steps];
        for number in many.order() {
            for (asked, cell) in asked.iter_mut().zip(many.row(*number).unwrap_or_default()) {
                *asked |= !is_stale(*cell);
            }
            pace.look(self.steps).await;
        }
        asked
    }

    /// Which of several rows of one signature is there at each step; `None` if two clash.
    fn alternate(&self, rows: &[u32], one: &Matrix, asked: &[bool]) -> Option<Vec<u32>> {
        let mut there = vec![FILLED; self.steps];
        for number in rows {
            for (step, cell) in one.row(*number).unwrap_or_default().iter().enumerate() {
                if is_stale(*cell) || !asked[step] {
                    continue;
                }
                if there[step] != FILLED {
                    return None;
                }
                there[step] = *number;
            }
        }
        Some(there)
    }

    /// The clash that is met first, step by step and row by row.
    fn first_clash(&self, one: &Matrix, asked: &[bool]) -> QueryError {
        for step in (0..self.steps).filter(|step| asked[*step]) {
            let mut there = vec![FILLED; self.matching.signatures];
            for number in one.order() {
                let present = one.row(*number).is_some_and(|row| !is_stale(row[step]));
                let known = &mut there[self.matching.one[*number as usize] as usize];
                if present && *known != FILLED {
                    return QueryError::Execution((self.clash)(*known, *number));
                }
                if present {
                    *known = *number;
                }
            }
        }
        QueryError::Internal("rows clash at no step".to_owned())
    }
}

/// Who stands on the one side of a signature.
enum Partner {
    Nobody,
    Row(u32),
    /// One row at some steps, another at others.
    Rows(Vec<u32>),
}

impl Partner {
    fn at(&self, step: usize, one: &Matrix) -> Option<(u32, f64)> {
        let number = match self {
            Partner::Nobody => return None,
            Partner::Row(number) => *number,
            Partner::Rows(there) => there[step],
        };
        let value = if number == FILLED { ABSENT } else { one.row(number)?[step] };
        (!is_stale(value)).then_some((number, value))
    }
}

/// The output as it is made, and what must be remembered to see double matches.
struct Output<'a> {
    binary: &'a Binary,
    merged: MergedRows,
    /// Many-side rows per signature.
    crowds: Vec<u32>,
    /// Per signature: steps at which it was matched.
    matched: HashMap<u32, Vec<bool>>,
    /// Per shared output row: by which signature it was matched at each step.
    taken: HashMap<u32, Vec<u32>>,
}

impl<'a> Output<'a> {
    fn new(binary: &'a Binary) -> Self {
        let mut crowds = vec![0; binary.matching.signatures];
        for signature in &binary.matching.many {
            crowds[*signature as usize] += 1;
        }
        let merged = MergedRows::new(binary.steps);
        Self { binary, merged, crowds, matched: HashMap::new(), taken: HashMap::new() }
    }

    /// Whether pairs of this row must be watched.
    fn tracks(&self, signature: u32, number: u32) -> bool {
        let matching = &self.binary.matching;
        let crowded = self.crowds[signature as usize] > 1;
        let shared = match &matching.outputs {
            Outputs::OfMany { many, .. } => matching.shared[many[number as usize] as usize],
            Outputs::OfPair(_) => crowded,
        };
        matching.fill_many.is_some()
            || matching.fill_one.is_some()
            || shared
            || (matching.one_to_one && crowded)
    }

    fn is_matched(&self, signature: u32, step: usize) -> bool {
        self.matched.get(&signature).is_some_and(|steps| steps[step])
    }

    fn put(
        &mut self,
        step: usize,
        signature: u32,
        (many, one): (u32, u32),
        (value, other): (f64, f64),
    ) -> Result<(), QueryError> {
        let matching = &self.binary.matching;
        let steps = self.binary.steps;
        let number = matching.outputs.of(many, one);
        let matched = self.matched.entry(signature).or_insert_with(|| vec![false; steps]);
        if matching.one_to_one && matched[step] {
            return Err(QueryError::Execution(
                "multiple matches for labels: many-to-one matching must be explicit \
                 (group_left/group_right)"
                    .to_owned(),
            ));
        }
        matched[step] = true;
        let result = self.binary.apply(value, other);
        if matching.shared[number as usize] {
            let taken = self.taken.entry(number).or_insert_with(|| vec![FILLED; steps]);
            if taken[step] == signature {
                return Err(QueryError::Execution(
                    "multiple matches for labels: grouping labels must ensure unique matches"
                        .to_owned(),
                ));
            }
            taken[step] = signature;
        }
        if !is_stale(result) {
            let cell = &mut self.merged.row(number)[step];
            if !is_stale(*cell) {
                return Err(QueryError::Execution(SAME_LABELSET.to_owned()));
            }
            *cell = result;
        }
        Ok(())
    }
}

impl Node for Binary {
    fn name(&self) -> &'static str {
        "PromBinaryExec"
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} signatures={}", self.title, self.matching.signatures)
    }

    fn gathers(&self) -> bool {
        true
    }

    fn run(self: Arc<Self>, run: Run) -> DataFusionResult<BatchStream> {
        Ok(yield_after(self.evaluate(run)))
    }
}
