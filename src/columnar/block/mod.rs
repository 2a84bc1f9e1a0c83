//! Block files: one time window of many series, immutable, small, checked.
//!
//! [`BlockWriter`] turns ordered Arrow batches into a file's bytes, front to back; [`BlockReader`]
//! opens one over a [`BlockSource`], answers what series there are, and gives a [`BlockCursor`]
//! for their samples. The picture of the bytes is in `format` and nowhere else.
//!
//! Invariant: series have local numbers 0, 1, 2 … in label order.
//! Invariant: a chunk holds one series' samples, strictly ascending in time; a series' chunks
//! follow each other and do not overlap.
//! Invariant: nothing is decoded before the checksum of its page was compared.

mod cache;
mod cursor;
mod dictionary;
mod directory;
mod format;
mod index;
mod page;
mod reader;
mod series;
mod summary;
mod times;
mod values;
mod writer;

pub use cache::BlockCache;
pub use cursor::{BlockCursor, BlockScan, ChunkView, CursorStats, Settle};
pub use format::{BlockHeader, BlockSummary};
pub use page::BlockSource;
pub use reader::BlockReader;
pub use summary::{ChunkSummary, Resets};
pub use writer::{BlockOptions, BlockWriter};

#[cfg(test)]
mod tests;
