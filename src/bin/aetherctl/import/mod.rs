//! `aetherctl import`: exported files back into a server.
//!
//! Text goes as it is, in pieces of whole lines, which the server reads and judges line by line.
//! Tables become remote write 2.0 requests, in which every value keeps its bits.

mod csv_file;
mod remote;
mod source;
mod table_file;
mod text;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use crate::client::{Client, Failure, Imported};
use crate::import::source::Source;
use crate::{Format, REFUSED, output, write};

/// What to import.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Files, or `-` for standard input. Their format is known by their ending or by their
    /// beginning, unless --format says it: parquet, csv, arrow, jsonl (also of VictoriaMetrics)
    /// or openmetrics; text may be packed with gzip or zstd.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

impl Import {
    pub(crate) async fn run(
        &self,
        client: &Client,
        format: Option<Format>,
    ) -> Result<ExitCode, Failure> {
        if format.is_some_and(|format| format.exported().is_none()) {
            let known = "parquet, csv, arrow, jsonl and openmetrics";
            return Err(Failure::Usage(format!("--format: imports are {known}")));
        }
        let mut sender = Sender { client, summary: Summary::default() };
        let mut imported = Ok(());
        for path in &self.files {
            imported = import(&mut sender, path, format).await;
            if imported.is_err() {
                break;
            }
        }
        if imported.is_ok() || sender.summary.requests > 0 {
            println!("{}", sender.summary);
        }
        imported?;
        Ok(ExitCode::from(if sender.summary.rejected > 0 { REFUSED } else { 0 }))
    }
}

async fn import(
    sender: &mut Sender<'_>,
    path: &Path,
    format: Option<Format>,
) -> Result<(), Failure> {
    let source = Source::open(path, format)?;
    match source.format {
        Format::Jsonl => text::import(sender, source, &text::JSON_LINES).await,
        Format::Openmetrics => text::import(sender, source, &text::OPEN_METRICS).await,
        Format::Csv => csv_file::import(sender, source).await,
        _ => table_file::import(sender, source).await,
    }
}

/// What became of the samples.
#[derive(Debug, Default)]
struct Summary {
    written: u64,
    rejected: u64,
    requests: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { written, rejected, requests } = self;
        write!(f, "{written} samples imported, {rejected} rejected ({requests} requests)")
    }
}

/// Sends pieces and counts what became of them.
struct Sender<'a> {
    client: &'a Client,
    summary: Summary,
}

/// Where a piece comes from, for messages.
struct Origin<'a> {
    path: &'a Path,
    /// Line or row, from 1.
    first: u64,
    last: u64,
}

impl Sender<'_> {
    /// `samples` is how many the piece holds, if that is known.
    async fn send(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
        samples: Option<u64>,
        origin: &Origin<'_>,
    ) -> Result<(), Failure> {
        let Imported { status, written, answer } = self.client.import(path, headers, body).await?;
        self.summary.requests += 1;
        let rejected = match (status, samples) {
            (200..300, _) => Some(0),
            (400, Some(samples)) => Some(samples.saturating_sub(written)),
            (400, None) => answer["rejected"].as_u64(),
            _ => None,
        };
        let Some(rejected) = rejected else {
            let reason = answer["error"].as_str().or(answer.as_str()).unwrap_or("no reason given");
            let Origin { path, first, last } = origin;
            let path = path.display();
            return Err(Failure::Refused(format!("{path} {first} to {last}: {reason} ({status})")));
        };
        if rejected > 0 && self.summary.rejected < write::SHOWN_MAX {
            show(origin, &answer);
        }
        self.summary.written += written;
        self.summary.rejected += rejected;
        Ok(())
    }
}

/// Why samples were rejected: each line, or the server's summary.
fn show(origin: &Origin<'_>, answer: &Value) {
    if let Some(summary) = answer.as_str() {
        eprintln!(
            "{} {} to {}: {}",
            origin.path.display(),
            origin.first,
            origin.last,
            summary.trim()
        );
    }
    for error in output::list(&answer["errors"]) {
        write::show(origin.path, origin.first, error);
    }
}
