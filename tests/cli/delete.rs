//! `aetherctl delete` and `snapshot`.

use serde_json::Value;

use crate::cli::{DONE, USAGE, expect};
use crate::support::Server;

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_shown_first_and_needs_a_yes() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]).await;
    let url = server.url.as_str();
    let lines = b"m,a=1 1 1699500000000\nm,a=1 3 1699500060000\nm,a=2 4 1699500000000\n";
    expect(url, &["write"], lines, DONE);
    let count = |expected: &str| {
        let query = ["query", "count(m[5m])", "--time=1699500060", "--format=csv"];
        let (out, _) = expect(url, &query, b"", DONE);
        assert_eq!(out.lines().nth(1).unwrap_or_default().rsplit(',').next(), Some(expected));
    };

    let some = ["delete", "m{a=\"1\"}", "--end=1699500000", "--format=csv"];
    let counts = "selector,series,samples\r\n\"m{a=\"\"1\"\"}\",1,1\r\n";
    let (out, _) = expect(url, &[&some[..], &["--dry-run"]].concat(), b"", DONE);
    assert_eq!(out, counts);
    // Nobody can be asked through a pipe.
    let (out, err) = expect(url, &some, b"y\n", USAGE);
    assert!(out == counts && err.contains("--yes"), "{out}{err}");
    count("3");
    let (out, err) = expect(url, &[&some[..], &["--yes"]].concat(), b"", DONE);
    assert_eq!((out.as_str(), err.as_str()), (counts, "deleted\n"));
    count("2");
    let (out, err) = expect(url, &[&some[..], &["--yes"]].concat(), b"", DONE);
    assert!(out.contains(",0,0") && err.is_empty(), "nothing is left to delete: {out}{err}");
    let (out, _) = expect(url, &["clean-tombstones"], b"", DONE);
    assert_eq!(out, "");
    count("2");
    expect(url, &["delete"], b"", USAGE);
    expect(url, &["delete", "m", "--start=yesterday", "--yes"], b"", USAGE);

    let (out, _) = expect(url, &["snapshot", "--format=json"], b"", DONE);
    let answer: Value = serde_json::from_str(&out).unwrap();
    let copy = dir.path().join("snapshots").join(answer["name"].as_str().unwrap());
    let second = Server::start(&copy, &[]).await;
    let (out, _) = expect(&second.url, &["series", "--format=csv"], b"", DONE);
    assert_eq!(out.lines().count(), 3, "{out}");
}
