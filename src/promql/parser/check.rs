//! What the grammar cannot say: types of arguments and operands, matchers, vector matching.
//!
//! In the order in which Prometheus checks, so that of several errors the same one is reported.

use crate::model::METRIC_NAME;
use crate::model::labels::quote;
use crate::promql::ast::{
    AggregateExpr, BinaryExpr, Call, Cardinality, Expr, ExprKind, Span, VectorSelector,
};
use crate::promql::parser::ParseError;
use crate::promql::types::{FunctionId, ValueType};

/// Checks a tree and finds its type; settles the matching of binary operators.
pub(super) fn check(expr: &mut Expr, text: &str) -> Result<ValueType, ParseError> {
    let span = expr.span;
    let fail = |message: String, span: Span| Err(ParseError::new(message, span, text));
    match &mut expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) | ExprKind::Bytes(_) => {}
        ExprKind::VectorSelector(selector) => check_selector(selector, span, text)?,
        ExprKind::MatrixSelector(matrix) => check_selector(&matrix.selector, span, text)?,
        ExprKind::Paren(inner) => return check(inner, text),
        ExprKind::Subquery(subquery) => {
            let got = check(&mut subquery.operand, text)?;
            if got != ValueType::Instant {
                let name = got.api_name();
                let message =
                    format!("subquery is only allowed on instant vector, got {name} instead");
                return fail(message, span);
            }
        }
        ExprKind::Unary(unary) => {
            let got = check(&mut unary.operand, text)?;
            if !matches!(got, ValueType::Scalar | ValueType::Instant) {
                let message = format!(
                    "unary expression only allowed on expressions of type scalar or instant \
                     vector, got {}",
                    quote(&got.to_string())
                );
                return fail(message, span);
            }
            return Ok(got);
        }
        ExprKind::Binary(binary) => return check_binary(binary, span, text),
        ExprKind::Aggregate(aggregate) => check_aggregate(aggregate, text)?,
        ExprKind::Call(call) => check_call(call, span, text)?,
    }
    Ok(expr.value_type())
}

/// A selector needs a matcher that does not match everything, and one metric name.
fn check_selector(selector: &VectorSelector, span: Span, text: &str) -> Result<(), ParseError> {
    let Some(name) = &selector.name else {
        if selector.matchers.iter().all(|matcher| matcher.matches_empty()) {
            let message = "vector selector must contain at least one non-empty matcher";
            return Err(ParseError::new(message, span, text));
        }
        return Ok(());
    };
    let others = &selector.matchers[..selector.matchers.len().saturating_sub(1)];
    match others.iter().find(|matcher| matcher.name() == METRIC_NAME) {
        None => Ok(()),
        Some(other) => {
            let (name, other) = (quote(name), quote(other.value()));
            let message = format!("metric name must not be set twice: {name} or {other}");
            Err(ParseError::new(message, span, text))
        }
    }
}

fn check_aggregate(aggregate: &mut AggregateExpr, text: &str) -> Result<(), ParseError> {
    let op = aggregate.op;
    let operand = &mut aggregate.operand;
    let got = check(operand, text)?;
    let fits = got == ValueType::Instant || (got == ValueType::Range && op.folds_samples());
    if !fits {
        let mut message =
            format!("expected type instant vector in aggregation expression, got {got}");
        if got == ValueType::Range {
            let range = source(operand, text);
            let param = if op.param_type().is_some() { "…, " } else { "" };
            message.push_str(&format!(
                "; {op} takes one value per series, for example {op}({param}avg_over_time({range}))",
                op = op.as_str(),
            ));
        }
        return Err(ParseError::new(message, operand.span, text));
    }
    if let (Some(expected), Some(param)) = (op.param_type(), &mut aggregate.param) {
        let got = check(param, text)?;
        if got != expected {
            let message = format!("expected type {expected} in aggregation parameter, got {got}");
            return Err(ParseError::new(message, param.span, text));
        }
    }
    Ok(())
}

