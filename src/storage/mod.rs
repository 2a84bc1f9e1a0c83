//! The engine: log, memtables, blocks, manifest, and what keeps them in order.

mod background;
mod block_part;
mod blocks;
pub mod checkpoint;
mod compact;
pub mod delete;
mod downsample;
pub mod engine;
pub mod error;
mod flush;
mod handles;
mod layout;
pub mod manifest;
pub mod memtable;
pub mod metadata;
pub mod options;
pub mod part;
pub mod plan;
mod recovery;
mod retention;
pub mod rollup;
pub mod salvage;
pub mod series;
mod series_file;
pub mod snapshot;
mod state;
pub mod status;
mod store;
mod sweep;
pub mod tombstone;
pub mod vfs;
pub mod wal;

pub use checkpoint::Head;
pub use delete::{Deletion, DeletionCount};
pub use engine::Engine;
pub use error::StorageError;
pub use metadata::MetadataStore;
pub use options::{GivenStore, StorageOptions, WalSync};
pub use part::{Part, PartSeries, ReadStats, SeriesReader};
pub use plan::{Levels, Retention};
pub use rollup::{
    DownsampleProgress, DownsampleReport, ResolutionStatus, RollupBatch, RollupFile, RollupStatus,
    RollupView, RunningStatus,
};
pub use salvage::{Salvage, SalvageReport, salvage};
pub use snapshot::{SelectedSeries, Snapshot, SnapshotReader};
pub use status::{
    BlockStatus, CompactReport, CompactionStatus, EngineStatus, FlushReport, HeadStatus,
    LevelStatus, MergeReport, QuarantinedBlock, RecoveryReport, ReplayProgress, RetentionStatus,
    RunningMerge, WalStatus,
};
pub use tombstone::Tombstone;
