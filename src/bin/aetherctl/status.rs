//! `aetherctl status`: what an operator wants to know first, in words and units.

use indicatif::{HumanBytes, HumanCount};
use serde_json::Value;

use crate::output::{Table, list, text};

/// The status page's data as a table. What is not well stands on top.
pub(crate) fn table(data: &Value) -> Table {
    let mut rows = Rows::default();
    for trouble in troubles(data) {
        rows.add("NOT WELL", trouble);
    }
    if rows.0.is_empty() {
        rows.add("health", "well".to_owned());
    }
    let uptime = data["uptimeSeconds"].as_f64().unwrap_or_default();
    let (version, uptime) = (text(&data["version"]), seconds(uptime.round()));
    rows.add(
        "server",
        format!("version {version}, up {uptime}, data in {}", text(&data["dataDir"])),
    );
    let durability = &data["durability"];
    let (survives, mode) =
        (text(&durability["acknowledgedWritesSurvive"]), text(&durability["walSync"]));
    rows.add("durability", format!("a 2xx answer survives {survives} (wal-sync {mode})"));
    rows.add("times", range(&data["timeRange"]));
    add_head(data, &mut rows);
    add_blocks(data, &mut rows);
    add_rollups(data, &mut rows);
    Table { header: vec!["what".to_owned(), "value".to_owned()], rows: rows.0 }
}

#[derive(Default)]
struct Rows(Vec<Vec<String>>);

impl Rows {
    fn add(&mut self, what: &str, value: String) {
        self.0.push(vec![what.to_owned(), value]);
    }
}

/// What needs somebody.
fn troubles(data: &Value) -> Vec<String> {
    let mut troubles = Vec::new();
    let told = [
        ("writes are refused", &data["readOnly"]),
        ("flushes fail", &data["flushError"]),
        ("compactions fail", &data["compaction"]["error"]),
        ("rollups fail", &data["rollups"]["error"]),
    ];
    for (what, reason) in told {
        if !reason.is_null() {
            troubles.push(format!("{what}: {}", text(reason)));
        }
    }
    for block in list(&data["blocks"]["quarantined"]) {
        troubles.push(format!("a block is damaged and not served: {}", text(block)));
    }
    troubles
}

fn add_head(data: &Value, rows: &mut Rows) {
    let head = &data["head"];
    let value = format!(
        "{} samples of {} series, {}",
        count(&head["samples"]),
        count(&head["series"]),
        bytes(&head["bytes"])
    );
    rows.add("in memory", value);
    let wal = &data["wal"];
    rows.add("log", format!("{} in {} segments", bytes(&wal["bytes"]), count(&wal["segments"])));
    let flush = &data["lastFlush"];
    if !flush.is_null() {
        let samples = count(&flush["samples"]);
        rows.add("last flush", format!("{}: {samples} samples", at(&flush["finishedMs"])));
    }
}

fn add_blocks(data: &Value, rows: &mut Rows) {
    let blocks = &data["blocks"];
    rows.add("blocks", files(blocks, &blocks["samples"], &blocks["count"]));
    for (level, of_level) in blocks["levels"].as_object().into_iter().flatten() {
        let value = files(of_level, &of_level["samples"], &of_level["count"]);
        rows.add(&format!("  level {level}"), value);
    }
    let compaction = &data["compaction"];
    let last = &compaction["last"];
    if !compaction["running"].is_null() {
        rows.add("compaction", "running".to_owned());
    } else if !last.is_null() {
        let (before, after) = (bytes(&last["bytesBefore"]), bytes(&last["bytesAfter"]));
        let finished = at(&last["finishedMs"]);
        rows.add("last compaction", format!("{finished}: {before} became {after}"));
    }
    let retention = &data["retention"];
    let bytes_max = &retention["bytesMax"];
    let at_most =
        if bytes_max.is_null() { String::new() } else { format!(" of {}", bytes(bytes_max)) };
    let stored = bytes(&retention["storedBytes"]);
    rows.add("stored", format!("{stored}{at_most} in blocks, log and rollups"));
    let dropped = |name: &str| retention[name].as_u64().is_some_and(|dropped| dropped > 0);
    if dropped("blocksDropped") || dropped("rollupFilesDropped") {
        let samples = count(&retention["samplesDropped"]);
        let files = count(&retention["rollupFilesDropped"]);
        let value = format!("{samples} samples and {files} rollup files dropped since the start");
        rows.add("retention", value);
    }
    if !retention["rawFloorMs"].is_null() {
        rows.add("raw samples", format!("since {}", at(&retention["rawFloorMs"])));
    }
    if !retention["waiting"].is_null() {
        rows.add("retention waits", text(&retention["waiting"]));
    }
}

