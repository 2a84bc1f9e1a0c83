//! OpenMetrics text with timestamps, family after family, for other tools' backfills.
//!
//! ```text
//! # TYPE http_requests counter
//! # HELP http_requests Requests answered.
//! http_requests_total{code="200"} 17 1700000000.000
//! # EOF
//! ```
//!
//! Points of a histogram stand series by series, not timestamp by timestamp.

use std::io::{self, Write};

use crate::http::export::raw::Encoder;
use crate::http::export::stream::ChunkSender;
use crate::http::export::value;
use crate::http::json;
use crate::model::labels::{is_classic_label_name, is_classic_metric_name};
use crate::model::{Labels, METRIC_NAME, Metadata, MetricType, Samples, Timestamp};
use crate::storage::{MetadataStore, SelectedSeries};

/// Ends of the names of a histogram's and a summary's series.
const PARTS: [&str; 5] = ["_bucket", "_sum", "_count", "_gsum", "_gcount"];

/// Metrics whose series stand together under one head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Family {
    name: String,
    metadata: Option<Metadata>,
    /// Series of this family in the order that [`by_family`] gave them.
    series: usize,
}

/// Puts series in order of their families.
pub(super) fn by_family(
    series: Vec<SelectedSeries>,
    known: &MetadataStore,
) -> (Vec<SelectedSeries>, Vec<Family>) {
    let mut runs: Vec<(Family, Vec<SelectedSeries>)> = Vec::new();
    let mut metric = None;
    for one in series {
        let name = one.labels.metric_name();
        match runs.last_mut() {
            Some((_, run)) if metric.as_deref() == Some(name) => run.push(one),
            _ => {
                metric = Some(name.to_owned());
                runs.push((family(name, known), vec![one]));
            }
        }
    }
    runs.sort_by(|(left, _), (right, _)| left.name.cmp(&right.name));
    let (mut series, mut families) = (Vec::new(), Vec::<Family>::new());
    for (family, run) in runs {
        match families.last_mut().filter(|last| last.name == family.name) {
            Some(last) => {
                last.series += run.len();
                last.metadata = last.metadata.take().or(family.metadata);
            }
            None => families.push(Family { series: run.len(), ..family }),
        }
        series.extend(run);
    }
    (series, families)
}

/// The family of a metric: its own, or that of the histogram or counter whose part it is.
fn family(metric: &str, known: &MetadataStore) -> Family {
    let family = |name: &str, metadata| Family { name: name.to_owned(), metadata, series: 0 };
    let with_type = |name: &str, types: &[MetricType]| {
        known.get(name).filter(|metadata| types.contains(&metadata.metric_type))
    };
    use MetricType::{Counter, GaugeHistogram, Histogram, Info, Summary};
    let wholes = [Histogram, GaugeHistogram, Summary];
    for base in PARTS.iter().filter_map(|part| metric.strip_suffix(part)) {
        if let Some(metadata) = with_type(base, &wholes) {
            return family(base, Some(metadata));
        }
    }
    // The samples of a counter end in `_total` and those of an info in `_info`, their families do
    // not; Prometheus knows them by either name.
    for (end, kind) in [("_total", Counter), ("_info", Info)] {
        if let Some(base) = metric.strip_suffix(end)
            && let Some(metadata) = with_type(metric, &[kind]).or_else(|| with_type(base, &[kind]))
        {
            return family(base, Some(metadata));
        }
    }
    let mut metadata = known.get(metric);
    if let Some(metadata) = &mut metadata
        && matches!(metadata.metric_type, Counter | Info)
    {
        metadata.metric_type = MetricType::Unknown;
    }
    family(metric, metadata)
}

pub(super) struct OpenMetrics {
    sink: ChunkSender,
    /// Heads that are still to be written, last first, with their series.
    families: Vec<Family>,
    /// Series that are left of the current family.
    left: usize,
    current: Option<Labels>,
    series: Vec<u8>,
    line: Vec<u8>,
}

