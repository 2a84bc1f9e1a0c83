//! Folders depend only on folders further down the list: the write and read walks never turn back.

use std::fs;
use std::path::Path;

/// Lowest first. A file may name `crate::X` only if X is its own folder or stands on a lower row.
const ORDER: &[&[&str]] = &[
    &["clock", "telemetry", "model"],
    &["ingest", "columnar"],
    &["storage"],
    &["query"],
    &["promql"],
    &["sql"],
    &["http"],
    &["config"],
    &["server"],
];

/// Folders that must stay pure, and what they may not name.
const PURE: &[&str] = &["model", "ingest", "columnar"];
const IMPURE: &[&str] =
    &["async fn", ".await", "tokio::", "std::fs", "File::open", "SystemTime", "Instant::now"];

fn row(folder: &str) -> usize {
    ORDER
        .iter()
        .position(|row| row.contains(&folder))
        .unwrap_or_else(|| panic!("`{folder}` has no row in tests/layering.rs: give it one"))
}

fn check(file: &Path, folder: &str, wrong: &mut Vec<String>) {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap();
    for (number, line) in code.lines().enumerate() {
        if line.trim_start().starts_with("//") {
            continue;
        }
        let at = format!("{}:{}", file.display(), number + 1);
        if line.contains("use crate::{") || line.trim_start().starts_with("use super::") {
            wrong.push(format!("{at}: name the folder: `use crate::folder::…`"));
        }
        for part in line.split("crate::").skip(1) {
            let to: String =
                part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !to.is_empty() && to != folder && row(&to) >= row(folder) {
                wrong.push(format!("{at}: {folder} -> {to} turns back"));
            }
        }
        if PURE.contains(&folder) {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                wrong.push(format!("{at}: {folder} is pure and may not name `{word}`"));
            }
        }
    }
}

fn walk(dir: &Path, folder: Option<&str>, wrong: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        match folder {
            None if name == "lib" || name == "bin" => {}
            _ if path.is_dir() => walk(&path, Some(folder.unwrap_or(&name)), wrong),
            // A folder's own unit tests may reach further.
            _ if name == "tests" => {}
            _ if path.extension().is_some_and(|extension| extension == "rs") => {
                check(&path, folder.unwrap_or(&name), wrong);
            }
            _ => {}
        }
    }
}

#[test]
fn folders_depend_downwards_only() {
    let mut wrong = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), None, &mut wrong);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
