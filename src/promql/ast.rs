//! The tree of a query, every node with the bytes of the text that it came from.
//!
//! Read walk: text → `parser` → here → `plan`. The tree says what was written: durations are
//! still expressions, parentheses are nodes; [`crate::promql::printer`] writes it back.
//!
//! Invariant: what [`crate::promql::parse`] gives is well typed and at most
//! [`crate::promql::parser::DEPTH_MAX`] nodes deep, so recursion over it is safe; deeper trees stay
//! on the threads of a query session.

use crate::model::{Matcher, Timestamp};
use crate::promql::functions::elementary;
use crate::promql::types::{Function, FunctionId, ValueType};

/// A range of bytes in the text of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// From the start of one to the end of the other.
    pub fn to(self, end: Span) -> Self {
        Self { start: self.start, end: end.end }
    }
}

/// An expression.
#[derive(Debug, Clone)]
pub struct Expr {
    pub kind: ExprKind,
    pub span: Span,
}

/// What an expression is.
#[derive(Debug, Clone)]
pub enum ExprKind {
    Number(NumberLiteral),
    String(String),
    /// A string whose escapes make bytes that are no text. No label holds such.
    Bytes(Vec<u8>),
    VectorSelector(VectorSelector),
    MatrixSelector(MatrixSelector),
    Subquery(Subquery),
    Unary(UnaryExpr),
    Binary(BinaryExpr),
    Aggregate(AggregateExpr),
    Call(Call),
    Paren(Box<Expr>),
}

impl Expr {
    pub fn new(kind: ExprKind, span: Span) -> Self {
        Self { kind, span }
    }

    /// The type of the expression's value.
    pub fn value_type(&self) -> ValueType {
        match &self.kind {
            ExprKind::Number(_) => ValueType::Scalar,
            ExprKind::String(_) | ExprKind::Bytes(_) => ValueType::String,
            ExprKind::VectorSelector(_) | ExprKind::Aggregate(_) => ValueType::Instant,
            ExprKind::MatrixSelector(_) | ExprKind::Subquery(_) => ValueType::Range,
            ExprKind::Unary(unary) => unary.operand.value_type(),
            ExprKind::Binary(binary) => binary.value_type(),
            ExprKind::Call(call) => call.function.returns,
            ExprKind::Paren(inner) => inner.value_type(),
        }
    }

    /// Whether the expression has the same value at every step: its selectors are pinned by `@`,
    /// and nothing in it looks at the time of a step. It is evaluated once then, at the first step.
    /// Source: prometheus/promql/engine.go, `preprocessExprHelper`.
    pub(crate) fn is_step_invariant(&self) -> bool {
        match &self.kind {
            ExprKind::Number(_) | ExprKind::String(_) | ExprKind::Bytes(_) => true,
            ExprKind::VectorSelector(selector) => selector.shift.at.is_some(),
            ExprKind::MatrixSelector(matrix) => matrix.selector.shift.at.is_some(),
            ExprKind::Subquery(subquery) => subquery.shift.at.is_some(),
            // A parameter is taken as it is at the first step, whatever it is later.
            ExprKind::Aggregate(aggregate) => aggregate.operand.is_step_invariant(),
            ExprKind::Call(call) if call.function.id == FunctionId::Timestamp => {
                let arg = call.args[0].without_parens();
                matches!(arg.kind, ExprKind::VectorSelector(_)) && arg.is_step_invariant()
            }
            ExprKind::Call(call) => {
                !call.function.looks_at_steps() && call.args.iter().all(Expr::is_step_invariant)
            }
            ExprKind::Unary(_) | ExprKind::Binary(_) | ExprKind::Paren(_) => {
                self.children().into_iter().all(Expr::is_step_invariant)
            }
        }
    }

    /// The expression inside of all parentheses around it.
    pub fn without_parens(&self) -> &Expr {
        let mut expr = self;
        while let ExprKind::Paren(inner) = &expr.kind {
            expr = inner;
        }
        expr
    }

