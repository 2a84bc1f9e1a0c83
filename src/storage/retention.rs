//! Retention: what is past its time, or more than there may be, goes by whole files.
//!
//! Samples never go before the rollups that are to outlive them: a block stays until every rollup
//! that is kept longer is built from it and durable, however long that takes.
//!
//! What a crash leaves: before the manifest's edit nothing has happened, after it files that no
//! manifest names, which the next start removes.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{Resolution, Span};
use crate::storage::block_part::BlockPart;
use crate::storage::engine::Engine;
use crate::storage::error::StorageError;
use crate::storage::manifest::Item;
use crate::storage::plan::{Group, groups, is_covered, surplus, window_start};
use crate::storage::state::State;
use crate::storage::store::Store;

/// How long somebody who waits does so for the rollups' manifest; the background goes on.
const TOLD_LOOKS_MAX: usize = 100;
const TOLD_PAUSE: Duration = Duration::from_millis(50);

/// What became of an attempt to drop what is past its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// Nothing is left that should go.
    Done,
    /// The rollups' manifest has to say first that samples go; ask again soon.
    Told,
    /// Samples stay until rollups of this resolution have them.
    NotIn(Resolution),
    /// Nobody knows what rollups there are.
    Unreachable,
}

impl Expiry {
    fn reason(self) -> Option<String> {
        match self {
            Self::Done => None,
            Self::Told => Some("the rollups are being told of it".to_owned()),
            Self::NotIn(resolution) => {
                Some(format!("samples are not in the {resolution} rollups yet"))
            }
            Self::Unreachable => Some("the rollups cannot be reached".to_owned()),
        }
    }
}

impl Engine {
    /// Drops what is past its retention, or over its bound.
    pub(crate) fn drop_expired(&self) -> Result<Expiry, StorageError> {
        let store = &self.store;
        let (retention, bytes_max) = (store.options.retention, store.options.retention_bytes);
        let now_ms = store.clock.now_ms();
        let before = |kept_ms: i64| now_ms.saturating_sub(kept_ms);
        // No merge has one of the blocks as its source meanwhile.
        let _alone = self.compactor.alone();
        let state = store.state.load();
        let groups = groups(state.blocks.iter().map(|block| block.meta()));
        let bytes_max = (bytes_max > 0).then_some(bytes_max);
        let count = surplus(&groups, retention.raw_ms.map(before), bytes_max);
        let (leaving, expiry) = self.ready(&state, &groups[..count], now_ms);
        self.drop_rollups(now_ms);
        drop_groups(store, &state, leaving)?;
        let mut status = self.retention.lock();
        status.waiting = expiry.reason();
        for group in leaving {
            status.blocks += group.ids.len() as u64;
            status.samples += group.samples;
            status.bytes += group.bytes;
        }
        Ok(expiry)
    }

    /// The same for somebody who waits: until the rollups have been told, but not for long.
    pub(crate) fn drop_expired_soon(&self) -> Result<(), StorageError> {
        for _ in 0..TOLD_LOOKS_MAX {
            self.check_open()?;
            if self.drop_expired()? != Expiry::Told {
                break;
            }
            std::thread::sleep(TOLD_PAUSE);
        }
        Ok(())
    }

    /// The groups, oldest first, that may go now, and what the next one waits for.
    fn ready<'a>(
        &self,
        state: &Arc<State>,
        groups: &'a [Group],
        now_ms: i64,
    ) -> (&'a [Group], Expiry) {
        let Some(rollups) = self.rollups().filter(|_| !groups.is_empty()) else {
            return (groups, Expiry::Done);
        };
        let Some(view) = state.snapshot().rollups().cloned() else {
            return (&[], Expiry::Unreachable);
        };
        let settled = Resolution::ALL.map(|resolution| (resolution, view.settled(resolution)));
        let waits = |group: &Group| {
            let uncovered = settled
                .iter()
                .filter(|(resolution, _)| self.outlives(*resolution, group, now_ms))
                .find(|(_, spans)| !blocks_of(state, group).all(|block| may_go(block, spans)));
            uncovered.map(|(resolution, _)| *resolution)
        };
        let waiting = groups
            .iter()
            .enumerate()
            .find_map(|(index, group)| waits(group).map(|resolution| (index, resolution)));
        let (ready, expiry) = match waiting {
            Some((index, resolution)) => (&groups[..index], Expiry::NotIn(resolution)),
            None => (groups, Expiry::Done),
        };
        // Once a part of a span's samples is gone, its rows must never be built from the rest. The
        // rollups' manifest has to know it first.
        if let Some(last) = ready.last() {
            let floor = last.window.end().saturating_add(1);
            if view.raw_floor().is_none_or(|known| known < floor) {
                rollups.raw_expires(floor);
                return (&[], Expiry::Told);
            }
        }
        (ready, expiry)
    }

    /// Whether rollups of the group's samples are to be there when the samples have gone.
    fn outlives(&self, resolution: Resolution, group: &Group, now_ms: i64) -> bool {
        let kept_ms = self.store.options.retention.rollup_ms(resolution);
        kept_ms.is_none_or(|kept_ms| group.range.end() >= now_ms.saturating_sub(kept_ms))
    }

    fn drop_rollups(&self, now_ms: i64) {
        let Some(rollups) = self.rollups() else { return };
        for resolution in Resolution::ALL {
            if let Some(kept_ms) = self.store.options.retention.rollup_ms(resolution) {
                // Whole spans go, so there is no need to be told of every moment.
                rollups.drop_before(resolution, window_start(now_ms.saturating_sub(kept_ms)));
            }
        }
    }
}

/// A damaged block has nothing to give to rollups.
fn may_go(block: &BlockPart, spans: &[Span]) -> bool {
    block.damage().is_some() || is_covered(block.meta(), spans)
}

fn blocks_of<'a>(state: &'a State, group: &Group) -> impl Iterator<Item = &'a Arc<BlockPart>> {
    state.blocks.iter().filter(|block| group.ids.contains(&block.meta().id))
}

/// Takes the groups' blocks out of the manifest. Their files go with their last readers.
fn drop_groups(store: &Store, state: &State, groups: &[Group]) -> Result<(), StorageError> {
    let leaving: Vec<&Arc<BlockPart>> =
        groups.iter().flat_map(|group| blocks_of(state, group)).collect();
    if leaving.is_empty() {
        return Ok(());
    }
    let items: Vec<Item> =
        leaving.iter().map(|block| Item::RemoveBlock { id: block.meta().id }).collect();
    store.manifest.lock().commit(&items)?;
    store.state.change(|state| {
        state.blocks.retain(|block| !leaving.iter().any(|leaving| Arc::ptr_eq(leaving, block)));
    });
    leaving.iter().for_each(|block| block.make_obsolete());
    store.telemetry.blocks_expired.add(leaving.len() as u64);
    for group in groups {
        tracing::info!(
            blocks = group.ids.len(),
            samples = group.samples,
            bytes = group.bytes,
            first_ms = group.range.start(),
            last_ms = group.range.end(),
            "dropped by retention"
        );
    }
    Ok(())
}
