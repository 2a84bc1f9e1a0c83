//! Expressions: operators by binding power, operands, calls.

use crate::model::labels::quote;
use crate::promql::ast::{
    BinaryExpr, BinaryOp, Call, Expr, ExprKind, NumberLiteral, Span, UnaryExpr, UnaryOp,
    VectorMatching,
};
use crate::promql::lexer::{Keyword, TokenKind};
use crate::promql::parser::literal::{duration_millis, number, unquote};
use crate::promql::parser::selector::is_name;
use crate::promql::parser::{ParseError, Parser, Tree};
use crate::promql::types::Function;

/// How strongly a sign binds its operand: as multiplication does, so `-2^2` is `-(2^2)`.
pub(super) const SIGN_POWER: u8 = 10;

/// How strongly an operator binds what stands left and right of it. A right side that binds more
/// strongly than the left one makes it left-associative.
pub(super) fn binding_power(op: BinaryOp) -> (u8, u8) {
    match op {
        BinaryOp::Or => (1, 2),
        BinaryOp::And | BinaryOp::Unless => (3, 4),
        BinaryOp::Equal
        | BinaryOp::NotEqual
        | BinaryOp::Less
        | BinaryOp::LessEqual
        | BinaryOp::Greater
        | BinaryOp::GreaterEqual
        | BinaryOp::TrimUpper
        | BinaryOp::TrimLower => (5, 6),
        BinaryOp::Add | BinaryOp::Sub => (7, 8),
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Atan2 => (9, 10),
        BinaryOp::Pow => (11, 11),
    }
}

