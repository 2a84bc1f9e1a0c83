//! What is known to differ between Prometheus 3.14 and us, and how errors show it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

use super::judge::Agreement;

/// A difference that is known and meant, or beyond anybody's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Known {
    OnlyDelayed,
    OnlyDefault,
    OrderOfEquals,
    OrderOfGroups,
    OrderOfHeap,
    OrderOfMap,
    RepairedCount,
    ManyRemarks,
    PlaceOfRemark,
    SortOfOneStep,
    FirstClash,
    WhichError,
    OwnBound,
    NotUtf8,
    EndOfInput,
    Panic,
    OffsetForgotten,
    LastDigits,
    FoldedRange,
    StepOfSubquery,
    OffsetOfOperator,
    LabelWithout,
    Hint,
}

impl Known {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Known::OnlyDelayed => "names go when the query ends, as Prometheus' scripts have it",
            Known::OnlyDefault => "names that Prometheus forgets to remove when the query ends",
            Known::OrderOfEquals => "equal values may be sorted in any order",
            Known::OrderOfGroups => "groups of topk are in the order of our keys: 10 before 1",
            Known::OrderOfHeap => {
                "limitk takes the first of what limitk or a sort hands on in an order of its own"
            }
            Known::OrderOfMap => "Prometheus answers otherwise when asked again: a Go map's order",
            Known::RepairedCount => "Prometheus' count of repaired buckets doubles at each merge",
            Known::ManyRemarks => "which ten of many remarks are kept is left to a Go map's order",
            Known::PlaceOfRemark => "of one remark at two places Prometheus names the last made",
            Known::SortOfOneStep => "Prometheus calls a sort of one step vain if the end is later",
            Known::FirstClash => "which of several clashes of series is told",
            Known::WhichError => "of two errors we tell what is wrong with an argument first",
            Known::OwnBound => "more steps in a subquery than we allow",
            Known::NotUtf8 => "strings that are no text are refused wherever they stand",
            Known::EndOfInput => "Prometheus takes the end after a `!` for a character",
            Known::Panic => "Prometheus' engine panics",
            Known::OffsetForgotten => "timestamp() of what @ pins forgets the offset in Prometheus",
            Known::LastDigits => "windows slide, and series are added up in our order",
            Known::FoldedRange => "ours alone: an aggregation of a range vector",
            Known::StepOfSubquery => "ours alone: step() as a subquery's step",
            Known::OffsetOfOperator => "ours alone: an operator on vectors behind `offset (…)`",
            Known::LabelWithout => "ours alone: a label `without` in a list of labels",
            Known::Hint => "our error goes on after Prometheus' words, with a hint",
        }
    }
}

/// Compares the texts of two errors.
pub(super) fn compare_errors(theirs: &str, ours: &str) -> Agreement {
    let is_of_parser = |text: &str| text.starts_with("invalid parameter");
    let is_clash = |text: &str| {
        text.starts_with("found duplicate series for the match group")
            || text.starts_with("multiple matches for labels")
            || text == "vector cannot contain metrics with the same labelset"
    };
    let known = if theirs == ours {
        return Ok(BTreeSet::new());
    } else if ours.strip_prefix(theirs).is_some_and(|rest| rest.starts_with("; ")) {
        Known::Hint
    } else if is_clash(theirs) && is_clash(ours) {
        Known::FirstClash
    } else if let Some(known) = own_addition(theirs).or_else(|| own_refusal(ours)) {
        // What else is wrong with it comes to light in one of both alone.
        known
    } else if ours.contains("unexpected end of input after '!'") && theirs.contains("'\u{fffd}'") {
        Known::EndOfInput
    } else if !is_of_parser(theirs) && !is_of_parser(ours) && is_about_argument(ours) {
        Known::WhichError
    } else {
        return Err(format!("error: theirs {theirs}\n                  ours   {ours}"));
    };
    Ok([known].into())
}

/// What in a query makes answers differ that nothing in the answers explains.
pub(super) fn cause_in_query(query: &str) -> Option<Known> {
    static PINNED: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"timestamp\([^()\[]*(@.*offset|offset.*@)").unwrap());
    static HEAP: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"limitk.*(limitk|sort)").unwrap());
    if PINNED.is_match(query) {
        Some(Known::OffsetForgotten)
    } else if HEAP.is_match(query) {
        Some(Known::OrderOfHeap)
    } else {
        None
    }
}

/// Why we alone refuse a query with these words.
pub(super) fn own_refusal(ours: &str) -> Option<Known> {
    if ours.starts_with("subquery has ") {
        Some(Known::OwnBound)
    } else if ours.ends_with("is not valid UTF-8") {
        Some(Known::NotUtf8)
    } else {
        None
    }
}

/// Whether an error is about an argument, which we look at before anything is computed.
fn is_about_argument(error: &str) -> bool {
    const BEGINNINGS: [&str; 5] =
        ["Parameter value is", "Ratio value is", "Scalar value ", "invalid ", "smoothed modifier"];
    error.starts_with("anchored modifier") || BEGINNINGS.iter().any(|text| error.starts_with(text))
}

/// The part of our language that Prometheus refuses with these words.
pub(super) fn own_addition(theirs: &str) -> Option<Known> {
    if theirs.ends_with("expected type instant vector in aggregation expression, got range vector")
    {
        Some(Known::FoldedRange)
    } else if theirs.ends_with("unexpected colon before duration in duration expression") {
        Some(Known::StepOfSubquery)
    } else if theirs.ends_with("in offset, expected number, duration, step(), or range()") {
        Some(Known::OffsetOfOperator)
    } else if theirs.ends_with("unexpected <without> in grouping opts, expected label") {
        Some(Known::LabelWithout)
    } else {
        None
    }
}
