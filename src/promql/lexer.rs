//! Text to tokens.
//!
//! What a word or a character means depends on what is open: inside of braces every word is a
//! label name, inside of brackets only durations stand. All tokens are made at once; lexing stops
//! at the first character that cannot be, which the parser reports when it gets there.
//!
//! Invariant: the last token is [`TokenKind::Eof`] or [`TokenKind::Error`], and it is the only one.

use crate::model::labels::quote_char;
use crate::promql::ast::{AggregateOp, BinaryOp, Span};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Eof,
    /// See [`Lexed::error`].
    Error,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    /// `=`
    Assign,
    /// `=~`
    RegexMatch,
    /// `!~`
    RegexNotMatch,
    At,
    /// An operator, sign or word; `!=` between label and value too.
    Op(BinaryOp),
    Aggregate(AggregateOp),
    Keyword(Keyword),
    /// A word that is no keyword and has no colon.
    Identifier,
    /// A word with a colon.
    MetricIdentifier,
    String,
    Number,
    Duration,
}

/// Words with a meaning of their own that are neither operators nor aggregations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keyword {
    Bool,
    By,
    Without,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Fill,
    FillLeft,
    FillRight,
    Offset,
    Anchored,
    Smoothed,
    Start,
    End,
    Step,
    Range,
    MaxOf,
    MinOf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Span,
}

/// The tokens of a text.
#[derive(Debug)]
pub(crate) struct Lexed {
    pub(crate) tokens: Vec<Token>,
    /// What [`TokenKind::Error`] means.
    pub(crate) error: Option<(String, Span)>,
}

pub(crate) fn lex(text: &str) -> Lexed {
    let mut lexer = Lexer { text, at: 0, parens: 0, in_braces: false, brackets: Brackets::Closed };
    let mut tokens = Vec::with_capacity(text.len() / 4 + 2);
    loop {
        match lexer.next() {
            Ok(token) => {
                tokens.push(token);
                if token.kind == TokenKind::Eof {
                    return Lexed { tokens, error: None };
                }
            }
            Err(LexError { message, start }) => {
                let span = Span::new(start, lexer.at.max(start));
                tokens.push(Token { kind: TokenKind::Error, span });
                return Lexed { tokens, error: Some((message, span)) };
            }
        }
    }
}

/// What a word means outside of braces.
fn keyword(word: &str) -> Option<TokenKind> {
    use Keyword::{
        Anchored, Bool, By, End, Fill, FillLeft, FillRight, GroupLeft, GroupRight, Ignoring, MaxOf,
        MinOf, Offset, On, Range, Smoothed, Start, Step, Without,
    };
    // Longer than any keyword: not worth lowering.
    if word.len() > "count_values".len() {
        return None;
    }
    let key = |keyword| Some(TokenKind::Keyword(keyword));
    let aggregate = |op| Some(TokenKind::Aggregate(op));
    match word.to_ascii_lowercase().as_str() {
        "and" => Some(TokenKind::Op(BinaryOp::And)),
        "or" => Some(TokenKind::Op(BinaryOp::Or)),
        "unless" => Some(TokenKind::Op(BinaryOp::Unless)),
        "atan2" => Some(TokenKind::Op(BinaryOp::Atan2)),
        "sum" => aggregate(AggregateOp::Sum),
        "avg" => aggregate(AggregateOp::Avg),
        "count" => aggregate(AggregateOp::Count),
        "min" => aggregate(AggregateOp::Min),
        "max" => aggregate(AggregateOp::Max),
        "group" => aggregate(AggregateOp::Group),
        "stddev" => aggregate(AggregateOp::Stddev),
        "stdvar" => aggregate(AggregateOp::Stdvar),
        "topk" => aggregate(AggregateOp::Topk),
        "bottomk" => aggregate(AggregateOp::Bottomk),
        "count_values" => aggregate(AggregateOp::CountValues),
        "quantile" => aggregate(AggregateOp::Quantile),
        "limitk" => aggregate(AggregateOp::Limitk),
        "limit_ratio" => aggregate(AggregateOp::LimitRatio),
        "bool" => key(Bool),
        "by" => key(By),
        "without" => key(Without),
        "on" => key(On),
        "ignoring" => key(Ignoring),
        "group_left" => key(GroupLeft),
        "group_right" => key(GroupRight),
        "fill" => key(Fill),
        "fill_left" => key(FillLeft),
        "fill_right" => key(FillRight),
        "offset" => key(Offset),
        "anchored" => key(Anchored),
        "smoothed" => key(Smoothed),
        "start" => key(Start),
        "end" => key(End),
        "step" => key(Step),
        "range" => key(Range),
        "max_of" => key(MaxOf),
        "min_of" => key(MinOf),
        "inf" | "nan" => Some(TokenKind::Number),
        _ => None,
    }
}

