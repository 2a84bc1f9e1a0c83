//! Rollups: what raw samples are summed up to, as Parquet in an object store.
//!
//! The write walk ends here: blocks → rows of one minute, five minutes, one hour → files, named
//! by `_manifest.json`. The read walk begins here beside the blocks: a [`RollupView`] goes with
//! every snapshot.
//!
//! Invariant: `_manifest.json` is the only truth of which files exist; files never change once it
//! names them, and no two of them hold the same (series, bucket).
//! Invariant: whether rows are still right is derived from the log sequence numbers of blocks,
//! never stored.

mod build;
mod file;
mod fresh;
mod local;
mod location;
mod manifest;
mod merge;
mod plan;
mod prune;
mod read;
mod service;
mod set;
mod status;
mod upload;
mod view;
mod worker;

pub use file::RollupFile;
pub use status::{
    DownsampleProgress, DownsampleReport, ResolutionStatus, RollupStatus, RunningStatus,
};
pub use view::{RollupBatch, RollupView};

pub(crate) use plan::day_start;
pub(crate) use service::Rollups;
pub(crate) use set::RollupSet;