impl Parser<'_> {
    /// An expression of operators that bind at least this strongly.
    pub(super) fn expr(&mut self, power_min: u8) -> Result<Tree, ParseError> {
        self.enter()?;
        let mut left = self.operand()?;
        while let TokenKind::Op(op) = self.peek().kind {
            let (left_power, right_power) = binding_power(op);
            if left_power < power_min {
                break;
            }
            self.bump();
            let (return_bool, matching) = self.binary_modifiers()?;
            let right = self.expr(right_power)?;
            left = self.binary(op, left, right, (return_bool, matching))?;
        }
        self.leave();
        Ok(left)
    }

    fn binary(
        &self,
        op: BinaryOp,
        left: Tree,
        right: Tree,
        (return_bool, matching): (bool, VectorMatching),
    ) -> Result<Tree, ParseError> {
        let height = left.height.max(right.height) + 1;
        let span = left.expr.span.to(right.expr.span);
        let kind = ExprKind::Binary(BinaryExpr {
            op,
            left: left.expr,
            right: right.expr,
            return_bool,
            matching: Some(matching),
        });
        self.tree(kind, span, height)
    }

    pub(super) fn tree(
        &self,
        kind: ExprKind,
        span: Span,
        height: usize,
    ) -> Result<Tree, ParseError> {
        self.check_depth(height)?;
        Ok(Tree { expr: Box::new(Expr::new(kind, span)), height })
    }

    fn operand(&mut self) -> Result<Tree, ParseError> {
        let op = match self.peek().kind {
            TokenKind::Op(BinaryOp::Add) => UnaryOp::Plus,
            TokenKind::Op(BinaryOp::Sub) => UnaryOp::Minus,
            _ => {
                let primary = self.primary()?;
                return self.modifiers(primary);
            }
        };
        let start = self.bump().span;
        let operand = self.expr(SIGN_POWER)?;
        let span = start.to(operand.expr.span);
        if let ExprKind::Number(literal) = operand.expr.kind {
            let value = if op == UnaryOp::Minus { -literal.value } else { literal.value };
            return self.tree(ExprKind::Number(NumberLiteral { value, ..literal }), span, 0);
        }
        let kind = ExprKind::Unary(UnaryExpr { op, operand: operand.expr });
        self.tree(kind, span, operand.height + 1)
    }

    fn primary(&mut self) -> Result<Tree, ParseError> {
        let token = self.peek();
        let next = self.peek_after(1).kind;
        match token.kind {
            TokenKind::Number | TokenKind::Duration => {
                let (literal, span) = self.number()?;
                self.tree(ExprKind::Number(literal), span, 0)
            }
            TokenKind::String => {
                let kind = match String::from_utf8(self.bytes()?) {
                    Ok(text) => ExprKind::String(text),
                    Err(error) => ExprKind::Bytes(error.into_bytes()),
                };
                self.tree(kind, token.span, 0)
            }
            TokenKind::LeftParen => self.paren(),
            TokenKind::Aggregate(op)
                if matches!(
                    next,
                    TokenKind::LeftParen | TokenKind::Keyword(Keyword::By | Keyword::Without)
                ) =>
            {
                self.aggregate(op)
            }
            TokenKind::Identifier
            | TokenKind::Keyword(
                Keyword::Start
                | Keyword::End
                | Keyword::Step
                | Keyword::Range
                | Keyword::MaxOf
                | Keyword::MinOf,
            ) if next == TokenKind::LeftParen => self.call(),
            _ => {
                let (selector, span) = self.vector_selector()?;
                self.tree(ExprKind::VectorSelector(selector), span, 0)
            }
        }
    }

    /// Whether the next token may begin an operand. One that is none at all is told elsewhere.
    fn starts_operand(&self) -> bool {
        use TokenKind::{Duration, Error, LeftBrace, LeftParen, Number, Op, String};
        let kind = self.peek().kind;
        is_name(kind)
            || matches!(kind, Number | Duration | String | LeftParen | LeftBrace | Error)
            || matches!(kind, Op(BinaryOp::Add | BinaryOp::Sub))
    }

    fn paren(&mut self) -> Result<Tree, ParseError> {
        let start = self.bump().span;
        let inner = self.expr(0)?;
        let end = self.expect(TokenKind::RightParen, "", "")?.span;
        self.tree(ExprKind::Paren(inner.expr), start.to(end), inner.height + 1)
    }

    fn call(&mut self) -> Result<Tree, ParseError> {
        let name = self.bump();
        let (args, height) = self.args()?;
        let function = Function::by_name(self.source(name)).ok_or_else(|| {
            let name_text = quote(self.source(name));
            self.error(format!("unknown function with name {name_text}"), name.span)
        })?;
        let span = Span::new(name.span.start, self.last_end);
        self.tree(ExprKind::Call(Call { function, args }), span, height + 1)
    }

    /// Arguments in parentheses, and the height of the highest.
    pub(super) fn args(&mut self) -> Result<(Vec<Expr>, usize), ParseError> {
        self.expect(TokenKind::LeftParen, "", "")?;
        let (mut args, mut height) = (Vec::new(), 0);
        if self.eat(TokenKind::RightParen) {
            return Ok((args, height));
        }
        loop {
            let arg = self.expr(0)?;
            height = height.max(arg.height);
            args.push(*arg.expr);
            let comma = self.peek();
            if !self.eat(TokenKind::Comma) {
                self.expect(TokenKind::RightParen, "", "")?;
                return Ok((args, height));
            }
            if !self.starts_operand() {
                let message = "trailing commas not allowed in function call args";
                return Err(self.error(message, comma.span));
            }
        }
    }

    /// A number or a duration; the caller knows that one is there.
    pub(super) fn number(&mut self) -> Result<(NumberLiteral, Span), ParseError> {
        let token = self.bump();
        let source = self.source(token);
        let is_duration = token.kind == TokenKind::Duration;
        let value = if is_duration {
            duration_millis(source).map(|millis| millis as f64 / 1_000.0)
        } else {
            number(source)
        };
        let value = value.map_err(|message| self.error(message, token.span))?;
        Ok((NumberLiteral { value, is_duration }, token.span))
    }

    /// A string that is text; the caller knows that a string is there.
    pub(super) fn string(&mut self) -> Result<String, ParseError> {
        let token = self.peek();
        String::from_utf8(self.bytes()?).map_err(|_| {
            let message = format!("{} is not valid UTF-8", self.source(token));
            self.error(message, token.span)
        })
    }

    /// A string, whatever is in it.
    fn bytes(&mut self) -> Result<Vec<u8>, ParseError> {
        let token = self.bump();
        unquote(self.source(token)).map_err(|message| self.error(message, token.span))
    }

    /// What may stand between an operator and its right operand.
    fn binary_modifiers(&mut self) -> Result<(bool, VectorMatching), ParseError> {
        use crate::promql::ast::Cardinality::{ManyToOne, OneToMany};
        let mut matching = VectorMatching::default();
        let return_bool = self.eat_keyword(Keyword::Bool);
        if let TokenKind::Keyword(keyword @ (Keyword::On | Keyword::Ignoring)) = self.peek().kind {
            self.bump();
            matching.on = keyword == Keyword::On;
            matching.labels = self.label_list()?;
            if let TokenKind::Keyword(side @ (Keyword::GroupLeft | Keyword::GroupRight)) =
                self.peek().kind
            {
                self.bump();
                matching.cardinality =
                    if side == Keyword::GroupLeft { ManyToOne } else { OneToMany };
                let has_labels = self.peek().kind == TokenKind::LeftParen;
                if has_labels || !self.starts_operand() {
                    matching.include = self.label_list()?;
                }
            }
        }
        match self.peek().kind {
            TokenKind::Keyword(Keyword::Fill) => {
                let value = self.fill_value()?;
                (matching.fill_left, matching.fill_right) = (Some(value), Some(value));
            }
            TokenKind::Keyword(Keyword::FillLeft) => {
                matching.fill_left = Some(self.fill_value()?);
                if self.peek().kind == TokenKind::Keyword(Keyword::FillRight) {
                    matching.fill_right = Some(self.fill_value()?);
                }
            }
            TokenKind::Keyword(Keyword::FillRight) => {
                matching.fill_right = Some(self.fill_value()?);
                if self.peek().kind == TokenKind::Keyword(Keyword::FillLeft) {
                    matching.fill_left = Some(self.fill_value()?);
                }
            }
            _ => {}
        }
        Ok((return_bool, matching))
    }

    fn fill_value(&mut self) -> Result<f64, ParseError> {
        self.bump();
        self.expect(TokenKind::LeftParen, "", "")?;
        let negative = self.peek().kind == TokenKind::Op(BinaryOp::Sub);
        if negative || self.peek().kind == TokenKind::Op(BinaryOp::Add) {
            self.bump();
        }
        if !matches!(self.peek().kind, TokenKind::Number | TokenKind::Duration) {
            return Err(self.unexpected("", ""));
        }
        let (literal, _) = self.number()?;
        self.expect(TokenKind::RightParen, "", "")?;
        Ok(if negative { -literal.value } else { literal.value })
    }
}
