//! Which spans are right: derived from the log sequence numbers of what raw samples there are.
//!
//! A span was built from all blocks of a state in which everything up to its `source_lsn` was in
//! blocks. It is out of date exactly if something later touched it. Late writes, compactions,
//! restarts need no other bookkeeping.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::model::Timestamp;
use crate::storage::plan::WINDOW_MS;
use crate::storage::rollup::file::BuiltSpan;
use crate::storage::state::State;
use crate::storage::tombstone::Tombstone;
use crate::storage::wal::Lsn;

/// The last writes to each two-hour window, as one state of the store knows them.
#[derive(Debug, Default)]
pub(crate) struct Freshness {
    /// By the window's start, the last write in blocks.
    windows: HashMap<Timestamp, Lsn>,
    /// By the window's start, the last write of blocks that may have a sample at that instant,
    /// which belongs to the span that ends there.
    edges: HashMap<Timestamp, Lsn>,
    /// Windows that have samples in memory.
    in_memory: HashSet<Timestamp>,
    /// Windows that have a sample in memory at their first instant.
    edges_in_memory: HashSet<Timestamp>,
    tombstones: Vec<Arc<Tombstone>>,
}

impl Freshness {
    pub(crate) fn of(state: &State) -> Self {
        let mut fresh = Self { tombstones: state.tombstones.clone(), ..Self::default() };
        // A damaged block is not served, so rows need not sum it up.
        for block in state.blocks.iter().filter(|block| block.damage().is_none()) {
            let meta = block.meta();
            let mut start = meta.window.start();
            for &lsn in &meta.written {
                raise(&mut fresh.windows, start, lsn);
                if meta.time_range.contains(start) {
                    raise(&mut fresh.edges, start, lsn);
                }
                start = start.saturating_add(WINDOW_MS);
            }
        }
        for generation in state.generations() {
            for (start, first) in generation.memtable.window_firsts() {
                fresh.in_memory.insert(start);
                if first == start {
                    fresh.edges_in_memory.insert(start);
                }
            }
        }
        fresh
    }

    /// Starts of the spans that have samples in blocks, or may have.
    pub(crate) fn span_starts(&self) -> BTreeSet<Timestamp> {
        let before = |start: &Timestamp| start.saturating_sub(WINDOW_MS);
        self.windows.keys().copied().chain(self.edges.keys().map(before)).collect()
    }

    pub(crate) fn has_blocks_at(&self, start: Timestamp) -> bool {
        self.windows.contains_key(&start)
    }

    pub(crate) fn is_in_memory(&self, start: Timestamp) -> bool {
        self.in_memory.contains(&start)
    }

    /// Whether a deletion hides samples that the rows may sum up.
    pub(crate) fn is_hidden(&self, built: &BuiltSpan) -> bool {
        self.tombstones.iter().any(|tombstone| built.is_touched_by(tombstone))
    }

    /// Whether the rows sum up what is in blocks.
    pub(crate) fn is_built(&self, built: &BuiltSpan) -> bool {
        let later = |known: &HashMap<_, Lsn>, start| {
            known.get(&start).is_some_and(|lsn| *lsn > built.source_lsn)
        };
        !later(&self.windows, built.start_ms)
            && !later(&self.edges, built.span().end)
            && !self.is_hidden(built)
    }

    /// Whether the rows sum up what is in blocks and in memory.
    pub(crate) fn is_clean(&self, built: &BuiltSpan) -> bool {
        self.is_built(built)
            && !self.in_memory.contains(&built.start_ms)
            && !self.edges_in_memory.contains(&built.span().end)
    }
}

fn raise(known: &mut HashMap<Timestamp, Lsn>, start: Timestamp, lsn: Lsn) {
    if lsn > 0 {
        let last = known.entry(start).or_default();
        *last = (*last).max(lsn);
    }
}
