//! `wal`: what is done to a log while no server runs.

use std::path::PathBuf;
use std::sync::Arc;

use aetherdb::clock::SystemClock;
use aetherdb::storage::vfs::RealVfs;
use aetherdb::storage::{Salvage, SalvageReport, StorageOptions, salvage};
use aetherdb::telemetry::Telemetry;
use clap::Subcommand;
use serde_json::json;

use crate::Format;
use crate::client::Failure;
use crate::output::{self, Table};

#[derive(Debug, Subcommand)]
pub(crate) enum Wal {
    /// Save what can be read of a damaged log, so that the server starts again.
    ///
    /// Everything whole is moved to blocks, and the log's files to `quarantine/`. Nothing is
    /// deleted. Does nothing to a log that a server would start with.
    Salvage {
        /// The directory that `aetherdb --data-dir` names. No server may be running on it.
        #[arg(long, env = "AETHER_DATA_DIR", default_value = "./data")]
        data_dir: PathBuf,
        /// Say what is lost and what would be saved, and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

impl Wal {
    pub(crate) fn run(&self, format: Format) -> Result<(), Failure> {
        let Wal::Salvage { data_dir, dry_run } = self;
        let mode = if *dry_run { Salvage::Preview } else { Salvage::Perform };
        let report = salvage(
            StorageOptions::new(data_dir),
            Arc::new(RealVfs),
            Arc::new(SystemClock::new()),
            Arc::new(Telemetry::default()),
            mode,
        )
        .map_err(|error| Failure::Broken(error.to_string()))?;
        print(format, &report, mode);
        Ok(())
    }
}

fn print(format: Format, report: &SalvageReport, mode: Salvage) {
    let skipped: Vec<_> = report
        .skipped
        .iter()
        .map(|skipped| {
            json!({
                "file": skipped.path.display().to_string(),
                "offset": skipped.offset,
                "bytes": skipped.bytes,
                "firstRecord": skipped.records.map(|(first, _)| first),
                "lastRecord": skipped.records.map(|(_, last)| last),
                "reason": skipped.reason,
            })
        })
        .collect();
    let set_aside = report.set_aside.iter().map(|path| path.display().to_string());
    let data = json!({
        "damage": report.damage,
        "recordsRead": report.records,
        "samplesSaved": report.samples,
        "samplesWithoutSeries": report.nameless,
        "skipped": skipped,
        "setAside": set_aside.collect::<Vec<_>>(),
    });
    output::print(format, &data, || table(report));
    match (&report.damage, mode) {
        (None, _) => eprintln!("the log is whole, and nothing was done"),
        (Some(_), Salvage::Preview) => eprintln!("nothing was changed"),
        (Some(_), Salvage::Perform) => eprintln!("salvaged: the server can be started"),
    }
}

fn table(report: &SalvageReport) -> Table {
    let mut rows = Vec::new();
    let mut add = |what: &str, value: String| rows.push(vec![what.to_owned(), value]);
    if let Some(damage) = &report.damage {
        add("damage", damage.clone());
        add("samples saved", report.samples.to_string());
        add("samples whose series is lost", report.nameless.to_string());
    }
    for skipped in &report.skipped {
        let records = match skipped.records {
            Some((first, last)) => format!("records {first} to {last} are lost"),
            None => "no acknowledged record is known to be lost".to_owned(),
        };
        let place =
            format!("{} bytes at {} of {}", skipped.bytes, skipped.offset, skipped.path.display());
        add(&place, format!("{records}: {}", skipped.reason));
    }
    for path in &report.set_aside {
        add("set aside", path.display().to_string());
    }
    Table { header: vec!["what".to_owned(), "value".to_owned()], rows }
}
