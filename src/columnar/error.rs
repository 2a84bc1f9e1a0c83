//! What can go wrong between Arrow batches and bytes.

use std::io;

use crate::columnar::codec::CodecError;

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The bytes are not what was written.
    Data,
    /// The source or sink below failed.
    Resources,
    /// We handed over what breaks our own rules.
    Internal,
}

/// An error of this folder. Offsets count from the start of the block; storage adds the path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ColumnarError {
    #[error("damaged at offset {offset}: {reason}")]
    Corrupt { offset: u64, reason: String },
    #[error("block format version {found} is newer than {known}, the newest this program reads")]
    UnknownVersion { found: u32, known: u32 },
    #[error("reading {len} bytes at offset {offset}: {source}")]
    Read { offset: u64, len: u64, source: io::Error },
    #[error("writing a block: {0}")]
    Write(#[source] io::Error),
    /// A batch out of order, of another schema, or of an unknown series.
    #[error("invalid batch: {0}")]
    InvalidBatch(String),
}

impl ColumnarError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            ColumnarError::Corrupt { .. } | ColumnarError::UnknownVersion { .. } => ErrorKind::Data,
            ColumnarError::Read { .. } | ColumnarError::Write(_) => ErrorKind::Resources,
            ColumnarError::InvalidBatch(_) => ErrorKind::Internal,
        }
    }

    pub(crate) fn corrupt(offset: u64, reason: impl Into<String>) -> Self {
        ColumnarError::Corrupt { offset, reason: reason.into() }
    }

    /// A codec's complaint about bytes of the page at `offset`.
    pub(crate) fn codec(offset: u64) -> impl Fn(CodecError) -> Self {
        move |error| Self::corrupt(offset, error.to_string())
    }
}
