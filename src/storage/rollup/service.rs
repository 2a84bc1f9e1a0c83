//! The thread that looks after the rollups, and how others talk to it.
//!
//! It runs behind everything else: with the lowest priority of the process, and with a runtime of
//! its own for the object store's requests. What goes wrong here never hurts writes or queries of
//! raw samples: it is told in the status and tried again, with longer and longer pauses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::model::{Resolution, Timestamp};
use crate::storage::error::StorageError;
use crate::storage::plan::{Failures, WINDOW_MS, window_start};
use crate::storage::rollup::location::{self, Located};
use crate::storage::rollup::plan::{Floors, Which};
use crate::storage::rollup::status::{DownsampleProgress, DownsampleReport, RollupStatus};
use crate::storage::rollup::upload::Target;
use crate::storage::rollup::worker::{Done, Worker};
use crate::storage::store::Store;

/// How often it is looked whether there is something to build.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a start waits for the object store. Without an answer it goes on, and rollups come
/// when the store answers.
const OPEN_WAIT: Duration = Duration::from_secs(10);
/// Requests that wait for the thread.
const REQUESTS_MAX: usize = 16;
/// How much nicer than the rest of the process the thread is.
const NICENESS: i32 = 15;

/// The running thread.
#[derive(Debug)]
pub(crate) struct Rollups {
    shared: Arc<Shared>,
    requests: SyncSender<Request>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread and its callers share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// What retention wants dropped.
    floors: Mutex<Floors>,
    status: Mutex<RollupStatus>,
    running: Mutex<Option<Arc<DownsampleProgress>>>,
}

#[derive(Debug)]
enum Request {
    /// Build everything that is in blocks.
    Build(Arc<DownsampleProgress>, oneshot::Sender<Result<DownsampleReport, StorageError>>),
    /// Look now.
    Look,
}

impl Rollups {
    /// Starts the thread and waits until the manifest has been read, or the object store did not
    /// answer in time. A rollup store that is not ours is an error.
    pub(crate) fn start(store: Arc<Store>) -> Result<Self, StorageError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("aether-rollup-io")
            .enable_all()
            .build()
            .map_err(|error| StorageError::Internal(format!("starting a runtime: {error}")))?;
        let located = location::locate(&store)?;
        let shared = Arc::new(Shared::default());
        shared.status.lock().url.clone_from(&located.url);
        let (requests, heard) = mpsc::sync_channel(REQUESTS_MAX);
        let (opened, wait) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("aether-rollup".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || run(store, located, runtime, &shared, &heard, &opened)
            })
            .map_err(|error| StorageError::Internal(format!("starting a thread: {error}")))?;
        let this = Self { shared, requests, thread: Mutex::new(Some(thread)) };
        match wait.recv_timeout(OPEN_WAIT) {
            Ok(Err(error)) => {
                this.stop();
                Err(error)
            }
            Ok(Ok(())) => Ok(this),
            Err(_) => {
                tracing::warn!("the object store of the rollups does not answer; going on without");
                Ok(this)
            }
        }
    }

    /// Builds everything that is in blocks.
    pub(crate) async fn build(
        &self,
        progress: Arc<DownsampleProgress>,
    ) -> Result<DownsampleReport, StorageError> {
        let (done, built) = oneshot::channel();
        self.requests.try_send(Request::Build(progress, done)).map_err(|_| {
            StorageError::LimitReached {
                limit: "requests to downsample that wait",
                setting: "rollup requests",
                value: REQUESTS_MAX as u64,
            }
        })?;
        built.await.map_err(|_| StorageError::ShuttingDown)?
    }

    /// Asks for a look soon. One that is waiting already will do.
    pub(crate) fn ring(&self) {
        let _ = self.requests.try_send(Request::Look);
    }

    /// Lets rows go whose bucket ends at or before `before`: whole files are dropped, what else is
    /// before it is out of sight from now on.
    pub(crate) fn drop_before(&self, resolution: Resolution, before: Timestamp) {
        self.shared.floors.lock().raise(resolution, before);
        self.ring();
    }

    /// Raw samples before `before` are about to go: rows of theirs are never built anew.
    pub(crate) fn raw_expires(&self, before: Timestamp) {
        let mut floors = self.shared.floors.lock();
        floors.raw = floors.raw.max(Some(before));
        drop(floors);
        self.ring();
    }

    pub(crate) fn status(&self) -> RollupStatus {
        let mut status = self.shared.status.lock().clone();
        status.running = self.shared.running.lock().as_ref().map(|progress| progress.now());
        status
    }

    /// Stops the thread after the series it is at.
    pub(crate) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.ring();
        let Some(thread) = self.thread.lock().take() else { return };
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("the rollup thread panicked");
        }
    }
}

