//! The one thread that looks after the store: it asks `plan` what to do and does it.

use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::storage::engine::Engine;
use crate::storage::error::StorageError;

/// How often the store is looked at when nothing calls.
const LOOK_EVERY: Duration = Duration::from_millis(500);

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

    /// Waits for a ring or the next look; false when it is time to stop.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        if !state.rung && !state.stop {
            self.rung.wait_for(&mut state, LOOK_EVERY);
        }
        state.rung = false;
        !state.stop
    }
}

/// The running thread.
#[derive(Debug)]
pub(crate) struct Background {
    bell: Arc<Bell>,
    thread: JoinHandle<()>,
}

impl Background {
    /// The thread holds no engine between looks, so that dropping the last handle ends it.
    pub(crate) fn start(engine: Weak<Engine>, bell: Arc<Bell>) -> Result<Self, StorageError> {
        let heard = Arc::clone(&bell);
        let thread = std::thread::Builder::new()
            .name("aether-storage".to_owned())
            .spawn(move || {
                while heard.wait() {
                    let Some(engine) = engine.upgrade() else { return };
                    engine.maintain();
                }
            })
            .map_err(|error| StorageError::Internal(format!("starting a thread: {error}")))?;
        Ok(Self { bell, thread })
    }

    /// Stops the thread after what it is doing.
    pub(crate) fn stop(self) {
        self.bell.stop();
        if self.thread.thread().id() != std::thread::current().id() && self.thread.join().is_err() {
            tracing::error!("the storage thread panicked");
        }
    }
}
