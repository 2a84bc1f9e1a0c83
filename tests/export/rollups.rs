//! Rollups leave the server as they stand in its files.

use crate::export::{aetherctl, done};
use crate::support::Server;

/// A multiple of two hours, the unit in which rollups are built.
const START_MS: i64 = 1_699_488_000_000;

async fn write(server: &Server, lines: String) {
    let answer =
        server.client.post(format!("{}/api/v1/write", server.url)).body(lines).send().await;
    assert_eq!(answer.unwrap().status(), 204);
}

fn csv(server: &Server, args: &[&str]) -> (Vec<String>, String) {
    let output = aetherctl(server, &[&["export", "--format=csv"], args].concat());
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{err}");
    let text = String::from_utf8(output.stdout).unwrap();
    (text.split_terminator("\r\n").map(str::to_owned).collect(), err)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_resolution_is_exported_in_every_format_that_can() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(&home.path().join("data"), &[]).await;
    // Three hours of `m{a="1"}`, a value a minute, and the last hour of `m{b="2"}`.
    let minute = |step: i64| START_MS + step * 60_000;
    write(&server, (1..=180).map(|step| format!("m,a=1 {step} {}\n", minute(step))).collect())
        .await;
    write(&server, (121..=180).map(|step| format!("m,b=2 7 {}\n", minute(step))).collect()).await;

    let (rows, err) = csv(&server, &["--resolution=1h"]);
    assert!(rows.len() == 1 && err.contains("there are no 1h rollups"), "{rows:?} {err}");
    done(&server, &["downsample"]);
    let (rows, err) = csv(&server, &["--resolution=1h"]);
    assert_eq!(err, "");
    let header = "metric,a,b,bucket_start,bucket_end,count,sum,min,max,first,last,first_ts,last_ts,\
                  reset_sum,resets,changes,stale";
    let hour = |labels: &str, hour: i64, numbers: &str, changes: u8| {
        let (start, end) = (minute(hour * 60), minute(hour * 60 + 60));
        format!("m,{labels},{start},{end},60,{numbers},{},{end},0,0,{changes},", start + 60_000)
    };
    let wanted = [
        header.to_owned(),
        hour("1,", 0, "1830,1,60,1,60", 59),
        hour("1,", 1, "5430,61,120,61,120", 59),
        hour("1,", 2, "9030,121,180,121,180", 59),
        hour(",2", 2, "420,7,7,7,7", 0),
    ];
    assert_eq!(rows, wanted);
    // Buckets that end in the range, of series that match, each once.
    let range = [&*format!("--start={}", minute(120) / 1000), "--resolution=1h"];
    let (rows, _) = csv(&server, &[&range[..], &["m", r#"{b="2"}"#, r#"{a="1"}"#]].concat());
    assert_eq!(rows, [&wanted[..1], &wanted[2..]].concat());
    let (rows, _) = csv(&server, &[&range[..], &[r#"{b="2"}"#]].concat());
    assert_eq!(rows.len(), 2);
    assert!(rows[0].starts_with("metric,b,bucket_start"), "{rows:?}");

    for (resolution, buckets) in [("1m", 240), ("5m", 48), ("1h", 4)] {
        let resolution = format!("--resolution={resolution}");
        assert_eq!(csv(&server, &[&resolution]).0.len(), buckets + 1);
        let json = done(&server, &["export", &resolution]);
        let ends: usize = std::str::from_utf8(&json)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|line| line["bucket_end"].as_array().unwrap().len())
            .sum();
        assert_eq!(ends, buckets);
        for format in ["parquet", "arrow"] {
            let file = home.path().join(format!("rollup.{format}"));
            done(&server, &["export", &resolution, "--output", file.to_str().unwrap()]);
            assert!(std::fs::metadata(&file).unwrap().len() > 500);
            // Rows of rollups are no samples.
            let output = aetherctl(&server, &["import", file.to_str().unwrap()]);
            let err = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code() == Some(1) && err.contains("\"timestamp\""), "{err}");
        }
    }

    // Late samples are told of until the rollups know them.
    write(&server, format!("m,a=1 0.5 {}\n", minute(30) + 1)).await;
    let (_, err) = csv(&server, &["--resolution=1h"]);
    assert!(err.contains("do not yet know"), "{err}");
    done(&server, &["downsample"]);
    let (rows, err) = csv(&server, &["--resolution=1h"]);
    assert!(err.is_empty() && rows[1].contains(",61,1830.5,0.5,"), "{rows:?} {err}");
}
