//! Text to tree: the complete grammar of PromQL 3.x, and AetherDB's one addition to it.
//!
//! A recursive descent over tokens, with binding powers for operators ([`expr`]). The tree is
//! checked for types when it is whole (`check`). The first error ends parsing; its text is
//! Prometheus' where Prometheus has one.
//!
//! Invariant: neither parsing nor the tree is deeper than [`DEPTH_MAX`], or [`DEEP_MAX`] if it was
//! read by [`parse_deep`], whatever the text.

mod aggregate;
mod check;
mod duration;
mod expr;
mod literal;
mod selector;

pub mod error;

pub use error::ParseError;

use crate::model::Matcher;
use crate::model::labels::quote;
use crate::promql::ast::{Expr, Span};
use crate::promql::lexer::{Keyword, Lexed, Token, TokenKind, lex};

pub(crate) use literal::format_duration;

/// Most nodes between the root of a tree and any leaf, on whatever thread. An unoptimized build
/// takes 10 KB of stack per level here, and a thread has 2 MB.
pub const DEPTH_MAX: usize = 128;
/// The same on the threads of a query session, whose stacks are made for it: planning and running
/// one level of calls takes up to 60 KB in an unoptimized build.
pub const DEEP_MAX: usize = 5_000;

/// Parses and checks a query.
///
/// ```
/// use aetherdb::promql::{ValueType, parse};
///
/// let expr = parse("sum by (job) (rate(requests_total[5m]))").unwrap();
/// assert_eq!(expr.value_type(), ValueType::Instant);
/// assert_eq!(parse("rate(x)").unwrap_err().to_string(),
///     "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector");
/// ```
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    parse_to(text, DEPTH_MAX)
}

/// The same for text that [`ParseError::is_too_deep`], such as a sum of hundreds of terms. To be
/// called on the threads of a [`crate::query::QuerySession`], and nowhere else may its tree go.
pub(crate) fn parse_deep(text: &str) -> Result<Expr, ParseError> {
    parse_to(text, DEEP_MAX)
}

fn parse_to(text: &str, depth_max: usize) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(text);
    parser.depth_max = depth_max;
    if parser.peek().kind == TokenKind::Eof {
        return Err(parser.error("no expression found in input", Span::default()));
    }
    let mut expr = *parser.expr(0)?.expr;
    parser.end()?;
    check::check(&mut expr, text)?;
    Ok(expr)
}

/// Parses a series selector such as `match[]` takes: `name`, `{…}` or `name{…}`. Whether it may
/// select everything is for the caller to say.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let mut parser = Parser::new(text);
    let (selector, _) = parser.vector_selector()?;
    parser.end()?;
    Ok(selector.matchers)
}

/// A tree under construction.
struct Tree {
    expr: Box<Expr>,
    /// Nodes on the longest way from the root to a leaf.
    height: usize,
}

