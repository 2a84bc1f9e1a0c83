//! The command-line tool: asks a running server, shows its answers.
//!
//! Exit codes: 0 done, 1 refused or failed (a query's error, rejected lines), 2 wrong usage,
//! 3 the server cannot be reached.

mod client;
mod compact;
mod delete;
mod downsample;
mod export;
mod import;
mod output;
mod plot;
mod progress;
mod sql;
mod status;
mod time;
mod wal;
mod write;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use serde_json::Value;

use crate::client::{Client, Failure};
use crate::delete::Delete;
use crate::output::Table;
use crate::wal::Wal;

const REFUSED: u8 = 1;
const USAGE: u8 = 2;
const UNREACHABLE: u8 = 3;

/// Stands below the help of every command.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused or failed: a query's error, rejected lines or samples, a broken file
  2  wrong usage
  3  the server cannot be reached";

/// Talks to an AetherDB server.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
struct Args {
    /// Where the server is.
    #[arg(
        long,
        env = "AETHER_URL",
        default_value = "http://127.0.0.1:9090",
        global = true,
        help_heading = "Options of all commands"
    )]
    url: String,

    /// How answers are written: table (the default), json or csv; of sql also jsonl, arrow and
    /// parquet. Exports and imports are jsonl, csv, parquet, arrow or openmetrics.
    #[arg(long, value_enum, global = true, help_heading = "Options of all commands")]
    format: Option<Format>,

    #[command(subcommand)]
    command: Command,
}

/// How answers are written. Variants have no help of their own, so that all fit on one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
    Csv,
    Jsonl,
    Arrow,
    Parquet,
    Openmetrics,
}

impl Format {
    /// What `--format` says, or a table, for commands that print.
    fn printed(format: Option<Self>) -> Result<Self, Failure> {
        match format.unwrap_or(Self::Table) {
            printed @ (Self::Table | Self::Json | Self::Csv) => Ok(printed),
            _ => Err(Failure::Usage("--format: this command knows table, json and csv".to_owned())),
        }
    }

