//! `aetherctl compact`: has the server merge its blocks, and shows what came of it.

use indicatif::ProgressBar;
use serde_json::Value;

use crate::Format;
use crate::client::{Client, Failure};
use crate::output::{self, Table};
use crate::progress;

/// Merges what can be merged; `wait` for the end.
pub(crate) async fn compact(client: &Client, format: Format, wait: bool) -> Result<(), Failure> {
    let form = [("wait", wait.to_string())];
    let work = client.work("/api/v1/admin/compact", &form);
    let answer = progress::watch(client, work, describe).await?;
    let data = &answer["data"];
    if !wait {
        output::print(format, data, || output::flattened(data));
        return Ok(());
    }
    output::print(format, data, || table(data));
    Ok(())
}

fn describe(status: &Value, bar: &ProgressBar) {
    let merge = &status["compaction"]["running"];
    let (Some(samples), Some(done)) = (merge["samples"].as_u64(), merge["samplesDone"].as_u64())
    else {
        return;
    };
    bar.set_length(samples);
    bar.set_position(done);
    bar.set_message(format!("{} blocks into one of level {}", merge["blocks"], merge["level"]));
}

fn table(data: &Value) -> Table {
    let row = |what: &str, before: &str, after: &str| {
        let (before, after) = (&data[before], &data[after]);
        let ratio = match (before.as_f64(), after.as_f64()) {
            (Some(before), Some(after)) if before > 0.0 => format!("{:.3}", after / before),
            _ => String::new(),
        };
        vec![what.to_owned(), output::text(before), output::text(after), ratio]
    };
    let count = |what: &str, count: &Value| {
        vec![what.to_owned(), String::new(), output::text(count), String::new()]
    };
    Table {
        header: ["what", "before", "after", "ratio"].map(str::to_owned).to_vec(),
        rows: vec![
            row("blocks", "blocksBefore", "blocksAfter"),
            row("bytes", "bytesBefore", "bytesAfter"),
            count("compactions", &data["compactions"]),
            count("samples compacted", &data["samples"]),
            count("seconds", &data["seconds"]),
        ],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_has_ratios() {
        let data = json!({
            "compactions": 1, "samples": 900, "seconds": 0.25,
            "blocksBefore": 12, "blocksAfter": 1, "bytesBefore": 1000, "bytesAfter": 750,
        });
        let rows = table(&data).rows;
        assert_eq!(rows[0], ["blocks", "12", "1", "0.083"]);
        assert_eq!(rows[1], ["bytes", "1000", "750", "0.750"]);
        assert_eq!(rows[3], ["samples compacted", "", "900", ""]);
        let nothing = json!({"blocksBefore": 0, "blocksAfter": 0});
        assert_eq!(table(&nothing).rows[0], ["blocks", "0", "0", ""]);
    }
}
