//! What is wrong with the text of a query, and where.

use std::fmt;

use crate::promql::ast::Span;

/// A query's text that is not a query.
///
/// Invariant: `span` lies inside of the text, `line` and `column` (in bytes) are those of its
/// start, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    pub message: String,
    pub span: Span,
    pub line: usize,
    pub column: usize,
    /// The line of the text on which the error starts.
    source: String,
    is_empty: bool,
    pub(super) is_too_deep: bool,
}

impl ParseError {
    pub(crate) fn new(message: impl Into<String>, span: Span, text: &str) -> Self {
        let start = floor_char_boundary(text, span.start);
        let end = floor_char_boundary(text, span.end).max(start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        Self {
            message: message.into(),
            span: Span::new(start, end),
            line: text[..start].matches('\n').count() + 1,
            column: start - line_start + 1,
            source: text[line_start..line_end].to_owned(),
            is_empty: text.is_empty(),
            is_too_deep: false,
        }
    }

    /// Whether the text was given up for its depth alone.
    pub fn is_too_deep(&self) -> bool {
        self.is_too_deep
    }

    /// The error, the line it is on, and carets under the place.
    ///
    /// ```
    /// let error = aetherdb::promql::parse("sum(up) bye (job)").unwrap_err();
    /// assert_eq!(
    ///     error.render(),
    ///     "1:9: parse error: unexpected identifier \"bye\"\n\
    ///      \x20 sum(up) bye (job)\n\
    ///      \x20         ^^^"
    /// );
    /// ```
    pub fn render(&self) -> String {
        let (before, from) = self.source.split_at(self.column - 1);
        // Tabs are kept, so that the carets stand where the text stands.
        let indent: String =
            before.chars().map(|char| if char == '\t' { '\t' } else { ' ' }).collect();
        let bytes = (self.span.end - self.span.start).min(from.len());
        let marked = from[..floor_char_boundary(from, bytes)].chars().count();
        format!("{self}\n  {}\n  {indent}{}", self.source, "^".repeat(marked.max(1)))
    }
}

/// As Prometheus prints it, in one line.
impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty {
            return write!(f, "unknown position: parse error: {}", self.message);
        }
        write!(f, "{}:{}: parse error: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ParseError {}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