fn run(
    store: Arc<Store>,
    located: Located,
    runtime: Runtime,
    shared: &Shared,
    requests: &Receiver<Request>,
    opened: &SyncSender<Result<(), StorageError>>,
) {
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "the rollup thread keeps its priority");
    }
    let database = store.manifest.lock().uuid();
    let target = Target { io: located.io, root: located.root, runtime: runtime.handle().clone() };
    let mut thread = Thread {
        worker: Worker::new(Arc::clone(&store), target, located.compares_versions, database),
        store,
        shared,
        failures: Failures::default(),
    };
    let first = thread.worker.open();
    match first {
        Ok(()) => {
            thread.tell();
            let _ = opened.send(Ok(()));
        }
        // Whose fault it is decides: what may pass is tried again.
        Err(error) if error.kind() == crate::storage::error::ErrorKind::Resources => {
            thread.failed(&error);
            let _ = opened.send(Ok(()));
        }
        Err(error) => {
            let _ = opened.send(Err(error));
            return;
        }
    }
    while !shared.stop.load(Ordering::Relaxed) {
        match requests.recv_timeout(LOOK_EVERY) {
            Ok(Request::Build(progress, done)) => {
                // The asker may have gone.
                let _ = done.send(thread.build_all(progress));
            }
            Ok(Request::Look) | Err(RecvTimeoutError::Timeout) => thread.look(),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    thread.worker.empty_trash();
    runtime.shutdown_timeout(Duration::from_secs(1));
}

struct Thread<'a> {
    worker: Worker,
    store: Arc<Store>,
    shared: &'a Shared,
    failures: Failures,
}

impl Thread<'_> {
    /// What is due, unless the last failure is too near.
    fn look(&mut self) {
        if !self.failures.are_over(self.store.clock.monotonic()) {
            return;
        }
        match self.work(Which::Settled, Arc::default()) {
            Ok(_) | Err(StorageError::ShuttingDown) => {}
            Err(error) => self.failed(&error),
        }
        self.tell();
    }

    fn build_all(
        &mut self,
        progress: Arc<DownsampleProgress>,
    ) -> Result<DownsampleReport, StorageError> {
        let started = self.store.clock.monotonic();
        let built = self.work(Which::All, progress);
        if let Err(error) = &built {
            self.failed(error);
        }
        self.tell();
        let took = self.store.clock.monotonic().saturating_sub(started);
        let Done { spans, samples, rows, bytes } = built?;
        Ok(DownsampleReport { spans, samples, rows, bytes, took })
    }

    fn work(
        &mut self,
        which: Which,
        progress: Arc<DownsampleProgress>,
    ) -> Result<Done, StorageError> {
        self.worker.open()?;
        // Nothing is being built, and what is built next comes of this state or a later one.
        let (newest, raw_floor) = self
            .store
            .state
            .with(|state| (state.tombstones.last().map(|last| last.id), state.raw_floor));
        self.store.rollups_know.fetch_max(newest.unwrap_or(0), Ordering::AcqRel);
        self.worker.empty_trash();
        let mut floors = self.shared.floors.lock().clone();
        // It rose without us while rollups were off: what it left must not be summed up.
        floors.raw = floors.raw.max(raw_floor);
        for resolution in Resolution::ALL {
            if self.store.options.retention.rollup_ms(resolution) == Some(0) {
                // The window that is still being written has rows to come.
                let now_ms = self.store.clock.now_ms();
                floors.raise(resolution, window_start(now_ms).saturating_add(WINDOW_MS));
            }
        }
        let dropped = self.worker.drop_expired(&floors)?;
        {
            let mut status = self.shared.status.lock();
            status.files_dropped += dropped.files;
            status.bytes_dropped += dropped.bytes;
        }
        *self.shared.running.lock() = Some(Arc::clone(&progress));
        let built = self.worker.build(which, &progress, &self.shared.stop);
        *self.shared.running.lock() = None;
        let done = built?;
        if done.spans > 0 {
            tracing::info!(
                spans = done.spans,
                samples = done.samples,
                rows = done.rows,
                bytes = done.bytes,
                "built rollups"
            );
        }
        self.failures = Failures::default();
        self.shared.status.lock().error = None;
        self.store.telemetry.rollup_spans.add(done.spans);
        self.store.telemetry.rollup_samples.add(done.samples);
        Ok(done)
    }

    fn failed(&mut self, error: &StorageError) {
        tracing::warn!(%error, "rollups are behind and will be tried again");
        self.failures.add(self.store.clock.monotonic());
        self.store.telemetry.rollup_failures.inc();
        self.shared.status.lock().error = Some(error.to_string());
    }

    /// Brings the status and the gauges up to date.
    fn tell(&self) {
        // While the manifest has to be read again, what was known last is the best there is.
        if !self.worker.is_open() {
            return;
        }
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let resolutions = self.worker.resolutions();
        let dirty_spans = self.worker.dirty_spans();
        let bytes = resolutions.values().map(|of| of.bytes).sum();
        self.store.telemetry.rollup_bytes.set(gauge(bytes));
        self.store.telemetry.rollup_dirty_spans.set(gauge(dirty_spans));
        let mut status = self.shared.status.lock();
        status.ready = true;
        status.resolutions = resolutions;
        status.dirty_spans = dirty_spans;
    }
}
