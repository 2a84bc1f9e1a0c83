//! HTTP to the server, and what can go wrong with it.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

/// Longest wait for an answer. A flush of a full head takes seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(600);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

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
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(text)
            | Failure::Unreachable(text)
            | Failure::Refused(text)
            | Failure::Broken(text) => f.write_str(text),
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
        let request = self
            .http
            .post(format!("{}{path}", self.url))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(encode(form));
        self.ask(request).await
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
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        Failure::Unreachable(format!("no answer from {}: {cause}", self.url))
    }
}

fn encode(pairs: &[(&str, String)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}
