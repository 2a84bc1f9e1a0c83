//! What all requests share, and how a handler gets at the engine.
//!
//! The listener is up before the engine is open, so that health checks and the replay's progress
//! are answered meanwhile; everything else waits for [`Service::set_ready`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

use crate::clock::Clock;
use crate::http::admission::ByteBudget;
use crate::http::body::BufferPool;
use crate::http::error::RETRY_AFTER;
use crate::http::export::running::Exports;
use crate::http::respond;
use crate::ingest::Limits;
use crate::query::QuerySession;
use crate::sql::SqlEngine;
use crate::storage::{Engine, ReplayProgress};
use crate::telemetry::Telemetry;

/// What steers the HTTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpOptions {
    /// Bounds on what write requests contain.
    pub limits: Limits,
    /// Bytes of bodies held at once, as they come, and again unpacked. Default 64 MiB a core.
    pub write_bytes_in_flight_max: usize,
    /// Series that `/api/v1/series` answers without `match[]` and `limit`. Default 10,000.
    pub series_listed_max: usize,
    /// Time for a request's head, and between two pieces of its body. Default 30 s.
    pub read_timeout: Duration,
    /// Exports that run at once; more are turned away. Default 4.
    pub exports_max: usize,
    /// Longest run of an export. Default 24 h.
    pub export_timeout: Duration,
    /// What `/api/v1/status/flags` shows.
    pub flags: BTreeMap<String, String>,
}

impl HttpOptions {
    pub const EXPORTS_SETTING: &'static str = "--exports-max";
    pub const EXPORT_TIMEOUT_SETTING: &'static str = "--export-timeout";
}

impl Default for HttpOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            limits: Limits::default(),
            write_bytes_in_flight_max: cores * (64 << 20),
            series_listed_max: 10_000,
            read_timeout: Duration::from_secs(30),
            exports_max: 4,
            export_timeout: Duration::from_secs(86_400),
            flags: BTreeMap::new(),
        }
    }
}

/// The state behind all routes.
pub struct Service {
    engine: OnceLock<Arc<Engine>>,
    pub(crate) queries: QuerySession,
    pub(crate) sql: SqlEngine,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) options: HttpOptions,
    pub(crate) progress: Arc<ReplayProgress>,
    pub(crate) started_ms: i64,
    /// Bodies as they come over the wire.
    pub(crate) wire_budget: ByteBudget,
    /// Bodies once unpacked. A budget of its own: who holds a wire body may wait for it without
    /// ever blocking those who hold an unpacked one.
    pub(crate) unpacked_budget: ByteBudget,
    pub(crate) buffers: BufferPool,
    pub(crate) exports: Arc<Exports>,
}

impl Service {
    pub fn new(
        options: HttpOptions,
        queries: QuerySession,
        clock: Arc<dyn Clock>,
        telemetry: Arc<Telemetry>,
        progress: Arc<ReplayProgress>,
    ) -> Arc<Self> {
        Arc::new(Self {
            engine: OnceLock::new(),
            sql: SqlEngine::new(&queries),
            queries,
            started_ms: clock.now_ms(),
            clock,
            telemetry,
            progress,
            wire_budget: ByteBudget::new(options.write_bytes_in_flight_max),
            unpacked_budget: ByteBudget::new(options.write_bytes_in_flight_max),
            buffers: BufferPool::default(),
            exports: Arc::new(Exports::new(options.exports_max)),
            options,
        })
    }

    /// Opens the doors. Only the first engine counts.
    pub fn set_ready(&self, engine: Arc<Engine>) {
        if self.engine.set(engine).is_err() {
            tracing::warn!("the engine was set twice; the first one stays");
        }
    }

    /// The engine of queries, for those who watch over it.
    pub fn queries(&self) -> &QuerySession {
        &self.queries
    }

    /// The engine, once it is open.
    pub(crate) fn engine(&self) -> Option<&Arc<Engine>> {
        self.engine.get()
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("options", &self.options).finish_non_exhaustive()
    }
}

/// The open engine; a handler that asks for it is only called once there is one.
pub(crate) struct Ready(pub(crate) Arc<Engine>);

/// The answer before the engine is open, as Prometheus gives it.
pub(crate) struct NotReady;

impl IntoResponse for NotReady {
    fn into_response(self) -> Response {
        let mut response = respond::text(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable");
        let seconds = axum::http::HeaderValue::from(RETRY_AFTER.as_secs());
        response.headers_mut().insert(axum::http::header::RETRY_AFTER, seconds);
        response
    }
}

impl FromRequestParts<Arc<Service>> for Ready {
    type Rejection = NotReady;

    async fn from_request_parts(
        _: &mut Parts,
        service: &Arc<Service>,
    ) -> Result<Self, Self::Rejection> {
        service.engine().map(|engine| Ready(Arc::clone(engine))).ok_or(NotReady)
    }
}
