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

mod file;
mod fresh;
mod prune;
mod read;
mod set;
mod view;

pub use file::RollupFile;
pub use view::{RollupBatch, RollupView};

pub(crate) use set::RollupSet;
