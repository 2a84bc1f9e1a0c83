//! `aetherctl export`: samples or rollups as they come from the server, to a file or to standard
//! output.
//!
//! Invariant: a file has its name only once it is whole and on disk.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::client::{Client, Download, Failure};
use crate::{Format, time};

/// What to export, and where to.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Which series: `cpu_usage{host="a"}`, or several such. All of them if there is none.
    selectors: Vec<String>,
    /// Unix seconds, RFC 3339, `now`, `now-5m` or `-1h`. Default: the first sample.
    #[arg(long, allow_hyphen_values = true)]
    start: Option<String>,
    /// Default: the last sample.
    #[arg(long, allow_hyphen_values = true)]
    end: Option<String>,
    /// Samples as they were written, or rollups of them.
    #[arg(long, default_value = "raw", value_parser = ["raw", "1m", "5m", "1h"])]
    resolution: String,
    /// File to write. Its ending decides the format unless --format does. Default: standard output.
    #[arg(long, short)]
    output: Option<PathBuf>,
}

impl Export {
    pub(crate) async fn run(
        &self,
        client: &Client,
        format: Option<Format>,
    ) -> Result<ExitCode, Failure> {
        let by_name = self.output.as_deref().and_then(Format::of_file);
        let format = format.or(by_name).unwrap_or(Format::Jsonl);
        let name = format.exported().ok_or_else(|| {
            let known = "parquet, csv, arrow, jsonl and openmetrics";
            Failure::Usage(format!("--format: exports are {known}"))
        })?;
        let binary = matches!(format, Format::Parquet | Format::Arrow);
        if binary && self.output.is_none() && io::stdout().is_terminal() {
            let say = "say --output=FILE, or pipe it to a program";
            return Err(Failure::Usage(format!("{name} is not for terminals: {say}")));
        }
        let mut form = vec![("format", name.to_owned()), ("resolution", self.resolution.clone())];
        form.extend(self.selectors.iter().map(|selector| ("match[]", selector.clone())));
        for (name, time) in [("start", &self.start), ("end", &self.end)] {
            if let Some(time) = time {
                form.push((name, time::parse(time)?));
            }
        }
        let mut download = client.download("/api/v1/export", &form).await?;
        for warning in download.headers("x-aetherdb-warning") {
            eprintln!("warning: {warning}");
        }
        match &self.output {
            Some(path) => to_file(&mut download, path).await?,
            None => to_stdout(&mut download).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes beside the file and renames.
async fn to_file(download: &mut Download<'_>, path: &Path) -> Result<(), Failure> {
    let broken =
        |path: &Path, error: io::Error| Failure::Broken(format!("{}: {error}", path.display()));
    let name = path.file_name().ok_or_else(|| {
        Failure::Usage(format!("--output {}: this is no file's name", path.display()))
    })?;
    let partial = path.with_file_name(format!("{}.partial", name.to_string_lossy()));
    let file = File::create(&partial).map_err(|error| broken(&partial, error))?;
    let written = match copy(download, &file, &partial).await {
        Ok(()) => file.sync_all().and_then(|()| fs::rename(&partial, path)),
        Err(failure) => {
            // The failure is what the user must see.
            let _ = fs::remove_file(&partial);
            return Err(failure);
        }
    };
    written.map_err(|error| broken(path, error))
}

async fn to_stdout(download: &mut Download<'_>) -> Result<(), Failure> {
    match copy(download, io::stdout(), Path::new("standard output")).await {
        Ok(()) | Err(Failure::Closed) => Ok(()),
        Err(failure) => Err(failure),
    }
}

async fn copy(
    download: &mut Download<'_>,
    mut sink: impl Write,
    path: &Path,
) -> Result<(), Failure> {
    let series = download.headers("x-aetherdb-export-series").next().unwrap_or_default().to_owned();
    let progress = progress(path, &series);
    while let Some(chunk) = download.chunk().await? {
        match sink.write_all(&chunk) {
            // A reader that has gone away, as `head` does, is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(Failure::Closed),
            written => {
                written.map_err(|error| Failure::Broken(format!("{}: {error}", path.display())))?
            }
        }
        progress.inc(chunk.len() as u64);
    }
    progress.finish_and_clear();
    Ok(())
}

/// Bytes so far, on a terminal only.
fn progress(path: &Path, series: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {bytes} {bytes_per_sec}") {
        bar.set_style(style);
    }
    bar.with_message(format!("{} ({series} series)", path.display()))
}
