//! Label matchers: `name = "value"`, `!=`, `=~`, `!~`.
//!
//! A label that is absent has the empty value. Regular expressions are anchored at both ends and
//! `.` matches a line break, as in Prometheus (`^(?s:…)$`).

use std::fmt;
use std::sync::Arc;

use regex::Regex;
use regex_syntax::hir::{Hir, HirKind, Look};

use crate::model::labels::{Labels, is_classic_label_name, quote};
use crate::model::pattern;

/// A regular expression that is a choice of up to this many literals is answered as a set.
pub const SET_VALUES_MAX: usize = 1_024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

impl MatchOp {
    pub fn as_str(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        }
    }

    /// Whether the operator selects what does *not* match its value.
    pub fn is_negative(self) -> bool {
        matches!(self, MatchOp::NotEqual | MatchOp::NotRegex)
    }
}

/// One compiled matcher, cheap to clone.
#[derive(Clone)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    pattern: Option<Arc<Pattern>>,
}

/// What is known of a regular expression beyond its automaton.
struct Pattern {
    regex: Regex,
    /// All values it can match, sorted, if they are few.
    set: Option<Vec<String>>,
    /// What every matching value begins with; empty if nothing is known.
    prefix: String,
}

/// A regular expression that does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid regular expression {pattern:?}: {reason}")]
pub struct MatcherError {
    pub pattern: String,
    pub reason: String,
}

impl Matcher {
    pub fn new(
        op: MatchOp,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<Self, MatcherError> {
        let (name, value) = (name.into(), value.into());
        let pattern = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(Arc::new(Pattern::new(&value)?)),
        };
        Ok(Self { name, op, value, pattern })
    }

    /// `name = "value"`, which cannot fail.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), op: MatchOp::Equal, value: value.into(), pattern: None }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn op(&self) -> MatchOp {
        self.op
    }

    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether the matcher holds for this value of its label; absent is `""`.
    #[inline]
    pub fn matches(&self, value: &str) -> bool {
        self.accepts(value) != self.op.is_negative()
    }

    /// Whether the matcher holds for this label set.
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.get(&self.name).unwrap_or_default())
    }

    /// Whether series without the label are selected too.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// The only values that the positive form of this matcher can hold for, sorted, if they are
    /// few: `=` and `!=` have one, `a|b|c` three.
    pub fn accepted_set(&self) -> Option<&[String]> {
        match &self.pattern {
            None => Some(std::slice::from_ref(&self.value)),
            Some(pattern) => pattern.set.as_deref(),
        }
    }

    /// What every value begins with that the positive form holds for; may be empty.
    pub fn accepted_prefix(&self) -> &str {
        self.pattern.as_ref().map_or(&self.value, |pattern| &pattern.prefix)
    }

    /// The positive form: whether the value equals, or the expression matches.
    #[inline]
    pub fn accepts(&self, value: &str) -> bool {
        match &self.pattern {
            None => self.value == value,
            Some(pattern) => match &pattern.set {
                Some(set) => set.binary_search_by(|known| known.as_str().cmp(value)).is_ok(),
                None => value.starts_with(&pattern.prefix) && pattern.regex.is_match(value),
            },
        }
    }
}

impl Pattern {
    fn new(source: &str) -> Result<Self, MatcherError> {
        let failed = |reason: String| MatcherError { pattern: source.to_owned(), reason };
        let regex = pattern::compile(source).map_err(|error| failed(error.to_string()))?;
        let hir = regex_syntax::Parser::new()
            .parse(&pattern::anchored(source))
            .map_err(|error| failed(error.to_string()))?;
        let mut set = literals(&hir);
        if let Some(set) = &mut set {
            set.sort_unstable();
            set.dedup();
        }
        let prefix = match &set {
            Some(set) => common_prefix(set),
            None => leading_literal(&hir),
        };
        Ok(Self { regex, set, prefix })
    }
}

