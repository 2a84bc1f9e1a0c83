//! The tree as plain data, in the shape in which Prometheus' `parse_query` answers it.

use serde::Serialize;

use crate::model::Matcher;
use crate::promql::ast::{
    At, DurationExpr, DurationKind, Expr, ExprKind, Extension, NumberLiteral, Shift,
    VectorMatching, VectorSelector,
};
use crate::promql::printer::format_number;
use crate::promql::types::Function;

/// A node with everything below it, ready to be serialized.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Description {
    Aggregation {
        op: &'static str,
        expr: Box<Description>,
        param: Option<Box<Description>>,
        grouping: Vec<String>,
        without: bool,
    },
    BinaryExpr {
        op: &'static str,
        lhs: Box<Description>,
        rhs: Box<Description>,
        matching: Option<MatchingDescription>,
        bool: bool,
    },
    Call {
        func: FunctionDescription,
        args: Vec<Description>,
    },
    MatrixSelector {
        name: String,
        range: i64,
        range_expr: Option<Box<Description>>,
        #[serde(flatten)]
        selector: SelectorDescription,
    },
    Subquery {
        expr: Box<Description>,
        range: i64,
        range_expr: Option<Box<Description>>,
        step: i64,
        step_expr: Option<Box<Description>>,
        #[serde(flatten)]
        shift: ShiftDescription,
    },
    DurationExpr {
        op: &'static str,
        lhs: Option<Box<Description>>,
        rhs: Option<Box<Description>>,
        wrapped: bool,
    },
    NumberLiteral {
        val: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        duration: Option<bool>,
    },
    ParenExpr {
        expr: Box<Description>,
    },
    StringLiteral {
        val: String,
    },
    UnaryExpr {
        op: &'static str,
        expr: Box<Description>,
    },
    VectorSelector {
        name: String,
        #[serde(flatten)]
        selector: SelectorDescription,
    },
}

/// What all selectors have.
#[derive(Debug, Serialize)]
pub struct SelectorDescription {
    pub matchers: Vec<MatcherDescription>,
    pub anchored: bool,
    pub smoothed: bool,
    #[serde(flatten)]
    pub shift: ShiftDescription,
}

/// `offset` and `@`; durations in milliseconds if they are literals, 0 and an expression if not.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShiftDescription {
    pub offset: i64,
    pub offset_expr: Option<Box<Description>>,
    pub timestamp: Option<i64>,
    pub start_or_end: Option<&'static str>,
}

#[derive(Debug, Serialize)]
pub struct MatcherDescription {
    pub name: String,
    pub value: String,
    pub r#type: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MatchingDescription {
    pub card: &'static str,
    pub labels: Vec<String>,
    pub on: bool,
    pub include: Vec<String>,
    pub fill_values: FillDescription,
}

