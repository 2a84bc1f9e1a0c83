//! Arrow batches to compact bytes and back: codecs and block files.
//!
//! The write walk comes through here twice: the memtable seals its chunks with [`codec`], and flush
//! and compaction hand ordered Arrow batches ([`schema`]) to the block writer. The read walk comes
//! back through the block reader.
//!
//! Pure: bytes in, bytes out. Files, clocks and threads belong to `storage`.
//!
//! Invariant: within a batch rows are ordered by (series, time), and no (series, time) occurs twice.
//! Invariant: every f64 comes back with the bits it had.
//! Invariant: no input makes a decoder panic or allocate more than a checked bound.

pub mod aggregate;
pub mod block;
pub mod codec;
pub mod error;
pub mod parquet;
pub mod schema;
pub mod table;

pub use error::{ColumnarError, ErrorKind};
