//! Tree to text, in the two forms that Prometheus writes: one line, and split over lines.
//!
//! Invariant: both forms parse to the same tree again.

use std::fmt::{self, Write as _};

use crate::model::labels::{is_classic_label_name, quote};
use crate::model::{METRIC_NAME, MatchOp};
use crate::promql::ast::{
    AggregateExpr, At, BinaryExpr, BinaryOp, Cardinality, DurationExpr, DurationKind, DurationOp,
    Expr, ExprKind, Extension, Grouping, NumberLiteral, Shift, Subquery, VectorMatching,
    VectorSelector,
};
use crate::promql::parser::format_duration;

/// Longest line that is not split.
const LINE_MAX: usize = 100;
const INDENT: &str = "  ";

/// The query over several lines where one would be too long, as `format_query` answers it.
pub fn pretty(expr: &Expr) -> String {
    pretty_within(expr, LINE_MAX)
}

pub(crate) fn pretty_within(expr: &Expr, line_max: usize) -> String {
    let mut out = String::new();
    write_pretty(&mut out, expr, 0, line_max);
    out
}

/// A string that is no text: what of it is no UTF-8 is written byte by byte.
fn quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        let quoted = quote(chunk.valid());
        out.push_str(&quoted[1..quoted.len() - 1]);
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

/// The query in one line.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number(literal) => literal.fmt(f),
            ExprKind::String(text) => f.write_str(&quote(text)),
            ExprKind::Bytes(bytes) => f.write_str(&quote_bytes(bytes)),
            ExprKind::VectorSelector(selector) => {
                write_matchers(f, selector)?;
                // An offset that begins with a parenthesis would take an operator behind it.
                let offset_first = selector.shift.offset.as_ref().is_some_and(|offset| {
                    matches!(offset.kind, DurationKind::Paren(_) | DurationKind::Binary(..))
                });
                if offset_first {
                    write_offset(f, &selector.shift)?;
                }
                write_at(f, &selector.shift)?;
                write_extension(f, selector.extension)?;
                if offset_first { Ok(()) } else { write_offset(f, &selector.shift) }
            }
            ExprKind::MatrixSelector(matrix) => {
                let selector = &matrix.selector;
                write_matchers(f, selector)?;
                write!(f, "[{}]", Period(&matrix.range))?;
                write_extension(f, selector.extension)?;
                write_at(f, &selector.shift)?;
                write_offset(f, &selector.shift)
            }
            ExprKind::Subquery(subquery) => {
                write!(f, "{}{}", subquery.operand, Suffix(subquery))
            }
            ExprKind::Unary(unary) => write!(f, "{}{}", unary.op.as_str(), unary.operand),
            ExprKind::Binary(binary) => {
                // A sign in front of a power would be one of the whole power.
                match &binary.left.kind {
                    ExprKind::Number(NumberLiteral { value: f64::INFINITY, .. })
                        if binary.op == BinaryOp::Pow =>
                    {
                        f.write_str("Inf")?;
                    }
                    _ => binary.left.fmt(f)?,
                }
                write!(f, " {} {}", Operator(binary), binary.right)
            }
            ExprKind::Aggregate(aggregate) => {
                write!(f, "{}(", Aggregation(aggregate))?;
                if let Some(param) = &aggregate.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", aggregate.operand)
            }
            ExprKind::Call(call) => {
                write!(f, "{}(", call.function.name)?;
                for (index, arg) in call.args.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{arg}")?;
                }
                f.write_char(')')
            }
            ExprKind::Paren(inner) => write!(f, "({inner})"),
        }
    }
}

/// Writes an expression that begins on a line of its own, unless `level` is 0.
fn write_pretty(out: &mut String, expr: &Expr, level: usize, line_max: usize) {
    let line = expr.to_string();
    let indent = INDENT.repeat(level);
    let children: Vec<&Expr> = match &expr.kind {
        _ if line.len() <= line_max => Vec::new(),
        ExprKind::Aggregate(aggregate) => {
            out.push_str(&format!("{indent}{}(\n", Aggregation(aggregate)));
            expr.children()
        }
        ExprKind::Call(call) if !call.args.is_empty() => {
            out.push_str(&format!("{indent}{}(\n", call.function.name));
            expr.children()
        }
        ExprKind::Paren(inner) => {
            out.push_str(&format!("{indent}(\n"));
            vec![inner]
        }
        ExprKind::Binary(binary) => {
            write_pretty(out, &binary.left, level + 1, line_max);
            out.push_str(&format!("\n{indent}{}\n", Operator(binary)));
            return write_pretty(out, &binary.right, level + 1, line_max);
        }
        ExprKind::Subquery(subquery) => {
            write_pretty(out, &subquery.operand, level, line_max);
            out.push_str(&Suffix(subquery).to_string());
            return;
        }
        ExprKind::Unary(unary) => {
            let mut operand = String::new();
            write_pretty(&mut operand, &unary.operand, level, line_max);
            out.push_str(&format!("{indent}{}{}", unary.op.as_str(), operand.trim()));
            return;
        }
        _ => Vec::new(),
    };
    if children.is_empty() {
        out.push_str(&indent);
        out.push_str(&line);
        return;
    }
    let last = children.len() - 1;
    for (index, child) in children.into_iter().enumerate() {
        write_pretty(out, child, level + 1, line_max);
        out.push_str(if index == last { "\n" } else { ",\n" });
    }
    out.push_str(&format!("{indent})"));
}

/// A number as the language writes it: never with an exponent.
pub(crate) fn format_number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    }
}

