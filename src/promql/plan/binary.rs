//! Binary operators: between numbers, a vector and a number, two vectors.

use std::sync::{Arc, Once};

use hashbrown::HashMap;

use crate::model::labels::quote;
use crate::model::{Labels, LabelsBuilder, METADATA_LABELS, METRIC_NAME};
use crate::promql::annotations::Annotations;
use crate::promql::ast::{BinaryExpr, BinaryOp, Cardinality, VectorMatching};
use crate::promql::error::PromqlError;
use crate::promql::exec::binary::{Binary, CellOp, FILLED, Matching, Outputs};
use crate::promql::exec::map::{Map, step_by_step};
use crate::promql::exec::set::{Set, SetOp};
use crate::promql::exec::table::{SeriesRow, SeriesTable, TableBuilder};
use crate::promql::functions::elementary;
use crate::promql::plan::{Planned, Planner, Vector, mistyped};
use crate::promql::scalar::Scalar;
use crate::query::{ABSENT, Grid};

impl Planner {
    pub(super) async fn plan_binary(
        &self,
        binary: &BinaryExpr,
        grid: Grid,
    ) -> Result<Planned, PromqlError> {
        let left = self.plan(&binary.left, grid).await?;
        let right = self.plan(&binary.right, grid).await?;
        Ok(match (left, right) {
            (Planned::Scalar(left), Planned::Scalar(right)) => {
                let op = of_numbers(binary.op).ok_or_else(|| {
                    let op = quote(binary.op.as_str());
                    PromqlError::execution(format!(
                        "operator {op} not allowed for Scalar operations"
                    ))
                })?;
                Planned::Scalar(left.zip(right, op))
            }
            (Planned::Vector(vector), Planned::Scalar(scalar)) => {
                Planned::Vector(with_scalar(binary, &self.annotations, vector, scalar, false)?)
            }
            (Planned::Scalar(scalar), Planned::Vector(vector)) => {
                Planned::Vector(with_scalar(binary, &self.annotations, vector, scalar, true)?)
            }
            (Planned::Vector(left), Planned::Vector(right)) => {
                Planned::Vector(of_vectors(binary, &self.annotations, left, right, grid)?)
            }
            _ => return Err(mistyped(&binary.left)),
        })
    }
}

/// An operator on two numbers; a comparison gives 0 or 1.
fn of_numbers(op: BinaryOp) -> Option<fn(f64, f64) -> f64> {
    Some(match op {
        BinaryOp::Add => |left, right| left + right,
        BinaryOp::Sub => |left, right| left - right,
        BinaryOp::Mul => |left, right| left * right,
        BinaryOp::Div => |left, right| left / right,
        BinaryOp::Mod => |left, right| left % right,
        BinaryOp::Pow => elementary::pow,
        BinaryOp::Atan2 => elementary::atan2,
        BinaryOp::Equal => |left, right| truth(left == right),
        BinaryOp::NotEqual => |left, right| truth(left != right),
        BinaryOp::Less => |left, right| truth(left < right),
        BinaryOp::LessEqual => |left, right| truth(left <= right),
        BinaryOp::Greater => |left, right| truth(left > right),
        BinaryOp::GreaterEqual => |left, right| truth(left >= right),
        BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Unless
        | BinaryOp::TrimUpper
        | BinaryOp::TrimLower => return None,
    })
}

