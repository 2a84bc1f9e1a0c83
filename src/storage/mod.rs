//! The engine: log, memtables, blocks, manifest, and what keeps them in order.

pub mod engine;
pub mod error;
pub mod manifest;
pub mod memtable;
pub mod metadata;
pub mod options;
pub mod part;
pub mod plan;
pub mod series;
pub mod snapshot;
pub mod status;
pub mod vfs;
pub mod wal;

pub use engine::Engine;
pub use error::StorageError;
pub use metadata::MetadataStore;
pub use options::{StorageOptions, WalSync};
pub use part::{Part, PartSeries, ReadStats, SeriesReader};
pub use snapshot::{SelectedSeries, Snapshot, SnapshotReader};
pub use status::{
    BlockStatus, EngineStatus, FlushReport, HeadStatus, QuarantinedBlock, RecoveryReport,
    ReplayProgress, WalStatus,
};