impl OpenMetrics {
    pub(super) fn new(sink: ChunkSender, mut families: Vec<Family>) -> Self {
        families.reverse();
        Self { sink, families, left: 0, current: None, series: Vec::new(), line: Vec::new() }
    }

    /// A further series begins.
    fn next_series(&mut self, labels: &Labels) -> io::Result<()> {
        self.series.clear();
        push_series(&mut self.series, labels);
        if self.left == 0
            && let Some(family) = self.families.pop()
        {
            self.left = family.series;
            self.line.clear();
            push_head(&mut self.line, &family);
            self.sink.write_all(&self.line)?;
        }
        self.left = self.left.saturating_sub(1);
        Ok(())
    }
}

impl Encoder for OpenMetrics {
    fn push(&mut self, labels: &Labels, samples: &Samples) -> io::Result<()> {
        if self.current.as_ref() != Some(labels) {
            self.current = Some(labels.clone());
            self.next_series(labels)?;
        }
        for (timestamp, value) in samples.timestamps.iter().zip(&samples.values) {
            self.line.clear();
            self.line.extend_from_slice(&self.series);
            self.line.push(b' ');
            value::push_text(&mut self.line, *value);
            self.line.push(b' ');
            push_seconds(&mut self.line, *timestamp);
            self.line.push(b'\n');
            self.sink.write_all(&self.line)?;
        }
        Ok(())
    }

    fn sink(&self) -> &ChunkSender {
        &self.sink
    }

    fn finish(mut self: Box<Self>) -> io::Result<ChunkSender> {
        self.sink.write_all(b"# EOF\n")?;
        Ok(self.sink)
    }
}

fn push_head(out: &mut Vec<u8>, family: &Family) {
    let Some(metadata) = &family.metadata else { return };
    let mut push = |keyword: &str, text: &dyn Fn(&mut Vec<u8>)| {
        out.extend_from_slice(b"# ");
        out.extend_from_slice(keyword.as_bytes());
        out.push(b' ');
        if is_classic_metric_name(&family.name) {
            out.extend_from_slice(family.name.as_bytes());
        } else {
            push_quoted(out, &family.name);
        }
        out.push(b' ');
        text(out);
        out.push(b'\n');
    };
    push("TYPE", &|out| out.extend_from_slice(metadata.metric_type.as_str().as_bytes()));
    // A unit is part of its family's name, or the text is not OpenMetrics.
    if !metadata.unit.is_empty() && family.name.ends_with(&format!("_{}", metadata.unit)) {
        push("UNIT", &|out| out.extend_from_slice(metadata.unit.as_bytes()));
    }
    if !metadata.help.is_empty() {
        push("HELP", &|out| push_escaped(out, &metadata.help));
    }
}

/// `name{label="value"}`, or `{"any name","any label"="value"}`.
fn push_series(out: &mut Vec<u8>, labels: &Labels) {
    let metric = labels.metric_name();
    let classic = is_classic_metric_name(metric);
    if classic {
        out.extend_from_slice(metric.as_bytes());
    }
    let mut opened = false;
    let mut separate = |out: &mut Vec<u8>| {
        out.push(if std::mem::replace(&mut opened, true) { b',' } else { b'{' });
    };
    if !classic && !metric.is_empty() {
        separate(out);
        push_quoted(out, metric);
    }
    for (name, value) in labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
        separate(out);
        if is_classic_label_name(name) {
            out.extend_from_slice(name.as_bytes());
        } else {
            push_quoted(out, name);
        }
        out.push(b'=');
        push_quoted(out, value);
    }
    if opened {
        out.push(b'}');
    }
}

fn push_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_escaped(out, text);
    out.push(b'"');
}

fn push_escaped(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            other => out.push(other),
        }
    }
}

/// Seconds with three decimals, which no reader takes for milliseconds.
fn push_seconds(out: &mut Vec<u8>, timestamp: Timestamp) {
    json::push_timestamp(out, timestamp);
    if timestamp % 1000 == 0 {
        out.extend_from_slice(b".000");
    }
}
