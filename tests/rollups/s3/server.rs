//! A server in this process that speaks what `object_store` asks of S3, with its conditional
//! writes, over a real socket; and of Google's XML interface, which differs in how an object's
//! version is said.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use parking_lot::Mutex;
use tokio::net::TcpListener;

pub(super) const BUCKET: &str = "rollups";

/// Objects by key; every access is under one lock, so conditions hold.
#[derive(Default)]
pub(super) struct S3 {
    pub(super) objects: Mutex<BTreeMap<String, (Bytes, u64)>>,
    uploads: Mutex<BTreeMap<String, BTreeMap<u32, Bytes>>>,
    next: Mutex<u64>,
    pub(super) refuses_manifests: AtomicBool,
    /// Answers as Google does: requests are not signed.
    pub(super) google: AtomicBool,
    /// Requests by what they were.
    pub(super) seen: Mutex<BTreeMap<&'static str, u64>>,
}

impl S3 {
    /// The endpoint's address; it answers until the runtime ends.
    pub(super) async fn start(self: &Arc<Self>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(answer).with_state(Arc::clone(self));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        endpoint
    }

    pub(super) fn number(&self) -> u64 {
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
        if let Some(wanted) = headers.get("x-goog-if-generation-match") {
            self.count("generation");
            let version = objects.get(key).map_or(0, |(_, version)| *version);
            if version.to_string() != wanted.to_str().unwrap() {
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
    let google = s3.google.load(Ordering::SeqCst);
    assert!(signed != google, "{} {} is signed: {signed}", parts.method, parts.uri);
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
    Response::builder()
        .header(header::ETAG, etag(version))
        .header("x-goog-generation", version)
        .body(body)
        .unwrap()
}

fn plain(status: StatusCode, body: String) -> Response {
    Response::builder().status(status).body(Body::from(body)).unwrap()
}

fn error(code: &str) -> String {
    format!("<Error><Code>{code}</Code><Message>no</Message></Error>")
}
