//! Selectors, and what may follow an expression: ranges, subqueries, `offset`, `@`, `anchored`,
//! `smoothed`.

use crate::model::{METRIC_NAME, MatchOp, Matcher};
use crate::promql::ast::{
    At, BinaryOp, DurationExpr, Expr, ExprKind, Extension, MatrixSelector, Shift, Span, Subquery,
    VectorSelector,
};
use crate::promql::lexer::{Keyword, TokenKind};
use crate::promql::parser::duration::Place;
use crate::promql::parser::{ParseError, Parser, Tree};

/// Whether a word may name a metric: some have another meaning elsewhere.
pub(super) fn is_name(kind: TokenKind) -> bool {
    matches!(
        kind,
        TokenKind::Identifier
            | TokenKind::MetricIdentifier
            | TokenKind::Aggregate(_)
            | TokenKind::Op(BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
            | TokenKind::Keyword(
                Keyword::By
                    | Keyword::Without
                    | Keyword::Offset
                    | Keyword::Anchored
                    | Keyword::Smoothed
                    | Keyword::Fill
                    | Keyword::FillLeft
                    | Keyword::FillRight
                    | Keyword::Start
                    | Keyword::End
                    | Keyword::Step
                    | Keyword::Range
                    | Keyword::MaxOf
                    | Keyword::MinOf,
            )
    )
}

impl Parser<'_> {
    /// `name`, `{…}` or `name{…}`.
    pub(super) fn vector_selector(&mut self) -> Result<(VectorSelector, Span), ParseError> {
        let token = self.peek();
        let name = match token.kind {
            TokenKind::LeftBrace => None,
            kind if is_name(kind) => {
                self.bump();
                Some(self.source(token).to_owned())
            }
            _ => return Err(self.unexpected("", "")),
        };
        let mut matchers = Vec::new();
        if self.peek().kind == TokenKind::LeftBrace {
            self.bump();
            self.matchers(&mut matchers)?;
        }
        if let Some(name) = &name {
            matchers.push(Matcher::equal(METRIC_NAME, name.as_str()));
        }
        let selector =
            VectorSelector { name, matchers, shift: Shift::default(), extension: Extension::None };
        Ok((selector, Span::new(token.span.start, self.last_end)))
    }

    /// Matchers and the closing brace; a comma may stand after the last.
    fn matchers(&mut self, matchers: &mut Vec<Matcher>) -> Result<(), ParseError> {
        const CONTEXT: &str = "label matching";
        loop {
            if self.eat(TokenKind::RightBrace) {
                return Ok(());
            }
            let token = self.peek();
            let name = match token.kind {
                TokenKind::Identifier => {
                    self.bump();
                    self.source(token).to_owned()
                }
                TokenKind::String => self.string()?,
                // After a first comma, only.
                _ => return Err(self.unexpected(CONTEXT, "identifier or \"}\"")),
            };
            let op = match self.peek().kind {
                TokenKind::Assign => Some(MatchOp::Equal),
                TokenKind::Op(BinaryOp::NotEqual) => Some(MatchOp::NotEqual),
                TokenKind::RegexMatch => Some(MatchOp::Regex),
                TokenKind::RegexNotMatch => Some(MatchOp::NotRegex),
                _ => None,
            };
            let matcher = match op {
                Some(op) => {
                    self.bump();
                    if self.peek().kind != TokenKind::String {
                        return Err(self.unexpected(CONTEXT, "string"));
                    }
                    let value = self.string()?;
                    let span = Span::new(token.span.start, self.last_end);
                    Matcher::new(op, name, value)
                        .map_err(|error| self.error(error.to_string(), span))?
                }
                // A name in quotes stands for itself.
                None if token.kind == TokenKind::String => Matcher::equal(METRIC_NAME, name),
                None => return Err(self.unexpected(CONTEXT, "label matching operator")),
            };
            matchers.push(matcher);
            if self.eat(TokenKind::RightBrace) {
                return Ok(());
            }
            self.expect(TokenKind::Comma, CONTEXT, "\",\" or \"}\"")?;
        }
    }

    /// Everything that follows an operand and belongs to it.
    pub(super) fn modifiers(&mut self, mut tree: Tree) -> Result<Tree, ParseError> {
        loop {
            match self.peek().kind {
                TokenKind::LeftBracket => tree = self.brackets(tree)?,
                TokenKind::Keyword(Keyword::Offset) => {
                    self.bump();
                    let offset = self.offset_duration()?;
                    self.set_offset(&mut tree.expr, offset)?;
                }
                TokenKind::At => {
                    self.bump();
                    let at = self.at(&tree.expr)?;
                    self.set_at(&mut tree.expr, at)?;
                }
                TokenKind::Keyword(Keyword::Anchored) => {
                    self.bump();
                    self.set_extension(&mut tree.expr, Extension::Anchored)?;
                }
                TokenKind::Keyword(Keyword::Smoothed) => {
                    self.bump();
                    self.set_extension(&mut tree.expr, Extension::Smoothed)?;
                }
                _ => return Ok(tree),
            }
        }
    }

    /// `[range]`, `[range:]` or `[range:step]`
    fn brackets(&mut self, tree: Tree) -> Result<Tree, ParseError> {
        let open = self.bump().span;
        let range = self.positive_duration(Place::Range)?;
        let is_subquery = self.eat(TokenKind::Colon);
        let mut step = None;
        if is_subquery && self.peek().kind != TokenKind::RightBracket {
            step = Some(self.positive_duration(Place::SubqueryStep)?);
        }
        let (context, expected) = match (is_subquery, &step) {
            (false, _) => ("subquery or range", "\":\" or \"]\""),
            (true, None) => ("subquery selector", "number, duration, step(), range(), or \"]\""),
            (true, Some(_)) => ("subquery selector", "\"]\""),
        };
        let close = self.expect(TokenKind::RightBracket, context, expected)?.span;
        let span = tree.expr.span.to(close);
        if is_subquery {
            let kind = ExprKind::Subquery(Subquery {
                operand: tree.expr,
                range,
                step,
                shift: Shift::default(),
            });
            return self.tree(kind, span, tree.height + 1);
        }
        let fail = |message| Err(self.error(message, open.to(close)));
        let ExprKind::VectorSelector(selector) = tree.expr.kind else {
            return fail("ranges only allowed for vector selectors");
        };
        if selector.shift.offset.as_ref().is_some_and(|offset| !offset.is_zero()) {
            return fail("no offset modifiers allowed before range");
        }
        if selector.shift.at.is_some() {
            return fail("no @ modifiers allowed before range");
        }
        self.tree(ExprKind::MatrixSelector(MatrixSelector { selector, range }), span, tree.height)
    }

    fn set_offset(&self, expr: &mut Expr, offset: DurationExpr) -> Result<(), ParseError> {
        let span = expr.span;
        let Some(shift) = shift_of(expr) else {
            let message = "offset modifier must be preceded by an instant vector selector or \
                           range vector selector or a subquery";
            return Err(self.error(message, span));
        };
        if shift.offset.as_ref().is_some_and(|offset| !offset.is_zero()) {
            return Err(self.error("offset may not be set multiple times", span));
        }
        shift.offset = Some(offset);
        expr.span.end = self.last_end;
        Ok(())
    }

    fn set_at(&self, expr: &mut Expr, at: At) -> Result<(), ParseError> {
        let span = expr.span;
        let Some(shift) = shift_of(expr) else {
            let message = "@ modifier must be preceded by an instant vector selector or range \
                           vector selector or a subquery";
            return Err(self.error(message, span));
        };
        if shift.at.is_some() {
            return Err(self.error("@ <timestamp> may not be set multiple times", span));
        }
        shift.at = Some(at);
        expr.span.end = self.last_end;
        Ok(())
    }

    /// What stands behind `@`.
    fn at(&mut self, of: &Expr) -> Result<At, ParseError> {
        const CONTEXT: &str = "@";
        const EXPECTED: &str = "timestamp";
        if let TokenKind::Keyword(keyword @ (Keyword::Start | Keyword::End)) = self.peek().kind {
            self.bump();
            self.expect(TokenKind::LeftParen, CONTEXT, EXPECTED)?;
            self.expect(TokenKind::RightParen, CONTEXT, EXPECTED)?;
            return Ok(if keyword == Keyword::Start { At::Start } else { At::End });
        }
        let negative = self.peek().kind == TokenKind::Op(BinaryOp::Sub);
        if negative || self.peek().kind == TokenKind::Op(BinaryOp::Add) {
            self.bump();
        }
        if !matches!(self.peek().kind, TokenKind::Number | TokenKind::Duration) {
            return Err(self.unexpected(CONTEXT, EXPECTED));
        }
        let (literal, _) = self.number()?;
        let seconds = if negative { -literal.value } else { literal.value };
        let millis = (seconds * 1_000.0).round();
        #[expect(clippy::cast_precision_loss, reason = "a bound of the same size is as good")]
        let max = i64::MAX as f64;
        if !millis.is_finite() || millis.abs() >= max {
            let shown = match seconds {
                f64::INFINITY => "+Inf".to_owned(),
                f64::NEG_INFINITY => "-Inf".to_owned(),
                seconds => format!("{seconds:.6}"),
            };
            let message = format!("timestamp out of bounds for @ modifier: {shown}");
            return Err(self.error(message, of.span));
        }
        #[expect(clippy::cast_possible_truncation, reason = "checked against the bounds above")]
        let millis = millis as i64;
        Ok(At::Time(millis))
    }

    fn set_extension(&self, expr: &mut Expr, extension: Extension) -> Result<(), ParseError> {
        let span = expr.span;
        let word = if extension == Extension::Anchored { "anchored" } else { "smoothed" };
        let selector = match &mut expr.kind {
            ExprKind::VectorSelector(selector) => selector,
            ExprKind::MatrixSelector(matrix) => &mut matrix.selector,
            ExprKind::Subquery(_) => {
                let message = format!("{word} modifier is not supported for subqueries");
                return Err(self.error(message, span));
            }
            _ => return Err(self.error(format!("{word} modifier not implemented"), span)),
        };
        if selector.extension != Extension::None && selector.extension != extension {
            let message = "anchored and smoothed modifiers cannot be used together";
            return Err(self.error(message, span));
        }
        selector.extension = extension;
        Ok(())
    }
}

/// The modifiers `offset` and `@` of an expression that can have them.
fn shift_of(expr: &mut Expr) -> Option<&mut Shift> {
    match &mut expr.kind {
        ExprKind::VectorSelector(selector) => Some(&mut selector.shift),
        ExprKind::MatrixSelector(matrix) => Some(&mut matrix.selector.shift),
        ExprKind::Subquery(subquery) => Some(&mut subquery.shift),
        _ => None,
    }
}
