//! Aggregations and lists of labels in parentheses.

use crate::model::labels::quote;
use crate::promql::ast::{AggregateExpr, AggregateOp, ExprKind, Grouping, Span};
use crate::promql::lexer::{Keyword, TokenKind};
use crate::promql::parser::{ParseError, Parser, Tree};

impl Parser<'_> {
    /// An aggregation, grouped before or after its arguments.
    pub(super) fn aggregate(&mut self, op: AggregateOp) -> Result<Tree, ParseError> {
        let start = self.bump().span.start;
        let before = self.grouping()?;
        self.aggregations += 1;
        let (mut args, height) = self.args()?;
        self.aggregations -= 1;
        let grouping = match before {
            Some(grouping) => grouping,
            None => match self.grouping()? {
                Some(grouping) => grouping,
                None => {
                    self.check_next()?;
                    Grouping::default()
                }
            },
        };
        let span = Span::new(start, self.last_end);
        if args.is_empty() {
            return Err(self.error("no arguments for aggregate expression provided", span));
        }
        let expected = if op.param_type().is_some() { 2 } else { 1 };
        let got = args.len();
        let operand = args.pop().filter(|_| got == expected).ok_or_else(|| {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, \
                 expected {expected}, got {got}"
            );
            self.error(message, span)
        })?;
        let kind = ExprKind::Aggregate(AggregateExpr {
            op,
            param: args.pop().map(Box::new),
            operand: Box::new(operand),
            grouping,
        });
        self.tree(kind, span, height + 1)
    }

    fn grouping(&mut self) -> Result<Option<Grouping>, ParseError> {
        let without = match self.peek().kind {
            TokenKind::Keyword(Keyword::By) => false,
            TokenKind::Keyword(Keyword::Without) => true,
            _ => return Ok(None),
        };
        self.bump();
        Ok(Some(Grouping { without, labels: self.label_list()? }))
    }

    /// Label names in parentheses; a comma may stand after the last.
    pub(super) fn label_list(&mut self) -> Result<Vec<String>, ParseError> {
        const CONTEXT: &str = "grouping opts";
        self.expect(TokenKind::LeftParen, CONTEXT, "\"(\"")?;
        let mut labels = Vec::new();
        if self.eat(TokenKind::RightParen) {
            return Ok(labels);
        }
        loop {
            let token = self.peek();
            let label = match token.kind {
                TokenKind::String => self.string()?,
                TokenKind::Identifier
                | TokenKind::MetricIdentifier
                | TokenKind::Keyword(_)
                | TokenKind::Aggregate(_) => {
                    self.bump();
                    self.source(token).to_owned()
                }
                // An operator that is a word.
                TokenKind::Op(op) if op.as_str().starts_with(char::is_alphabetic) => {
                    self.bump();
                    self.source(token).to_owned()
                }
                _ => return Err(self.unexpected(CONTEXT, "label")),
            };
            if label.is_empty() {
                let message = format!("invalid label name for grouping: {}", quote(&label));
                return Err(self.error(message, token.span));
            }
            labels.push(label);
            if self.eat(TokenKind::RightParen) {
                return Ok(labels);
            }
            self.expect(TokenKind::Comma, CONTEXT, "\",\" or \")\"")?;
            if self.eat(TokenKind::RightParen) {
                return Ok(labels);
            }
        }
    }
}
