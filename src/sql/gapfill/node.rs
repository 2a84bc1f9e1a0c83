//! Gap filling in a logical plan.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

/// Which buckets there are, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Buckets {
    pub(super) stride: i64,
    pub(super) origin: i64,
    /// Some time in the first bucket; `None` for that of the first row.
    pub(super) first: Option<i64>,
    /// Some time in the last bucket; `None` for that of the last row.
    pub(super) last: Option<i64>,
}

impl Buckets {
    /// The start of the bucket that holds a time.
    pub(super) fn start_of(&self, time: i64) -> i64 {
        let since = time.saturating_sub(self.origin);
        since.div_euclid(self.stride).saturating_mul(self.stride).saturating_add(self.origin)
    }
}

/// How a value is made where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Fill {
    /// The last one before it.
    Last,
    /// On the line between its neighbours.
    Line,
}

/// A column that is added: how it is filled, and from which column.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Filled {
    pub(super) name: String,
    pub(super) fill: Fill,
    pub(super) column: usize,
}

/// What is filled in which way; columns by their numbers in the input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Layout {
    pub(super) time: usize,
    /// The other columns of GROUP BY.
    pub(super) group: Vec<usize>,
    pub(super) buckets: Buckets,
    pub(super) filled: Vec<Filled>,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Buckets { stride, first, last, .. } = self.buckets;
        write!(f, "stride={stride} first={first:?} last={last:?}")?;
        let added: Vec<_> = self.filled.iter().map(|filled| filled.name.as_str()).collect();
        write!(f, " filled=[{}]", added.join(", "))
    }
}

/// Adds rows for missing buckets to what an aggregation gives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct GapFill {
    pub(super) input: LogicalPlan,
    pub(super) layout: Layout,
    schema: DFSchemaRef,
}

impl GapFill {
    pub(super) fn new(input: LogicalPlan, layout: Layout) -> DataFusionResult<Self> {
        let known = input.schema();
        let mut fields: Vec<_> = known
            .iter()
            .enumerate()
            .map(|(index, (qualifier, field))| {
                let of_group = index == layout.time || layout.group.contains(&index);
                let field = field.as_ref().clone();
                let nullable = field.is_nullable() || !of_group;
                (qualifier.cloned(), Arc::new(field.with_nullable(nullable)))
            })
            .collect();
        for filled in &layout.filled {
            let data_type = match filled.fill {
                Fill::Last => known.field(filled.column).data_type().clone(),
                Fill::Line => DataType::Float64,
            };
            fields.push((None, Arc::new(Field::new(&filled.name, data_type, true))));
        }
        let schema = DFSchema::new_with_metadata(fields, known.metadata().clone())?;
        Ok(Self { input, layout, schema: Arc::new(schema) })
    }
}

impl PartialOrd for GapFill {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        // Plans have no order; equal ones must say so.
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for GapFill {
    fn name(&self) -> &str {
        "GapFill"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GapFill: {}", self.layout)
    }

    fn with_exprs_and_inputs(
        &self,
        _: Vec<Expr>,
        inputs: Vec<LogicalPlan>,
    ) -> DataFusionResult<Self> {
        let input = inputs.into_iter().next().unwrap_or_else(|| self.input.clone());
        Self::new(input, self.layout.clone())
    }
}
