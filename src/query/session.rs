//! What all queries of a process share: threads, memory, turns.
//!
//! A query gets a `TaskContext` of its own whose memory pool is the query's, under the process'
//! pool; no `SessionContext` is built for it. Plans run on the session's threads, so that a
//! heavy query never holds up those who serve connections.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{
    GreedyMemoryPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionStateBuilder, TaskContext};
use datafusion::prelude::SessionConfig;
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::clock::Clock;
use crate::query::error::QueryError;
use crate::query::limits::{Admission, QueryLimits, QueryOptions, QueryUsage};
use crate::query::stop::Stop;

/// Planning and running recurse into expressions, which may be hundreds deep in SQL and thousands
/// in PromQL. Only what is used of a stack takes memory.
const THREAD_STACK_BYTES: usize = 512 << 20;
/// Pieces of a result that may wait for the one who reads it.
const PIECES_AHEAD_MAX: usize = 4;

/// The query engine of a process.
#[derive(Debug)]
pub struct QuerySession {
    options: QueryOptions,
    clock: Arc<dyn Clock>,
    admission: Admission,
    pool: Arc<dyn MemoryPool>,
    runtime_env: RuntimeEnv,
    config: SessionConfig,
    /// `None` only while the session is dropped.
    threads: Option<Runtime>,
}

impl QuerySession {
    pub fn new(options: QueryOptions, clock: Arc<dyn Clock>) -> Result<Self, QueryError> {
        let internal = |error: &dyn fmt::Display| QueryError::Internal(error.to_string());
        let bytes = usize::try_from(options.bytes_max).unwrap_or(usize::MAX);
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(bytes));
        let runtime_env = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::clone(&pool))
            // What does not fit into a query's memory fails it and says which setting that is;
            // temporary files would be a second bound, on a disk that nobody named.
            .with_disk_manager_builder(
                DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled),
            )
            .build()
            .map_err(|error| internal(&error))?;
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.threads.max(1))
            .thread_name("query")
            .thread_stack_size(THREAD_STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|error| internal(&error))?;
        let config = SessionConfig::new().with_target_partitions(options.threads.max(1));
        let admission = Admission::new(&options);
        Ok(Self { options, clock, admission, pool, runtime_env, config, threads: Some(threads) })
    }

    pub fn options(&self) -> &QueryOptions {
        &self.options
    }

    /// The bounds of a query that asks for none of its own.
    pub fn limits(&self) -> &QueryLimits {
        &self.options.limits
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Tasks of queries that run, or have been given up and have not noticed yet.
    pub fn running_tasks(&self) -> usize {
        self.threads.as_ref().map_or(0, |threads| threads.metrics().num_alive_tasks())
    }

    /// A builder of DataFusion sessions that share this session's memory and settings.
    pub fn state_builder(&self) -> SessionStateBuilder {
        SessionStateBuilder::new()
            .with_config(self.config.clone())
            .with_runtime_env(Arc::new(self.runtime_env.clone()))
            .with_default_features()
    }

    /// What a query with these limits runs in.
    pub(crate) fn task(&self, limits: QueryLimits) -> QueryTask {
        let pool: Arc<dyn MemoryPool> = Arc::new(QueryPool {
            process: Arc::clone(&self.pool),
            used: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            bytes_max: usize::try_from(limits.bytes_max).unwrap_or(usize::MAX),
        });
        let mut runtime_env = self.runtime_env.clone();
        runtime_env.memory_pool = Arc::clone(&pool);
        let context = TaskContext::default()
            .with_session_config(self.config.clone())
            .with_runtime(Arc::new(runtime_env));
        QueryTask {
            context: Arc::new(context),
            usage: Arc::new(QueryUsage::new(limits)),
            stop: Arc::default(),
            pool,
            partitions_max: self.options.threads.max(1),
        }
    }

    /// Waits for a turn, then runs the work on the session's threads, the whole within the
    /// timeout. Dropping the returned future stops the work at its next batch.
    pub(crate) async fn run<T, F>(&self, timeout: Duration, work: F) -> Result<Ran<T>, QueryError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, QueryError>> + Send + 'static,
    {
        let start = self.clock.monotonic();
        let (_turn, queued) = self.turn(timeout).await?;
        let Some(threads) = &self.threads else {
            return Err(QueryError::Canceled { phase: "shutdown" });
        };
        let mut task = AbortOnDrop(threads.spawn(work));
        let left = timeout.saturating_sub(queued);
        let joined = tokio::time::timeout(left, &mut task.0).await;
        let value = match joined.map_err(|_| too_late("execution", timeout))? {
            Ok(result) => result?,
            Err(error) if error.is_cancelled() => {
                return Err(QueryError::Canceled { phase: "shutdown" });
            }
            Err(panic) => return Err(QueryError::Internal(panic.to_string())),
        };
        let total = self.clock.monotonic().saturating_sub(start);
        Ok(Ran { value, queued, ran: total.saturating_sub(queued) })
    }

    /// Waits for a turn, then lets work run on the session's threads that hands over what it
    /// makes piece by piece. The turn and the timeout last until the last piece was taken; after
    /// that `stop` is set.
    pub(crate) async fn feed<T, W, F>(
        &self,
        timeout: Duration,
        stop: &Arc<Stop>,
        work: W,
    ) -> Result<Feed<T>, QueryError>
    where
        T: Send + 'static,
        W: FnOnce(mpsc::Sender<T>) -> F,
        F: Future<Output = Result<(), QueryError>> + Send + 'static,
    {
        let (turn, queued) = self.turn(timeout).await?;
        let Some(threads) = &self.threads else {
            return Err(QueryError::Canceled { phase: "shutdown" });
        };
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD_MAX);
        let left = timeout.saturating_sub(queued);
        let work = tokio::time::timeout(left, work(sender.clone()));
        let task = threads.spawn(async move {
            let _turn = turn;
            tokio::select! {
                ended = work => ended.map_err(|_| too_late("execution", timeout))?,
                () = sender.closed() => Err(QueryError::Canceled { phase: "execution" }),
            }
        });
        // What does not wait cannot be late by itself.
        let too_long = Arc::clone(stop);
        let watch = AbortOnDrop(threads.spawn(async move {
            tokio::time::sleep(left).await;
            too_long.set(too_late("execution", timeout));
        }));
        let stop = StopOnDrop(Arc::clone(stop));
        Ok(Feed { pieces, task: AbortOnDrop(task), _watch: watch, _stop: stop })
    }

    /// Waits for a turn; says how long that took.
    async fn turn(
        &self,
        timeout: Duration,
    ) -> Result<(OwnedSemaphorePermit, Duration), QueryError> {
        if timeout.is_zero() {
            return Err(too_late("the queue", timeout));
        }
        let start = self.clock.monotonic();
        let turn = tokio::time::timeout(timeout, self.admission.enter());
        let turn = turn.await.map_err(|_| too_late("the queue", timeout))??;
        Ok((turn, self.clock.monotonic().saturating_sub(start)))
    }
}

