//! Rollups in S3: a server in this process that speaks what `object_store` asks of S3, with its
//! conditional writes, over a real socket.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aetherdb::clock::ManualClock;
use aetherdb::model::{Labels, Resolution};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStore, RetryConfig};
use parking_lot::Mutex;
use tokio::net::TcpListener;

use super::faults::files;
use super::{Bed, HOUR, T0, labels, open};

const BUCKET: &str = "rollups";

/// Objects by key; every access is under one lock, so conditions hold.
#[derive(Default)]
struct S3 {
    objects: Mutex<BTreeMap<String, (Bytes, u64)>>,
    uploads: Mutex<BTreeMap<String, BTreeMap<u32, Bytes>>>,
    next: Mutex<u64>,
    refuses_manifests: AtomicBool,
    /// Requests by what they were.
    seen: Mutex<BTreeMap<&'static str, u64>>,
}

impl S3 {
    /// The endpoint's address; it answers until the runtime ends.
    async fn start(self: &Arc<Self>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(answer).with_state(Arc::clone(self));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        endpoint
    }

    fn number(&self) -> u64 {
        let mut next = self.next.lock();
        *next += 1;
        *next
    }

    fn count(&self, what: &'static str) {
        *self.seen.lock().entry(what).or_default() += 1;
    }

    fn put(&self, key: &str, headers: &HeaderMap, body: Bytes) -> Response {
        if key.ends_with("_manifest.json") && self.refuses_manifests.load(Ordering::SeqCst) {
            return plain(StatusCode::FORBIDDEN, error("AccessDenied"));
        }
        let mut objects = self.objects.lock();
        let known = objects.get(key).map(|(_, version)| etag(*version));
        if headers.contains_key(header::IF_NONE_MATCH) {
            self.count("create");
            if known.is_some() {
                return plain(StatusCode::PRECONDITION_FAILED, error("PreconditionFailed"));
            }
        }
        if let Some(wanted) = headers.get(header::IF_MATCH) {
            self.count("update");
            if known.as_deref() != wanted.to_str().ok() {
                return plain(StatusCode::PRECONDITION_FAILED, error("PreconditionFailed"));
            }
        }
        let version = self.number();
        objects.insert(key.to_owned(), (body, version));
        with_etag(version, Body::empty())
    }

