//! Remote write 2.0 requests, built by hand: labels as references to a table of texts, values by
//! their bits.
//!
//! ```text
//! Request    { repeated string symbols = 4; repeated TimeSeries timeseries = 5 }
//! TimeSeries { repeated uint32 labels_refs = 1; repeated Sample samples = 2 }
//! Sample     { double value = 1; int64 timestamp = 2 }
//! ```

use std::collections::HashMap;

use aetherdb::model::Labels;

use crate::client::Failure;
use crate::import::{Origin, Sender};

/// Samples of one request.
const BATCH_SAMPLES: u64 = 100_000;
/// Bytes of one request before it is packed.
const BATCH_BYTES_MAX: usize = 8 << 20;

const HEADERS: [(&str, &str); 3] = [
    ("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
    ("content-encoding", "snappy"),
    ("x-prometheus-remote-write-version", "2.0.0"),
];

/// A request in the making.
#[derive(Debug, Default)]
pub(super) struct Request {
    symbols: HashMap<String, u32>,
    /// The encoded `symbols` and `timeseries` fields.
    texts: Vec<u8>,
    series: Vec<u8>,
    samples: u64,
    message: Vec<u8>,
    sample: Vec<u8>,
}

impl Request {
    /// Adds samples of one series.
    pub(super) fn push(&mut self, labels: &Labels, timestamps: &[i64], values: &[f64]) {
        let mut refs = Vec::new();
        for (name, value) in labels.iter() {
            for text in [name, value] {
                push_varint(&mut refs, u64::from(self.symbol(text)));
            }
        }
        self.message.clear();
        push_bytes(&mut self.message, 1, &refs);
        for (timestamp, value) in timestamps.iter().zip(values) {
            self.sample.clear();
            self.sample.push(1 << 3 | 1);
            self.sample.extend_from_slice(&value.to_le_bytes());
            self.sample.push(2 << 3);
            push_varint(&mut self.sample, timestamp.cast_unsigned());
            push_bytes(&mut self.message, 2, &self.sample);
        }
        push_bytes(&mut self.series, 5, &self.message);
        self.samples += timestamps.len() as u64;
    }

    /// How many more samples it should take.
    pub(super) fn room(&self) -> usize {
        let full = self.texts.len() + self.series.len() >= BATCH_BYTES_MAX;
        let left = if full { 0 } else { BATCH_SAMPLES.saturating_sub(self.samples) };
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// Sends what it holds and starts anew.
    pub(super) async fn send(
        &mut self,
        sender: &mut Sender<'_>,
        origin: &Origin<'_>,
    ) -> Result<(), Failure> {
        let Self { texts, series, samples, .. } = std::mem::take(self);
        if samples == 0 {
            return Ok(());
        }
        // The first symbol is the empty text, by the specification.
        let message = [&[4 << 3 | 2, 0][..], &texts, &series].concat();
        let body = snap::raw::Encoder::new().compress_vec(&message);
        let body = body.map_err(|error| Failure::Broken(error.to_string()))?;
        sender.send("/api/v1/write", &HEADERS, body, Some(samples), origin).await
    }

    fn symbol(&mut self, text: &str) -> u32 {
        if let Some(known) = self.symbols.get(text) {
            return *known;
        }
        let number = u32::try_from(self.symbols.len() + 1).expect("requests are bounded");
        self.symbols.insert(text.to_owned(), number);
        push_bytes(&mut self.texts, 4, text.as_bytes());
        number
    }
}

/// Appends a field of bytes.
fn push_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    push_varint(out, field << 3 | 2);
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
fn push_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