impl Drop for QuerySession {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            // A runtime may not be dropped the blocking way from inside another one.
            threads.shutdown_background();
        }
    }
}

fn too_late(phase: &'static str, limit: Duration) -> QueryError {
    QueryError::Timeout { phase, limit, setting: QueryLimits::TIMEOUT_SETTING }
}

/// What a running query makes, piece by piece. Dropping it ends the query.
#[derive(Debug)]
pub(crate) struct Feed<T> {
    pieces: mpsc::Receiver<T>,
    task: AbortOnDrop<Result<(), QueryError>>,
    _watch: AbortOnDrop<()>,
    _stop: StopOnDrop,
}

impl<T> Feed<T> {
    /// The next piece; `None` only after the query has ended well.
    pub(crate) async fn next(&mut self) -> Result<Option<T>, QueryError> {
        if let Some(piece) = self.pieces.recv().await {
            return Ok(Some(piece));
        }
        match (&mut self.task.0).await {
            Ok(ended) => ended.map(|()| None),
            Err(error) if error.is_cancelled() => Err(QueryError::Canceled { phase: "shutdown" }),
            Err(panic) => Err(QueryError::Internal(panic.to_string())),
        }
    }
}

/// The outcome of [`QuerySession::run`] and how long it took.
pub(crate) struct Ran<T> {
    pub(crate) value: T,
    pub(crate) queued: Duration,
    pub(crate) ran: Duration,
}

#[derive(Debug)]
struct StopOnDrop(Arc<Stop>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.set(QueryError::Canceled { phase: "execution" });
    }
}

#[derive(Debug)]
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What one query runs in.
#[derive(Debug, Clone)]
pub(crate) struct QueryTask {
    pub(crate) context: Arc<TaskContext>,
    pub(crate) usage: Arc<QueryUsage>,
    pub(crate) partitions_max: usize,
    pub(crate) stop: Arc<Stop>,
    pool: Arc<dyn MemoryPool>,
}