    /// The expressions directly below this one, in the order of the text.
    pub fn children(&self) -> Vec<&Expr> {
        match &self.kind {
            ExprKind::Number(_)
            | ExprKind::String(_)
            | ExprKind::Bytes(_)
            | ExprKind::VectorSelector(_)
            | ExprKind::MatrixSelector(_) => Vec::new(),
            ExprKind::Subquery(subquery) => vec![&subquery.operand],
            ExprKind::Unary(unary) => vec![&unary.operand],
            ExprKind::Binary(binary) => vec![&binary.left, &binary.right],
            ExprKind::Aggregate(aggregate) => {
                aggregate.param.as_deref().into_iter().chain([&*aggregate.operand]).collect()
            }
            ExprKind::Call(call) => call.args.iter().collect(),
            ExprKind::Paren(inner) => vec![inner],
        }
    }
}

/// A number, or a duration used as a number of seconds: `5m` is 300.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NumberLiteral {
    pub value: f64,
    /// Whether it was written as a duration, and is to be printed as one.
    pub is_duration: bool,
}

impl NumberLiteral {
    /// Taken as a duration in seconds: whole milliseconds, towards zero. Prometheus keeps literals
    /// to the nanosecond first.
    pub fn millis(&self) -> i64 {
        truncate((self.value * 1e9).round()) / 1_000_000
    }
}

/// The newest sample of each series that the matchers select.
#[derive(Debug, Clone)]
pub struct VectorSelector {
    /// The metric name, if it stands in front of the braces (or without any).
    pub name: Option<String>,
    /// All matchers, the one for [`VectorSelector::name`] last.
    pub matchers: Vec<Matcher>,
    pub shift: Shift,
    pub extension: Extension,
}

/// The samples of each series that the matchers select in `(t - range, t]`. Modifiers of the range
/// vector (`offset`, `@`, `anchored`, `smoothed`) are those of its selector.
#[derive(Debug, Clone)]
pub struct MatrixSelector {
    pub selector: VectorSelector,
    pub range: DurationExpr,
}

/// An expression evaluated at steps of its own: `expr[range:step]`.
#[derive(Debug, Clone)]
pub struct Subquery {
    pub operand: Box<Expr>,
    pub range: DurationExpr,
    /// Without one, the server's default applies.
    pub step: Option<DurationExpr>,
    pub shift: Shift,
}

/// Where in time something is evaluated, other than at the query's own time.
#[derive(Debug, Clone, Default)]
pub struct Shift {
    pub offset: Option<DurationExpr>,
    pub at: Option<At>,
}

/// The `@` modifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Time(Timestamp),
    Start,
    End,
}

/// What samples just outside of a range add to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Extension {
    #[default]
    None,
    /// The value at the edges is that of the last sample before them.
    Anchored,
    /// The value at the edges is interpolated between the samples around them.
    Smoothed,
}

/// A duration in brackets or after `offset`: a literal, or an expression of `step()`, `range()`
/// and literals.
#[derive(Debug, Clone)]
pub struct DurationExpr {
    pub kind: DurationKind,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub enum DurationKind {
    /// Seconds.
    Literal(NumberLiteral),
    /// The resolution of the query; 0 for an instant query.
    Step,
    /// The query's end minus its start; 0 for an instant query.
    Range,
    Negate(Box<DurationExpr>),
    Binary(DurationOp, Box<DurationExpr>, Box<DurationExpr>),
    Paren(Box<DurationExpr>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DurationOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    MinOf,
    MaxOf,
}

impl DurationOp {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            DurationOp::Add => "+",
            DurationOp::Sub => "-",
            DurationOp::Mul => "*",
            DurationOp::Div => "/",
            DurationOp::Mod => "%",
            DurationOp::Pow => "^",
            DurationOp::MinOf => "min_of",
            DurationOp::MaxOf => "max_of",
        }
    }
}

/// Why a duration expression has no value for this query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{}: {reason}", span.start, span.end)]
pub struct DurationError {
    pub reason: &'static str,
    pub span: Span,
}