struct LexError {
    message: String,
    start: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Brackets {
    Closed,
    Open {
        /// Whether a number has been read. What comes behind it is read as a statement is.
        has_number: bool,
        /// Whether a colon has been read.
        has_colon: bool,
    },
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    parens: usize,
    in_braces: bool,
    brackets: Brackets,
}

impl Lexer<'_> {
    fn next(&mut self) -> Result<Token, LexError> {
        self.skip_blank();
        let start = self.at;
        let Some(char) = self.advance() else { return self.end(start) };
        let kind = if self.in_braces {
            self.inside_braces(char, start)?
        } else if self.brackets != Brackets::Closed {
            self.inside_brackets(char, start)?
        } else {
            self.statement(char, start)?
        };
        Ok(Token { kind, span: Span::new(start, self.at) })
    }

    fn end(&mut self, start: usize) -> Result<Token, LexError> {
        let fail = |message: &str| Err(LexError { message: message.to_owned(), start });
        if self.in_braces {
            return fail("unexpected end of input inside braces");
        }
        if matches!(self.brackets, Brackets::Open { has_number: false, .. }) {
            return fail("unexpected end of input in duration expression");
        }
        if self.parens > 0 {
            return fail("unclosed left parenthesis");
        }
        if self.brackets != Brackets::Closed {
            return fail("unclosed left bracket");
        }
        Ok(Token { kind: TokenKind::Eof, span: Span::new(start, start) })
    }

    fn statement(&mut self, char: char, start: usize) -> Result<TokenKind, LexError> {
        Ok(match char {
            ',' => TokenKind::Comma,
            '+' => TokenKind::Op(BinaryOp::Add),
            '-' => TokenKind::Op(BinaryOp::Sub),
            '*' => TokenKind::Op(BinaryOp::Mul),
            '/' => TokenKind::Op(BinaryOp::Div),
            '%' => TokenKind::Op(BinaryOp::Mod),
            '^' => TokenKind::Op(BinaryOp::Pow),
            '@' => TokenKind::At,
            '=' if self.accept('=') => TokenKind::Op(BinaryOp::Equal),
            '=' if self.peek() == Some('~') => {
                return Err(self.error(start, "unexpected character after '=': '~'"));
            }
            '=' => TokenKind::Assign,
            '!' if self.accept('=') => TokenKind::Op(BinaryOp::NotEqual),
            '!' => return Err(self.after_bang(start, "")),
            '<' if self.accept('=') => TokenKind::Op(BinaryOp::LessEqual),
            '<' if self.accept('/') => TokenKind::Op(BinaryOp::TrimUpper),
            '<' => TokenKind::Op(BinaryOp::Less),
            '>' if self.accept('=') => TokenKind::Op(BinaryOp::GreaterEqual),
            '>' if self.accept('/') => TokenKind::Op(BinaryOp::TrimLower),
            '>' => TokenKind::Op(BinaryOp::Greater),
            '(' => self.left_paren(),
            ')' => self.right_paren()?,
            '{' => {
                self.in_braces = true;
                TokenKind::LeftBrace
            }
            '[' => {
                self.brackets = Brackets::Open { has_number: false, has_colon: false };
                TokenKind::LeftBracket
            }
            ']' => return Err(self.error(start, "unexpected right bracket ']'")),
            '"' | '\'' | '`' => self.string(char, start)?,
            '.' if self.peek().is_some_and(|next| next.is_ascii_digit()) => self.number(start)?,
            '0'..='9' => self.number(start)?,
            _ if is_word_start(char) || char == ':' => self.word(start),
            _ => {
                return Err(
                    self.error(start, format!("unexpected character: {}", quote_char(char)))
                );
            }
        })
    }

