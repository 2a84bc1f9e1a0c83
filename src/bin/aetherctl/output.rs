//! Answers as tables, JSON or CSV.

use std::io::{self, Write};

use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde_json::Value;

use crate::Format;

/// Rows of text.
pub(crate) struct Table {
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// Prints the server's data, or the table made of it.
pub(crate) fn print(format: Format, data: &Value, table: impl FnOnce() -> Table) {
    let text = match format {
        Format::Json => format!("{data:#}\n"),
        Format::Csv => csv(&table()),
        _ => aligned(&table()),
    };
    // A reader that has gone away, as `head` does, is no failure.
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Prints the warnings and infos of an answer, beside the answer itself.
pub(crate) fn warn(answer: &Value) {
    for kind in ["warnings", "infos"] {
        for text in list(&answer[kind]) {
            eprintln!("{}: {}", kind.trim_end_matches('s'), self::text(text));
        }
    }
}

/// The elements of an array; nothing if it is none.
pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A value as it reads: strings without quotes.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A label set as PromQL writes it.
pub(crate) fn metric(labels: &Value) -> String {
    let Some(labels) = labels.as_object() else { return String::new() };
    let name = labels.get("__name__").map(text).unwrap_or_default();
    let pairs: Vec<String> = labels
        .iter()
        .filter(|(name, _)| *name != "__name__")
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if pairs.is_empty() && !name.is_empty() {
        name
    } else {
        format!("{name}{{{}}}", pairs.join(", "))
    }
}

/// The result of a query.
pub(crate) fn result(data: &Value) -> Table {
    let header = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let point = |sample: &Value| vec![time(&sample[0]), text(&sample[1])];
    let mut rows = Vec::new();
    match data["resultType"].as_str() {
        Some("vector") => {
            for series in list(&data["result"]) {
                rows.push([vec![metric(&series["metric"])], point(&series["value"])].concat());
            }
        }
        Some("matrix") => {
            for series in list(&data["result"]) {
                for sample in list(&series["values"]) {
                    rows.push([vec![metric(&series["metric"])], point(sample)].concat());
                }
            }
        }
        _ => {
            return Table {
                header: header(&["time", "value"]),
                rows: vec![point(&data["result"])],
            };
        }
    }
    Table { header: header(&["series", "time", "value"]), rows }
}

/// Seconds as a date, in UTC.
fn time(seconds: &Value) -> String {
    let ms = (seconds.as_f64().unwrap_or_default() * 1e3).round();
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds of a date fit")]
    let date = chrono::DateTime::from_timestamp_millis(ms as i64);
    date.map_or_else(
        || seconds.to_string(),
        |date| date.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
    )
}

/// Nested objects as rows of path and value.
pub(crate) fn flattened(value: &Value) -> Table {
    fn add(path: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path =
                        if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    add(&path, value, rows);
                }
            }
            Value::Array(items) if items.is_empty() => {}
            Value::Null => {}
            _ => rows.push(vec![path.to_owned(), text(value)]),
        }
    }
    let mut rows = Vec::new();
    add("", value, &mut rows);
    Table { header: vec!["what".to_owned(), "value".to_owned()], rows }
}

pub(crate) fn aligned(table: &Table) -> String {
    let mut drawn = comfy_table::Table::new();
    drawn.load_preset(UTF8_FULL_CONDENSED).set_header(&table.header);
    drawn.add_rows(&table.rows);
    format!("{drawn}\n")
}

/// RFC 4180.
fn csv(table: &Table) -> String {
    let mut out = String::new();
    for row in std::iter::once(&table.header).chain(&table.rows) {
        let cells: Vec<String> = row.iter().map(|cell| quoted(cell)).collect();
        out.push_str(&cells.join(","));
        out.push_str("\r\n");
    }
    out
}

fn quoted(cell: &str) -> String {
    if cell.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn results_become_rows() {
        let data = json!({"resultType": "vector", "result": [
            {"metric": {"__name__": "cpu", "host": "a\"b"}, "value": [1_699_500_000.25, "45.2"]},
        ]});
        let table = result(&data);
        assert_eq!(table.rows, [["cpu{host=\"a\\\"b\"}", "2023-11-09T03:20:00.250Z", "45.2"]]);
        let text = csv(&table);
        assert!(text.contains("\"cpu{host=\"\"a\\\"\"b\"\"}\",2023"), "{text}");
        let scalar = result(&json!({"resultType": "scalar", "result": [4, "2"]}));
        assert_eq!(scalar.rows, [["1970-01-01T00:00:04.000Z", "2"]]);
    }

    #[test]
    fn nested_objects_become_paths() {
        let table = flattened(&json!({"a": {"b": 1, "c": null}, "d": "x"}));
        assert_eq!(table.rows, [["a.b", "1"], ["d", "x"]]);
    }
}
