//! The engine: log, memtables, blocks, manifest, and what keeps them in order.

pub mod error;
pub mod part;
pub mod snapshot;

pub use error::StorageError;
pub use part::{Part, PartSeries, ReadStats, SeriesReader};
pub use snapshot::{SelectedSeries, Snapshot, SnapshotReader};
