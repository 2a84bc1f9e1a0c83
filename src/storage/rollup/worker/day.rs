//! Puts the files of a day together: those that stay, those that are new, and the one that takes
//! the place of several.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::path::Path;

use crate::model::{Resolution, Timestamp};
use crate::storage::error::StorageError;
use crate::storage::rollup::build::file_path;
use crate::storage::rollup::file::{BuiltSpan, FileFacts, RollupFile};
use crate::storage::rollup::merge::{Piece, merge};
use crate::storage::rollup::plan::Job;
use crate::storage::rollup::set::RollupSet;
use crate::storage::rollup::upload::{Target, below};
use crate::storage::rollup::worker::Next;
use crate::storage::state::State;

/// The files of one day at one resolution, about to be put together.
pub(super) struct Day<'a> {
    pub(super) job: &'a Job,
    pub(super) resolution: Resolution,
    pub(super) built: &'a BTreeMap<Timestamp, BuiltSpan>,
    pub(super) state: &'a State,
}

impl Day<'_> {
    /// Decides which files the day has from now on, and writes the one that takes the others'
    /// place if one is needed.
    pub(super) fn assemble<'f>(
        &self,
        target: &Target,
        set: &Arc<RollupSet>,
        old: impl Iterator<Item = &'f Arc<RollupFile>>,
        new: impl Iterator<Item = &'f FileFacts>,
        next: &mut Next,
        doubtful: &mut Vec<Path>,
    ) -> Result<(), StorageError> {
        let (mut whole, mut cut) = (Vec::new(), false);
        let mut pieces: Vec<Piece> = Vec::new();
        for file in old {
            let spans = file.facts().spans.iter();
            let kept: Vec<_> =
                spans.filter(|span| !self.built.contains_key(&span.start_ms)).copied().collect();
            let is_whole = kept.len() == file.facts().spans.len();
            cut |= !is_whole && !kept.is_empty();
            cut |= kept.iter().any(|span| self.job.filter.contains(&span.start_ms));
            if is_whole {
                whole.push(Arc::clone(file));
            }
            if !kept.is_empty() {
                pieces.push(Piece { file: Arc::clone(file), spans: kept });
            }
        }
        let new: Vec<&FileFacts> = new.collect();
        let many = self.job.merge && pieces.len() + new.len() > 1;
        if !cut && !many {
            next.kept.extend(whole);
            next.added.extend(new.into_iter().cloned());
            return Ok(());
        }
        for facts in new {
            let file = RollupFile::new(facts.clone(), self.resolution, &target.root);
            pieces.push(Piece { file: Arc::new(file), spans: facts.spans.clone() });
        }
        let hidden: Vec<_> =
            if self.job.filter.is_empty() { Vec::new() } else { self.state.tombstones.clone() };
        let cleaned = hidden.iter().map(|tombstone| tombstone.id).max().unwrap_or(0);
        for span in pieces.iter_mut().flat_map(|piece| &mut piece.spans) {
            if self.job.filter.contains(&span.start_ms) {
                span.cleaned = span.cleaned.max(cleaned);
            }
        }
        let path = file_path(self.resolution, self.job.day);
        doubtful.push(below(&target.root, &path));
        let merged = merge(target, set, &pieces, &hidden, self.resolution, path)?;
        next.added.extend(merged);
        Ok(())
    }
}
