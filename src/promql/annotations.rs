//! Warnings and infos that a query collects while it runs, with Prometheus' texts.
//!
//! The same remark is made once however many series and steps cause it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

use crate::model::labels::quote;
use crate::model::{Resolution, Span};
use crate::promql::printer::format_general;
use crate::query::resolution::{Source, Stretch};

/// Most warnings, and most infos, that one answer carries.
const ANNOTATIONS_MAX: usize = 10;

/// All remarks of one query.
#[derive(Debug, Default)]
pub(crate) struct Annotations {
    text: String,
    collected: Mutex<Collected>,
}

#[derive(Debug, Default)]
struct Collected {
    warnings: BTreeMap<String, Note>,
    infos: BTreeMap<String, Note>,
    /// Which rollups answered.
    answered: BTreeSet<String>,
}

#[derive(Debug, Clone)]
struct Note {
    /// Where in the query, as a byte offset.
    position: usize,
    detail: Option<Detail>,
}

/// What adds up while a remark is made again.
#[derive(Debug, Clone, Copy)]
enum Detail {
    Repaired(Repaired),
    Occurrences(u64),
}

impl Detail {
    fn merge(&mut self, other: Detail) {
        match (self, other) {
            (Detail::Repaired(known), Detail::Repaired(other)) => known.merge(other),
            (Detail::Occurrences(known), Detail::Occurrences(other)) => *known += other,
            // One text has one kind of detail.
            (Detail::Repaired(_) | Detail::Occurrences(_), _) => {}
        }
    }
}

/// Classic histogram buckets that had to be made monotonic, over all samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Repaired {
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    pub(crate) bucket_min: f64,
    pub(crate) bucket_max: f64,
    pub(crate) difference_max: f64,
    pub(crate) count: u64,
}

impl Repaired {
    fn merge(&mut self, other: Repaired) {
        self.first_ms = self.first_ms.min(other.first_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
        self.bucket_min = self.bucket_min.min(other.bucket_min);
        self.bucket_max = self.bucket_max.max(other.bucket_max);
        self.difference_max = self.difference_max.max(other.difference_max);
        self.count += other.count;
    }
}

impl Annotations {
    /// For a query of this text.
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), collected: Mutex::default() }
    }

    pub(crate) fn warn(&self, text: impl Into<String>, position: usize) {
        let text = format!("PromQL warning: {}", text.into());
        let note = Note { position, detail: None };
        self.collected.lock().warnings.entry(text).or_insert(note);
    }

    pub(crate) fn info(&self, text: impl Into<String>, position: usize) {
        let text = format!("PromQL info: {}", text.into());
        let note = Note { position, detail: None };
        self.collected.lock().infos.entry(text).or_insert(note);
    }

    /// A quantile outside of `[0, 1]`.
    pub(crate) fn check_quantile(&self, quantile: f64, position: usize) {
        if !(0.0..=1.0).contains(&quantile) {
            let got = format_general(quantile);
            let text = format!("quantile value should be between 0 and 1, got {got}");
            self.warn(text, position);
        }
    }

    /// `rate` of what does not look like a counter.
    pub(crate) fn check_counter(&self, metric: &str, position: usize) {
        let suffixes = ["_total", "_sum", "_count", "_bucket"];
        if !metric.is_empty() && !suffixes.iter().any(|suffix| metric.ends_with(suffix)) {
            let text = "metric might not be a counter, name does not end in \
                        _total/_sum/_count/_bucket:";
            self.info(format!("{text} {}", quote(metric)), position);
        }
    }

    /// So many windows have samples that claim to have counted what was counted before.
    pub(crate) fn starts_overlap(&self, metric: &str, position: usize, windows: u64) {
        let text = format!(
            "PromQL warning: sample has start time that overlaps with previous sample timestamp \
             for metric {}",
            quote(metric)
        );
        let detail = Detail::Occurrences(windows);
        add(&mut self.collected.lock().warnings, text, position, detail);
    }

    /// Buckets that needed repair; `metric` may be empty.
    pub(crate) fn repaired(&self, metric: &str, position: usize, repaired: Repaired) {
        let mut text = "PromQL info: input to histogram_quantile needed to be fixed for \
                        monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/\
                        functions/#histogram_quantile)"
            .to_owned();
        if !metric.is_empty() {
            text.push_str(&format!(" for metric name {}", quote(metric)));
        }
        add(&mut self.collected.lock().infos, text, position, Detail::Repaired(repaired));
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        self.texts(&self.collected.lock().warnings, "warning")
    }

    pub(crate) fn infos(&self) -> Vec<String> {
        let collected = self.collected.lock();
        let mut infos = self.texts(&collected.infos, "info");
        infos.extend(collected.answered.iter().take(ANNOTATIONS_MAX).cloned());
        infos
    }

    /// Rollups answered for a selector, perhaps together with raw samples.
    pub(crate) fn answered(&self, selector: &str, stretches: &[Stretch]) {
        let mut rollups: BTreeMap<Resolution, Span> = BTreeMap::new();
        let mut has_raw = false;
        for stretch in stretches {
            match stretch.source {
                Source::Raw => has_raw = true,
                Source::Rollup(resolution) => {
                    rollups.entry(resolution).or_insert(stretch.span).end = stretch.span.end;
                }
            }
        }
        let named = rollups.iter().rev().map(|(resolution, span)| {
            format!("rollup {resolution} for {}..{}", utc(span.start), utc(span.end))
        });
        let named = named.collect::<Vec<_>>().join(", ");
        let rest = if has_raw { ", raw otherwise" } else { "" };
        self.collected.lock().answered.insert(format!("{selector}: answered from {named}{rest}"));
    }

    /// Raw samples have expired, and windows' edges were rounded down to the buckets that are left.
    pub(crate) fn rounded(&self, selector: &str) {
        self.collected.lock().answered.insert(format!(
            "{selector}: raw samples have expired; windows there begin and end with a bucket of \
             the finest rollup that is left"
        ));
    }

    /// Raw samples have expired that nothing else can stand for.
    pub(crate) fn expired(&self, selector: &str, span: Span) {
        self.collected.lock().answered.insert(format!(
            "{selector}: raw samples of {}..{} have expired, and rollups cannot answer this",
            utc(span.start),
            utc(span.end)
        ));
    }

    fn texts(&self, notes: &BTreeMap<String, Note>, kind: &str) -> Vec<String> {
        let mut texts: Vec<String> = notes
            .iter()
            .take(ANNOTATIONS_MAX)
            .map(|(text, note)| {
                let position = self.line_column(note.position);
                match note.detail {
                    None | Some(Detail::Occurrences(1)) => format!("{text} ({position})"),
                    Some(Detail::Repaired(repaired)) => {
                        format!("{text}, {} ({position})", describe(repaired))
                    }
                    Some(Detail::Occurrences(count)) => {
                        format!("{text} ({count} occurrences) ({position})")
                    }
                }
            })
            .collect();
        if notes.len() > ANNOTATIONS_MAX {
            let left = notes.len() - ANNOTATIONS_MAX;
            texts.push(format!("{left} more {kind} annotations omitted"));
        }
        texts
    }

    fn line_column(&self, position: usize) -> String {
        let before = self.text.as_bytes().get(..position).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        format!("{line}:{column}")
    }
}

