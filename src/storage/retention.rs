//! Retention: what is past its time, or more than there may be, goes by whole files.
//!
//! Samples never go before the rollups that are to outlive them: a block stays until every rollup
//! that is kept longer is built from it and durable, however long that takes.
//!
//! What a crash leaves: before the manifest's edit nothing has happened, after it files that no
//! manifest names, which the next start removes.

use std::sync::Arc;

use crate::model::Resolution;
use crate::storage::block_part::BlockPart;
use crate::storage::engine::Engine;
use crate::storage::error::StorageError;
use crate::storage::manifest::Item;
use crate::storage::part::Part;
use crate::storage::plan::{Group, groups, is_covered, surplus};
use crate::storage::state::State;
use crate::storage::store::Store;

impl Engine {
    /// Drops what is past its retention, or over its bound.
    pub(crate) fn drop_expired(&self) -> Result<(), StorageError> {
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
        let (leaving, waiting) = self.ready(&state, &groups[..count], now_ms);
        drop_groups(store, &state, leaving)?;
        let mut status = self.retention.lock();
        status.waiting = waiting;
        for group in leaving {
            status.blocks += group.ids.len() as u64;
            status.samples += group.samples;
            status.bytes += group.bytes;
        }
        Ok(())
    }

    /// The groups, oldest first, that may go now, and what the next one waits for.
    fn ready<'a>(
        &self,
        state: &Arc<State>,
        groups: &'a [Group],
        now_ms: i64,
    ) -> (&'a [Group], Option<String>) {
        let Some(rollups) = state.snapshot().rollups().cloned() else { return (groups, None) };
        if groups.is_empty() {
            return (groups, None);
        }
        let clean = Resolution::ALL.map(|resolution| (resolution, rollups.clean(resolution)));
        for (index, group) in groups.iter().enumerate() {
            let blocks: Vec<_> =
                blocks_of(state, group).filter(|block| block.damage().is_none()).collect();
            for (resolution, spans) in &clean {
                let kept_ms = self.store.options.retention.rollup_ms(*resolution);
                let is_kept = |kept_ms| group.range.end() >= now_ms.saturating_sub(kept_ms);
                // What is past the rollups' own time need not be in them.
                if !kept_ms.is_none_or(is_kept) {
                    continue;
                }
                if let Some(block) = blocks.iter().find(|block| !is_covered(block.meta(), spans)) {
                    let reason = format!("{} is not in the {resolution} rollups yet", block.name());
                    return (&groups[..index], Some(reason));
                }
            }
        }
        (groups, None)
    }
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
