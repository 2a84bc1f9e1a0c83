//! CSV, one row per sample: `metric`, one column per label under its own name, `timestamp` in
//! milliseconds, `value`. RFC 4180; an empty cell is a label that the series does not have.

use std::collections::BTreeSet;
use std::io::{self, Write};

use crate::http::export::raw::Encoder;
use crate::http::export::stream::ChunkSender;
use crate::http::export::value;
use crate::model::{Labels, Samples};

pub(super) struct Csv {
    sink: ChunkSender,
    labels: LabelCells,
    row: Vec<u8>,
}

impl Csv {
    pub(super) fn new(mut sink: ChunkSender, labels: &BTreeSet<String>) -> io::Result<Self> {
        let labels = LabelCells::new(labels);
        sink.write_all(&labels.header(["timestamp", "value"]))?;
        Ok(Self { sink, labels, row: Vec::new() })
    }
}

impl Encoder for Csv {
    fn push(&mut self, labels: &Labels, samples: &Samples) -> io::Result<()> {
        let series = self.labels.of(labels);
        for (timestamp, value) in samples.timestamps.iter().zip(&samples.values) {
            self.row.clear();
            self.row.extend_from_slice(series);
            self.row.push(b',');
            value::push_signed(&mut self.row, *timestamp);
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

/// The cells of a series in front of each of its rows: metric and labels.
pub(super) struct LabelCells {
    /// Ascending.
    names: Vec<String>,
    cells: Vec<u8>,
}

impl LabelCells {
    pub(super) fn new(names: &BTreeSet<String>) -> Self {
        Self { names: names.iter().cloned().collect(), cells: Vec::new() }
    }

    /// The first line, with the names of the columns behind the labels.
    pub(super) fn header<'a>(&'a self, behind: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
        let mut header = b"metric".to_vec();
        for name in self.names.iter().map(String::as_str).chain(behind) {
            header.push(b',');
            push_cell(&mut header, name);
        }
        header.extend_from_slice(b"\r\n");
        header
    }

    pub(super) fn of(&mut self, labels: &Labels) -> &[u8] {
        self.cells.clear();
        push_cell(&mut self.cells, labels.metric_name());
        for name in &self.names {
            self.cells.push(b',');
            push_cell(&mut self.cells, labels.get(name).unwrap_or_default());
        }
        &self.cells
    }
}

/// Appends a cell, in quotes if it needs them.
fn push_cell(out: &mut Vec<u8>, text: &str) {
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