    fn get(&self, key: &str, headers: &HeaderMap, head: bool) -> Response {
        let Some((bytes, version)) = self.objects.lock().get(key).cloned() else {
            return plain(StatusCode::NOT_FOUND, error("NoSuchKey"));
        };
        let total = bytes.len();
        let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
        let bounds = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let (start, end) = match bounds {
            None => (0, total),
            Some(("", last)) => (total - last.parse::<usize>().unwrap().min(total), total),
            Some((first, "")) => (first.parse().unwrap(), total),
            Some((first, last)) => {
                (first.parse().unwrap(), (last.parse::<usize>().unwrap() + 1).min(total))
            }
        };
        let body = if head { Body::empty() } else { Body::from(bytes.slice(start..end)) };
        let mut answer = with_etag(version, body);
        let headers = answer.headers_mut();
        headers.insert(header::LAST_MODIFIED, "Wed, 25 Nov 2026 00:00:00 GMT".parse().unwrap());
        headers.insert(header::CONTENT_LENGTH, (end - start).into());
        if bounds.is_some() {
            let range = format!("bytes {start}-{}/{total}", end - 1);
            headers.insert(header::CONTENT_RANGE, range.parse().unwrap());
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        answer
    }

    fn list(&self, prefix: &str) -> Response {
        self.count("list");
        let mut body = String::from("<ListBucketResult><IsTruncated>false</IsTruncated>");
        for (key, (bytes, version)) in self.objects.lock().iter() {
            if key.starts_with(prefix) {
                write!(
                    body,
                    "<Contents><Key>{key}</Key><Size>{}</Size><ETag>{}</ETag>\
                     <LastModified>2026-11-25T00:00:00Z</LastModified></Contents>",
                    bytes.len(),
                    etag(*version)
                )
                .unwrap();
            }
        }
        plain(StatusCode::OK, body + "</ListBucketResult>")
    }

    fn delete(&self, body: &str) -> Response {
        self.count("delete");
        let mut answer = String::from("<DeleteResult>");
        for part in body.split("<Key>").skip(1) {
            let key = part.split("</Key>").next().unwrap();
            self.objects.lock().remove(key);
            write!(answer, "<Deleted><Key>{key}</Key></Deleted>").unwrap();
        }
        plain(StatusCode::OK, answer + "</DeleteResult>")
    }

    fn finish(&self, key: &str, upload: &str) -> Response {
        self.count("multipart");
        let parts = self.uploads.lock().remove(upload).unwrap();
        let whole: Vec<u8> = parts.into_values().flatten().collect();
        self.put(key, &HeaderMap::new(), whole.into());
        let body =
            "<CompleteMultipartUploadResult><ETag>\"x\"</ETag></CompleteMultipartUploadResult>";
        plain(StatusCode::OK, body.to_owned())
    }
}

async fn answer(State(s3): State<Arc<S3>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 30).await.unwrap();
    let signed = parts.headers.get(header::AUTHORIZATION);
    let signed = signed.is_some_and(|text| text.to_str().unwrap().starts_with("AWS4-HMAC-SHA256"));
    assert!(signed, "{} {} is not signed", parts.method, parts.uri);
    let path = parts.uri.path().trim_start_matches('/');
    let path: String =
        url::form_urlencoded::parse(format!("p={path}").replace('+', "%2B").as_bytes())
            .next()
            .map(|(_, value)| value.into_owned())
            .unwrap();
    let key = path.strip_prefix(BUCKET).unwrap().trim_start_matches('/');
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(parts.uri.query().unwrap_or("").as_bytes())
            .into_owned()
            .collect();
    let upload = query.get("uploadId");
    match (&parts.method, upload) {
        (&Method::PUT, Some(upload)) => {
            let number: u32 = query["partNumber"].parse().unwrap();
            s3.uploads.lock().get_mut(upload).unwrap().insert(number, body);
            with_etag(s3.number(), Body::empty())
        }
        (&Method::PUT, None) => s3.put(key, &parts.headers, body),
        (&Method::GET, _) if key.is_empty() => {
            s3.list(query.get("prefix").map_or("", String::as_str))
        }
        (&Method::GET, _) => s3.get(key, &parts.headers, false),
        (&Method::HEAD, _) => s3.get(key, &parts.headers, true),
        (&Method::POST, Some(upload)) => s3.finish(key, upload),
        (&Method::POST, None) if query.contains_key("uploads") => {
            let id = format!("upload-{}", s3.number());
            s3.uploads.lock().insert(id.clone(), BTreeMap::new());
            let body = format!(
                "<InitiateMultipartUploadResult><UploadId>{id}</UploadId>\
                 </InitiateMultipartUploadResult>"
            );
            plain(StatusCode::OK, body)
        }
        (&Method::POST, None) => s3.delete(std::str::from_utf8(&body).unwrap()),
        (&Method::DELETE, _) => {
            s3.objects.lock().remove(key);
            plain(StatusCode::NO_CONTENT, String::new())
        }
        (method, _) => panic!("{method} {}", parts.uri),
    }
}

fn etag(version: u64) -> String {
    format!("\"{version}\"")
}

fn with_etag(version: u64, body: Body) -> Response {
    Response::builder().header(header::ETAG, etag(version)).body(body).unwrap()
}

fn plain(status: StatusCode, body: String) -> Response {
    Response::builder().status(status).body(Body::from(body)).unwrap()
}

fn error(code: &str) -> String {
    format!("<Error><Code>{code}</Code><Message>no</Message></Error>")
}

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
    bed.clock.advance(std::time::Duration::from_secs(40 * 3600));
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
