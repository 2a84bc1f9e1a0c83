//! CSV, one row per sample: `metric`, one column per label under its own name, `timestamp` in
//! milliseconds, `value`. RFC 4180; an empty cell is a label that the series does not have.

use std::collections::BTreeSet;
use std::io::{self, Write};

use crate::http::export::job::Encoder;
use crate::http::export::json_lines::push_signed;
use crate::http::export::stream::ChunkSender;
use crate::http::export::value;
use crate::model::{Labels, Samples};

pub(super) struct Csv {
    sink: ChunkSender,
    /// Names of the label columns, ascending.
    labels: Vec<String>,
    /// The cells of the series in front of each of its rows.
    series: Vec<u8>,
    row: Vec<u8>,
}

impl Csv {
    pub(super) fn new(mut sink: ChunkSender, labels: &BTreeSet<String>) -> io::Result<Self> {
        let mut header = b"metric".to_vec();
        for label in labels {
            header.push(b',');
            push_cell(&mut header, label);
        }
        header.extend_from_slice(b",timestamp,value\r\n");
        sink.write_all(&header)?;
        let labels = labels.iter().cloned().collect();
        Ok(Self { sink, labels, series: Vec::new(), row: Vec::new() })
    }
}

impl Encoder for Csv {
    fn push(&mut self, labels: &Labels, samples: &Samples) -> io::Result<()> {
        self.series.clear();
        push_cell(&mut self.series, labels.metric_name());
        for name in &self.labels {
            self.series.push(b',');
            push_cell(&mut self.series, labels.get(name).unwrap_or_default());
        }
        self.series.push(b',');
        for (timestamp, value) in samples.timestamps.iter().zip(&samples.values) {
            self.row.clear();
            self.row.extend_from_slice(&self.series);
            push_signed(&mut self.row, *timestamp);
            self.row.push(b',');
            value::push_text(&mut self.row, *value);
            self.row.extend_from_slice(b"\r\n");
            self.sink.write_all(&self.row)?;
        }
        Ok(())
    }

    fn sink(&self) -> &ChunkSender {
        &self.sink
    }

    fn finish(self: Box<Self>) -> io::Result<ChunkSender> {
        Ok(self.sink)
    }
}

/// Appends a cell, in quotes if it needs them.
pub(super) fn push_cell(out: &mut Vec<u8>, text: &str) {
    if !text.contains(['"', ',', '\n', '\r']) {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    for (index, part) in text.split('"').enumerate() {
        if index > 0 {
            out.extend_from_slice(b"\"\"");
        }
        out.extend_from_slice(part.as_bytes());
    }
    out.push(b'"');
}