/// A number as Go's `%g` writes it: with an exponent if it is below −4 or above 5.
pub(crate) fn format_general(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return format_number(value);
    };
    match exponent.parse::<i32>() {
        Ok(exponent @ (..=-5 | 6..)) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.abs())
        }
        _ => format_number(value),
    }
}

impl fmt::Display for NumberLiteral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_duration {
            return f.write_str(&format_duration(self.millis()));
        }
        f.write_str(&format_number(self.value))
    }
}

/// A literal as it was written; an expression with the blanks of a formatter.
impl fmt::Display for DurationExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            DurationKind::Literal(literal) => literal.fmt(f),
            DurationKind::Step => f.write_str("step()"),
            DurationKind::Range => f.write_str("range()"),
            DurationKind::Negate(inner) => write!(f, "-{inner}"),
            DurationKind::Paren(inner) => write!(f, "({inner})"),
            DurationKind::Binary(op @ (DurationOp::MinOf | DurationOp::MaxOf), left, right) => {
                write!(f, "{}({left}, {right})", op.as_str())
            }
            DurationKind::Binary(op, left, right) => write!(f, "{left} {} {right}", op.as_str()),
        }
    }
}

/// A range, step or offset: a literal always as a duration.
struct Period<'a>(&'a DurationExpr);

impl fmt::Display for Period<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.kind {
            DurationKind::Literal(literal) if literal.millis() != 0 => {
                f.write_str(&format_duration(literal.millis()))
            }
            _ => self.0.fmt(f),
        }
    }
}

fn write_matchers(f: &mut fmt::Formatter<'_>, selector: &VectorSelector) -> fmt::Result {
    let name = selector.name.as_deref().unwrap_or_default();
    let mut matchers: Vec<String> = selector
        .matchers
        .iter()
        .filter(|matcher| {
            let is_name = matcher.name() == METRIC_NAME
                && matcher.op() == MatchOp::Equal
                && matcher.value() == name;
            !is_name || name.is_empty()
        })
        .map(ToString::to_string)
        .collect();
    f.write_str(name)?;
    if matchers.is_empty() && !name.is_empty() {
        return Ok(());
    }
    matchers.sort_unstable();
    write!(f, "{{{}}}", matchers.join(","))
}

fn write_at(f: &mut fmt::Formatter<'_>, shift: &Shift) -> fmt::Result {
    match shift.at {
        None => Ok(()),
        Some(At::Start) => f.write_str(" @ start()"),
        Some(At::End) => f.write_str(" @ end()"),
        Some(At::Time(millis)) => {
            let (sign, millis) = (if millis < 0 { "-" } else { "" }, millis.unsigned_abs());
            write!(f, " @ {sign}{}.{:03}", millis / 1_000, millis % 1_000)
        }
    }
}

fn write_extension(f: &mut fmt::Formatter<'_>, extension: Extension) -> fmt::Result {
    f.write_str(match extension {
        Extension::None => "",
        Extension::Anchored => " anchored",
        Extension::Smoothed => " smoothed",
    })
}

fn write_offset(f: &mut fmt::Formatter<'_>, shift: &Shift) -> fmt::Result {
    match &shift.offset {
        Some(offset) if !offset.is_zero() => write!(f, " offset {}", Period(offset)),
        _ => Ok(()),
    }
}

/// What follows the expression of a subquery.
struct Suffix<'a>(&'a Subquery);

impl fmt::Display for Suffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}:", Period(&self.0.range))?;
        if let Some(step) = &self.0.step {
            write!(f, "{}", Period(step))?;
        }
        f.write_char(']')?;
        write_at(f, &self.0.shift)?;
        write_offset(f, &self.0.shift)
    }
}

/// An operator with its modifiers.
struct Operator<'a>(&'a BinaryExpr);

impl fmt::Display for Operator<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.as_str())?;
        if self.0.return_bool {
            f.write_str(" bool")?;
        }
        let Some(matching) = &self.0.matching else { return Ok(()) };
        let side = match matching.cardinality {
            Cardinality::ManyToOne => Some("group_left"),
            Cardinality::OneToMany => Some("group_right"),
            Cardinality::OneToOne | Cardinality::ManyToMany => None,
        };
        if !matching.labels.is_empty() || matching.on || side.is_some() {
            let word = if matching.on { "on" } else { "ignoring" };
            write!(f, " {word} ({})", LabelList(&matching.labels))?;
        }
        if let Some(side) = side {
            write!(f, " {side} ({})", LabelList(&matching.include))?;
        }
        write_fills(f, matching)
    }
}

fn write_fills(f: &mut fmt::Formatter<'_>, matching: &VectorMatching) -> fmt::Result {
    let (left, right) = (matching.fill_left, matching.fill_right);
    if let (Some(left), Some(right)) = (left, right)
        && left == right
    {
        return write!(f, " fill ({})", format_general(left));
    }
    for (word, value) in [("fill_left", left), ("fill_right", right)] {
        if let Some(value) = value {
            write!(f, " {word} ({})", format_general(value))?;
        }
    }
    Ok(())
}

/// An aggregation's operator with its grouping.
struct Aggregation<'a>(&'a AggregateExpr);

impl fmt::Display for Aggregation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.as_str())?;
        let Grouping { without, labels } = &self.0.grouping;
        match (without, labels.is_empty()) {
            (true, _) => write!(f, " without ({}) ", LabelList(labels)),
            (false, false) => write!(f, " by ({}) ", LabelList(labels)),
            (false, true) => Ok(()),
        }
    }
}

struct LabelList<'a>(&'a [String]);

impl fmt::Display for LabelList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, label) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            if is_classic_label_name(label) {
                f.write_str(label)?;
            } else {
                f.write_str(&quote(label))?;
            }
        }
        Ok(())
    }
}
