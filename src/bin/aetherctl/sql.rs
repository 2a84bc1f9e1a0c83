//! `aetherctl sql`: rows are written as they come, however many they are.
//!
//! JSON, JSON lines, CSV, Arrow and Parquet are the server's own bytes. A table is drawn from
//! Arrow batches, a bounded number of rows at a time.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::Args;

use crate::Format;
use crate::client::{Client, Failure};
use crate::output::{Table, aligned};

/// The header that says which samples may be missing.
const WARNING: &str = "x-aetherdb-warning";
/// The header or trailer that says what the query took.
const STATS: &str = "x-aetherdb-stats";
/// Rows of one drawn table; more rows make more tables.
const TABLE_ROWS: usize = 1_000;

/// What the command line says.
#[derive(Debug, Args)]
pub(crate) struct Sql {
    /// `-` or nothing is standard input.
    statement: Option<String>,
    /// Read the statement from a file.
    #[arg(long, short, conflicts_with = "statement")]
    file: Option<PathBuf>,
    /// Say on standard error what the query took: time, series, samples, rows, files, bytes.
    #[arg(long)]
    stats: bool,
}

impl Sql {
    pub(crate) async fn run(
        &self,
        client: &Client,
        format: Option<Format>,
    ) -> Result<ExitCode, Failure> {
        let format = format.unwrap_or(Format::Table);
        let out = io::stdout();
        let sent = match format {
            Format::Arrow | Format::Parquet if out.is_terminal() => {
                let reason = "--format: this is binary, redirect the output to a file";
                return Err(Failure::Usage(reason.to_owned()));
            }
            Format::Table | Format::Arrow => "arrow",
            Format::Json => "json",
            Format::Csv => "csv",
            Format::Jsonl => "jsonl",
            Format::Parquet => "parquet",
            Format::Openmetrics => {
                let known = "table, json, jsonl, csv, arrow, parquet";
                return Err(Failure::Usage(format!("--format: this command knows {known}")));
            }
        };
        let mut form = vec![("query", self.statement()?), ("format", sent.to_owned())];
        form.extend(self.stats.then(|| ("stats", "all".to_owned())));
        let mut answer = client.download("/api/v1/sql", &form).await?;
        for warning in answer.headers(WARNING) {
            eprintln!("warning: {warning}");
        }
        let mut drawn = (format == Format::Table).then(Drawn::default);
        while let Some(bytes) = answer.chunk().await? {
            let text = match &mut drawn {
                None => bytes,
                Some(drawn) => drawn.push(bytes.to_vec()).map_err(broken)?.into(),
            };
            if out.lock().write_all(&text).is_err() {
                // A reader that has gone away, as `head` does, is no failure.
                return Ok(ExitCode::SUCCESS);
            }
        }
        let end = match drawn {
            Some(drawn) => drawn.finish().map_err(broken)?,
            None if format == Format::Json => "\n".to_owned(),
            None => String::new(),
        };
        let _ = out.lock().write_all(end.as_bytes());
        for stats in answer.headers(STATS).filter(|_| self.stats) {
            eprintln!("{stats}");
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Given, or from a file, or from standard input.
    fn statement(&self) -> Result<String, Failure> {
        let (name, read) = match (&self.file, self.statement.as_deref()) {
            (None, Some(text)) if text != "-" => return Ok(text.to_owned()),
            (Some(file), _) => (file.display().to_string(), std::fs::read_to_string(file)),
            (None, _) => ("-".to_owned(), io::read_to_string(io::stdin())),
        };
        read.map_err(|error| Failure::Broken(format!("{name}: {error}")))
    }
}

fn broken(error: ArrowError) -> Failure {
    Failure::Broken(format!("the server's answer: {error}"))
}

/// Tables of the rows that came so far.
#[derive(Default)]
struct Drawn {
    decoder: StreamDecoder,
    rows: Vec<Vec<String>>,
    /// Whether a table was drawn: a result without rows has one too.
    any: bool,
}

impl Drawn {
    /// Takes bytes of the Arrow stream; gives the tables that are full.
    fn push(&mut self, bytes: Vec<u8>) -> Result<String, ArrowError> {
        let mut bytes = Buffer::from_vec(bytes);
        let mut text = String::new();
        while !bytes.is_empty() {
            if let Some(batch) = self.decoder.decode(&mut bytes)? {
                append(&batch, &mut self.rows)?;
                while self.rows.len() >= TABLE_ROWS {
                    let rest = self.rows.split_off(TABLE_ROWS);
                    text.push_str(&self.draw());
                    self.rows = rest;
                }
            }
        }
        Ok(text)
    }

    fn finish(mut self) -> Result<String, ArrowError> {
        self.decoder.finish()?;
        let text = if self.rows.is_empty() && self.any { String::new() } else { self.draw() };
        Ok(text)
    }

    fn draw(&mut self) -> String {
        self.any = true;
        let header = match self.decoder.schema() {
            Some(schema) => schema.fields().iter().map(|field| field.name().clone()).collect(),
            None => Vec::new(),
        };
        aligned(&Table { header, rows: std::mem::take(&mut self.rows) })
    }
}

fn append(batch: &RecordBatch, rows: &mut Vec<Vec<String>>) -> Result<(), ArrowError> {
    let options = FormatOptions::default();
    let columns: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options))
        .collect::<Result<_, _>>()?;
    for row in 0..batch.num_rows() {
        rows.push(columns.iter().map(|column| column.value(row).to_string()).collect());
    }
    Ok(())
}
