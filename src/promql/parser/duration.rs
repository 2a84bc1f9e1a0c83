//! Durations in brackets and after `offset`.

use crate::promql::ast::{
    BinaryOp, DURATION_SECONDS_MAX, DurationExpr, DurationKind, DurationOp, NumberLiteral, Span,
};
use crate::promql::lexer::{Keyword, TokenKind};
use crate::promql::parser::expr::{SIGN_POWER, binding_power};
use crate::promql::parser::{ParseError, Parser};

/// Where a duration stands; decides what an error says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Range,
    SubqueryStep,
    Offset,
    /// In parentheses after `offset`.
    OffsetInside,
}

impl Place {
    /// Context and expectation.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Place::Range => ("subquery or range selector", "number, duration, step(), or range()"),
            Place::SubqueryStep => {
                ("subquery selector", "number, duration, step(), range(), or \"]\"")
            }
            Place::Offset | Place::OffsetInside => {
                ("offset", "number, duration, step(), or range()")
            }
        }
    }
}

/// A duration and its height as a tree.
type Duration = (DurationExpr, usize);

impl Parser<'_> {
    /// A range or a step: a literal must be positive here, an expression when it has a value.
    pub(super) fn positive_duration(&mut self, place: Place) -> Result<DurationExpr, ParseError> {
        let (duration, _) = self.duration(0, place)?;
        if let DurationKind::Literal(literal) = &duration.kind
            && (literal.value <= 0.0 || literal.value.is_nan())
        {
            self.check_next()?;
            return Err(self.error("duration must be greater than 0", duration.span));
        }
        Ok(duration)
    }

    /// What stands behind `offset`. Operators belong to it only if it begins with a parenthesis:
    /// `x offset 1m * 2` is `(x offset 1m) * 2`.
    pub(super) fn offset_duration(&mut self) -> Result<DurationExpr, ParseError> {
        let place = Place::Offset;
        if self.peek().kind != TokenKind::LeftParen {
            return Ok(self.duration(u8::MAX, place)?.0);
        }
        let mut left = self.duration_operand(place)?;
        while let Some(op) = self.duration_op().filter(|_| self.is_duration_start(1)) {
            left = self.duration_operation(left, op, place)?;
        }
        Ok(left.0)
    }

    /// A duration expression of operators that bind at least this strongly.
    fn duration(&mut self, power_min: u8, place: Place) -> Result<Duration, ParseError> {
        self.enter()?;
        let mut left = self.duration_operand(place)?;
        while let Some(op) = self.duration_op().filter(|op| power(*op).0 >= power_min) {
            left = self.duration_operation(left, op, place)?;
        }
        self.leave();
        Ok(left)
    }

    fn duration_operation(
        &mut self,
        (left, left_height): Duration,
        op: DurationOp,
        place: Place,
    ) -> Result<Duration, ParseError> {
        let op_span = self.bump().span;
        let (right, right_height) = self.duration(power(op).1, place)?;
        if let DurationKind::Literal(NumberLiteral { value: 0.0, .. }) = right.kind {
            self.check_next()?;
            match op {
                DurationOp::Div => return Err(self.error("division by zero", op_span)),
                DurationOp::Mod => return Err(self.error("modulo by zero", op_span)),
                _ => {}
            }
        }
        let height = left_height.max(right_height) + 1;
        self.check_depth(height)?;
        let span = left.span.to(right.span);
        let kind = DurationKind::Binary(op, Box::new(left), Box::new(right));
        Ok((DurationExpr { kind, span }, height))
    }

    fn duration_operand(&mut self, place: Place) -> Result<Duration, ParseError> {
        let token = self.peek();
        match token.kind {
            TokenKind::Op(BinaryOp::Add | BinaryOp::Sub) => {
                let is_minus = self.bump().kind == TokenKind::Op(BinaryOp::Sub);
                // A sign in front of an offset binds only what directly follows.
                let power_min = if place == Place::Offset { u8::MAX } else { SIGN_POWER };
                let (operand, height) = self.duration(power_min, place)?;
                let span = token.span.to(operand.span);
                let kind = match operand.kind {
                    DurationKind::Literal(literal) if is_minus => {
                        let value = -literal.value;
                        DurationKind::Literal(NumberLiteral { value, ..literal })
                    }
                    kind if !is_minus => kind,
                    kind => {
                        let operand = DurationExpr { kind, span: operand.span };
                        DurationKind::Negate(Box::new(operand))
                    }
                };
                Ok((DurationExpr { kind, span }, height + 1))
            }
            TokenKind::Number | TokenKind::Duration => {
                let (literal, span) = self.number()?;
                if literal.value.abs() > DURATION_SECONDS_MAX {
                    return Err(self.error("duration out of range", span));
                }
                Ok((DurationExpr { kind: DurationKind::Literal(literal), span }, 0))
            }
            TokenKind::LeftParen => {
                self.bump();
                let (inner, height) = self.duration(0, inside(place))?;
                self.expect_paren(TokenKind::RightParen, place)?;
                let span = inner.span;
                let kind = DurationKind::Paren(Box::new(inner));
                Ok((DurationExpr { kind, span }, height + 1))
            }
            TokenKind::Keyword(keyword @ (Keyword::Step | Keyword::Range)) => {
                self.bump();
                self.expect_paren(TokenKind::LeftParen, place)?;
                self.expect_paren(TokenKind::RightParen, place)?;
                let kind = match keyword {
                    Keyword::Step => DurationKind::Step,
                    _ => DurationKind::Range,
                };
                let span = Span::new(token.span.start, self.last_end);
                Ok((DurationExpr { kind, span }, 0))
            }
            TokenKind::Keyword(keyword @ (Keyword::MaxOf | Keyword::MinOf)) => {
                self.bump();
                self.expect_paren(TokenKind::LeftParen, place)?;
                let (left, left_height) = self.duration(0, inside(place))?;
                self.expect_paren(TokenKind::Comma, place)?;
                let (right, right_height) = self.duration(0, inside(place))?;
                self.expect_paren(TokenKind::RightParen, place)?;
                let op = match keyword {
                    Keyword::MaxOf => DurationOp::MaxOf,
                    _ => DurationOp::MinOf,
                };
                // Prometheus points at what is between the parentheses.
                let span = left.span.to(right.span);
                let kind = DurationKind::Binary(op, Box::new(left), Box::new(right));
                Ok((DurationExpr { kind, span }, left_height.max(right_height) + 1))
            }
            _ => {
                let (context, expected) = place.words();
                Err(self.unexpected(context, expected))
            }
        }
    }

    fn expect_paren(&mut self, kind: TokenKind, place: Place) -> Result<(), ParseError> {
        let (context, expected) = place.words();
        self.expect(kind, context, expected).map(|_| ())
    }

    /// The operator that comes next, if durations have it.
    fn duration_op(&self) -> Option<DurationOp> {
        match self.peek().kind {
            TokenKind::Op(BinaryOp::Add) => Some(DurationOp::Add),
            TokenKind::Op(BinaryOp::Sub) => Some(DurationOp::Sub),
            TokenKind::Op(BinaryOp::Mul) => Some(DurationOp::Mul),
            TokenKind::Op(BinaryOp::Div) => Some(DurationOp::Div),
            TokenKind::Op(BinaryOp::Mod) => Some(DurationOp::Mod),
            TokenKind::Op(BinaryOp::Pow) => Some(DurationOp::Pow),
            _ => None,
        }
    }

    /// Whether a duration can begin with the token after `count` others.
    fn is_duration_start(&self, count: usize) -> bool {
        match self.peek_after(count).kind {
            TokenKind::Number | TokenKind::Duration | TokenKind::LeftParen => true,
            TokenKind::Keyword(
                Keyword::Step | Keyword::Range | Keyword::MaxOf | Keyword::MinOf,
            ) => self.peek_after(count + 1).kind == TokenKind::LeftParen,
            _ => false,
        }
    }
}

/// Inside of parentheses an offset is an expression like any other.
fn inside(place: Place) -> Place {
    if place == Place::Offset { Place::OffsetInside } else { place }
}

fn power(op: DurationOp) -> (u8, u8) {
    binding_power(match op {
        DurationOp::Add => BinaryOp::Add,
        DurationOp::Sub => BinaryOp::Sub,
        DurationOp::Mul => BinaryOp::Mul,
        DurationOp::Div => BinaryOp::Div,
        DurationOp::Mod => BinaryOp::Mod,
        // The last two are no operators and never come to be asked.
        DurationOp::Pow | DurationOp::MinOf | DurationOp::MaxOf => BinaryOp::Pow,
    })
}
