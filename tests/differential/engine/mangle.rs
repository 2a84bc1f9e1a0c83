//! Queries with words taken out, put in, doubled or swapped, whose errors are to read alike.

use std::sync::LazyLock;

use regex::Regex;

use super::queries::pick;
use crate::support::Random;

static TOKENS: LazyLock<Regex> = LazyLock::new(|| {
    let token = r#""[^"]*"|[\p{L}_:][\p{L}\d_:]*|\d[\w.]*|\s+|=~|!~|!=|==|<=|>=|(?s:.)"#;
    Regex::new(token).unwrap()
});

const WORDS: &[&str] = &[
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "bool",
    "offset",
    "@",
    "start()",
    "end()",
    "[5m]",
    "[5m:1m]",
    "{",
    "}",
    "(",
    ")",
    ",",
    "\"x\"",
    "'y'",
    "1",
    "-1",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "==",
    "!=",
    ">",
    "<",
    "and",
    "or",
    "unless",
    "sum",
    "rate",
    "topk",
    "5m",
    "1e",
    "0x",
    "NaN",
    "Inf",
    "{}",
    "{a=\"b\"}",
    "=~",
    "!~",
    "!",
    "~",
    "#c",
    "`q`",
    "__name__",
    "anchored",
    "smoothed",
    "fill",
    "fill_left (1)",
    "\\",
    "$",
    "é",
    "[",
    "]",
    ":",
    "avg_over_time",
    "time()",
    "absent",
    "1y2w",
    "5",
    "1.5.2",
    ".5",
    "5.",
    "0b1",
    "1_000",
    "count_values",
    "quantile",
    "info",
    "step()",
    "min_of(1m,2m)",
    "</",
    ">/",
    "\"",
    "'",
    "\u{0}",
    "\n",
    "\"\\q\"",
    "\"\\xff\"",
    "1__0",
    "1e400",
    "08",
    "5m5m",
    "1s1m",
    "atan2",
    "@ 1e400",
    "offset 1y-5",
    "{\"a\"}",
    "{\"a\", \"b\"}",
    "bool bool",
    "on ()",
    ",,",
    "sum()",
];

/// A query that is mostly wrong.
pub(super) fn mangled(random: &mut Random, query: &str) -> String {
    let mut tokens: Vec<&str> = TOKENS.find_iter(query).map(|token| token.as_str()).collect();
    for _ in 0..[1, 1, 1, 2][random.below(4) as usize] {
        let at = random.below(tokens.len() as u64) as usize;
        match random.below(20) {
            0..=6 => {
                tokens.remove(at);
            }
            7..=11 => {
                tokens.insert(at, pick(random, WORDS));
                if random.below(2) == 0 {
                    tokens.insert(at + 1, " ");
                }
            }
            12..=14 => tokens[at] = pick(random, WORDS),
            15..=16 => tokens.truncate(at),
            17..=18 => {
                let other = random.below(tokens.len() as u64) as usize;
                tokens.swap(at, other);
            }
            _ => tokens.insert(at, tokens[at]),
        }
        if tokens.is_empty() {
            break;
        }
    }
    tokens.concat()
}
