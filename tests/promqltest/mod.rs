//! Runs scripts in the language of Prometheus' promqltest against the engine.
//!
//! Our own scripts are in `tests/data/promql`. `AETHER_PROMQL_SCRIPTS=<directory>` runs the
//! `*.test` files of another directory, for example Prometheus' `promql/promqltest/testdata`, and
//! prints how many cases of each passed; `AETHER_PROMQL_FAILURES=<number>` bounds the failures
//! that are shown of each file. `AETHER_PROMQL_HTTP=1` asks that directory's queries through the
//! HTTP API of a server rather than of the engine.

mod check;
mod http;
mod script;
mod series;
mod store;
mod target;

pub(crate) use store::MemoryPart;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aetherdb::clock::SystemClock;
use aetherdb::promql::parse;
use aetherdb::query::{QueryOptions, QuerySession};

use crate::promqltest::check::{Judge, Verdict};
use crate::promqltest::http::OverHttp;
use crate::promqltest::script::{Command, parse_script};
use crate::promqltest::store::Store;
use crate::promqltest::target::{InProcess, Target};

/// What came of a script's evaluations.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    skipped: BTreeMap<&'static str, usize>,
    failures: Vec<String>,
}

fn in_process() -> InProcess {
    let clock = Arc::new(SystemClock::new());
    InProcess::new(QuerySession::new(query_options(), clock).unwrap())
}

/// Prometheus runs its scripts with all features on.
pub(crate) fn query_options() -> QueryOptions {
    QueryOptions { use_start_timestamps: true, ..QueryOptions::default() }
}

fn run(path: &Path, target: &mut dyn Target, in_variations: bool) -> Tally {
    let mut tally = Tally::default();
    let commands = match parse_script(&std::fs::read_to_string(path).unwrap()) {
        Ok(commands) => commands,
        Err(error) => {
            tally.failures.push(error);
            return tally;
        }
    };
    let mut store = Store::default();
    // Loaded before the first query that comes after a change.
    let mut is_loaded = false;
    for command in &commands {
        match command {
            Command::Clear => (store, is_loaded) = (Store::default(), false),
            Command::Load(load) => {
                store.load(load);
                is_loaded = false;
            }
            Command::Eval(eval) => {
                if !is_loaded {
                    target.load(&store);
                    is_loaded = true;
                }
                match (Judge { target: &*target, in_variations }).judge(eval, &store) {
                    Verdict::Passed => tally.passed += 1,
                    Verdict::Skipped(reason) => *tally.skipped.entry(reason).or_default() += 1,
                    Verdict::Failed(why) => {
                        tally.failures.push(format!("line {}: {}: {why}", eval.line, eval.query));
                    }
                }
            }
        }
    }
    tally
}

fn scripts(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "test"));
    paths.sort();
    paths
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn own_scripts() -> Vec<PathBuf> {
    scripts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/promql"))
}

/// What is skipped in our own scripts would not be tested at all, so nothing is.
fn check_own_scripts(target: &mut dyn Target, in_variations: bool) {
    let mut wrong = Vec::new();
    for path in own_scripts() {
        let tally = run(&path, target, in_variations);
        let name = file_name(&path);
        println!("{name}: {} passed", tally.passed);
        wrong.extend(tally.failures.iter().map(|failure| format!("{name}, {failure}")));
        wrong.extend(tally.skipped.keys().map(|reason| format!("{name}: {reason} skipped")));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn own_scripts_pass() {
    check_own_scripts(&mut in_process(), true);
}

#[test]
fn own_scripts_pass_over_http() {
    // The variations are about evaluation, not about HTTP.
    check_own_scripts(&mut OverHttp::new(), false);
}

#[test]
fn scripts_of_the_environment_pass() {
    let Ok(directory) = std::env::var("AETHER_PROMQL_SCRIPTS") else { return };
    let shown = std::env::var("AETHER_PROMQL_FAILURES").ok().and_then(|text| text.parse().ok());
    let mut target: Box<dyn Target> = match std::env::var("AETHER_PROMQL_HTTP") {
        Ok(_) => Box::new(OverHttp::new()),
        Err(_) => Box::new(in_process()),
    };
    let mut all = Tally::default();
    for path in scripts(Path::new(&directory)) {
        let tally = run(&path, target.as_mut(), true);
        let (passed, failed) = (tally.passed, tally.failures.len());
        println!(
            "{:<28} passed {passed:>4}  failed {failed:>4}  skipped {:?}",
            file_name(&path),
            tally.skipped
        );
        for failure in tally.failures.iter().take(shown.unwrap_or(usize::MAX)) {
            println!("    {failure}");
        }
        all.passed += passed;
        all.failures.extend(tally.failures);
        for (reason, count) in tally.skipped {
            *all.skipped.entry(reason).or_default() += count;
        }
    }
    let (passed, failed) = (all.passed, all.failures.len());
    println!("{:<28} passed {passed:>4}  failed {failed:>4}  skipped {:?}", "total", all.skipped);
    assert_eq!(failed, 0, "{failed} cases failed");
}

/// Printing a query and parsing it again must not change it: the queries of all scripts, of the
/// environment's too.
#[test]
fn queries_of_scripts_survive_printing() {
    let mut paths = own_scripts();
    if let Ok(directory) = std::env::var("AETHER_PROMQL_SCRIPTS") {
        paths.extend(scripts(Path::new(&directory)));
    }
    let mut wrong = Vec::new();
    for path in paths {
        let commands = match parse_script(&std::fs::read_to_string(&path).unwrap()) {
            Ok(commands) => commands,
            Err(error) => {
                wrong.push(format!("{}, {error}", file_name(&path)));
                continue;
            }
        };
        for command in commands {
            let Command::Eval(eval) = command else { continue };
            let place = format!("{}, line {}", file_name(&path), eval.line);
            match parse(&eval.query).map(|expr| expr.to_string()) {
                Err(_) if eval.expect.fail.is_some() => {}
                Err(error) => wrong.push(format!("{place}: {}", error.render())),
                Ok(printed) => match parse(&printed).map(|expr| expr.to_string()) {
                    Ok(again) if again == printed => {}
                    again => wrong.push(format!("{place}: {printed}: {again:?}")),
                },
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
