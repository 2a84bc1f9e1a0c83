//! Rollups in S3: against a server in this process, which can refuse on demand, and against moto
//! where Python has it.

mod server;

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aetherdb::clock::ManualClock;
use aetherdb::model::{Labels, Resolution};
use axum::body::Bytes;
use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStore, RetryConfig};
use serde_json::Value;

use self::server::{BUCKET, S3};
use super::faults::files;
use super::{Bed, HOUR, T0, labels, open};
use crate::support::{Server, form, free_port};

/// How often moto is asked, 100 ms apart, whether it has started.
const MOTO_TRIES_MAX: usize = 300;

fn client(endpoint: &str) -> Arc<dyn ObjectStore> {
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let built = AmazonS3Builder::new()
        .with_bucket_name(BUCKET)
        .with_endpoint(endpoint)
        .with_region("us-east-1")
        .with_access_key_id("key")
        .with_secret_access_key("secret")
        .with_allow_http(true)
        .with_virtual_hosted_style_request(false)
        .with_retry(retry)
        .build();
    Arc::new(built.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn rollups_live_in_s3_and_survive_a_crash_before_the_manifest() {
    let s3 = Arc::new(S3::default());
    let endpoint = s3.start().await;
    let mut bed = Bed::over(client(&endpoint));
    let one = labels("m", &[("host", "a b+c")]);
    let minutes = |hours: std::ops::Range<i64>| -> Vec<(Labels, i64, f64)> {
        let steps = hours.start * 60..hours.end * 60;
        steps.map(|step| (one.clone(), T0 + step * 60_000 + 1, step as f64)).collect()
    };
    bed.write(&minutes(0..5)).await;
    bed.downsample().await;
    bed.check().await;
    bed.restart().await;
    bed.check().await;

    s3.refuses_manifests.store(true, Ordering::SeqCst);
    bed.write(&minutes(4..9)).await;
    bed.engine.downsample(Arc::default()).await.unwrap_err();
    // The process dies, and the next one finds files that no manifest names.
    drop(std::mem::replace(&mut bed.engine, open(&bed.disk.crash(), None, &bed.clock).unwrap()));
    s3.refuses_manifests.store(false, Ordering::SeqCst);
    bed.disk = bed.disk.crash();
    bed.engine = open(&bed.disk, Some(&bed.io), &bed.clock).unwrap();
    bed.downsample().await;
    bed.check().await;
    bed.restart().await;
    let (all, named) = files(&bed).await;
    assert_eq!(all, named);
    assert!(!all.is_empty());

    // A day that is over becomes one file, and the old ones go.
    bed.clock.advance(Duration::from_secs(40 * 3600));
    bed.write(&[(one.clone(), T0 + 48 * HOUR, 1.0)]).await;
    bed.downsample().await;
    bed.check().await;
    let view = bed.engine.snapshot().rollups().unwrap().clone();
    assert!(view.files(Resolution::OneMinute).len() <= 4);
    let seen = s3.seen.lock().clone();
    assert!(seen["create"] == 1 && seen["update"] >= 3 && seen["delete"] > 0, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_somebody_else_replaced_is_not_overwritten() {
    let s3 = Arc::new(S3::default());
    let endpoint = s3.start().await;
    let mut bed = Bed::over(client(&endpoint));
    bed.write(&[(labels("m", &[]), T0 + 1, 1.0)]).await;
    bed.downsample().await;
    let touched = s3.number();
    s3.objects.lock().get_mut("_manifest.json").unwrap().1 = touched;
    bed.write(&[(labels("m", &[]), T0 + 2, 2.0)]).await;
    bed.engine.downsample(Arc::default()).await.unwrap_err();
    // Read again, it is ours, and the next attempt builds on it.
    bed.downsample().await;
    bed.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_go_in_parts() {
    let s3 = Arc::new(S3::default());
    let endpoint = s3.start().await;
    let store = client(&endpoint);
    let location = object_store::path::Path::from("a/large");
    let mut writer = object_store::buffered::BufWriter::with_capacity(
        Arc::clone(&store),
        location.clone(),
        5 << 20,
    );
    for byte in 0..12u8 {
        writer.put(Bytes::from(vec![byte; 1 << 20])).await.unwrap();
    }
    tokio::io::AsyncWriteExt::shutdown(&mut writer).await.unwrap();
    let got = object_store::ObjectStoreExt::get_range(
        store.as_ref(),
        &location,
        (7 << 20) - 1..(7 << 20) + 1,
    );
    assert_eq!(got.await.unwrap().as_ref(), [6, 7]);
    assert_eq!(s3.seen.lock()["multipart"], 1);
    let clock = Arc::new(ManualClock::at(T0));
    // A bucket that holds something else is none of our business, and nothing is removed from it.
    drop(open(&aetherdb::storage::vfs::SimVfs::new(5), Some(&store), &clock).unwrap());
    assert!(s3.objects.lock().contains_key("a/large"));
}

/// Four hours of a counter at 15 s, ending at `end_s`, of one host.
fn lines(host: &str, end_s: i64) -> String {
    let steps = (0..960).map(|step| (step, end_s - (960 - step) * 15));
    steps.map(|(step, at)| format!("m_total,host={host} {step} {}\n", at * 1000)).collect()
}

/// Raw samples per host that the 5 m rollups stand for, as CSV.
async fn counts(server: &Server) -> String {
    let query = "SELECT host, sum(count) FROM rollup_5m.m_total GROUP BY host ORDER BY host";
    server.get(&format!("/api/v1/sql?format=csv&{}", form(&[("query", query)]))).await
}

/// The binary finds the store by its URL and the environment, builds, repairs after late data,
/// and starts again on what is there.
async fn by_url(scheme: &str, variables: &[(&str, &str)]) {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("{scheme}://{BUCKET}/prod/metrics");
    let flag = format!("--rollup-url={url}");
    let mut server = Server::start_with(dir.path(), &[&flag], variables).await;
    for host in ["a", "late"] {
        server.post("/api/v1/write", lines(host, T0 / 1000)).await;
        server.post("/api/v1/admin/downsample", String::new()).await;
    }
    let wanted = "host,sum(rollup_5m.m_total.count)\na,960\nlate,960\n";
    assert_eq!(counts(&server).await, wanted);
    server.kill();
    let server = Server::start_with(dir.path(), &[&flag], variables).await;
    assert_eq!(counts(&server).await, wanted);
    let status = server.get("/api/v1/status").await;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["data"]["rollups"]["url"], url, "{status}");
}

async fn amazon(endpoint: &str) {
    let variables = [
        ("AWS_ENDPOINT", endpoint),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    by_url("s3", &variables).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_binary_takes_url_and_environment() {
    let s3 = Arc::new(S3::default());
    amazon(&s3.start().await).await;
    let seen = s3.seen.lock().clone();
    assert!(seen["create"] == 1 && seen["update"] >= 1, "{seen:?}");
    let manifest = "prod/metrics/_manifest.json";
    assert!(s3.objects.lock().contains_key(manifest));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_binary_keeps_rollups_in_google_storage() {
    let server = Arc::new(S3::default());
    server.google.store(true, Ordering::SeqCst);
    let endpoint = server.start().await;
    let account = serde_json::json!({
        "gcs_base_url": endpoint, "disable_oauth": true,
        "client_email": "", "private_key": "", "private_key_id": "",
    });
    let account = account.to_string();
    let variables = [("GOOGLE_SERVICE_ACCOUNT_KEY", &*account), ("GOOGLE_ALLOW_HTTP", "true")];
    by_url("gs", &variables).await;
    assert!(server.seen.lock()["generation"] >= 2);
}

/// moto's server process, killed when dropped.
struct Moto(Child);

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_binary_works_with_moto() {
    let port = free_port();
    let started = Command::new("moto_server")
        .args(["-H", "127.0.0.1", "-p", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(child) = started else {
        println!("skipped: there is no moto_server here");
        return;
    };
    let _moto = Moto(child);
    let endpoint = format!("http://127.0.0.1:{port}");
    let client = reqwest::Client::new();
    for _ in 0..MOTO_TRIES_MAX {
        if client.put(format!("{endpoint}/{BUCKET}")).send().await.is_ok() {
            return amazon(&endpoint).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("moto_server does not answer");
}