    /// What the server calls a format of exports.
    fn exported(self) -> Option<&'static str> {
        match self {
            Self::Parquet => Some("parquet"),
            Self::Csv => Some("csv"),
            Self::Arrow => Some("arrow"),
            Self::Jsonl => Some("jsonl"),
            Self::Openmetrics => Some("openmetrics"),
            Self::Table | Self::Json => None,
        }
    }

    /// By the ending of a file's name, that of a packing program left aside.
    fn of_file(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let name = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(&name);
        match name.rsplit_once('.')?.1 {
            "parquet" => Some(Self::Parquet),
            "csv" => Some(Self::Csv),
            "arrow" | "arrows" | "ipc" => Some(Self::Arrow),
            "jsonl" | "ndjson" | "json" => Some(Self::Jsonl),
            "om" | "openmetrics" | "prom" => Some(Self::Openmetrics),
            _ => None,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what the server holds, how durable it is, and whether it is well.
    Status,
    /// Evaluate a query at one time.
    Query {
        /// PromQL, or aggregation over a range vector: `avg(cpu_usage[5m])`.
        #[arg(allow_hyphen_values = true)]
        query: String,
        /// Unix seconds, RFC 3339, `now`, `now-5m` or `-1h`.
        #[arg(long, default_value = "now", allow_hyphen_values = true)]
        time: String,
        /// Show the plan; `analyze` runs it and shows what each operator did.
        #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "plan")]
        explain: Option<Explain>,
        /// The coarsest rollup that may answer: `0s` (raw samples only), `1m`, `5m`, `1h` or `auto`.
        #[arg(long, value_name = "RESOLUTION")]
        max_source_resolution: Option<String>,
    },
    /// Evaluate a query at every step of a range.
    QueryRange {
        /// PromQL, or aggregation over a range vector: `avg(cpu_usage[5m])`.
        #[arg(allow_hyphen_values = true)]
        query: String,
        /// The first step: Unix seconds, RFC 3339, `now`, `now-5m` or `-1h`.
        #[arg(long, default_value = "-1h", allow_hyphen_values = true)]
        start: String,
        /// No step is later than this.
        #[arg(long, default_value = "now", allow_hyphen_values = true)]
        end: String,
        /// Seconds, or a duration such as `30s`.
        #[arg(long, default_value = "1m")]
        step: String,
        /// Print values only, no plot.
        #[arg(long)]
        no_plot: bool,
        /// Show the plan; `analyze` runs it and shows what each operator did.
        #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "plan")]
        explain: Option<Explain>,
        /// The coarsest rollup that may answer: `0s` (raw samples only), `1m`, `5m`, `1h` or `auto`.
        #[arg(long, value_name = "RESOLUTION")]
        max_source_resolution: Option<String>,
    },
    /// Run a read-only SQL statement; a table per metric, `raw.samples` over all of them.
    Sql(sql::Sql),
    /// Write line protocol from files or standard input.
    Write {
        /// `-` or nothing is standard input.
        files: Vec<PathBuf>,
        /// Lines of one request.
        #[arg(long, default_value_t = write::BATCH_LINES, value_parser = clap::value_parser!(u64).range(1..))]
        batch_lines: u64,
        /// Store a batch only if all of its lines are good.
        #[arg(long)]
        atomic: bool,
    },
    /// List series, all of them or those that a selector selects.
    Series {
        /// Such as `cpu_usage{host="server1"}`; a series is listed if one of them selects it.
        selectors: Vec<String>,
    },
    /// List label names, or the values of one label.
    Labels {
        /// The label whose values are listed; those of `__name__` are the metrics.
        name: Option<String>,
    },
    /// Write samples or rollups to a file: parquet, csv, arrow, jsonl or openmetrics.
    Export(export::Export),
    /// Write samples from exported files to the server.
    Import(import::Import),
    /// Move what is in memory to blocks.
    Flush,
    /// Merge the blocks of windows that are over, and show what it saved.
    Compact {
        /// Return at once.
        #[arg(long)]
        no_wait: bool,
    },
    /// Sum up everything that was written to rollups now, and show how far it is.
    Downsample,
    Delete(Delete),
    /// Work on the log of a server that is not running.
    #[command(subcommand)]
    Wal(Wal),
    /// Free the space of deleted samples.
    CleanTombstones,
    /// Copy everything to `snapshots/` in the server's data directory, at almost no cost: a server
    /// can be started on the copy.
    Snapshot {
        /// Leave out what is in memory only.
        #[arg(long)]
        skip_head: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Explain {
    Plan,
    Analyze,
}

fn main() -> ExitCode {
    let command = Args::command().after_help(EXIT_CODES);
    let command = command.mut_subcommands(|command| command.after_help(EXIT_CODES));
    let args = match Args::from_arg_matches(&command.get_matches()) {
        Ok(args) => args,
        Err(error) => error.exit(),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(REFUSED);
        }
    };
    match runtime.block_on(run(&args)) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(match failure {
                Failure::Usage(_) => USAGE,
                Failure::Unreachable(_) => UNREACHABLE,
                Failure::Refused(_) | Failure::Broken(_) | Failure::Closed => REFUSED,
            })
        }
    }
}

