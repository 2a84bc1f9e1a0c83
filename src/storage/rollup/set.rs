//! The rollups of one state of the store: live files, columns, and where they lie.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;

use crate::columnar::parquet::LabelColumns;
use crate::storage::rollup::file::{BuiltSpan, FooterRoom, RollupFile};
use crate::storage::rollup::plan::Floors;

/// What `_manifest.json` said at one moment.
#[derive(Debug)]
pub(crate) struct RollupSet {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) root: Path,
    pub(crate) footers: Arc<FooterRoom>,
    pub(crate) labels: LabelColumns,
    /// Ascending by time within each resolution.
    pub(crate) files: Vec<Arc<RollupFile>>,
    /// Spans that were looked at and had no samples to sum up, so that no file has them.
    pub(crate) empty: Vec<BuiltSpan>,
    /// What retention has dropped, as the manifest remembers it.
    pub(crate) floors: Floors,
}
