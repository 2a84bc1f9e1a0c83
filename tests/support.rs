//! A real `aetherdb` process for tests, and the few HTTP calls that they share.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// How long a server may take to become ready.
const READY_SECONDS_MAX: u64 = 60;

/// A running `aetherdb`, killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    pub(crate) client: reqwest::Client,
}

impl Server {
    /// Starts the binary on a free port and waits until `/-/ready` says so.
    pub(crate) async fn start(data_dir: &Path, flags: &[&str]) -> Self {
        Self::start_with(data_dir, flags, &[]).await
    }

    /// The same with variables in its environment.
    pub(crate) async fn start_with(
        data_dir: &Path,
        flags: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let port = free_port();
        let child = Command::new(env!("CARGO_BIN_EXE_aetherdb"))
            .arg(format!("--data-dir={}", data_dir.display()))
            .arg(format!("--port={port}"))
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .env("AETHER_LOG", "warn")
            .envs(variables.iter().copied())
            .spawn()
            .unwrap();
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(8)
            .build()
            .unwrap();
        let mut server = Self { child, url: format!("http://127.0.0.1:{port}"), client };
        server.wait_until_ready().await;
        server
    }

    async fn wait_until_ready(&mut self) {
        for _ in 0..READY_SECONDS_MAX * 50 {
            let ready = self.client.get(format!("{}/-/ready", self.url)).send().await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("aetherdb ended while starting: {status}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("aetherdb was not ready after {READY_SECONDS_MAX} s");
    }

    /// SIGKILL: nothing of the process runs after this.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The body of a successful GET.
    pub(crate) async fn get(&self, path: &str) -> String {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await.unwrap();
        succeeded(path, answer).await
    }

    /// The answer to a successful POST.
    pub(crate) async fn post(&self, path: &str, body: String) -> String {
        let request = self.client.post(format!("{}{path}", self.url)).body(body);
        succeeded(path, request.send().await.unwrap()).await
    }

    /// A range vector's raw samples, or whatever else the query gives.
    pub(crate) async fn query(&self, query: &str, time_s: f64) -> Value {
        let answer = self
            .client
            .post(format!("{}/api/v1/query", self.url))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form(&[("query", query), ("time", &time_s.to_string())]))
            .send()
            .await
            .unwrap();
        serde_json::from_str(&succeeded(query, answer).await).unwrap()
    }
}

async fn succeeded(path: &str, answer: reqwest::Response) -> String {
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(status.is_success(), "{path}: {status} {text}");
    text
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already dead after `kill`; then both fail, and that is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// `application/x-www-form-urlencoded`.
pub(crate) fn form(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// A setting from the environment, printed so that a failure can be repeated.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    let value = match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    };
    println!("{name}={value}");
    value
}

/// A small deterministic generator (splitmix64), so that a printed seed is the whole story.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
