//! What the manifest's edits add up to.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Timestamp;
use crate::storage::manifest::{BlockMeta, Item};
use crate::storage::tombstone::Tombstone;

/// Everything that exists, as the manifest knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ManifestState {
    /// By id; the quarantined ones too.
    pub blocks: BTreeMap<u64, BlockMeta>,
    /// Why some of the blocks are not served.
    pub quarantined: BTreeMap<u64, String>,
    pub series_files: BTreeSet<u64>,
    /// By id, which is the order in which they came.
    pub tombstones: BTreeMap<u64, Tombstone>,
    /// Samples before it are past their retention; `None` if none ever was.
    pub raw_floor: Option<Timestamp>,
    /// Everything in the log up to here is in blocks.
    pub flushed_lsn: u64,
    /// No series id below it may be given again.
    pub next_series_id: u64,
    /// No file id below it may be given again.
    pub next_file_id: u64,
}

impl ManifestState {
    /// The state after `item`; an item that does not fit is a damaged or foreign manifest.
    pub(super) fn apply(&mut self, item: &Item) -> Result<(), String> {
        match item {
            Item::AddBlock(block) => {
                self.next_file_id = self.next_file_id.max(block.id.saturating_add(1));
                if self.blocks.insert(block.id, block.clone()).is_some() {
                    return Err(format!("block {} is added twice", block.id));
                }
            }
            Item::RemoveBlock { id } => {
                self.quarantined.remove(id);
                if self.blocks.remove(id).is_none() {
                    return Err(format!("block {id} is removed but was not there"));
                }
            }
            Item::QuarantineBlock { id, reason } => {
                if !self.blocks.contains_key(id) {
                    return Err(format!("block {id} is quarantined but was not there"));
                }
                self.quarantined.insert(*id, reason.clone());
            }
            Item::Flushed { lsn, next_series_id } => {
                if *lsn < self.flushed_lsn || *next_series_id < self.next_series_id {
                    return Err(format!("flushed to {lsn} after {}", self.flushed_lsn));
                }
                self.flushed_lsn = *lsn;
                self.next_series_id = *next_series_id;
            }
            Item::AddSeriesFile { id } => {
                self.next_file_id = self.next_file_id.max(id.saturating_add(1));
                if !self.series_files.insert(*id) {
                    return Err(format!("series file {id} is added twice"));
                }
            }
            Item::RemoveSeriesFile { id } => {
                if !self.series_files.remove(id) {
                    return Err(format!("series file {id} is removed but was not there"));
                }
            }
            Item::AddTombstone(tombstone) => {
                let id = tombstone.id;
                self.next_file_id = self.next_file_id.max(id.saturating_add(1));
                if self.tombstones.insert(id, tombstone.clone()).is_some() {
                    return Err(format!("tombstone {id} is added twice"));
                }
            }
            Item::RemoveTombstone { id } => {
                if self.tombstones.remove(id).is_none() {
                    return Err(format!("tombstone {id} is removed but was not there"));
                }
            }
            // Never back: what was out of sight must not come back.
            Item::RawFloor { before_ms } => self.raw_floor = self.raw_floor.max(Some(*before_ms)),
            Item::NextFile { id } => self.next_file_id = self.next_file_id.max(*id),
        }
        Ok(())
    }

    /// The items that lead from nothing to this state.
    pub(super) fn items(&self) -> Vec<Item> {
        let blocks = self.blocks.values().cloned().map(Item::AddBlock);
        let quarantined = self
            .quarantined
            .iter()
            .map(|(id, reason)| Item::QuarantineBlock { id: *id, reason: reason.clone() });
        let series = self.series_files.iter().map(|id| Item::AddSeriesFile { id: *id });
        let tombstones = self.tombstones.values().cloned().map(Item::AddTombstone);
        let marks = [
            Item::Flushed { lsn: self.flushed_lsn, next_series_id: self.next_series_id },
            Item::NextFile { id: self.next_file_id },
        ];
        let floor = self.raw_floor.map(|before_ms| Item::RawFloor { before_ms });
        let blocks = blocks.chain(quarantined);
        blocks.chain(series).chain(tombstones).chain(floor).chain(marks).collect()
    }
}