    fn inside_braces(&mut self, char: char, start: usize) -> Result<TokenKind, LexError> {
        Ok(match char {
            ',' => TokenKind::Comma,
            '=' if self.accept('~') => TokenKind::RegexMatch,
            '=' => TokenKind::Assign,
            '!' if self.accept('~') => TokenKind::RegexNotMatch,
            '!' if self.accept('=') => TokenKind::Op(BinaryOp::NotEqual),
            '!' => return Err(self.after_bang(start, " inside braces")),
            '"' | '\'' | '`' => self.string(char, start)?,
            '{' => return Err(self.error(start, "unexpected left brace '{'")),
            '}' => {
                self.in_braces = false;
                TokenKind::RightBrace
            }
            _ if is_word_start(char) => {
                self.skip_while(is_word);
                TokenKind::Identifier
            }
            _ => {
                let message = format!("unexpected character inside braces: {}", quote_char(char));
                return Err(self.error(start, message));
            }
        })
    }

    fn inside_brackets(&mut self, char: char, start: usize) -> Result<TokenKind, LexError> {
        let Brackets::Open { has_number, has_colon } = self.brackets else {
            return self.statement(char, start);
        };
        Ok(match char {
            ']' => {
                self.brackets = Brackets::Closed;
                TokenKind::RightBracket
            }
            '[' if has_number => {
                return Err(self.error(start, "unexpected left bracket '['"));
            }
            ':' if has_colon => return Err(self.error(start, "unexpected colon ':'")),
            ':' => {
                self.brackets = Brackets::Open { has_number, has_colon: true };
                TokenKind::Colon
            }
            ',' | '+' | '-' | '*' | '/' | '%' | '^' | '(' | ')' => self.statement(char, start)?,
            _ if char.is_ascii_digit()
                || char == '.' && self.peek().is_some_and(|next| next.is_ascii_digit()) =>
            {
                self.brackets = Brackets::Open { has_number: true, has_colon };
                self.number(start)?
            }
            _ if is_word_start(char) => {
                self.skip_while(is_word_start);
                match keyword(&self.text[start..self.at]) {
                    Some(TokenKind::Keyword(
                        keyword
                        @ (Keyword::Step | Keyword::Range | Keyword::MaxOf | Keyword::MinOf),
                    )) => {
                        self.brackets = Brackets::Open { has_number, has_colon };
                        TokenKind::Keyword(keyword)
                    }
                    _ if has_number => {
                        let message =
                            format!("unexpected character: {}, expected ':'", quote_char(char));
                        return Err(self.error(start, message));
                    }
                    _ => return Err(self.not_in_duration(char, start)),
                }
            }
            _ if has_number => self.statement(char, start)?,
            _ => return Err(self.not_in_duration(char, start)),
        })
    }

    fn not_in_duration(&self, char: char, start: usize) -> LexError {
        self.error(
            start,
            format!("unexpected character in duration expression: {}", quote_char(char)),
        )
    }

    fn left_paren(&mut self) -> TokenKind {
        self.parens += 1;
        TokenKind::LeftParen
    }

    fn right_paren(&mut self) -> Result<TokenKind, LexError> {
        if self.parens == 0 {
            return Err(self.error(self.at, "unexpected right parenthesis ')'"));
        }
        self.parens -= 1;
        Ok(TokenKind::RightParen)
    }

    fn word(&mut self, start: usize) -> TokenKind {
        self.skip_while(|char| is_word(char) || char == ':');
        let word = &self.text[start..self.at];
        match keyword(word) {
            // Metrics of these names were there before the modifiers.
            Some(TokenKind::Keyword(Keyword::Fill | Keyword::FillLeft | Keyword::FillRight))
                if !self.text[self.at..].trim_start_matches(is_space).starts_with('(') =>
            {
                TokenKind::Identifier
            }
            Some(kind) => kind,
            None if word.contains(':') => TokenKind::MetricIdentifier,
            None => TokenKind::Identifier,
        }
    }

    /// A number or a duration, of which the first character is read.
    fn number(&mut self, start: usize) -> Result<TokenKind, LexError> {
        self.at = start;
        if self.scan_number() {
            return Ok(TokenKind::Number);
        }
        if self.scan_duration() {
            return Ok(TokenKind::Duration);
        }
        let message = format!("bad number or duration syntax: \"{}\"", &self.text[start..self.at]);
        Err(self.error(start, message))
    }