/// Which durations are meaningful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DurationSign {
    /// Ranges and resolutions.
    Positive,
    /// Offsets.
    Any,
}

/// Most seconds that a duration may have: what fits into 64 bits of nanoseconds.
pub(crate) const DURATION_SECONDS_MAX: f64 = 9_223_372_036.854_776;

impl DurationExpr {
    /// Whether this is the literal 0, which as an offset is as good as none.
    pub(crate) fn is_zero(&self) -> bool {
        matches!(&self.kind, DurationKind::Literal(literal) if literal.value == 0.0)
    }

    /// The duration in whole milliseconds, towards zero, for a query of this step and range.
    pub fn millis(
        &self,
        step_ms: i64,
        range_ms: i64,
        sign: DurationSign,
    ) -> Result<i64, DurationError> {
        if let DurationKind::Literal(literal) = &self.kind {
            return Ok(literal.millis());
        }
        let seconds = self.seconds(step_ms, range_ms)?;
        let failed = |reason| DurationError { reason, span: self.span };
        if !seconds.is_finite() {
            return Err(failed("duration is NaN or infinite"));
        }
        if seconds <= 0.0 && sign == DurationSign::Positive {
            return Err(failed("duration must be greater than 0"));
        }
        if seconds.abs() > DURATION_SECONDS_MAX {
            return Err(failed("duration is out of range"));
        }
        Ok(truncate(seconds * 1_000.0))
    }

    fn seconds(&self, step_ms: i64, range_ms: i64) -> Result<f64, DurationError> {
        let failed = |reason| DurationError { reason, span: self.span };
        Ok(match &self.kind {
            DurationKind::Literal(literal) => literal.value,
            DurationKind::Step => step_ms as f64 / 1_000.0,
            DurationKind::Range => range_ms as f64 / 1_000.0,
            DurationKind::Negate(inner) => -inner.seconds(step_ms, range_ms)?,
            DurationKind::Paren(inner) => inner.seconds(step_ms, range_ms)?,
            DurationKind::Binary(op, left, right) => {
                let left = left.seconds(step_ms, range_ms)?;
                let right = right.seconds(step_ms, range_ms)?;
                match op {
                    DurationOp::Add => left + right,
                    DurationOp::Sub => left - right,
                    DurationOp::Mul => left * right,
                    DurationOp::Div if right == 0.0 => return Err(failed("division by zero")),
                    DurationOp::Div => left / right,
                    DurationOp::Mod if right == 0.0 => return Err(failed("modulo by zero")),
                    DurationOp::Mod => left % right,
                    DurationOp::Pow => elementary::pow(left, right),
                    DurationOp::MinOf => elementary::min(left, right),
                    DurationOp::MaxOf => elementary::max(left, right),
                }
            }
        })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a float to int cast saturates; NaN gives 0")]
fn truncate(value: f64) -> i64 {
    value as i64
}

/// `-x` or `+x` of anything but a number.
#[derive(Debug, Clone)]
pub struct UnaryExpr {
    pub op: UnaryOp,
    pub operand: Box<Expr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnaryOp {
    Plus,
    Minus,
}

impl UnaryOp {
    pub fn as_str(self) -> &'static str {
        match self {
            UnaryOp::Plus => "+",
            UnaryOp::Minus => "-",
        }
    }
}

#[derive(Debug, Clone)]
pub struct BinaryExpr {
    pub op: BinaryOp,
    pub left: Box<Expr>,
    pub right: Box<Expr>,
    /// Whether a comparison answers 0 or 1 instead of filtering.
    pub return_bool: bool,
    /// How series find their partners; only between two instant vectors.
    pub matching: Option<VectorMatching>,
}

impl BinaryExpr {
    pub fn value_type(&self) -> ValueType {
        let scalar = |expr: &Expr| expr.value_type() == ValueType::Scalar;
        if scalar(&self.left) && scalar(&self.right) {
            ValueType::Scalar
        } else {
            ValueType::Instant
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    And,
    Or,
    Unless,
    /// `</`: keeps what a native histogram has below a value.
    TrimUpper,
    /// `>/`: keeps what a native histogram has above a value.
    TrimLower,
}

impl BinaryOp {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Equal => "==",
            BinaryOp::NotEqual => "!=",
            BinaryOp::Less => "<",
            BinaryOp::LessEqual => "<=",
            BinaryOp::Greater => ">",
            BinaryOp::GreaterEqual => ">=",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
            BinaryOp::TrimUpper => "</",
            BinaryOp::TrimLower => ">/",
        }
    }

    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            BinaryOp::Equal
                | BinaryOp::NotEqual
                | BinaryOp::Less
                | BinaryOp::LessEqual
                | BinaryOp::Greater
                | BinaryOp::GreaterEqual
        )
    }

    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }
}

