//! `_manifest.json`: which rollup files exist, and what their columns mean.
//!
//! ```text
//! {
//!   "format": "aetherdb rollups", "version": 1,
//!   "database": "<uuid>",              whose data it is; nobody else writes here
//!   "buckets": "…",                    how bucket_start and bucket_end are meant
//!   "labels": {"host": "host", …},     label to column
//!   "watermarks": {"1m": 1764000000000, …}   all rows up to here were right when it was written
//!   "dropped_before": {"1m": …}        retention has removed rows up to here,
//!   "raw_dropped_before": …            and raw samples before here
//!   "files": [{"path": "resolution=1m/day=2026-11-25/….parquet", …}]
//! }
//! ```
//!
//! Replaced as a whole, in one step: by a rename in a directory, by a conditional put elsewhere.

use std::collections::BTreeMap;

use object_store::path::Path;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::columnar::parquet::LabelColumns;
use crate::columnar::parquet::columns::ROLLUP_SCHEMA_VERSION;
use crate::model::{Resolution, Timestamp};
use crate::storage::rollup::file::{FileFacts, RollupFile};
use crate::storage::rollup::plan::Floors;

pub(crate) const MANIFEST_NAME: &str = "_manifest.json";
/// Bytes of a manifest; a century of days at three resolutions stays below.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 256 << 20;

const FORMAT: &str = "aetherdb rollups";
const BUCKETS: &str = "a row holds the samples with bucket_start < time <= bucket_end";

/// The manifest's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RollupManifest {
    pub(crate) database: Uuid,
    pub(crate) labels: LabelColumns,
    pub(crate) watermarks: BTreeMap<Resolution, Timestamp>,
    pub(crate) floors: Floors,
    pub(crate) files: Vec<FileFacts>,
}

/// As it is written.
#[derive(Serialize, Deserialize)]
struct Document {
    format: String,
    version: u32,
    database: String,
    buckets: String,
    labels: BTreeMap<String, String>,
    watermarks: BTreeMap<String, Timestamp>,
    #[serde(default)]
    dropped_before: BTreeMap<String, Timestamp>,
    #[serde(default)]
    raw_dropped_before: Option<Timestamp>,
    files: Vec<FileFacts>,
}

impl RollupManifest {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let owned = |(label, column): (&str, &str)| (label.to_owned(), column.to_owned());
        let named = |by: &BTreeMap<Resolution, Timestamp>| {
            by.iter().map(|(of, at)| (of.name().to_owned(), *at)).collect()
        };
        let document = Document {
            format: FORMAT.to_owned(),
            version: ROLLUP_SCHEMA_VERSION,
            database: self.database.to_string(),
            buckets: BUCKETS.to_owned(),
            labels: self.labels.iter().map(owned).collect(),
            watermarks: named(&self.watermarks),
            dropped_before: named(&self.floors.rows),
            raw_dropped_before: self.floors.raw,
            files: self.files.clone(),
        };
        serde_json::to_vec_pretty(&document).expect("keys are strings and nothing else can fail")
    }

    /// Why the bytes are no manifest of ours, in words.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if document.format != FORMAT {
            return Err(format!("its format is {:?}", document.format));
        }
        if document.version > ROLLUP_SCHEMA_VERSION {
            return Err(format!("version {} is newer than this program", document.version));
        }
        let pairs = document.labels.iter().map(|(label, column)| (label.as_str(), column.as_str()));
        let labels = LabelColumns::from_pairs(pairs).ok_or("its label columns contradict")?;
        let by_resolution = |named: BTreeMap<String, Timestamp>| -> Result<_, String> {
            named.into_iter().map(|(name, at)| Ok((resolution(&name)?, at))).collect()
        };
        let watermarks = by_resolution(document.watermarks)?;
        let rows = by_resolution(document.dropped_before)?;
        let floors = Floors { rows, raw: document.raw_dropped_before };
        for file in &document.files {
            resolution(&file.resolution)?;
            if file.spans.is_empty() || !file.spans.is_sorted_by_key(|span| span.start_ms) {
                return Err(format!("{}: its spans do not ascend", file.path));
            }
        }
        let database = Uuid::parse_str(&document.database).map_err(|error| error.to_string())?;
        Ok(Self { database, labels, watermarks, floors, files: document.files })
    }

    /// The files, to be read below `root`.
    pub(crate) fn open_files(&self, root: &Path) -> Vec<RollupFile> {
        let open = |facts: &FileFacts| {
            let resolution = resolution(&facts.resolution).ok()?;
            Some(RollupFile::new(facts.clone(), resolution, root))
        };
        self.files.iter().filter_map(open).collect()
    }
}

fn resolution(name: &str) -> Result<Resolution, String> {
    name.parse().map_err(|error: crate::model::UnknownResolution| error.to_string())
}
