//! Rollups as the engine's callers see them: built on request, dropped by retention.

use std::sync::Arc;

use crate::model::{Resolution, Timestamp};
use crate::storage::engine::Engine;
use crate::storage::error::StorageError;
use crate::storage::rollup::{DownsampleProgress, DownsampleReport, RollupStatus};

impl Engine {
    /// Flushes, and sums up everything that is in blocks; returns when that is durable.
    pub async fn downsample(
        &self,
        progress: Arc<DownsampleProgress>,
    ) -> Result<DownsampleReport, StorageError> {
        let rollups = self.rollups().ok_or(StorageError::RollupsOff)?;
        self.flush().await?;
        rollups.build(progress).await
    }

    /// What the rollups cost and how far they are; `None` if they are off.
    pub fn rollup_status(&self) -> Option<RollupStatus> {
        self.rollups().map(|rollups| rollups.status())
    }

    /// Lets rollup rows go whose bucket ends at or before `before`, in whole windows of two hours.
    /// Returns at once; soon after nobody sees them, and files that have no others are dropped.
    pub fn drop_rollups_before(&self, resolution: Resolution, before: Timestamp) {
        if let Some(rollups) = self.rollups() {
            rollups.drop_before(resolution, before);
        }
    }

    /// To be told before raw samples before `before` are dropped, so that rows which sum them up
    /// are not built anew from what is left.
    pub fn raw_expires(&self, before: Timestamp) {
        if let Some(rollups) = self.rollups() {
            rollups.raw_expires(before);
        }
    }
}