/// How the series of two instant vectors find their partners.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VectorMatching {
    pub cardinality: Cardinality,
    /// Whether partners agree in exactly `labels` (`on`), or in all but those (`ignoring`).
    pub on: bool,
    pub labels: Vec<String>,
    /// Labels that the result takes from the side of one (`group_left(…)`).
    pub include: Vec<String>,
    /// The value of a left-hand series that is missing.
    pub fill_left: Option<f64>,
    /// The value of a right-hand series that is missing.
    pub fill_right: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cardinality {
    #[default]
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// Set operators.
    ManyToMany,
}

impl Cardinality {
    /// Prometheus' name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Cardinality::OneToOne => "one-to-one",
            Cardinality::ManyToOne => "many-to-one",
            Cardinality::OneToMany => "one-to-many",
            Cardinality::ManyToMany => "many-to-many",
        }
    }
}

/// An aggregation over the series of an instant vector or, our addition, over all samples of a
/// range vector.
#[derive(Debug, Clone)]
pub struct AggregateExpr {
    pub op: AggregateOp,
    /// There exactly if the operator takes one.
    pub param: Option<Box<Expr>>,
    /// Of type [`ValueType::Instant`], or [`ValueType::Range`] if the operator folds samples.
    pub operand: Box<Expr>,
    pub grouping: Grouping,
}

/// `by (labels)` or `without (labels)`; `by ()` is the same as neither.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grouping {
    pub without: bool,
    pub labels: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

impl AggregateOp {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            AggregateOp::Sum => "sum",
            AggregateOp::Avg => "avg",
            AggregateOp::Count => "count",
            AggregateOp::Min => "min",
            AggregateOp::Max => "max",
            AggregateOp::Group => "group",
            AggregateOp::Stddev => "stddev",
            AggregateOp::Stdvar => "stdvar",
            AggregateOp::Topk => "topk",
            AggregateOp::Bottomk => "bottomk",
            AggregateOp::CountValues => "count_values",
            AggregateOp::Quantile => "quantile",
            AggregateOp::Limitk => "limitk",
            AggregateOp::LimitRatio => "limit_ratio",
        }
    }

    /// The type of the parameter, if it takes one.
    pub fn param_type(self) -> Option<ValueType> {
        match self {
            AggregateOp::Topk
            | AggregateOp::Bottomk
            | AggregateOp::Quantile
            | AggregateOp::Limitk
            | AggregateOp::LimitRatio => Some(ValueType::Scalar),
            AggregateOp::CountValues => Some(ValueType::String),
            _ => None,
        }
    }

    /// Whether the operator may also fold the samples of a range vector.
    pub fn folds_samples(self) -> bool {
        matches!(
            self,
            AggregateOp::Sum
                | AggregateOp::Avg
                | AggregateOp::Count
                | AggregateOp::Min
                | AggregateOp::Max
                | AggregateOp::Group
                | AggregateOp::Stddev
                | AggregateOp::Stdvar
                | AggregateOp::Quantile
        )
    }
}

/// A function with its arguments.
#[derive(Debug, Clone)]
pub struct Call {
    pub function: &'static Function,
    pub args: Vec<Expr>,
}
