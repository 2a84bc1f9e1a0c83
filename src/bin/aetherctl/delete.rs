//! `delete`: shows what would go, asks, deletes.

use std::io::{self, IsTerminal, Write};

use clap::Args;
use serde_json::Value;

use crate::client::{Client, Failure};
use crate::output::{self, Table};
use crate::{Format, time};

const PATH: &str = "/api/v1/admin/tsdb/delete_series";

/// Delete samples of the series that selectors select, after showing how many and asking.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Such as `cpu_usage{host="server1"}`.
    #[arg(required = true)]
    selectors: Vec<String>,
    /// The first time whose samples go: Unix seconds, RFC 3339, `now`, `now-5m` or `-1h`. Default:
    /// as early as there are any.
    #[arg(long, allow_hyphen_values = true)]
    start: Option<String>,
    /// The last time whose samples go. Default: as late as there are any.
    #[arg(long, allow_hyphen_values = true)]
    end: Option<String>,
    /// Show how much would go, and delete nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

impl Delete {
    pub(crate) async fn run(&self, client: &Client, format: Format) -> Result<(), Failure> {
        let mut form = self.form()?;
        form.push(("dry_run", "true".to_owned()));
        let answer = client.post(PATH, &form).await?;
        let counts = &answer["data"];
        output::print(format, counts, || Table {
            header: vec!["selector".to_owned(), "series".to_owned(), "samples".to_owned()],
            rows: output::list(counts)
                .map(|count| ["match", "series", "samples"].map(|key| output::text(&count[key])))
                .map(Vec::from)
                .collect(),
        });
        let samples: u64 = output::list(counts).filter_map(|count| count["samples"].as_u64()).sum();
        if self.dry_run || samples == 0 {
            return Ok(());
        }
        if !self.yes && !confirm(samples)? {
            return Err(Failure::Refused("nothing was deleted".to_owned()));
        }
        form.pop();
        let deleted: Value = client.post(PATH, &form).await?;
        output::warn(&deleted);
        eprintln!("deleted");
        Ok(())
    }

    fn form(&self) -> Result<Vec<(&'static str, String)>, Failure> {
        let mut form: Vec<_> =
            self.selectors.iter().map(|selector| ("match[]", selector.clone())).collect();
        for (name, given) in [("start", &self.start), ("end", &self.end)] {
            if let Some(given) = given {
                form.push((name, time::parse(given)?));
            }
        }
        Ok(form)
    }
}

fn confirm(samples: u64) -> Result<bool, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::Usage("nobody to ask: confirm with --yes".to_owned()));
    }
    eprint!("Delete up to {samples} samples? This cannot be undone. [y/N] ");
    let failed = |error: io::Error| Failure::Broken(error.to_string());
    io::stderr().flush().map_err(failed)?;
    let mut answer = String::new();
    stdin.read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
