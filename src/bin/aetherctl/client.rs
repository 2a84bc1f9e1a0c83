//! HTTP to the server, and what can go wrong with it.

use std::fmt;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Frame;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// Longest wait for an answer. A flush of a full head takes seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(600);
/// The same for work that goes over all data.
const WORK_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Longest wait for the whole of an export; the server has a shorter bound of its own.
const EXPORT_WITHIN: Duration = Duration::from_secs(7 * 86_400);
/// How often an import that the server cannot take now is tried again, and how long it waits
/// each time.
const RETRIES_MAX: u32 = 60;
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments are wrong.
    Usage(String),
    /// Nobody answers.
    Unreachable(String),
    /// The server says no.
    Refused(String),
    /// A file cannot be read, or an answer is not one of ours.
    Broken(String),
    /// Whoever read our output has gone away.
    Closed,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(text)
            | Failure::Unreachable(text)
            | Failure::Refused(text)
            | Failure::Broken(text) => f.write_str(text),
            Failure::Closed => f.write_str("the output was closed"),
        }
    }
}

/// Tells how many samples of a write were stored.
const WRITTEN: &str = "x-prometheus-remote-write-samples-written";

/// What became of a piece of an import.
#[derive(Debug)]
pub(crate) struct Imported {
    pub(crate) status: u16,
    /// Samples that were stored.
    pub(crate) written: u64,
    /// JSON, or a text.
    pub(crate) answer: Value,
}

/// An answer whose body comes piece by piece.
#[derive(Debug)]
pub(crate) struct Download<'a> {
    client: &'a Client,
    headers: HeaderMap,
    trailers: HeaderMap,
    body: reqwest::Body,
}

impl<'a> Download<'a> {
    pub(crate) fn client(&self) -> &'a Client {
        self.client
    }

    /// Every value of a header, or of a trailer once the body has ended.
    pub(crate) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        let all = self.headers.get_all(name).iter().chain(self.trailers.get_all(name));
        all.filter_map(|value| value.to_str().ok())
    }

    /// The next piece; `None` at the end of a whole body.
    pub(crate) async fn chunk(&mut self) -> Result<Option<bytes::Bytes>, Failure> {
        loop {
            let frame = tokio::time::timeout(ANSWER_WITHIN, self.body.frame()).await;
            let frame = frame.map_err(|_| {
                let (url, seconds) = (&self.client.url, ANSWER_WITHIN.as_secs());
                Failure::Unreachable(format!("no byte from {url} for {seconds}s"))
            })?;
            // The server breaks the connection rather than end a body that is not whole.
            let frame = frame.transpose().map_err(|error| {
                let cause = innermost(&error);
                Failure::Refused(format!("the server broke off: {cause} (see its log)"))
            })?;
            match frame.map(Frame::into_data) {
                None => return Ok(None),
                Some(Ok(bytes)) => return Ok(Some(bytes)),
                Some(Err(other)) => self.trailers.extend(other.into_trailers().unwrap_or_default()),
            }
        }
    }
}

/// A server.
#[derive(Debug)]
pub(crate) struct Client {
    url: String,
    http: reqwest::Client,
}

impl Client {
    pub(crate) fn new(url: &str) -> Result<Self, Failure> {
        reqwest::Url::parse(url)
            .map_err(|error| Failure::Usage(format!("--url {url}: {error}")))?;
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWER_WITHIN)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| Failure::Broken(error.to_string()))?;
        Ok(Self { url: url.trim_end_matches('/').to_owned(), http })
    }

    pub(crate) async fn get(
        &self,
        path: &str,
        parameters: &[(&str, String)],
    ) -> Result<Value, Failure> {
        let query = encode(parameters);
        let separator = if query.is_empty() { "" } else { "?" };
        self.ask(self.http.get(format!("{}{path}{separator}{query}", self.url))).await
    }

    pub(crate) async fn post(&self, path: &str, form: &[(&str, String)]) -> Result<Value, Failure> {
        self.ask(self.form(path, form)).await
    }

    /// A POST whose answer may take hours.
    pub(crate) async fn work(&self, path: &str, form: &[(&str, String)]) -> Result<Value, Failure> {
        self.ask(self.form(path, form).timeout(WORK_WITHIN)).await
    }

    fn form(&self, path: &str, form: &[(&str, String)]) -> reqwest::RequestBuilder {
        self.http
            .post(format!("{}{path}", self.url))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(encode(form))
    }

    /// Status and body of a write.
    pub(crate) async fn write(&self, atomic: bool, body: Vec<u8>) -> Result<(u16, Value), Failure> {
        let request = self
            .http
            .post(format!("{}/api/v1/write?atomic={atomic}", self.url))
            .header("content-type", "text/plain")
            .body(body);
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(|error| self.unreachable(&error))?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// Sends a piece of an import, again while the server is busy: writing it twice does no harm.
    pub(crate) async fn import(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Imported, Failure> {
        let body = bytes::Bytes::from(body);
        let mut retries = 0;
        loop {
            let request = self.http.post(format!("{}{path}", self.url)).body(body.clone());
            let request = headers
                .iter()
                .fold(request, |request, (name, value)| request.header(*name, *value));
            let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
            let status = answer.status().as_u16();
            let written = answer.headers().get(WRITTEN).and_then(|count| count.to_str().ok());
            let written = written.and_then(|count| count.parse().ok()).unwrap_or(0);
            let text = answer.text().await.map_err(|error| self.unreachable(&error))?;
            if matches!(status, 429 | 503) && retries < RETRIES_MAX {
                retries += 1;
                tokio::time::sleep(RETRY_AFTER).await;
                continue;
            }
            let answer = serde_json::from_str(&text).unwrap_or(Value::String(text));
            return Ok(Imported { status, written, answer });
        }
    }

    /// Begins a download.
    pub(crate) async fn download(
        &self,
        path: &str,
        form: &[(&str, String)],
    ) -> Result<Download<'_>, Failure> {
        let request = self
            .http
            .post(format!("{}{path}", self.url))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("te", "trailers")
            .timeout(EXPORT_WITHIN)
            .body(encode(form));
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        if status.is_success() {
            let (head, body) = axum::http::Response::from(answer).into_parts();
            let trailers = HeaderMap::new();
            return Ok(Download { client: self, headers: head.headers, trailers, body });
        }
        let text = answer.text().await.map_err(|error| self.unreachable(&error))?;
        let value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let reason = value["error"].as_str().unwrap_or(text.trim());
        Err(Failure::Refused(format!("{reason} ({status})")))
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> Result<Value, Failure> {
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| self.unreachable(&error))?;
        let value: Value = match serde_json::from_str(&text) {
            Ok(value) => value,
            Err(_) if status.is_success() && text.is_empty() => Value::Null,
            Err(_) => return Err(Failure::Refused(format!("{status}: {}", text.trim()))),
        };
        if status.is_success() {
            return Ok(value);
        }
        let reason = value["error"].as_str().unwrap_or(&text);
        Err(Failure::Refused(format!("{reason} ({status})")))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        Failure::Unreachable(format!("no answer from {}: {}", self.url, innermost(error)))
    }
}

/// What an error comes down to.
fn innermost(error: &dyn std::error::Error) -> &dyn std::error::Error {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause
}

fn encode(pairs: &[(&str, String)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}
