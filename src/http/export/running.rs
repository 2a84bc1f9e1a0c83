//! The exports that run: how many may, and how far each has come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// All exports of a server.
#[derive(Debug)]
pub(crate) struct Exports {
    max: usize,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    last_id: u64,
    by_id: BTreeMap<u64, Arc<Progress>>,
}

/// How far an export has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Series that are wholly written; of raw samples only, rollups come file by file.
    pub(crate) series: AtomicU64,
    /// Samples, or rows of rollups.
    pub(crate) rows: AtomicU64,
}

impl Exports {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, running: Mutex::default() }
    }

    /// A place for one more; `None` if all are taken.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Turn> {
        let mut running = self.running.lock();
        if running.by_id.len() >= self.max {
            return None;
        }
        running.last_id += 1;
        let (id, progress) = (running.last_id, Arc::<Progress>::default());
        running.by_id.insert(id, Arc::clone(&progress));
        Some(Turn { id, progress, exports: Arc::clone(self) })
    }

    /// How far export `id` is; `None` once it has ended.
    pub(crate) fn progress(&self, id: u64) -> Option<Arc<Progress>> {
        self.running.lock().by_id.get(&id).cloned()
    }
}

/// An export's place, given back on drop.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) id: u64,
    pub(crate) progress: Arc<Progress>,
    exports: Arc<Exports>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.exports.running.lock().by_id.remove(&self.id);
    }
}

impl Progress {
    pub(crate) fn add_series(&self) {
        self.series.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_rows(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let exports = Arc::new(Exports::new(1));
        let turn = exports.enter().unwrap();
        assert!(exports.enter().is_none());
        turn.progress.add_rows(7);
        let seen = exports.progress(turn.id).unwrap();
        assert_eq!(seen.rows.load(Ordering::Relaxed), 7);
        let id = turn.id;
        drop(turn);
        assert!(exports.progress(id).is_none());
        assert_ne!(exports.enter().unwrap().id, id);
    }
}
