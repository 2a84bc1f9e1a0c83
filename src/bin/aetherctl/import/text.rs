//! JSON lines and OpenMetrics: pieces of whole lines.

use crate::client::Failure;
use crate::import::source::Source;
use crate::import::{Origin, Sender};

/// Bytes and lines of one request, so that it stays below the samples that a server takes at once.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_LINES: u64 = 100_000;

/// A text format.
pub(super) struct Text {
    path: &'static str,
    content_type: &'static str,
    /// What a line begins with that belongs to lines behind it.
    head: &'static [u8],
}

pub(super) const JSON_LINES: Text =
    Text { path: "/api/v1/import", content_type: "application/x-ndjson", head: b"" };
pub(super) const OPEN_METRICS: Text = Text {
    path: "/api/v1/import/prometheus",
    content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8",
    head: b"#",
};

pub(super) async fn import(
    sender: &mut Sender<'_>,
    mut source: Source,
    text: &Text,
) -> Result<(), Failure> {
    let mut body = Vec::new();
    let (mut first, mut line) = (1, 0);
    loop {
        let before = body.len();
        let read = source.input().read_until(b'\n', &mut body);
        let read = read.map_err(|error| source.broken(error))?;
        line += u64::from(read > 0);
        let is_head =
            !text.head.is_empty() && body[before..].trim_ascii_start().starts_with(text.head);
        let full = body.len() >= BATCH_BYTES || line + 1 - first >= BATCH_LINES;
        // What is said of a metric goes with its first sample.
        if (full && !is_head || read == 0) && !body.is_empty() {
            let origin = Origin { path: &source.path, first, last: line };
            let headers = [("content-type", text.content_type)];
            sender.send(text.path, &headers, std::mem::take(&mut body), None, &origin).await?;
            first = line + 1;
        }
        if read == 0 {
            source.progress.finish_and_clear();
            return Ok(());
        }
    }
}