/// All strings that the expression matches, if it is a finite choice of literals.
fn literals(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![String::new()]),
        HirKind::Look(Look::Start | Look::End) => Some(vec![String::new()]),
        HirKind::Literal(literal) => Some(vec![std::str::from_utf8(&literal.0).ok()?.to_owned()]),
        HirKind::Capture(capture) => literals(&capture.sub),
        HirKind::Alternation(branches) => {
            let mut all = Vec::new();
            for branch in branches {
                all.extend(literals(branch)?);
                if all.len() > SET_VALUES_MAX {
                    return None;
                }
            }
            Some(all)
        }
        HirKind::Concat(parts) => {
            let mut all = vec![String::new()];
            for (index, part) in parts.iter().enumerate() {
                // An anchor in the middle forbids what stands around it; leave that to the regex.
                let anchor = matches!(part.kind(), HirKind::Look(_));
                if anchor && index != 0 && index != parts.len() - 1 {
                    return None;
                }
                let next = literals(part)?;
                if all.len() * next.len() > SET_VALUES_MAX {
                    return None;
                }
                all = all
                    .iter()
                    .flat_map(|head| next.iter().map(move |tail| format!("{head}{tail}")))
                    .collect();
            }
            Some(all)
        }
        HirKind::Class(class) => {
            let regex_syntax::hir::Class::Unicode(class) = class else { return None };
            let count: usize = class.iter().map(|range| range.len()).sum();
            (count <= 16).then(|| {
                class
                    .iter()
                    .flat_map(|range| range.start()..=range.end())
                    .map(String::from)
                    .collect()
            })
        }
        HirKind::Look(_) | HirKind::Repetition(_) => None,
    }
}

fn leading_literal(hir: &Hir) -> String {
    match hir.kind() {
        HirKind::Literal(literal) => {
            std::str::from_utf8(&literal.0).map(str::to_owned).unwrap_or_default()
        }
        HirKind::Capture(capture) => leading_literal(&capture.sub),
        HirKind::Concat(parts) => parts
            .iter()
            .find(|part| !matches!(part.kind(), HirKind::Look(Look::Start)))
            .map(leading_literal)
            .unwrap_or_default(),
        _ => String::new(),
    }
}

fn common_prefix(sorted: &[String]) -> String {
    let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else { return String::new() };
    first.chars().zip(last.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_classic_label_name(&self.name) {
            f.write_str(&self.name)?;
        } else {
            f.write_str(&quote(&self.name))?;
        }
        write!(f, "{}{}", self.op.as_str(), quote(&self.value))
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.op == other.op && self.value == other.value
    }
}

impl Eq for Matcher {}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(value: &str) -> Matcher {
        Matcher::new(MatchOp::Regex, "l", value).unwrap()
    }

    #[test]
    fn regular_expressions_are_anchored_and_dot_matches_line_breaks() {
        assert!(regex("a.c").matches("a\nc"));
        assert!(!regex("a.c").matches("xabc"));
        assert!(!regex("a|b").matches("ab"));
        assert!(regex("a|bc").matches("bc"));
        assert!(regex("").matches_empty() && regex(".*").matches_empty());
        assert!(!regex(".+").matches_empty());
        let not = Matcher::new(MatchOp::NotRegex, "l", "a|b").unwrap();
        assert!(not.matches("c") && not.matches_empty() && !not.matches("a"));
    }

    #[test]
    fn choices_of_literals_become_sets() {
        assert_eq!(regex("GET|POST").accepted_set().unwrap(), ["GET", "POST"]);
        assert_eq!(regex("a(b|c)d?").accepted_set(), None);
        assert_eq!(regex("web-(1|2|30)").accepted_set().unwrap(), ["web-1", "web-2", "web-30"]);
        assert_eq!(regex("web-[12]").accepted_set().unwrap(), ["web-1", "web-2"]);
        assert_eq!(regex("").accepted_set().unwrap(), [""]);
        assert_eq!(regex("web-.*").accepted_set(), None);
        assert_eq!(regex("web-.*").accepted_prefix(), "web-");
        assert_eq!(regex("(?i)web").accepted_set().map(<[_]>::len), Some(8));
        assert!(regex("a^b").accepted_set().is_none() && !regex("a^b").matches("ab"));
        assert!(regex("^a$").matches("a"));
    }

    #[test]
    fn sets_agree_with_the_automaton() {
        for source in ["a|ab|abc", "x(1|2)(3|)", "[ab]c|d", "^(?:a|b)$", "(?i)k"] {
            let matcher = regex(source);
            let plain = Regex::new(&format!("^(?s:{source})$")).unwrap();
            let probes = [
                "", "a", "ab", "abc", "x1", "x13", "x2", "ac", "bc", "d", "b", "k", "K", "\u{212a}",
            ];
            for probe in probes {
                assert_eq!(matcher.matches(probe), plain.is_match(probe), "{source} on {probe}");
            }
        }
    }

    #[test]
    fn a_bad_expression_says_so() {
        let error = Matcher::new(MatchOp::Regex, "l", "(").unwrap_err();
        assert!(error.to_string().contains("invalid regular expression"), "{error}");
    }
}