fn truth(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

/// Whether the result is another quantity than the metric.
fn changes_metric(binary: &BinaryExpr) -> bool {
    !binary.op.is_comparison() || binary.return_bool
}

fn with_scalar(
    binary: &BinaryExpr,
    annotations: &Arc<Annotations>,
    vector: Vector,
    scalar: Scalar,
    scalar_is_left: bool,
) -> Result<Vector, PromqlError> {
    let op: CellOp = match binary.op {
        BinaryOp::TrimUpper | BinaryOp::TrimLower => untrimmed(binary, annotations),
        op => Arc::new(of_numbers(op).ok_or_else(|| mistyped(&binary.left))?),
    };
    let filters = binary.op.is_comparison() && !binary.return_bool;
    let title = match scalar_is_left {
        true => format!("{scalar} {}", binary.op.as_str()),
        false => format!("{} {scalar}", binary.op.as_str()),
    };
    let change = step_by_step(move |step, value| {
        let other = scalar.at(step);
        let result = if scalar_is_left { op(other, value) } else { op(value, other) };
        match (filters, result == 0.0) {
            (true, true) => ABSENT,
            (true, false) => value,
            (false, _) => result,
        }
    });
    if changes_metric(binary) {
        return Ok(vector.mapped(title, change));
    }
    Ok(Vector { plan: Map::plan(vector.plan, title, change), ..vector })
}

fn of_vectors(
    binary: &BinaryExpr,
    annotations: &Arc<Annotations>,
    left: Vector,
    right: Vector,
    grid: Grid,
) -> Result<Vector, PromqlError> {
    let default = VectorMatching::default();
    let matching = binary.matching.as_ref().unwrap_or(&default);
    let mut signatures = Signatures { matching, numbers: HashMap::new() };
    if let Some(op) = set_op(binary.op) {
        let mut table = TableBuilder::default();
        let mut side = |vector: &Vector| -> Result<(Vec<u32>, Vec<u32>), PromqlError> {
            let rows = vector.table.rows.iter();
            rows.map(|row| Ok((signatures.number(&row.labels), table.number(row.clone())?)))
                .collect()
        };
        let (left_rows, right_rows) = (side(&left)?, side(&right)?);
        let count = signatures.numbers.len();
        let title = binary.op.as_str().to_owned();
        let plan = Set::plan(
            [left.plan, right.plan],
            op,
            title,
            count,
            left_rows,
            right_rows,
            grid.steps(),
        );
        return Ok(Vector::new(plan, table.build()));
    }
    let swapped = matching.cardinality == Cardinality::OneToMany;
    let (many, one) = if swapped { (right, left) } else { (left, right) };
    let of = |signatures: &mut Signatures<'_>, table: &SeriesTable| -> Vec<u32> {
        table.rows.iter().map(|row| signatures.number(&row.labels)).collect()
    };
    let many_signatures = of(&mut signatures, &many.table);
    let one_signatures = of(&mut signatures, &one.table);
    // As in Prometheus, `fill_left` stands in for the many side of `group_right` too.
    let (fill_many, fill_one) = (matching.fill_left, matching.fill_right);
    let pairs = Pairs { binary, matching, many: &many.table, one: &one.table };
    let mut table = TableBuilder::default();
    let outputs = if matching.include.is_empty() {
        pairs.by_many(&mut table, fill_many.is_some())?
    } else {
        pairs.by_pair(&mut table, &many_signatures, &one_signatures)?
    };
    // What is not computed at all does not match twice.
    let trims = matches!(binary.op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
    let shared = match trims {
        true => vec![false; table.len()],
        false => shared_rows(&outputs, table.len()),
    };
    let plan = Binary::plan(
        [many.plan, one.plan],
        binary.op.as_str().to_owned(),
        cell_op(binary, annotations)?,
        Matching {
            signatures: signatures.numbers.len(),
            many: many_signatures,
            one: one_signatures,
            outputs,
            one_to_one: matching.cardinality == Cardinality::OneToOne && !trims,
            swapped,
            fill_many,
            fill_one,
            shared,
        },
        clash(matching, Arc::clone(&one.table), swapped),
        grid.steps(),
    );
    Ok(Vector::new(plan, table.build()))
}

fn set_op(op: BinaryOp) -> Option<SetOp> {
    Some(match op {
        BinaryOp::And => SetOp::And,
        BinaryOp::Or => SetOp::Or,
        BinaryOp::Unless => SetOp::Unless,
        _ => return None,
    })
}

/// Only native histograms have anything to trim; numbers are left out, with a remark.
fn untrimmed(binary: &BinaryExpr, annotations: &Arc<Annotations>) -> CellOp {
    let (annotations, remarked) = (Arc::clone(annotations), Once::new());
    let (op, position) = (binary.op.as_str(), binary.left.span.start);
    Arc::new(move |_, _| {
        remarked.call_once(|| {
            let text = "incompatible sample types encountered for binary operator";
            annotations.info(format!("{text} {}: float {op} float", quote(op)), position);
        });
        ABSENT
    })
}

fn cell_op(binary: &BinaryExpr, annotations: &Arc<Annotations>) -> Result<CellOp, PromqlError> {
    if matches!(binary.op, BinaryOp::TrimUpper | BinaryOp::TrimLower) {
        return Ok(untrimmed(binary, annotations));
    }
    let op = of_numbers(binary.op).ok_or_else(|| mistyped(&binary.left))?;
    if binary.op.is_comparison() && !binary.return_bool {
        return Ok(Arc::new(move |left, right| if op(left, right) == 0.0 { ABSENT } else { left }));
    }
    Ok(Arc::new(op))
}

/// Numbers of the label values that rows must share to meet.
struct Signatures<'a> {
    matching: &'a VectorMatching,
    numbers: HashMap<Labels, u32>,
}

impl Signatures<'_> {
    fn number(&mut self, labels: &Labels) -> u32 {
        let signature = matched_labels(self.matching, labels);
        let next = u32::try_from(self.numbers.len()).expect("no more than rows, which have u32");
        *self.numbers.entry(signature).or_insert(next)
    }
}

/// The labels by which a row meets others.
fn matched_labels(matching: &VectorMatching, labels: &Labels) -> Labels {
    labels.filter(|name| {
        let listed = matching.labels.iter().any(|label| label == name);
        if matching.on { listed } else { !listed && name != METRIC_NAME }
    })
}

