//! Exports and imports end to end: the real server, the real tool, every format.
//!
//! The round trip: random series are written, exported in a format, imported into an empty server
//! and exported again; both exports must hold the same samples, bit for bit. `AETHER_EXPORT_SEED`
//! and `AETHER_EXPORT_SERIES` change what is drawn.

mod corpus;
mod python;
mod rollups;

use std::path::Path;
use std::process::{Command, Output};

use crate::export::corpus::{Corpus, remote_write};
use crate::support::{Server, setting};

const FORMATS: [&str; 5] = ["jsonl", "parquet", "csv", "arrow", "openmetrics"];

/// Runs the tool.
fn aetherctl(server: &Server, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aetherctl"))
        .args(args)
        .env("AETHER_URL", &server.url)
        .output()
        .unwrap()
}

/// Runs the tool, holds it to exit code 0, returns its standard output.
fn done(server: &Server, args: &[&str]) -> Vec<u8> {
    let output = aetherctl(server, args);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {err}");
    output.stdout
}

/// A server that holds the corpus.
async fn server_with(corpus: &Corpus, dir: &Path) -> Server {
    let server = Server::start(dir, &[]).await;
    let answer = server
        .client
        .post(format!("{}/api/v1/write", server.url))
        .header("content-type", "application/x-protobuf")
        .body(remote_write(corpus))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 204, "{}", answer.text().await.unwrap());
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_brings_every_bit_back() {
    let seed = setting("AETHER_EXPORT_SEED", 0xA37E);
    let series = setting("AETHER_EXPORT_SERIES", 40);
    let corpus = Corpus::random(seed, usize::try_from(series).unwrap());
    let home = tempfile::tempdir().unwrap();
    let from = server_with(&corpus, &home.path().join("from")).await;
    let first = done(&from, &["export"]);
    corpus::of_json_lines(&first).assert_equals(&corpus, "written and exported");

    for format in FORMATS {
        let file = home.path().join(format!("export.{format}"));
        let file = file.to_str().unwrap();
        done(&from, &["export", "--output", file]);
        let to = Server::start(&home.path().join(format), &[]).await;
        let summary = String::from_utf8(done(&to, &["import", file])).unwrap();
        let expected = format!("{} samples imported, 0 rejected", corpus.samples());
        assert!(summary.starts_with(&expected), "{format}: {summary}");
        let again = done(&to, &["export", "--format=jsonl"]);
        corpus::of_json_lines(&again).assert_equals(&corpus, format);
        // The same file once more changes nothing.
        done(&to, &["import", file]);
        assert_eq!(done(&to, &["export"]), again, "{format} twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn selectors_and_times_choose_and_files_appear_whole() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(&home.path().join("data"), &[]).await;
    let lines = "m,a=1 1 1000\nm,a=1 2 2000\nm,a=2 3 1000\nn 4 1000\n";
    let answer =
        server.client.post(format!("{}/api/v1/write", server.url)).body(lines).send().await;
    assert_eq!(answer.unwrap().status(), 204);

    let csv = |args: &[&str]| {
        String::from_utf8(done(&server, &[&["export", "--format=csv"], args].concat())).unwrap()
    };
    let all = "metric,a,timestamp,value\r\nm,1,1000,1\r\nm,1,2000,2\r\nm,2,1000,3\r\nn,,1000,4\r\n";
    assert_eq!(csv(&[]), all);
    assert_eq!(csv(&["m", "n", r#"{a="1"}"#]), all);
    assert_eq!(csv(&["n"]), "metric,timestamp,value\r\nn,1000,4\r\n");
    assert_eq!(csv(&["m", "--start=2"]), "metric,a,timestamp,value\r\nm,1,2000,2\r\n");
    assert_eq!(csv(&["--end=1", "n"]), "metric,timestamp,value\r\nn,1000,4\r\n");
    assert_eq!(csv(&["none"]), "metric,timestamp,value\r\n");
    assert_eq!(
        done(&server, &["export", "n"]),
        br#"{"metric":{"__name__":"n"},"values":[4],"timestamps":[1000]}
"#
    );
    assert_eq!(done(&server, &["export", "n", "--format=openmetrics"]), b"n 4 1.000\n# EOF\n");

    let file = home.path().join("export.csv");
    done(&server, &["export", "--output", file.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), all);
    let nowhere = home.path().join("no/such/dir.csv");
    let output = aetherctl(&server, &["export", "--output", nowhere.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    for args in
        [&["export", "m{"][..], &["export", "--format=table"], &["import", "--format=json", "x"]]
    {
        let output = aetherctl(&server, args);
        let code = if args[1] == "m{" { 1 } else { 2 };
        assert_eq!(output.status.code(), Some(code), "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_imported_is_told() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(&home.path().join("data"), &[]).await;
    let import = |name: &str, text: &str| {
        let file = home.path().join(name);
        std::fs::write(&file, text).unwrap();
        let output = aetherctl(&server, &["import", file.to_str().unwrap()]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let good = r#"{"metric":{"__name__":"m"},"values":[1,null],"timestamps":[1,2]}"#;
    let (code, out, err) = import("a.jsonl", &format!("{good}\n{{}}\n"));
    assert_eq!((code, &*out), (Some(1), "2 samples imported, 1 rejected (1 requests)\n"), "{err}");
    assert!(err.contains("a.jsonl:2:1:"), "{err}");
    // A sample in the far future, by each wire.
    let (code, out, err) = import("b.csv", "metric,timestamp,value\nm,9000000000000,1\nm,3,2\n");
    assert_eq!((code, &*out), (Some(1), "1 samples imported, 1 rejected (1 requests)\n"), "{err}");
    assert!(err.contains("ahead of the server's clock"), "{err}");
    let (code, out, err) = import("c.openmetrics", "m 1 9000000000\nm 2 4\n# EOF\n");
    assert_eq!((code, &*out), (Some(1), "1 samples imported, 1 rejected (1 requests)\n"), "{err}");
    let (code, _, err) = import("d.csv", "metric,timestamp,value\nm,1.5,1\n");
    assert!(code == Some(1) && err.contains("line 2"), "{err}");
    let (code, _, err) = import("e.csv", "host,value\nm,1\n");
    assert!(code == Some(1) && err.contains("header"), "{err}");
    let (code, _, err) = import("f.parquet", "PAR1");
    assert!(code == Some(1) && err.contains("f.parquet"), "{err}");
    let all = done(&server, &["export"]);
    assert_eq!(
        all,
        b"{\"metric\":{\"__name__\":\"m\"},\"values\":[1,null,2,2],\"timestamps\":[1,2,3,4000]}\n"
    );
}
