//! What there is, as the status and the manifest tell it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Resolution, Timestamp};
use crate::storage::rollup::file::RollupFile;
use crate::storage::rollup::fresh::Freshness;
use crate::storage::rollup::plan::{Floors, Situation, Which};
use crate::storage::rollup::status::ResolutionStatus;
use crate::storage::rollup::worker::Worker;
use crate::storage::rollup::worker::build::built;

impl Worker {
    /// What each resolution costs and how far it is.
    pub(crate) fn resolutions(&self) -> BTreeMap<Resolution, ResolutionStatus> {
        let Some(opened) = &self.opened else { return BTreeMap::new() };
        let watermarks = self.watermarks(&opened.files, &opened.floors);
        let mut all = BTreeMap::new();
        for resolution in Resolution::ALL {
            let mut status = ResolutionStatus {
                watermark_ms: watermarks.get(&resolution).copied(),
                ..ResolutionStatus::default()
            };
            for file in opened.files.iter().filter(|file| file.resolution() == resolution) {
                status.files += 1;
                status.rows += file.rows();
                status.bytes += file.bytes();
                status.samples += file.samples();
            }
            all.insert(resolution, status);
        }
        all
    }

    /// Spans that have samples in blocks and no rows that sum them up.
    pub(crate) fn dirty_spans(&self) -> u64 {
        self.jobs(Which::All).iter().map(|job| (job.build.len() + job.filter.len()) as u64).sum()
    }

    /// For each resolution, up to where all rows are right.
    pub(super) fn watermarks(
        &self,
        files: &[Arc<RollupFile>],
        floors: &Floors,
    ) -> BTreeMap<Resolution, Timestamp> {
        let fresh = Freshness::of(&self.store.state.load());
        let built = built(files);
        let situation = Situation {
            now_ms: self.store.clock.now_ms(),
            fresh: &fresh,
            built: &built,
            empty: &self.empty,
            floors,
        };
        let due = situation.due(Which::All).first().copied();
        let mut watermarks = BTreeMap::new();
        for (resolution, spans) in &built {
            if let Some(last) = spans.values().next_back() {
                let end = last.span().end;
                watermarks.insert(*resolution, due.map_or(end, |due| due.min(end)));
            }
        }
        watermarks
    }
}