    /// Reads what looks like a number, which the parser may still refuse; says no where a dot, an
    /// exponent or an underscore stands in a place where it cannot, or where a word goes on.
    /// Source: prometheus/promql/parser/lex.go, `scanNumber`.
    fn scan_number(&mut self) -> bool {
        let start = self.at;
        let is_hex = self.accept('0') && self.accept_any("xX");
        if is_hex {
            self.accept('_');
        }
        let is_digit =
            |char: char| if is_hex { char.is_ascii_hexdigit() } else { char.is_ascii_digit() };
        self.accept('.');
        let (mut has_dot, mut has_exponent) = (false, false);
        while let Some(char) = self.peek().filter(|char| is_digit(*char) || "._eE".contains(*char))
        {
            match char {
                '.' => {
                    self.advance();
                    if has_dot || self.accept_any("_.") || is_hex {
                        return false;
                    }
                    has_dot = true;
                }
                'e' | 'E' => {
                    self.advance();
                    if has_exponent {
                        return false;
                    }
                    has_exponent = true;
                    self.accept_any("+-");
                    if self.accept_any("._eE") || self.peek().is_none() {
                        return false;
                    }
                }
                '_' => {
                    self.advance();
                    if self.accept_any("._eE") || self.peek().is_none() {
                        return false;
                    }
                }
                _ => self.skip_while(is_digit),
            }
        }
        self.at > start && !self.peek().is_some_and(is_word)
    }

    /// Reads the rest of a duration, of which the first number is read: `5` `m30s`.
    fn scan_duration(&mut self) -> bool {
        let mut is_first = true;
        loop {
            match self.peek() {
                Some('s' | 'm' | 'h' | 'd' | 'w') => self.advance(),
                // Years come first.
                Some('y') if is_first => self.advance(),
                _ => return false,
            };
            is_first = false;
            // Of `ms`; what is no unit is told when its value is needed.
            self.accept('s');
            if !self.peek().is_some_and(|char| char.is_ascii_digit()) {
                let ends = !self.peek().is_some_and(is_word);
                if !ends {
                    // The error shows what comes too much.
                    self.advance();
                }
                return ends;
            }
            self.skip_while(|char| char.is_ascii_digit());
        }
    }

    /// A string, of which the opening quote is read.
    fn string(&mut self, quote: char, start: usize) -> Result<TokenKind, LexError> {
        if quote == '`' {
            return match self.rest().find('`') {
                Some(len) => {
                    self.at += len + 1;
                    Ok(TokenKind::String)
                }
                None => {
                    self.at = self.text.len();
                    Err(self.error(start, "unterminated raw string"))
                }
            };
        }
        loop {
            match self.advance() {
                None | Some('\n') => return Err(self.error(start, "unterminated quoted string")),
                Some('\\') => self.escape(quote, start)?,
                Some(char) if char == quote => return Ok(TokenKind::String),
                Some(_) => {}
            }
        }
    }

    /// Checks an escape sequence, of which the backslash is read.
    fn escape(&mut self, quote: char, start: usize) -> Result<(), LexError> {
        let first = self.advance();
        let (digits, radix, max) = match first {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\') => return Ok(()),
            Some(char) if char == quote => return Ok(()),
            Some('0'..='7') => {
                self.at -= 1;
                (3, 8, 255)
            }
            Some('x') => (2, 16, 255),
            Some('u') => (4, 16, 0x10_FFFF),
            Some('U') => (8, 16, 0x10_FFFF),
            None => return Err(self.error(start, "escape sequence not terminated")),
            Some(char) => {
                let message = format!("unknown escape sequence {}", describe_char(char));
                return Err(self.error(start, message));
            }
        };
        let mut value: u32 = 0;
        for _ in 0..digits {
            let Some(char) = self.advance() else {
                return Err(self.error(start, "escape sequence not terminated"));
            };
            let Some(digit) = char.to_digit(radix) else {
                let message =
                    format!("illegal character {} in escape sequence", describe_char(char));
                return Err(self.error(start, message));
            };
            value = value.saturating_mul(radix).saturating_add(digit);
        }
        if value > max || (0xD800..0xE000).contains(&value) {
            let message = "escape sequence is an invalid Unicode code point";
            return Err(self.error(start, message));
        }
        Ok(())
    }

    fn skip_blank(&mut self) {
        loop {
            self.skip_while(is_space);
            // In front of a duration there are no comments.
            let is_duration = matches!(self.brackets, Brackets::Open { has_number: false, .. });
            if is_duration || self.peek() != Some('#') {
                return;
            }
            self.skip_while(|char| char != '\n' && char != '\r');
        }
    }

    fn after_bang(&mut self, start: usize, place: &str) -> LexError {
        let message = match self.advance() {
            Some(char) => format!("unexpected character after '!'{place}: {}", quote_char(char)),
            None => format!("unexpected end of input after '!'{place}"),
        };
        self.error(start, message)
    }