async fn run(args: &Args) -> Result<ExitCode, Failure> {
    let client = Client::new(&args.url)?;
    match &args.command {
        Command::Export(export) => return export.run(&client, args.format).await,
        Command::Import(import) => return import.run(&client, args.format).await,
        Command::Sql(sql) => return sql.run(&client, args.format).await,
        _ => {}
    }
    let format = Format::printed(args.format)?;
    match &args.command {
        Command::Export(_) | Command::Import(_) | Command::Sql(_) => {}
        Command::Status => {
            let status = client.get("/api/v1/status", &[]).await?;
            output::print(format, &status["data"], || match format {
                Format::Csv => output::flattened(&status["data"]),
                _ => status::table(&status["data"]),
            });
        }
        Command::Query { query, time, explain, max_source_resolution } => {
            let time = time::parse(time)?;
            let mut form = vec![("query", query.clone()), ("time", time)];
            form.extend(options(*explain, max_source_resolution.as_deref()));
            let answer = client.post("/api/v1/query", &form).await?;
            print_answer(format, &answer, explain.is_some());
        }
        Command::QueryRange {
            query,
            start,
            end,
            step,
            no_plot,
            explain,
            max_source_resolution,
        } => {
            let mut form = vec![
                ("query", query.clone()),
                ("start", time::parse(start)?),
                ("end", time::parse(end)?),
                ("step", step.clone()),
            ];
            form.extend(options(*explain, max_source_resolution.as_deref()));
            let answer = client.post("/api/v1/query_range", &form).await?;
            if format == Format::Table && !no_plot && explain.is_none() {
                print!("{}", plot::plot(&answer["data"]));
            }
            print_answer(format, &answer, explain.is_some());
        }
        Command::Write { files, batch_lines, atomic } => {
            let mut summary = write::Summary::default();
            let written = write::write(&client, files, *batch_lines, *atomic, &mut summary).await;
            if written.is_ok() || summary.requests > 0 {
                println!("{summary}");
            }
            written?;
            return Ok(ExitCode::from(if summary.rejected > 0 { REFUSED } else { 0 }));
        }
        Command::Series { selectors } => {
            let matchers: Vec<_> =
                selectors.iter().map(|selector| ("match[]", selector.clone())).collect();
            let answer = client.get("/api/v1/series", &matchers).await?;
            output::warn(&answer);
            output::print(format, &answer["data"], || Table {
                header: vec!["series".to_owned()],
                rows: output::list(&answer["data"])
                    .map(|series| vec![output::metric(series)])
                    .collect(),
            });
        }
        Command::Labels { name } => {
            let path = match name {
                Some(name) => format!("/api/v1/label/{}/values", in_address(name)),
                None => "/api/v1/labels".to_owned(),
            };
            let answer = client.get(&path, &[]).await?;
            output::warn(&answer);
            output::print(format, &answer["data"], || Table {
                header: vec![name.clone().unwrap_or_else(|| "label".to_owned())],
                rows: output::list(&answer["data"])
                    .map(|value| vec![output::text(value)])
                    .collect(),
            });
        }
        Command::Flush => admin(&client, format, "flush").await?,
        Command::Compact { no_wait } => compact::compact(&client, format, !no_wait).await?,
        Command::Downsample => downsample::downsample(&client, format).await?,
        Command::Delete(delete) => delete.run(&client, format).await?,
        Command::Wal(wal) => wal.run(format)?,
        Command::CleanTombstones => {
            client.post("/api/v1/admin/tsdb/clean_tombstones", &[]).await?;
        }
        Command::Snapshot { skip_head } => {
            let form = [("skip_head", skip_head.to_string())];
            let answer = client.post("/api/v1/admin/tsdb/snapshot", &form).await?;
            output::print(format, &answer["data"], || output::flattened(&answer["data"]));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Parameters that both kinds of query take.
fn options(
    explain: Option<Explain>,
    max_source_resolution: Option<&str>,
) -> Vec<(&'static str, String)> {
    let explain = explain.map(|explain| match explain {
        Explain::Plan => ("explain", "true".to_owned()),
        Explain::Analyze => ("explain", "analyze".to_owned()),
    });
    let resolution = max_source_resolution.map(|text| ("max_source_resolution", text.to_owned()));
    explain.into_iter().chain(resolution).collect()
}

/// A name as a part of an address.
fn in_address(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

async fn admin(client: &Client, format: Format, what: &str) -> Result<(), Failure> {
    let answer = client.post(&format!("/api/v1/admin/{what}"), &[]).await?;
    output::print(format, &answer["data"], || output::flattened(&answer["data"]));
    Ok(())
}

fn print_answer(format: Format, answer: &Value, explained: bool) {
    output::warn(answer);
    let plan = &answer["data"]["explain"];
    if let (true, Format::Table, Some(plan)) = (explained, format, plan.as_str()) {
        print!("{plan}");
        return;
    }
    output::print(format, &answer["data"], || output::result(&answer["data"]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_argument_is_explained() {
        let command = Args::command();
        command.clone().debug_assert();
        for command in command.get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                let (command, argument, help) =
                    (command.get_name(), argument.get_id(), argument.get_help());
                assert!(help.is_some(), "{command} {argument}");
            }
        }
    }
}