/// Settles the labels of the results.
struct Pairs<'a> {
    binary: &'a BinaryExpr,
    matching: &'a VectorMatching,
    many: &'a SeriesTable,
    one: &'a SeriesTable,
}

impl Pairs<'_> {
    /// The labels that a row of the many side gets with this partner.
    fn result(&self, many: &Labels, one: Option<&Labels>) -> Labels {
        let matching = self.matching;
        let mut builder = LabelsBuilder::from_labels(many);
        if !self.binary.op.is_comparison() {
            METADATA_LABELS.iter().for_each(|name| {
                builder.remove(name);
            });
        }
        if matching.cardinality == Cardinality::OneToOne {
            let kept = builder.build().filter(|name| {
                let listed = matching.labels.iter().any(|label| label == name);
                listed == matching.on
            });
            builder = LabelsBuilder::from_labels(&kept);
        }
        for name in &matching.include {
            let value = one.and_then(|one| one.get(name)).unwrap_or_default();
            builder.set(name, value);
        }
        builder.build()
    }

    /// A result of a row of the many side, or of what stands in for it.
    fn row(&self, labels: Labels, many: Option<&SeriesRow>) -> SeriesRow {
        let drop_name = self.binary.return_bool || many.is_some_and(|row| row.drop_name);
        SeriesRow { labels, drop_name }
    }

    /// No label comes from the one side.
    fn by_many(&self, table: &mut TableBuilder, fills_many: bool) -> Result<Outputs, PromqlError> {
        let mut many = Vec::with_capacity(self.many.len());
        for row in &self.many.rows {
            many.push(table.number(self.row(self.result(&row.labels, None), Some(row)))?);
        }
        let mut one = Vec::new();
        if fills_many {
            for row in &self.one.rows {
                let stand_in = matched_labels(self.matching, &row.labels);
                one.push(table.number(self.row(self.result(&stand_in, None), None))?);
            }
        }
        Ok(Outputs::OfMany { many, one })
    }

    fn by_pair(
        &self,
        table: &mut TableBuilder,
        many_signatures: &[u32],
        one_signatures: &[u32],
    ) -> Result<Outputs, PromqlError> {
        let mut ones: HashMap<u32, Vec<u32>> = HashMap::new();
        for (number, signature) in (0u32..).zip(one_signatures) {
            ones.entry(*signature).or_default().push(number);
        }
        let mut pairs = HashMap::new();
        for ((number, signature), row) in (0u32..).zip(many_signatures).zip(&self.many.rows) {
            for partner in ones.get(signature).into_iter().flatten() {
                let labels = self.result(&row.labels, Some(self.one.labels(*partner)));
                pairs.insert((number, *partner), table.number(self.row(labels, Some(row)))?);
            }
            let stand_in = matched_labels(self.matching, &row.labels);
            let labels = self.result(&row.labels, Some(&stand_in));
            pairs.insert((number, FILLED), table.number(self.row(labels, Some(row)))?);
        }
        for (number, row) in (0u32..).zip(&self.one.rows) {
            let stand_in = matched_labels(self.matching, &row.labels);
            let labels = self.result(&stand_in, Some(&row.labels));
            pairs.insert((FILLED, number), table.number(self.row(labels, None))?);
        }
        Ok(Outputs::OfPair(pairs))
    }
}

/// Output rows that more than one pair may write.
fn shared_rows(outputs: &Outputs, rows: usize) -> Vec<bool> {
    let mut writers = vec![0u32; rows];
    match outputs {
        Outputs::OfMany { many, one } => {
            many.iter().chain(one).for_each(|row| writers[*row as usize] += 1);
        }
        Outputs::OfPair(pairs) => pairs.values().for_each(|row| writers[*row as usize] += 1),
    }
    writers.into_iter().map(|count| count > 1).collect()
}

/// All labels as pairs, the metric name among them.
fn all_pairs(labels: &Labels) -> String {
    let mut pairs: Vec<_> = labels.iter().collect();
    pairs.sort_unstable();
    let pairs: Vec<_> =
        pairs.into_iter().map(|(name, value)| format!("{name}={}", quote(value))).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// The error of two rows of the one side that meet the same row.
fn clash(
    matching: &VectorMatching,
    one: Arc<SeriesTable>,
    swapped: bool,
) -> crate::promql::exec::binary::Clash {
    let (matching, side) = (matching.clone(), if swapped { "left" } else { "right" });
    Arc::new(move |first, second| {
        let matched = matched_labels(&matching, one.labels(first));
        let mut names = [all_pairs(one.labels(first)), all_pairs(one.labels(second))];
        names.sort_unstable();
        format!(
            "found duplicate series for the match group {matched} on the {side} hand-side of the \
             operation: [{}, {}];many-to-many matching not allowed: matching labels must be \
             unique on one side",
            names[0], names[1]
        )
    })
}