    fn error(&self, start: usize, message: impl Into<String>) -> LexError {
        LexError { message: message.into(), start }
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn advance(&mut self) -> Option<char> {
        let char = self.peek()?;
        self.at += char.len_utf8();
        Some(char)
    }

    fn accept(&mut self, char: char) -> bool {
        let found = self.peek() == Some(char);
        if found {
            self.at += char.len_utf8();
        }
        found
    }

    fn accept_any(&mut self, chars: &str) -> bool {
        self.peek().is_some_and(|char| chars.contains(char) && self.accept(char))
    }

    fn skip_while(&mut self, accept: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.find(|char| !accept(char)).unwrap_or(rest.len());
    }
}

fn is_space(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\n' | '\r')
}

fn is_word_start(char: char) -> bool {
    char == '_' || char.is_ascii_alphabetic()
}

fn is_word(char: char) -> bool {
    char == '_' || char.is_ascii_alphanumeric()
}

/// `U+0041 'A'`
fn describe_char(char: char) -> String {
    format!("U+{:04X} '{char}'", u32::from(char))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<TokenKind> {
        lex(text).tokens.iter().map(|token| token.kind).collect()
    }

    fn error(text: &str) -> String {
        lex(text).error.unwrap_or_else(|| panic!("{text} has no error")).0
    }

    #[test]
    fn words_mean_something_outside_of_braces_only() {
        use TokenKind::{Aggregate, Assign, Eof, Identifier, LeftBrace, RightBrace, String};
        assert_eq!(
            kinds("sum{sum='by'}"),
            [Aggregate(AggregateOp::Sum), LeftBrace, Identifier, Assign, String, RightBrace, Eof]
        );
        assert_eq!(kinds("a:b fill # c\n"), [TokenKind::MetricIdentifier, Identifier, Eof]);
        assert_eq!(kinds("FILL (")[0], TokenKind::Keyword(Keyword::Fill));
    }

    #[test]
    fn numbers_and_durations_have_many_forms() {
        for number in [
            "1", "0x1F", "0X_1f", "1_000", "1e3", "1E-3", ".5", "5.", "1.5e+1_0", "010", "Inf",
            "nAN", "1_0.0_1",
        ] {
            assert_eq!(kinds(number), [TokenKind::Number, TokenKind::Eof], "{number}");
        }
        for duration in ["5m", "1h30m", "100ms", "1y2w3d4h5m6s7ms", "5mm"] {
            let expected = [TokenKind::Duration, TokenKind::Eof];
            if duration == "5mm" {
                assert_eq!(error(duration), "bad number or duration syntax: \"5mm\"");
            } else {
                assert_eq!(kinds(duration), expected, "{duration}");
            }
        }
        for wrong in ["1__0", "1_", "1e", "1e+", "2.5.", "100..4", "0deadbeef", "1_e3", "5m1"] {
            assert!(error(wrong).starts_with("bad number or duration syntax"), "{wrong}");
        }
        // As much is shown as was read.
        for (wrong, shown) in [
            ("1a", "1"),
            ("5x", "5"),
            ("5mm", "5mm"),
            ("5m1", "5m1"),
            ("5m1x", "5m1"),
            ("0deadbeef", "0de"),
            ("1.2.3", "1.2."),
            ("2.5.", "2.5."),
            ("100..4", "100.."),
            ("0xg", "0x"),
        ] {
            let expected = format!("bad number or duration syntax: \"{shown}\"");
            assert_eq!(error(wrong), expected, "{wrong}");
        }
    }

    #[test]
    fn strings_end_where_they_should() {
        for string in [r#""a\"b""#, r"'\'\x41\101\u00e9\U0001F600'", "`\\\n`", "'\"'"] {
            assert_eq!(kinds(string), [TokenKind::String, TokenKind::Eof], "{string}");
        }
        assert_eq!(error("\"a\nb\""), "unterminated quoted string");
        assert_eq!(error("`a"), "unterminated raw string");
        assert_eq!(error(r#""\c""#), "unknown escape sequence U+0063 'c'");
        assert_eq!(error(r#""\'""#), "unknown escape sequence U+0027 '''");
        assert_eq!(error(r#""\ud800""#), "escape sequence is an invalid Unicode code point");
        assert_eq!(error(r#""\xg""#), "illegal character U+0067 'g' in escape sequence");
        assert_eq!(error(r#""\400""#), "escape sequence is an invalid Unicode code point");
    }
}
