//! `aetherctl` against a real server: what it prints, and the exit code of each outcome.

mod delete;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::{Server, free_port};

const DONE: Option<i32> = Some(0);
const REFUSED: Option<i32> = Some(1);
const USAGE: Option<i32> = Some(2);
const UNREACHABLE: Option<i32> = Some(3);

/// Runs the tool with `input` on standard input.
fn run(url: &str, args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_aetherctl"))
        .args(args)
        .env("AETHER_URL", url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A tool that ends without reading closes the pipe, and that is fine.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Runs the tool, holds its exit code to `code`, returns its standard output and error.
fn expect(url: &str, args: &[&str], input: &[u8], code: Option<i32>) -> (String, String) {
    let output = run(url, args, input);
    let out = String::from_utf8(output.stdout).unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), code, "{args:?}\n{out}\n{err}");
    (out, err)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_specification_work() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]).await;
    let url = server.url.as_str();

    let (out, _) = expect(url, &["write"], b"cpu_usage,host=server1 45.2\n", DONE);
    assert_eq!(out, "1 lines accepted, 0 rejected (1 requests)\n");
    let sum = r#"sum(cpu_usage{host="server1"}[1h])"#;
    let (out, _) = expect(url, &["query", sum], b"", DONE);
    assert!(out.contains("45.2"), "{out}");
    let (out, _) = expect(url, &["query", "avg(cpu_usage[5m])"], b"", DONE);
    assert!(out.contains("45.2"), "{out}");
    let (out, _) = expect(url, &["status"], b"", DONE);
    assert!(out.contains("1 samples of 1 series") && out.contains("well"), "{out}");
    let (out, _) = expect(url, &["status", "--format=csv"], b"", DONE);
    assert!(out.contains("head.samples,1"), "{out}");
    let (out, _) = expect(url, &["--format=json", "flush"], b"", DONE);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["samples"], 1, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn downsample_sums_everything_up_and_status_tells_the_cost() {
    let dir = tempfile::tempdir().unwrap();
    let rollups = dir.path().join("elsewhere");
    let flag = format!("--rollup-url={}", rollups.display());
    let server = Server::start(dir.path(), &[&flag]).await;
    let url = server.url.as_str();
    let lines: String =
        (0..240u64).map(|n| format!("m,a=1 {n} {}\n", 1_699_488_000_001 + n * 15_000)).collect();
    expect(url, &["write"], lines.as_bytes(), DONE);
    let (out, _) = expect(url, &["--format=json", "downsample"], b"", DONE);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert!(report["spans"].is_u64() && report["seconds"].is_f64(), "{out}");
    let (out, _) = expect(url, &["--format=json", "status"], b"", DONE);
    let status: Value = serde_json::from_str(&out).unwrap();
    for (resolution, rows) in [("1m", 60), ("5m", 12), ("1h", 1)] {
        let cost = &status["rollups"]["resolutions"][resolution];
        assert_eq!((&cost["rawSamples"], &cost["rows"]), (&240.into(), &rows.into()), "{cost}");
        assert!(cost["bytesPerRawSample"].as_f64().unwrap() > 0.0, "{cost}");
        assert!(rollups.join(format!("resolution={resolution}/day=2023-11-09")).is_dir());
    }
    assert_eq!(status["rollups"]["dirtySpans"], 0, "{status}");
    assert!(rollups.join("_manifest.json").is_file());
    let (out, _) = expect(url, &["status"], b"", DONE);
    assert!(out.contains("bytesPerRawSample") || out.contains("1m"), "{out}");

    // Another database does not touch them.
    let other = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_aetherdb"))
        .args([&format!("--data-dir={}", other.path().display()), "--port=0", &flag])
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(err.contains("belong to database"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn compact_tells_what_it_saved() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]).await;
    let url = server.url.as_str();
    for hour in 0..5 {
        let line = format!("m,a=1 {hour} {}\n", 1_699_488_000_000u64 + hour * 7_200_000);
        expect(url, &["write"], line.as_bytes(), DONE);
        expect(url, &["flush"], b"", DONE);
    }
    let (out, _) = expect(url, &["--format=json", "compact"], b"", DONE);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["blocksBefore"], &report["blocksAfter"]), (&5.into(), &1.into()), "{out}");
    let (out, _) = expect(url, &["compact"], b"", DONE);
    assert!(out.contains("blocks") && out.contains("1.000"), "{out}");
    let (out, _) = expect(url, &["compact", "--no-wait"], b"", DONE);
    assert!(out.contains("started"), "{out}");
    let (out, _) = expect(url, &["status"], b"", DONE);
    assert!(out.contains("level 2") && out.contains("last compaction"), "{out}");
    let (out, _) = expect(url, &["query", "m[2d]", "--time=1699574400", "--format=csv"], b"", DONE);
    assert_eq!(out.lines().count(), 6, "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_would_drop_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--retention=raw=15d,1h=1y", "--retention-bytes=1GiB"];
    let server = Server::start(dir.path(), &flags).await;
    let url = server.url.as_str();
    let (_, err) = expect(url, &["write"], b"m 1\nm 2 1699488000000\n", REFUSED);
    assert!(err.contains("-:2:") && err.contains("ms old"), "{err}");
    let (out, _) = expect(url, &["status", "--format=csv"], b"", DONE);
    assert!(out.contains("retention.blocksDropped,0"), "{out}");
    assert!(out.contains("retention.bytesMax,1073741824"), "{out}");
    let (out, _) = expect(url, &["status"], b"", DONE);
    assert!(out.contains(" of 1.00 GiB in blocks, log and rollups"), "{out}");
    let output = Command::new(env!("CARGO_BIN_EXE_aetherdb"))
        .args(["--print-config", "--retention=raw=15d,1h=1y"])
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("--retention=raw=15d,1m=forever,5m=forever,1h=365d"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_lines_are_named_and_the_others_stored() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]).await;
    let url = server.url.as_str();

    // Two lines a request: the bad ones, the last not UTF-8, are in the second and the third.
    let input = b"# a comment\nm,a=1 1 1000\n\nm,a=2 x 1000\nm,a=\xff 3 1000\nm,a=4 4 1000\n";
    let (out, err) = expect(url, &["write", "--batch-lines=2"], input, REFUSED);
    assert_eq!(out, "2 lines accepted, 2 rejected (3 requests)\n");
    assert!(err.contains("-:4:") && err.contains("-:5:"), "{err}");

    let input = b"m,a=5 5 1000\nm,a=6 x 1000\n";
    let (out, _) = expect(url, &["write", "--atomic"], input, REFUSED);
    assert_eq!(out, "0 lines accepted, 2 rejected (1 requests)\n");
    let (out, _) = expect(url, &["--format=csv", "labels", "a"], b"", DONE);
    assert_eq!(out, "a\r\n1\r\n4\r\n");

    let file = dir.path().join("lines.txt");
    std::fs::write(&file, "m,a=7 u=1,v=2 1000\n").unwrap();
    let (out, _) = expect(url, &["write", file.to_str().unwrap()], b"", DONE);
    assert_eq!(out, "1 lines accepted, 0 rejected (1 requests)\n");
    expect(url, &["write", "/no/such/file"], b"", REFUSED);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_printed_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]).await;
    let url = server.url.as_str();
    let lines = b"m,a=1 1 1699500000000\nm,a=1 3 1699500060000\nn,a=1 4 1699500000000\n";
    expect(url, &["write"], lines, DONE);

    let at = "--time=1699500000";
    let (out, _) = expect(url, &["query", "m", at, "--format=csv"], b"", DONE);
    let row = r#""m{a=""1""}",2023-11-09T03:20:00.000Z,1"#;
    assert_eq!(out, format!("series,time,value\r\n{row}\r\n"));
    let (out, _) = expect(url, &["query", "-m", at, "--format=json"], b"", DONE);
    let data: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(data["result"][0]["value"][1], "-1", "{data}");
    let (out, _) = expect(url, &["query", "m", at, "--explain"], b"", DONE);
    assert!(out.contains("SeriesScanExec: m") && !out.contains("metrics="), "{out}");
    let (out, _) = expect(url, &["query", "m", at, "--explain=analyze"], b"", DONE);
    assert!(out.contains("SeriesScanExec: m") && out.contains("samples="), "{out}");

    let range = ["query-range", "m", "--start=2023-11-09T03:20:00Z", "--end=1699500060"];
    let (out, _) = expect(url, &range, b"", DONE);
    assert!(out.contains('▁') && out.contains('█') && out.contains("2023-11-09T03:21"), "{out}");
    let (out, _) = expect(url, &["series", "n", "--format=csv"], b"", DONE);
    assert_eq!(out, "series\r\n\"n{a=\"\"1\"\"}\"\r\n");
    let (out, _) = expect(url, &["series"], b"", DONE);
    assert!(out.contains("m{") && out.contains("n{"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_has_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]).await;
    let url = server.url.as_str();
    let (_, err) = expect(url, &["query", "sum("], b"", REFUSED);
    assert!(err.starts_with("error: "), "{err}");
    expect(url, &["query", "m", "--time=yesterday"], b"", USAGE);
    expect(url, &["query", "--no-such-flag", "m"], b"", USAGE);
    expect(url, &["query", "--time=4", "m"], b"", DONE);
    expect(url, &["no-such-command"], b"", USAGE);
    expect("not a url", &["status"], b"", USAGE);
    let nobody = format!("http://127.0.0.1:{}", free_port());
    for args in [&["status"][..], &["write"], &["query", "m"]] {
        let (_, err) = expect(&nobody, args, b"m 1\n", UNREACHABLE);
        assert!(err.contains(&nobody), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_is_printed_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]).await;
    let url = server.url.as_str();
    let lines = b"m,a=1 1 1699500000000\nm,a=1 3 1699500060000\nn,a=1 4 1699500000000\n";
    expect(url, &["write"], lines, DONE);

    let select = "SELECT a, time, value FROM m ORDER BY time";
    let (out, _) = expect(url, &["sql", select], b"", DONE);
    assert!(out.contains("2023-11-09T03:21:00Z") && out.contains("│ a "), "{out}");
    let csv = "a,time,value\n1,2023-11-09T03:20:00Z,1.0\n1,2023-11-09T03:21:00Z,3.0\n";
    let (out, _) = expect(url, &["--format=csv", "sql"], select.as_bytes(), DONE);
    assert_eq!(out, csv);
    let file = dir.path().join("select.sql");
    std::fs::write(&file, select).unwrap();
    let from_file = ["sql", "--format=csv", "-f", file.to_str().unwrap()];
    let (out, _) = expect(url, &from_file, b"", DONE);
    assert_eq!(out, csv);
    let (out, _) =
        expect(url, &["sql", "--format=json", "SELECT sum(value) AS s FROM m"], b"", DONE);
    assert_eq!(out, "[{\"s\":4.0}]\n");
    let (out, _) = expect(url, &["sql", "SELECT a FROM m WHERE a = 'none'"], b"", DONE);
    assert!(out.contains("│ a "), "{out}");
    let output = run(url, &["sql", "--format=parquet", select], b"");
    assert!(output.stdout.starts_with(b"PAR1"), "{:?}", String::from_utf8_lossy(&output.stderr));

    let (_, err) = expect(url, &["sql", "DROP TABLE m"], b"", REFUSED);
    assert!(err.starts_with("error: DROP TABLE is not possible"), "{err}");
    expect(url, &["sql", "--format=openmetrics", select], b"", USAGE);
    expect(url, &["sql", select, "--file=x"], b"", USAGE);
    let (_, err) = expect(
        url,
        &[
            "sql",
            "SELECT 1 / (value - 1000000), value FROM generate_series(1, 1000000)",
            "--format=csv",
        ],
        b"",
        REFUSED,
    );
    assert!(err.contains("broke off"), "{err}");
    let nobody = format!("http://127.0.0.1:{}", free_port());
    expect(&nobody, &["sql", "SELECT 1"], b"", UNREACHABLE);
}

#[test]
fn every_help_says_how_the_command_ends() {
    let help = |args: &[&str]| expect("http://127.0.0.1:9", args, b"", DONE).0;
    let all = help(&["--help"]);
    let listed = all.split("Commands:").nth(1).unwrap().split("Options").next().unwrap();
    let names = listed.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names: Vec<&str> = names.filter(|name| !name.is_empty() && *name != "help").collect();
    assert!(names.contains(&"export") && names.contains(&"query-range"), "{names:?}");
    for name in names {
        let text = help(&[name, "--help"]);
        assert!(text.contains("Exit codes:\n  0  done"), "{text}");
    }
}