fn check_binary(binary: &mut BinaryExpr, span: Span, text: &str) -> Result<ValueType, ParseError> {
    let left = check(&mut binary.left, text)?;
    let right = check(&mut binary.right, text)?;
    let op = binary.op;
    let op_span = operator_span(binary, text);
    let fail = |message: String, span: Span| Err(ParseError::new(message, span, text));
    if binary.return_bool && !op.is_comparison() {
        let message = "bool modifier can only be used on comparison operators";
        return fail(message.to_owned(), op_span);
    }
    let both_scalar = (left, right) == (ValueType::Scalar, ValueType::Scalar);
    if op.is_comparison() && !binary.return_bool && both_scalar {
        return fail("comparisons between scalars must use BOOL modifier".to_owned(), op_span);
    }
    let mut matching = binary.matching.take().unwrap_or_default();
    if op.is_set() && matching.cardinality == Cardinality::OneToOne {
        matching.cardinality = Cardinality::ManyToMany;
    }
    if let Some(label) = matching.labels.iter().find(|label| matching.include.contains(label))
        && matching.on
    {
        let label = quote(label);
        let message = format!("label {label} must not occur in ON and GROUP clause at once");
        return fail(message, op_span);
    }
    for (operand, got) in [(&binary.left, left), (&binary.right, right)] {
        if !matches!(got, ValueType::Scalar | ValueType::Instant) {
            let mut message =
                "binary expression must contain only scalar and instant vector types".to_owned();
            if got == ValueType::Range {
                let range = source(operand, text);
                message.push_str(&format!(
                    "; make one value per series of the range first, for example \
                     avg_over_time({range})"
                ));
            }
            return fail(message, operand.span);
        }
    }
    let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
    if (left, right) != (ValueType::Instant, ValueType::Instant) {
        if !matching.labels.is_empty() {
            let message = "vector matching only allowed between instant vectors";
            return fail(message.to_owned(), span);
        }
        if fills {
            let message = "filling in missing series only allowed between instant vectors";
            return fail(message.to_owned(), span);
        }
        if op.is_set() {
            let op = op.as_str();
            let message = format!("set operator \"{op}\" not allowed in binary scalar expression");
            return fail(message, span);
        }
        return Ok(if both_scalar { ValueType::Scalar } else { ValueType::Instant });
    }
    if op.is_set() {
        if matching.cardinality != Cardinality::ManyToMany {
            let op = op.as_str();
            return fail(format!("no grouping allowed for \"{op}\" operation"), span);
        }
        if fills {
            let message = "filling in missing series not allowed for set operators";
            return fail(message.to_owned(), span);
        }
    }
    binary.matching = Some(matching);
    Ok(ValueType::Instant)
}

fn check_call(call: &mut Call, span: Span, text: &str) -> Result<(), ParseError> {
    let function = call.function;
    let (name, got) = (quote(function.name), call.args.len());
    let (min, max) = (function.args_min(), function.args_max());
    let fail = |message: String, span: Span| Err(ParseError::new(message, span, text));
    if max == Some(min) && got != min {
        return fail(format!("expected {min} argument(s) in call to {name}, got {got}"), span);
    }
    if got < min {
        let message = format!("expected at least {min} argument(s) in call to {name}, got {got}");
        return fail(message, span);
    }
    if let Some(max) = max.filter(|max| *max < got) {
        let message = format!("expected at most {max} argument(s) in call to {name}, got {got}");
        return fail(message, span);
    }
    for (index, arg) in call.args.iter_mut().enumerate() {
        if function.id == FunctionId::Info && index == 1 {
            check_info_selector(arg, span, text)?;
            continue;
        }
        let got = check(arg, text)?;
        let Some(expected) = function.arg_type(index).filter(|expected| *expected != got) else {
            continue;
        };
        let mut message = format!("expected type {expected} in call to function {name}, got {got}");
        if (expected, got) == (ValueType::Instant, ValueType::Range) {
            let range = source(arg, text);
            let function = function.name;
            message.push_str(&format!(
                "; {function} takes one value per series, for example avg_over_time({range})"
            ));
        }
        return fail(message, arg.span);
    }
    Ok(())
}

/// The second argument of `info` selects labels, not series: it may match everything, but has no
/// metric name in front.
fn check_info_selector(arg: &mut Expr, call: Span, text: &str) -> Result<(), ParseError> {
    let got = arg.value_type();
    if got != ValueType::Instant {
        let message =
            format!("expected type instant vector in call to function \"info\", got {got}");
        return Err(ParseError::new(message, call, text));
    }
    let message = match &arg.kind {
        ExprKind::VectorSelector(selector) if selector.name.is_none() => return Ok(()),
        ExprKind::VectorSelector(_) => "expected label selectors only, got vector selector instead",
        _ => "expected label selectors only",
    };
    Err(ParseError::new(message, arg.span, text))
}

/// Where the operator and its modifiers stand.
fn operator_span(binary: &BinaryExpr, text: &str) -> Span {
    let (from, to) = (binary.left.span.end, binary.right.span.start);
    let between = text.get(from..to).unwrap_or_default();
    let start = from + between.len() - between.trim_start().len();
    Span::new(start, start + between.trim().len())
}

fn source<'a>(expr: &Expr, text: &'a str) -> &'a str {
    text.get(expr.span.start..expr.span.end).unwrap_or_default()
}
