//! Threads that look after the store: they ask `plan` what to do and do it. One seals and flushes,
//! another, which may take long, merges blocks.

use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::storage::engine::Engine;
use crate::storage::error::StorageError;

/// Of threads that give way: a tenth of what a thread at 0 gets while both want a processor.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Wakes the thread before its time.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    state: Mutex<BellState>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct BellState {
    rung: bool,
    stop: bool,
}

impl Bell {
    /// Asks for a look now.
    pub(crate) fn ring(&self) {
        self.state.lock().rung = true;
        self.rung.notify_one();
    }

    fn stop(&self) {
        self.state.lock().stop = true;
        self.rung.notify_one();
    }

    /// Waits for a ring, but no longer than `every`; false when it is time to stop.
    fn wait(&self, every: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.rung && !state.stop {
            self.rung.wait_for(&mut state, every);
        }
        state.rung = false;
        !state.stop
    }
}

/// What a thread does, and how often if nobody rings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Duty {
    pub(crate) thread: &'static str,
    pub(crate) every: Duration,
    /// Takes time from everything else that runs, and should give way.
    pub(crate) gives_way: bool,
    pub(crate) look: fn(&Engine),
}

/// The running thread.
#[derive(Debug)]
pub(crate) struct Background {
    bell: Arc<Bell>,
    thread: JoinHandle<()>,
}

impl Background {
    /// The thread holds no engine between looks, so that dropping the last handle ends it.
    pub(crate) fn start(
        engine: Weak<Engine>,
        bell: Arc<Bell>,
        duty: Duty,
    ) -> Result<Self, StorageError> {
        let heard = Arc::clone(&bell);
        let thread = std::thread::Builder::new()
            .name(duty.thread.to_owned())
            .spawn(move || {
                if duty.gives_way {
                    give_way();
                }
                while heard.wait(duty.every) {
                    let Some(engine) = engine.upgrade() else { return };
                    (duty.look)(&engine);
                }
            })
            .map_err(|error| StorageError::Internal(format!("starting a thread: {error}")))?;
        Ok(Self { bell, thread })
    }

    /// Stops the thread after what it is doing.
    pub(crate) fn stop(self) {
        self.bell.stop();
        if self.thread.thread().id() != std::thread::current().id() && self.thread.join().is_err() {
            tracing::error!("a storage thread panicked");
        }
    }
}

/// Lets writes and queries go before this thread where processors are short.
fn give_way() {
    // Linux counts niceness by thread, and `None` is the one that asks.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "background work keeps its priority");
    }
}
