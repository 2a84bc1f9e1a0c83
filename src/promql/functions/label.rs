//! `label_replace` and `label_join`: what becomes of a series' labels.
//!
//! That two series of a result may not have the same labels is for the caller to see to.

use regex::Regex;

use crate::model::{Labels, LabelsBuilder, METRIC_NAME, pattern};

/// Sets a label to what a regular expression finds in another.
#[derive(Debug, Clone)]
pub struct LabelReplace {
    destination: String,
    replacement: String,
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
            replacement: replacement.to_owned(),
            source: source.to_owned(),
            regex: compiled,
        })
    }

    /// Whether a result has the metric name that was set here.
    pub fn sets_metric_name(&self) -> bool {
        self.destination == METRIC_NAME
    }

    /// The labels after replacement; the same ones if the expression does not match.
    pub fn apply(&self, labels: &Labels) -> Labels {
        let value = labels.get(&self.source).unwrap_or_default();
        let Some(captures) = self.regex.captures(value) else { return labels.clone() };
        let mut replaced = String::new();
        captures.expand(&self.replacement, &mut replaced);
        LabelsBuilder::from_labels(labels).set(&self.destination, &replaced).build()
    }
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
        ] {
            let replace = LabelReplace::new("dst", replacement, "src", regex).unwrap();
            let expected = match expected {
                Some(value) => LabelsBuilder::from_labels(&input).set("dst", value).build(),
                None => input.clone(),
            };
            assert_eq!(replace.apply(&input), expected, "{replacement} {regex}");
            assert!(!replace.sets_metric_name());
        }
        // An absent label is empty, and an empty label is absent.
        let replace = LabelReplace::new("src", "", "absent", "").unwrap();
        assert_eq!(replace.apply(&input), labels(&[(METRIC_NAME, "m")]));
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