fn add_rollups(data: &Value, rows: &mut Rows) {
    let rollups = &data["rollups"];
    if rollups.is_null() {
        rows.add("rollups", "off".to_owned());
        return;
    }
    let dirty = &rollups["dirtySpans"];
    let work = if dirty.as_u64() == Some(0) {
        "up to date".to_owned()
    } else {
        format!("{} spans of two hours are to be built", count(dirty))
    };
    rows.add("rollups", format!("{work}, in {}", text(&rollups["url"])));
    for name in ["1m", "5m", "1h"] {
        let of_name = &rollups["resolutions"][name];
        if of_name["files"].as_u64().is_some_and(|files| files > 0) {
            let value = files(of_name, &of_name["rawSamples"], &of_name["files"]);
            let complete = at(&of_name["watermarkMs"]);
            rows.add(&format!("  {name}"), format!("{value}, complete up to {complete}"));
        }
    }
}

/// `1,440 samples in 3 files, 12 KiB, 0.41 B/sample`.
fn files(of: &Value, samples: &Value, files: &Value) -> String {
    let each = match (of["bytes"].as_f64(), samples.as_f64()) {
        (Some(bytes), Some(samples)) if samples > 0.0 => {
            format!(", {:.3} B/sample", bytes / samples)
        }
        _ => String::new(),
    };
    let (samples, files) = (count(samples), count(files));
    format!("{samples} samples in {files} files, {}{each}", bytes(&of["bytes"]))
}

fn count(value: &Value) -> String {
    HumanCount(value.as_u64().unwrap_or_default()).to_string()
}

fn bytes(value: &Value) -> String {
    HumanBytes(value.as_u64().unwrap_or_default()).to_string()
}

fn seconds(value: f64) -> String {
    std::time::Duration::try_from_secs_f64(value)
        .map_or_else(|_| String::new(), |time| indicatif::HumanDuration(time).to_string())
}

/// Milliseconds as a date.
fn at(ms: &Value) -> String {
    let date = ms.as_i64().and_then(chrono::DateTime::from_timestamp_millis);
    date.map_or_else(|| "never".to_owned(), |date| date.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn range(range: &Value) -> String {
    if range.is_null() {
        return "no samples".to_owned();
    }
    format!("{} to {}", at(&range["minMs"]), at(&range["maxMs"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn trouble_stands_on_top_and_numbers_have_units() {
        let mut data = json!({
            "version": "1", "uptimeSeconds": 61.0, "dataDir": "d",
            "blocks": {"bytes": 2048, "count": 2, "samples": 4096, "quarantined": [],
                       "levels": {"0": {"bytes": 2048, "count": 2, "samples": 4096}}},
            "timeRange": {"minMs": 0, "maxMs": 1_699_500_000_000_i64},
        });
        let find = |table: &Table, what: &str| {
            let row = table.rows.iter().find(|row| row[0] == what);
            row.map(|row| row[1].clone()).unwrap_or_default()
        };
        let fine = table(&data);
        assert_eq!(fine.rows[0], ["health", "well"]);
        assert_eq!(find(&fine, "  level 0"), "4,096 samples in 2 files, 2.00 KiB, 0.500 B/sample");
        assert_eq!(find(&fine, "times"), "1970-01-01T00:00:00Z to 2023-11-09T03:20:00Z");
        assert_eq!(find(&fine, "rollups"), "off");
        data["readOnly"] = json!("the disk is full");
        assert_eq!(table(&data).rows[0], ["NOT WELL", "writes are refused: the disk is full"]);
    }
}
