//! The HTTP API end to end: a real engine on a real disk behind a real listening socket, in this
//! process, under a clock that stands still.

mod admin_tsdb;
mod cancellation;
mod compaction;
mod depth;
mod exports;
mod federate;
mod remote;
mod resolution;
mod retention;
mod specification;
mod sql;
mod writes;

use std::path::Path;
use std::sync::Arc;

use aetherdb::clock::ManualClock;
use aetherdb::http::{HttpOptions, Service, router, serve};
use aetherdb::query::{QueryOptions, QuerySession};
use aetherdb::storage::vfs::RealVfs;
use aetherdb::storage::{Engine, ReplayProgress, StorageOptions, WalSync};
use aetherdb::telemetry::Telemetry;
use reqwest::header::HeaderMap;
use reqwest::{Client, RequestBuilder};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::support::form;

/// Ten seconds after the timestamp of the specification's examples.
const NOW_MS: i64 = 1_699_500_010_000;

/// A server and a client for it.
pub(crate) struct Api {
    url: String,
    client: Client,
    service: Arc<Service>,
    engine: Arc<Engine>,
    clock: Arc<ManualClock>,
    _dir: tempfile::TempDir,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{:?}", self.text()))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Api {
    async fn start() -> Self {
        Self::start_with(HttpOptions::default(), QueryOptions::default()).await
    }

    async fn start_with(options: HttpOptions, queries: QueryOptions) -> Self {
        let api = Self::start_unready(options, queries).await;
        api.service.set_ready(Arc::clone(&api.engine));
        api
    }

    /// With a small log that is not synced: for those who start many.
    pub(crate) async fn start_small(queries: QueryOptions) -> Self {
        let storage = |dir: &Path| StorageOptions {
            wal_sync: WalSync::Never,
            wal_segment_bytes: 1 << 20,
            ..StorageOptions::new(dir)
        };
        let api = Self::start_over(HttpOptions::default(), queries, storage).await;
        api.service.set_ready(Arc::clone(&api.engine));
        api
    }

    /// Listens as while the log is replayed.
    async fn start_unready(options: HttpOptions, queries: QueryOptions) -> Self {
        Self::start_over(options, queries, |dir| StorageOptions::new(dir)).await
    }

    async fn start_over(
        options: HttpOptions,
        queries: QueryOptions,
        storage: impl Fn(&Path) -> StorageOptions,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let telemetry = Arc::new(Telemetry::default());
        let progress = Arc::new(ReplayProgress::default());
        let engine = Engine::open(
            storage(dir.path()),
            Arc::new(RealVfs),
            Arc::clone(&clock) as _,
            Arc::clone(&telemetry),
            &progress,
        );
        let session = QuerySession::new(queries, Arc::clone(&clock) as _).unwrap();
        let service = Service::new(options, session, Arc::clone(&clock) as _, telemetry, progress);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(serve(listener, router(Arc::clone(&service)), std::future::pending()));
        let (client, engine) = (Client::new(), engine.unwrap());
        Self { url, client, service, engine, clock, _dir: dir }
    }

    async fn send(&self, request: RequestBuilder) -> Answer {
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Answer { status, headers, body: answer.bytes().await.unwrap().to_vec() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(self.client.get(format!("{}{path}", self.url))).await
    }

    async fn head(&self, path: &str) -> Answer {
        self.send(self.client.head(format!("{}{path}", self.url))).await
    }

    /// A POST with these headers.
    pub(crate) async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let request = self.client.post(format!("{}{path}", self.url)).body(body);
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.send(request).await
    }

    pub(crate) async fn post_form(&self, path: &str, pairs: &[(&str, &str)]) -> Answer {
        self.post(path, &[("content-type", "application/x-www-form-urlencoded")], form(pairs)).await
    }

    /// Writes lines that must all be stored.
    async fn write(&self, lines: &str) {
        let answer = self.post("/api/v1/write", &[], lines.to_owned()).await;
        assert_eq!((answer.status, answer.text()), (204, ""), "{lines}");
    }

    /// `data.result` of an instant query at the clock's time.
    async fn query(&self, query: &str) -> Value {
        let answer = self.post_form("/api/v1/query", &[("query", query)]).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        answer.json()["data"]["result"].clone()
    }
}
