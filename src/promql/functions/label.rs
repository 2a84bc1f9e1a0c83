//! `label_replace` and `label_join`: what becomes of a series' labels.
//!
//! That two series of a result may not have the same labels is for the caller to see to.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use crate::model::{Labels, LabelsBuilder, METRIC_NAME, pattern};

/// Sets a label to what a regular expression finds in another.
#[derive(Debug, Clone)]
pub struct LabelReplace {
    destination: String,
    template: Template,
    source: String,
    regex: Regex,
}

impl LabelReplace {
    /// The arguments in the order of the language; says what is wrong with them.
    pub fn new(
        destination: &str,
        replacement: &str,
        source: &str,
        regex: &str,
    ) -> Result<Self, String> {
        let compiled = pattern::compile(regex)
            .map_err(|_| format!("invalid regular expression in label_replace(): {regex}"))?;
        if destination.is_empty() {
            return Err("invalid destination label name in label_replace(): ".to_owned());
        }
        Ok(Self {
            destination: destination.to_owned(),
            template: Template::new(replacement, &compiled),
            source: source.to_owned(),
            regex: compiled,
        })
    }

    /// Whether a result has the metric name that was set here.
    pub fn sets_metric_name(&self) -> bool {
        self.destination == METRIC_NAME
    }

    /// The labels after replacement; `None` if the expression does not match.
    pub fn apply(&self, labels: &Labels) -> Option<Labels> {
        let value = labels.get(&self.source).unwrap_or_default();
        let replaced = self.template.expand(&self.regex.captures(value)?);
        Some(LabelsBuilder::from_labels(labels).set(&self.destination, &replaced).build())
    }
}

/// A replacement as Go's `Regexp.Expand` reads it: `$name` takes the longest run of letters,
/// digits and underscores, so `$1x` is `${1x}`; a group that there is not is empty; `$$` is a
/// dollar sign, and so is a `$` that no name follows.
#[derive(Debug, Clone)]
struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Group(usize),
}

impl Template {
    fn new(template: &str, regex: &Regex) -> Self {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                text.push('$');
                rest = after;
                continue;
            }
            let Some((name, after)) = group_name(after) else {
                text.push('$');
                rest = after;
                continue;
            };
            if let Some(group) = group_number(name, regex) {
                pieces.extend([Piece::Text(std::mem::take(&mut text)), Piece::Group(group)]);
            }
            rest = after;
        }
        text.push_str(rest);
        pieces.push(Piece::Text(text));
        Self(pieces)
    }

    fn expand(&self, captures: &Captures<'_>) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Group(group) => captures.get(*group).map_or("", |found| found.as_str()),
        });
        pieces.collect()
    }
}

/// The name behind a `$`, and what comes after it.
fn group_name(text: &str) -> Option<(&str, &str)> {
    static NAME: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^[\p{L}\p{Nd}_]+").expect("a pattern of ours"));
    if let Some(braced) = text.strip_prefix('{') {
        let name = NAME.find(braced)?.as_str();
        return Some((name, braced[name.len()..].strip_prefix('}')?));
    }
    let name = NAME.find(text)?.as_str();
    Some((name, &text[name.len()..]))
}

/// A number without leading zeros is that group; anything else is the group of that name.
fn group_number(name: &str, regex: &Regex) -> Option<usize> {
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && (name == "0" || !name.starts_with('0')) {
        return name.parse().ok().filter(|group| *group < regex.captures_len());
    }
    regex.capture_names().position(|known| known == Some(name))
}

/// Sets a label to the values of others, with a separator between them.
#[derive(Debug, Clone)]
pub struct LabelJoin {
    destination: String,
    separator: String,
    sources: Vec<String>,
}

impl LabelJoin {
    /// The arguments in the order of the language; says what is wrong with them.
    pub fn new(destination: &str, separator: &str, sources: &[&str]) -> Result<Self, String> {
        if sources.iter().any(|source| source.is_empty()) {
            return Err("invalid source label name in label_join(): ".to_owned());
        }
        if destination.is_empty() {
            return Err("invalid destination label name in label_join(): ".to_owned());
        }
        Ok(Self {
            destination: destination.to_owned(),
            separator: separator.to_owned(),
            sources: sources.iter().map(|source| (*source).to_owned()).collect(),
        })
    }

    /// Whether a result has the metric name that was set here.
    pub fn sets_metric_name(&self) -> bool {
        self.destination == METRIC_NAME
    }

    pub fn apply(&self, labels: &Labels) -> Labels {
        let values: Vec<&str> =
            self.sources.iter().map(|source| labels.get(source).unwrap_or_default()).collect();
        let joined = values.join(&self.separator);
        LabelsBuilder::from_labels(labels).set(&self.destination, &joined).build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn replacing_needs_a_match_of_the_whole_value() {
        let input = labels(&[(METRIC_NAME, "m"), ("src", "source-value-20")]);
        for (replacement, regex, expected) in [
            ("destination-value-$1", "source-value-(.*)", Some("destination-value-20")),
            ("value-$1", "non-matching", None),
            ("$1", "value-(.*)", None),
            ("${1}x$$$2-$nope", "(source)-(.*)", Some("sourcex$value-20-")),
            ("$name", "(?P<name>[a-z]+)-.*", Some("source")),
            ("", ".*", Some("")),
            ("$0|$00|$01|$2", "(source)-.*", Some("source-value-20|||")),
            ("$1x|${1}x|${1|$|$-|$$1|$", "(source)-.*", Some("|sourcex|${1|$|$-|$1|$")),
            ("$namex|$name-${ name}", "(?P<name>s)ource-.*", Some("|s-${ name}")),
            ("$1$name$é", "(?P<name>s)(o)?(x)?.*", Some("ss")),
            ("$99999999999999999999", ".*", Some("")),
        ] {
            let replace = LabelReplace::new("dst", replacement, "src", regex).unwrap();
            let set = |value| LabelsBuilder::from_labels(&input).set("dst", value).build();
            assert_eq!(replace.apply(&input), expected.map(set), "{replacement} {regex}");
            assert!(!replace.sets_metric_name());
        }
        // An absent label is empty, and an empty label is absent.
        let replace = LabelReplace::new("src", "", "absent", "").unwrap();
        assert_eq!(replace.apply(&input), Some(labels(&[(METRIC_NAME, "m")])));
        assert!(LabelReplace::new(METRIC_NAME, "x", "a", "").unwrap().sets_metric_name());
    }

    #[test]
    fn wrong_arguments_are_named() {
        let error = LabelReplace::new("", "", "", "(").unwrap_err();
        assert_eq!(error, "invalid regular expression in label_replace(): (");
        let error = LabelReplace::new("", "", "", ".").unwrap_err();
        assert_eq!(error, "invalid destination label name in label_replace(): ");
        let error = LabelJoin::new("", "-", &["a", ""]).unwrap_err();
        assert_eq!(error, "invalid source label name in label_join(): ");
        let error = LabelJoin::new("", "-", &[]).unwrap_err();
        assert_eq!(error, "invalid destination label name in label_join(): ");
    }

    #[test]
    fn joining_takes_absent_labels_as_empty() {
        let input = labels(&[("a", "1"), ("b", "2")]);
        let join = LabelJoin::new("dst", "-", &["a", "nope", "b"]).unwrap();
        assert_eq!(join.apply(&input).get("dst"), Some("1--2"));
        let join = LabelJoin::new("a", ", ", &[]).unwrap();
        assert_eq!(join.apply(&input), labels(&[("b", "2")]));
        assert!(LabelJoin::new(METRIC_NAME, "", &["a"]).unwrap().sets_metric_name());
    }
}