impl QueryTask {
    /// Accounts memory to the query under `name` until the reservation is dropped.
    pub(crate) fn reserve(&self, name: &str) -> MemoryReservation {
        MemoryConsumer::new(name).register(&self.pool)
    }

    /// How many bytes the query may hold at once.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.usage.limits().bytes_max
    }

    /// The most bytes the query held at once.
    pub(crate) fn bytes_peak(&self) -> usize {
        self.pool.downcast_ref::<QueryPool>().map_or(0, |pool| pool.peak.load(Ordering::Relaxed))
    }
}

/// One query's share of the process' memory.
#[derive(Debug)]
struct QueryPool {
    process: Arc<dyn MemoryPool>,
    used: AtomicUsize,
    peak: AtomicUsize,
    bytes_max: usize,
}

impl QueryPool {
    fn exhausted(&self, consumer: &str, additional: usize) -> DataFusionError {
        DataFusionError::ResourcesExhausted(format!(
            "{consumer} needs {additional} more bytes than the query may use ({} of {} in use, \
             limit bytes, setting {})",
            self.used.load(Ordering::Relaxed),
            self.bytes_max,
            QueryLimits::BYTES_SETTING,
        ))
    }
}

impl fmt::Display for QueryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "query({})", self.bytes_max)
    }
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &str {
        "query"
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        let used = self.used.fetch_add(additional, Ordering::Relaxed) + additional;
        self.peak.fetch_max(used, Ordering::Relaxed);
        self.process.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.used.fetch_sub(shrink, Ordering::Relaxed);
        self.process.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> DataFusionResult<()> {
        let grown = self.used.try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(additional).filter(|used| *used <= self.bytes_max)
        });
        let Ok(before) = grown else {
            return Err(self.exhausted(reservation.consumer().name(), additional));
        };
        if let Err(error) = self.process.try_grow(reservation, additional) {
            self.used.fetch_sub(additional, Ordering::Relaxed);
            return Err(DataFusionError::ResourcesExhausted(format!(
                "all queries together hold too much memory (limit total bytes, setting {}): {}",
                QueryOptions::TOTAL_BYTES_SETTING,
                error.strip_backtrace(),
            )));
        }
        self.peak.fetch_max(before + additional, Ordering::Relaxed);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::query::error::QueryErrorKind;

    fn session(options: QueryOptions) -> QuerySession {
        QuerySession::new(options, Arc::new(SystemClock::new())).unwrap()
    }

    #[tokio::test]
    async fn a_query_may_not_run_or_wait_longer_than_its_timeout() {
        let options = QueryOptions { concurrent_max: 1, ..QueryOptions::default() };
        let session = session(options);
        let long = session.run(Duration::from_secs(60), std::future::pending::<Result<(), _>>());
        let mut long = Box::pin(long);
        assert!(futures::poll!(&mut long).is_pending());
        let waits = session.run(Duration::from_millis(5), async { Ok(()) }).await;
        let error = waits.err().unwrap();
        assert_eq!(error.kind(), QueryErrorKind::Timeout);
        assert!(error.to_string().contains("the queue"), "{error}");
        drop(long);
        let runs = session.run(Duration::from_millis(5), std::future::pending::<Result<(), _>>());
        let error = runs.await.err().unwrap();
        assert!(error.to_string().contains("execution"), "{error}");
        assert!(error.to_string().contains("--query-timeout"), "{error}");
    }

    #[tokio::test]
    async fn a_query_has_a_pool_of_its_own_under_the_process_pool() {
        let limits = QueryLimits { bytes_max: 1_000, ..QueryLimits::default() };
        let session = session(QueryOptions { limits, bytes_max: 1_500, ..Default::default() });
        let (one, two) = (session.task(limits), session.task(limits));
        let (first, second) = (one.reserve("a"), two.reserve("b"));
        first.try_grow(900).unwrap();
        let error = QueryError::from(first.try_grow(200).unwrap_err());
        assert!(error.to_string().contains("--query-bytes-max"), "{error}");
        let error = QueryError::from(second.try_grow(700).unwrap_err());
        assert!(error.to_string().contains("--query-total-bytes-max"), "{error}");
        drop(first);
        second.try_grow(700).unwrap();
        assert_eq!((one.bytes_peak(), two.bytes_peak()), (900, 700));
    }
}
