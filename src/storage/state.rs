//! What exists at one moment: blocks, frozen memtables, and the one that takes writes.
//!
//! Readers take the current state and keep it as long as they like; whoever changes it puts a
//! new one in its place. Files that are no longer named go when the last state that names them
//! is dropped.
//!
//! Invariant: parts stand in order of their writes, so that a later part's sample wins.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::model::Timestamp;
use crate::storage::block_part::BlockPart;
use crate::storage::memtable::Memtable;
use crate::storage::part::Part;
use crate::storage::rollup::{RollupSet, RollupView};
use crate::storage::snapshot::Snapshot;
use crate::storage::tombstone::Tombstone;
use crate::storage::wal::Lsn;

/// One state of the store.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// Ascending by the last write in them.
    pub(crate) blocks: Vec<Arc<BlockPart>>,
    /// Oldest first; a flush takes them from the front.
    pub(crate) frozen: Vec<Frozen>,
    pub(crate) active: Arc<Generation>,
    /// Ascending by id.
    pub(crate) tombstones: Vec<Arc<Tombstone>>,
    /// Samples before it are past their retention, and nobody sees them.
    pub(crate) raw_floor: Option<Timestamp>,
    /// `None` while rollups are off or not yet known.
    pub(crate) rollups: Option<Arc<RollupSet>>,
}

/// A memtable that takes no more writes.
#[derive(Debug, Clone)]
pub(crate) struct Frozen {
    pub(crate) generation: Arc<Generation>,
    /// The last log record in it.
    pub(crate) lsn_last: Lsn,
}

/// A memtable, and when its life began.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) memtable: Arc<Memtable>,
    /// The first log record that may be in it.
    pub(crate) lsn_first: Lsn,
    /// When its first sample came; [`NOT_BORN`] before.
    born_ms: AtomicI64,
}

const NOT_BORN: i64 = i64::MIN;

impl Generation {
    pub(crate) fn new(memtable: Memtable, lsn_first: Lsn) -> Self {
        Self { memtable: Arc::new(memtable), lsn_first, born_ms: AtomicI64::new(NOT_BORN) }
    }

    /// Called with every write; only the first one counts.
    pub(crate) fn is_born(&self, now_ms: impl FnOnce() -> i64) {
        if self.born_ms.load(Ordering::Relaxed) == NOT_BORN {
            self.born_ms.store(now_ms(), Ordering::Relaxed);
        }
    }

    pub(crate) fn born_ms(&self) -> Option<i64> {
        Some(self.born_ms.load(Ordering::Relaxed)).filter(|born_ms| *born_ms != NOT_BORN)
    }
}

impl State {
    pub(crate) fn snapshot(self: &Arc<Self>) -> Snapshot {
        let blocks = self.blocks.iter().map(|block| Arc::clone(block) as Arc<dyn Part>);
        let frozen = self.frozen.iter().map(|frozen| frozen.generation.memtable.snapshot());
        let active = std::iter::once(self.active.memtable.snapshot());
        let rollups = self.rollups.as_ref();
        let rollups = rollups.map(|set| RollupView::new(Arc::clone(set), Arc::clone(self)));
        let parts = blocks.chain(frozen).chain(active).collect();
        Snapshot::new(parts, self.tombstones.clone(), Vec::new())
            .without_before(self.raw_floor)
            .with_rollups(rollups)
    }

    /// Whether a block or a rollup may hold what the tombstone hides.
    pub(crate) fn needs(&self, tombstone: &Tombstone) -> bool {
        let mut rollups = self.rollups.iter().flat_map(|set| &set.files);
        self.blocks.iter().any(|block| block.meta().is_touched_by(tombstone))
            || rollups
                .any(|file| file.facts().spans.iter().any(|built| built.is_touched_by(tombstone)))
    }

    /// Memtables, oldest first.
    pub(crate) fn generations(&self) -> impl Iterator<Item = &Arc<Generation>> {
        self.frozen.iter().map(|frozen| &frozen.generation).chain([&self.active])
    }
}

/// The current state.
#[derive(Debug)]
pub(crate) struct StateCell {
    current: ArcSwap<State>,
    /// Held while a new state is made from the old one.
    change: Mutex<()>,
}

impl StateCell {
    pub(crate) fn new(state: State) -> Self {
        Self { current: ArcSwap::from_pointee(state), change: Mutex::new(()) }
    }

    pub(crate) fn load(&self) -> Arc<State> {
        self.current.load_full()
    }

    /// Runs `read` on the current state without keeping it.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.current.load())
    }

    /// Puts a changed copy in the current one's place.
    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        let _changing = self.change.lock();
        let mut next = State::clone(&self.current.load());
        change(&mut next);
        self.current.store(Arc::new(next));
    }
}
