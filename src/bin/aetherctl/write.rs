//! `aetherctl write`: line protocol in batches of whole lines, with progress and a summary.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::client::{Client, Failure};
use crate::output;

/// Lines of one request.
pub(crate) const BATCH_LINES: u64 = 10_000;
/// Bytes of one request, however long its lines are.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// Rejected lines that are shown.
pub(crate) const SHOWN_MAX: u64 = 100;

/// What became of the input, in lines that hold samples: comments and empty lines are not counted.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    pub(crate) requests: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} lines accepted, {} rejected ({} requests)",
            self.accepted, self.rejected, self.requests
        )
    }
}

/// Writes the files one after the other, or standard input. The summary tells what was stored even
/// if a later batch fails.
pub(crate) async fn write(
    client: &Client,
    files: &[PathBuf],
    batch_lines: u64,
    atomic: bool,
    summary: &mut Summary,
) -> Result<(), Failure> {
    let stdin = [PathBuf::from("-")];
    let files = if files.is_empty() { &stdin[..] } else { files };
    for path in files {
        write_file(client, path, batch_lines, atomic, summary).await?;
    }
    Ok(())
}

async fn write_file(
    client: &Client,
    path: &Path,
    batch_lines: u64,
    atomic: bool,
    summary: &mut Summary,
) -> Result<(), Failure> {
    let broken = |error: io::Error| Failure::Broken(format!("{}: {error}", path.display()));
    let (mut input, len): (Box<dyn BufRead>, Option<u64>) = if path == Path::new("-") {
        (Box::new(BufReader::new(io::stdin())), None)
    } else {
        let file = File::open(path).map_err(broken)?;
        let len = file.metadata().map_err(broken)?.len();
        (Box::new(BufReader::with_capacity(1 << 20, file)), Some(len))
    };
    let progress = progress(path, len);
    let mut batch = Batch { path, first_line: 1, lines: 0, samples: 0, body: Vec::new() };
    let mut next_line = 1;
    loop {
        let before = batch.body.len();
        // Bytes, not text: a line that is not UTF-8 is for the server to reject, alone.
        let read = input.read_until(b'\n', &mut batch.body).map_err(broken)?;
        if read > 0 {
            batch.lines += 1;
            batch.samples += u64::from(holds_samples(&batch.body[before..]));
            next_line += 1;
            progress.inc(read as u64);
        }
        let full = batch.lines >= batch_lines || batch.body.len() >= BATCH_BYTES_MAX;
        if batch.lines > 0 && (full || read == 0) {
            send(client, &mut batch, atomic, summary, &progress).await?;
            batch.first_line = next_line;
        }
        if read == 0 {
            progress.finish_and_clear();
            return Ok(());
        }
    }
}

/// Lines on their way.
struct Batch<'a> {
    path: &'a Path,
    first_line: u64,
    lines: u64,
    /// Those that hold samples.
    samples: u64,
    body: Vec<u8>,
}

/// Whether a line is neither empty nor a comment.
fn holds_samples(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    !line.is_empty() && !line.starts_with(b"#")
}

async fn send(
    client: &Client,
    batch: &mut Batch<'_>,
    atomic: bool,
    summary: &mut Summary,
    progress: &ProgressBar,
) -> Result<(), Failure> {
    let (status, answer) = client.write(atomic, std::mem::take(&mut batch.body)).await?;
    let lines = std::mem::take(&mut batch.lines);
    let samples = std::mem::take(&mut batch.samples);
    summary.requests += 1;
    match (status, answer["rejected"].as_u64()) {
        (204, _) => summary.accepted += samples,
        (400, Some(rejected)) => {
            let left_to_show = SHOWN_MAX.saturating_sub(summary.rejected);
            for (_, error) in (0..left_to_show).zip(output::list(&answer["errors"])) {
                progress.suspend(|| show(batch.path, batch.first_line, error));
            }
            // The server counts samples, of which a line may hold many, but a rejected line as one.
            let stored_none = answer["accepted"].as_u64() == Some(0);
            let rejected = if stored_none { samples } else { rejected.min(samples) };
            summary.rejected += rejected;
            summary.accepted += samples - rejected;
        }
        _ => {
            let reason = answer["error"].as_str().unwrap_or("no reason given");
            return Err(Failure::Refused(format!(
                "{} lines {} to {}: {reason} ({status})",
                batch.path.display(),
                batch.first_line,
                batch.first_line + lines.saturating_sub(1),
            )));
        }
    }
    Ok(())
}

/// A rejected line, by its number in the whole file.
pub(crate) fn show(path: &Path, first_line: u64, error: &Value) {
    let line = first_line + error["line"].as_u64().unwrap_or(1).saturating_sub(1);
    eprintln!(
        "{}:{line}:{}: {}: {}",
        path.display(),
        error["column"],
        output::text(&error["message"]),
        output::text(&error["text"]),
    );
}

/// Bytes read, on a terminal only.
pub(crate) fn progress(path: &Path, len: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match len {
        Some(len) => {
            (ProgressBar::new(len), "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {msg} {bytes} {bytes_per_sec}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_message(path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_empty_lines_hold_no_samples() {
        for line in ["\n", "  \r\n", "# cpu 1\n", "  # cpu 1"] {
            assert!(!holds_samples(line.as_bytes()), "{line:?}");
        }
        assert!(holds_samples(b"cpu 1\n") && holds_samples(b"\xff"));
    }
}
