//! Starts everything and takes it down again.
//!
//! The listener comes first, so that health checks are answered while the log is replayed. On
//! SIGTERM or SIGINT: no new connections, requests in flight finish, the engine flushes and lets
//! go of its directory. A second signal ends the process at once; the log makes that safe.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::http::{self, Service};
use crate::query::{QueryError, QuerySession};
use crate::storage::error::ErrorKind;
use crate::storage::vfs::RealVfs;
use crate::storage::{Engine, ReplayProgress, StorageError};
use crate::telemetry::Telemetry;

/// How often the log says how far a replay has come.
const PROGRESS_PERIOD: Duration = Duration::from_secs(5);

/// Why the server did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    #[error("cannot listen on {address} (--listen, --port): {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("{0}")]
    Storage(#[from] StorageError),
    #[error("{0}")]
    Query(#[from] QueryError),
    #[error("signals cannot be received: {0}")]
    Signals(io::Error),
}

impl ServerError {
    /// The process' exit code: 3 if the data directory is damaged or in use, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            ServerError::Storage(error) => match error.kind() {
                ErrorKind::Data | ErrorKind::Caller => 3,
                ErrorKind::Resources | ErrorKind::Internal => 1,
            },
            _ => 1,
        }
    }
}

/// Runs the server until a signal ends it.
pub async fn run(config: &Config) -> Result<(), ServerError> {
    let mut signals = Signals::new().map_err(ServerError::Signals)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let telemetry = Arc::new(Telemetry::default());
    let progress = Arc::new(ReplayProgress::default());

    let address = config.address();
    let listen = |source| ServerError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let service = Service::new(
        config.http(),
        QuerySession::new(config.query(), Arc::clone(&clock))?,
        Arc::clone(&clock),
        Arc::clone(&telemetry),
        Arc::clone(&progress),
    );
    let (stop, stopped) = oneshot::channel();
    let router = http::router(Arc::clone(&service));
    let serving = tokio::spawn(http::serve(listener, router, async {
        // An error means that the sender is gone, which is a stop as well.
        let _ = stopped.await;
    }));
    tracing::info!(%address, data_dir = %config.data_dir.display(), "listening, opening the store");

    let opening = tokio::task::spawn_blocking({
        let (options, progress) = (config.storage(), Arc::clone(&progress));
        move || Engine::open(options, Arc::new(RealVfs), clock, telemetry, &progress)
    });
    let engine = tokio::select! {
        opened = opening => match opened {
            Ok(engine) => engine?,
            Err(panic) => return Err(StorageError::Internal(panic.to_string()).into()),
        },
        never = report_progress(&progress) => match never {},
        name = signals.next() => {
            tracing::info!(signal = name, "stopped while the store was opening");
            return Ok(());
        }
    };
    let wal_sync = engine.options().wal_sync;
    tracing::info!(
        url = %format_args!("http://{address}"),
        data_dir = %config.data_dir.display(),
        wal_sync = %wal_sync,
        acknowledged_writes_survive = wal_sync.survives(),
        "ready"
    );
    service.set_ready(Arc::clone(&engine));

    let name = signals.next().await;
    tracing::info!(signal = name, "shutting down; a second signal ends at once");
    let closing = async {
        // The receiver lives as long as the server.
        let _ = stop.send(());
        if let Err(panic) = serving.await {
            tracing::error!(%panic, "the listener failed");
        }
        engine.close().await
    };
    tokio::select! {
        closed = closing => closed?,
        name = signals.next() => {
            tracing::warn!(signal = name, "ended before everything was flushed; the log has it");
            return Ok(());
        }
    }
    tracing::info!("bye");
    Ok(())
}

/// Logs how far the replay has come, for ever.
async fn report_progress(progress: &ReplayProgress) -> Infallible {
    loop {
        tokio::time::sleep(PROGRESS_PERIOD).await;
        tracing::info!(
            megabytes = progress.bytes_done() >> 20,
            of = progress.bytes_total() >> 20,
            samples = progress.samples(),
            "replaying the log"
        );
    }
}

/// The signals that end the server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