/// Makes a remark whose details add up.
fn add(notes: &mut BTreeMap<String, Note>, text: String, position: usize, detail: Detail) {
    match notes.entry(text) {
        Entry::Vacant(entry) => {
            entry.insert(Note { position, detail: Some(detail) });
        }
        Entry::Occupied(mut entry) => {
            if let Some(known) = &mut entry.get_mut().detail {
                known.merge(detail);
            }
        }
    }
}

fn describe(repaired: Repaired) -> String {
    format!(
        "from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
        format_general(repaired.bucket_min),
        format_general(repaired.bucket_max),
        format_digits(repaired.difference_max, 2),
        repaired.count,
        utc(repaired.first_ms),
        utc(repaired.last_ms),
    )
}

/// A time as people read it.
fn utc(ms: i64) -> String {
    chrono::DateTime::from_timestamp(ms.div_euclid(1_000), 0)
        .map_or_else(|| ms.to_string(), |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// A number as Go's `%.{digits}g` writes it.
fn format_digits(value: f64, digits: usize) -> String {
    let scientific = format!("{value:.*e}", digits.saturating_sub(1));
    let exponent =
        scientific.split_once('e').and_then(|(_, exponent)| exponent.parse::<i64>().ok());
    let rounded: f64 = scientific.parse().unwrap_or(value);
    match exponent {
        // Fewer digits than the number has before its point.
        Some(exponent) if exponent < -4 || exponent >= i64::try_from(digits).unwrap_or(0) => {
            let mantissa = format!("{rounded:e}");
            let mantissa = mantissa.split('e').next().unwrap_or_default();
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.abs())
        }
        _ => format_general(rounded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_is_made_once_and_says_where() {
        let annotations = Annotations::new("sum(\n  rate(a[5m]))");
        annotations.check_counter("a", 12);
        annotations.check_counter("a", 12);
        annotations.check_counter("a_total", 12);
        annotations.check_quantile(2.0, 0);
        annotations.check_quantile(f64::NAN, 0);
        annotations.check_quantile(0.5, 0);
        let expected = "PromQL info: metric might not be a counter, name does not end in \
                        _total/_sum/_count/_bucket: \"a\" (2:8)";
        assert_eq!(annotations.infos(), [expected]);
        let of = |got| {
            format!("PromQL warning: quantile value should be between 0 and 1, got {got} (1:1)")
        };
        assert_eq!(annotations.warnings(), [of("2"), of("NaN")]);
    }

    #[test]
    fn an_answer_carries_a_bounded_number_of_remarks() {
        let annotations = Annotations::new("x");
        for number in 0..15 {
            annotations.info(format!("{number:02}"), 0);
        }
        let infos = annotations.infos();
        assert_eq!(infos.len(), 11);
        assert_eq!(infos[10], "5 more info annotations omitted");
    }

    #[test]
    fn an_answer_says_which_rollups_it_came_from() {
        let annotations = Annotations::new("x");
        let stretch = |start, end, source| Stretch { span: Span { start, end }, source };
        let hours = Source::Rollup(Resolution::OneHour);
        annotations.answered("x", &[stretch(0, 7_200_000, hours)]);
        let minutes = Source::Rollup(Resolution::OneMinute);
        annotations
            .answered("y", &[stretch(0, 60_000, minutes), stretch(60_000, 61_000, Source::Raw)]);
        let expected = [
            "x: answered from rollup 1h for 1970-01-01T00:00:00Z..1970-01-01T02:00:00Z",
            "y: answered from rollup 1m for 1970-01-01T00:00:00Z..1970-01-01T00:01:00Z, raw \
             otherwise",
        ];
        assert_eq!(annotations.infos(), expected);
    }

    #[test]
    fn numbers_look_as_in_go() {
        for (value, digits, expected) in [
            (1_234.0, 2, "1.2e+03"),
            (100.0, 2, "1e+02"),
            (10.0, 2, "10"),
            (99.9, 2, "1e+02"),
            (0.012345, 2, "0.012"),
            (0.0000123, 2, "1.2e-05"),
            (f64::INFINITY, 2, "+Inf"),
        ] {
            assert_eq!(format_digits(value, digits), expected);
        }
    }
}
