//! `aetherctl export`: samples or rollups as they come from the server, to a file or to standard
//! output.
//!
//! Invariant: a file has its name only once it is whole and on disk.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures::future::LocalBoxFuture;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::client::{Client, Download, Failure};
use crate::{Format, time};

/// How often the server is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// What to export, and where to.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Such as `cpu_usage{host="server1"}`; without any, all series are exported.
    selectors: Vec<String>,
    /// The first time: Unix seconds, RFC 3339, `now`, `now-5m` or `-1h`. Default: as early as there
    /// are any samples.
    #[arg(long, allow_hyphen_values = true)]
    start: Option<String>,
    /// The last time. Default: as late as there are any samples.
    #[arg(long, allow_hyphen_values = true)]
    end: Option<String>,
    /// Samples as they were written, or their rollups (not as openmetrics).
    #[arg(long, default_value = "raw", value_parser = ["raw", "1m", "5m", "1h"])]
    resolution: String,
    /// File to write. Its ending decides the format unless --format does. Default: standard output.
    #[arg(long, short, value_name = "FILE")]
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
    let mut progress = Progress::new(download, path);
    while let Some(chunk) = progress.meanwhile(download.chunk()).await? {
        match sink.write_all(&chunk) {
            // A reader that has gone away, as `head` does, is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(Failure::Closed),
            written => {
                written.map_err(|error| Failure::Broken(format!("{}: {error}", path.display())))?
            }
        }
        progress.add(chunk.len());
    }
    progress.bar.finish_and_clear();
    Ok(())
}

/// Series and bytes so far, on a terminal only. The server is asked how many series it has
/// written, because not every format shows it.
struct Progress<'a> {
    bar: ProgressBar,
    asking: Option<LocalBoxFuture<'a, ()>>,
    bytes: u64,
    name: String,
}

impl<'a> Progress<'a> {
    fn new(download: &Download<'a>, path: &Path) -> Self {
        let name = path.display().to_string();
        let number = |name| download.headers(name).next()?.parse::<u64>().ok();
        let (series, id) = (number("x-aetherdb-export-series"), number("x-aetherdb-export-id"));
        let mut progress = Self { bar: ProgressBar::hidden(), asking: None, bytes: 0, name };
        if !io::stderr().is_terminal() {
            return progress;
        }
        progress.bar = ProgressBar::new(series.unwrap_or(0));
        let template = "{msg} {wide_bar} {pos}/{len} series {elapsed}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            progress.bar.set_style(style);
        }
        if let Some(id) = id {
            let (client, bar) = (download.client(), progress.bar.clone());
            progress.asking = Some(Box::pin(ask(client, id, bar)));
        }
        progress
    }

    fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.bar.set_message(format!("{} {}", self.name, HumanBytes(self.bytes)));
    }

    /// Waits for `chunk`, and asks the server meanwhile.
    async fn meanwhile<T>(&mut self, chunk: impl Future<Output = T>) -> T {
        let Some(asking) = &mut self.asking else { return chunk.await };
        tokio::pin!(chunk);
        tokio::select! {
            chunk = &mut chunk => chunk,
            () = asking => {
                self.asking = None;
                chunk.await
            }
        }
    }
}

/// Moves the bar until the export has ended.
async fn ask(client: &Client, id: u64, bar: ProgressBar) {
    let path = format!("/api/v1/export/{id}");
    while let Ok(answer) = client.get(&path, &[]).await {
        bar.set_position(answer["data"]["series"].as_u64().unwrap_or(0));
        tokio::time::sleep(ASK_EVERY).await;
    }
}