#[derive(Debug, Serialize)]
pub struct FillDescription {
    pub lhs: Option<f64>,
    pub rhs: Option<f64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionDescription {
    pub name: &'static str,
    pub arg_types: Vec<&'static str>,
    pub variadic: i64,
    pub return_type: &'static str,
}

/// Describes an expression.
pub fn describe(expr: &Expr) -> Description {
    let boxed = |expr: &Expr| Box::new(describe(expr));
    match &expr.kind {
        ExprKind::Number(literal) => {
            Description::NumberLiteral { val: format_number(literal.value), duration: None }
        }
        ExprKind::String(text) => Description::StringLiteral { val: text.clone() },
        ExprKind::Bytes(bytes) => {
            Description::StringLiteral { val: String::from_utf8_lossy(bytes).into_owned() }
        }
        ExprKind::Paren(inner) => Description::ParenExpr { expr: boxed(inner) },
        ExprKind::Unary(unary) => {
            Description::UnaryExpr { op: unary.op.as_str(), expr: boxed(&unary.operand) }
        }
        ExprKind::Binary(binary) => Description::BinaryExpr {
            op: binary.op.as_str(),
            lhs: boxed(&binary.left),
            rhs: boxed(&binary.right),
            matching: binary.matching.as_ref().map(matching),
            bool: binary.return_bool,
        },
        ExprKind::Aggregate(aggregate) => Description::Aggregation {
            op: aggregate.op.as_str(),
            expr: boxed(&aggregate.operand),
            param: aggregate.param.as_deref().map(boxed),
            grouping: aggregate.grouping.labels.clone(),
            without: aggregate.grouping.without,
        },
        ExprKind::Call(call) => Description::Call {
            func: function(call.function),
            args: call.args.iter().map(describe).collect(),
        },
        ExprKind::VectorSelector(of) => {
            Description::VectorSelector { name: name(of), selector: selector(of) }
        }
        ExprKind::MatrixSelector(matrix) => {
            let (range, range_expr) = duration(Some(&matrix.range));
            Description::MatrixSelector {
                name: name(&matrix.selector),
                range,
                range_expr,
                selector: selector(&matrix.selector),
            }
        }
        ExprKind::Subquery(subquery) => {
            let (range, range_expr) = duration(Some(&subquery.range));
            let (step, step_expr) = duration(subquery.step.as_ref());
            Description::Subquery {
                expr: boxed(&subquery.operand),
                range,
                range_expr,
                step,
                step_expr,
                shift: shift(&subquery.shift),
            }
        }
    }
}

fn name(selector: &VectorSelector) -> String {
    selector.name.clone().unwrap_or_default()
}

fn selector(of: &VectorSelector) -> SelectorDescription {
    let matcher = |matcher: &Matcher| MatcherDescription {
        name: matcher.name().to_owned(),
        value: matcher.value().to_owned(),
        r#type: matcher.op().as_str(),
    };
    SelectorDescription {
        matchers: of.matchers.iter().map(matcher).collect(),
        anchored: of.extension == Extension::Anchored,
        smoothed: of.extension == Extension::Smoothed,
        shift: shift(&of.shift),
    }
}

fn shift(of: &Shift) -> ShiftDescription {
    let (offset, offset_expr) = duration(of.offset.as_ref());
    let (timestamp, start_or_end) = match of.at {
        None => (None, None),
        Some(At::Time(timestamp)) => (Some(timestamp), None),
        Some(At::Start) => (None, Some("start")),
        Some(At::End) => (None, Some("end")),
    };
    ShiftDescription { offset, offset_expr, timestamp, start_or_end }
}

/// A literal's milliseconds, or an expression.
fn duration(of: Option<&DurationExpr>) -> (i64, Option<Box<Description>>) {
    match of {
        None => (0, None),
        Some(DurationExpr { kind: DurationKind::Literal(literal), .. }) => (literal.millis(), None),
        Some(expr) => (0, Some(Box::new(describe_duration(expr, false)))),
    }
}

fn describe_duration(expr: &DurationExpr, wrapped: bool) -> Description {
    let boxed = |expr: &DurationExpr| Some(Box::new(describe_duration(expr, false)));
    let node = |op, lhs, rhs| Description::DurationExpr { op, lhs, rhs, wrapped };
    match &expr.kind {
        DurationKind::Literal(literal) => {
            let NumberLiteral { value, is_duration } = *literal;
            let literal = Description::NumberLiteral {
                val: format_number(value),
                duration: Some(is_duration),
            };
            // A literal has no flag for its parentheses; a sign that changes nothing has.
            if wrapped { node("+", None, Some(Box::new(literal))) } else { literal }
        }
        DurationKind::Step => node("step", None, None),
        DurationKind::Range => node("range", None, None),
        DurationKind::Negate(inner) => node("-", None, boxed(inner)),
        DurationKind::Binary(op, left, right) => node(op.as_str(), boxed(left), boxed(right)),
        DurationKind::Paren(inner) => describe_duration(inner, true),
    }
}

fn matching(of: &VectorMatching) -> MatchingDescription {
    MatchingDescription {
        card: of.cardinality.as_str(),
        labels: of.labels.clone(),
        on: of.on,
        include: of.include.clone(),
        fill_values: FillDescription { lhs: of.fill_left, rhs: of.fill_right },
    }
}

fn function(of: &Function) -> FunctionDescription {
    FunctionDescription {
        name: of.name,
        arg_types: of.args.iter().map(|arg| arg.api_name()).collect(),
        variadic: of.arity.variadic(),
        return_type: of.returns.api_name(),
    }
}