struct Parser<'a> {
    text: &'a str,
    lexed: Lexed,
    /// Index of the next token.
    at: usize,
    /// Where the last token that was taken ends.
    last_end: usize,
    /// Constructs that are open.
    nesting: usize,
    /// Aggregations whose arguments are being read.
    aggregations: usize,
    depth_max: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        let lexed = lex(text);
        Self { text, lexed, at: 0, last_end: 0, nesting: 0, aggregations: 0, depth_max: DEPTH_MAX }
    }

    fn peek(&self) -> Token {
        self.peek_after(0)
    }

    /// The token `count` tokens after the next; the last one if there are not so many.
    fn peek_after(&self, count: usize) -> Token {
        let last = self.lexed.tokens.len() - 1;
        self.lexed.tokens[(self.at + count).min(last)]
    }

    fn bump(&mut self) -> Token {
        let token = self.peek();
        self.at += 1;
        self.last_end = token.span.end;
        token
    }

    fn eat(&mut self, kind: TokenKind) -> bool {
        let found = self.peek().kind == kind;
        if found {
            self.bump();
        }
        found
    }

    fn eat_keyword(&mut self, keyword: Keyword) -> bool {
        self.eat(TokenKind::Keyword(keyword))
    }

    /// Takes a token of this kind, or complains of what stands in its place.
    fn expect(
        &mut self,
        kind: TokenKind,
        context: &str,
        expected: &str,
    ) -> Result<Token, ParseError> {
        if self.peek().kind != kind {
            return Err(self.unexpected(context, expected));
        }
        Ok(self.bump())
    }

    fn end(&self) -> Result<(), ParseError> {
        match self.peek().kind {
            TokenKind::Eof => Ok(()),
            _ => Err(self.unexpected("", "")),
        }
    }

    fn source(&self, token: Token) -> &'a str {
        &self.text[token.span.start..token.span.end]
    }

    fn error(&self, message: impl Into<String>, span: Span) -> ParseError {
        ParseError::new(message, span, self.text)
    }

    /// Complains of the next token if it is none: as Prometheus does, which looks at it before it
    /// says what is wrong with what it has read.
    fn check_next(&self) -> Result<(), ParseError> {
        match self.peek().kind {
            TokenKind::Error => Err(self.unexpected("", "")),
            _ => Ok(()),
        }
    }

    /// Complains of the next token. Where no context is given, an aggregation around it is one.
    fn unexpected(&self, context: &str, expected: &str) -> ParseError {
        let is_aggregation = context.is_empty() && self.aggregations > 0;
        let context = if is_aggregation { "aggregation" } else { context };
        let token = self.peek();
        if let (TokenKind::Error, Some((message, span))) = (token.kind, &self.lexed.error) {
            return self.error(message.as_str(), *span);
        }
        let mut message = format!("unexpected {}", self.describe(token));
        for (word, what) in [(" in ", context), (", expected ", expected)] {
            if !what.is_empty() {
                message.push_str(word);
                message.push_str(what);
            }
        }
        self.error(message, token.span)
    }

    fn describe(&self, token: Token) -> String {
        let source = self.source(token);
        match token.kind {
            TokenKind::Eof => "end of input".to_owned(),
            TokenKind::Identifier => format!("identifier {}", quote(source)),
            TokenKind::MetricIdentifier => format!("metric identifier {}", quote(source)),
            TokenKind::String => format!("string {}", shorten(source)),
            TokenKind::Number => format!("number {}", shorten(source)),
            TokenKind::Duration => format!("duration {}", shorten(source)),
            TokenKind::Op(_) | TokenKind::At | TokenKind::RegexMatch | TokenKind::RegexNotMatch => {
                format!("<op:{source}>")
            }
            TokenKind::Aggregate(_) => format!("<aggr:{source}>"),
            TokenKind::Keyword(
                Keyword::Start
                | Keyword::End
                | Keyword::Step
                | Keyword::Range
                | Keyword::MaxOf
                | Keyword::MinOf,
            ) => shorten(source),
            TokenKind::Keyword(_) => format!("<{source}>"),
            _ => quote(source),
        }
    }

    /// Opens a construct inside of the ones that are open; [`Parser::leave`] closes it.
    fn enter(&mut self) -> Result<(), ParseError> {
        self.nesting += 1;
        self.check_depth(self.nesting)
    }

    fn leave(&mut self) {
        self.nesting -= 1;
    }

    /// A tree with `height` nodes below its root.
    fn check_depth(&self, height: usize) -> Result<(), ParseError> {
        if height < self.depth_max {
            return Ok(());
        }
        let message = format!("expression is nested too deeply: at most {} levels", self.depth_max);
        let mut error = self.error(message, self.peek().span);
        error.is_too_deep = true;
        Err(error)
    }
}

/// The first ten characters in quotes.
fn shorten(source: &str) -> String {
    let head: String = source.chars().take(10).collect();
    if source.len() > 10 { format!("{}...", quote(&head)) } else { quote(source) }
}

#[cfg(test)]
mod tests;
