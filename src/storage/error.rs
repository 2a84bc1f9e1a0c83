//! What can go wrong below the query engine, sorted by whose fault it is.

use std::io;
use std::path::PathBuf;

/// Whose fault an error is; `http` turns it into a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request asked for something that cannot be.
    Caller,
    /// Bytes on disk are not what was written.
    Data,
    /// Disk, memory or a limit is used up; may pass.
    Resources,
    /// A mistake of our own.
    Internal,
}

/// An error of the storage engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    /// Damage, found by a checksum or a bound.
    #[error("{path} is damaged at offset {offset}: {reason}", path = path.display())]
    Corrupt { path: PathBuf, offset: u64, reason: String },
    /// The disk is full: queries go on, writes wait.
    #[error("read-only: {0}")]
    ReadOnly(String),
    #[error("the write-ahead log failed and takes no more writes until a restart: {0}")]
    WalPoisoned(String),
    #[error("limit {limit} reached ({setting} = {value})")]
    LimitReached { limit: &'static str, setting: &'static str, value: u64 },
    #[error("the data directory {path} is in use by another process ({holder})", path = path.display())]
    Locked { path: PathBuf, holder: String },
    #[error("shutting down")]
    ShuttingDown,
    #[error(
        "the rollups in {place} belong to database {owner}, not to this one ({us}): choose another --rollup-url"
    )]
    ForeignRollups { place: String, owner: uuid::Uuid, us: uuid::Uuid },
    #[error("invalid value '{url}' for '--rollup-url': {reason}")]
    RollupUrl { url: String, reason: String },
    #[error("rollups are off (--rollups=off)")]
    RollupsOff,
    /// The object store of the rollups did not do what it was asked.
    #[error("object store: {source}")]
    ObjectStore { source: object_store::Error },
    #[error("internal error: {0}")]
    Internal(String),
}

impl StorageError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            StorageError::Corrupt { .. } => ErrorKind::Data,
            StorageError::Internal(_) => ErrorKind::Internal,
            StorageError::ForeignRollups { .. }
            | StorageError::Locked { .. }
            | StorageError::RollupUrl { .. }
            | StorageError::RollupsOff => ErrorKind::Caller,
            StorageError::Io { .. }
            | StorageError::ReadOnly(_)
            | StorageError::WalPoisoned(_)
            | StorageError::LimitReached { .. }
            | StorageError::ObjectStore { .. }
            | StorageError::ShuttingDown => ErrorKind::Resources,
        }
    }

    /// A file or directory is not there.
    pub fn is_not_found(&self) -> bool {
        self.io_kind() == Some(io::ErrorKind::NotFound)
    }

    /// The disk, or our part of it, is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self.io_kind(), Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            StorageError::Io { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
}

impl From<StorageError> for io::Error {
    fn from(error: StorageError) -> Self {
        let kind = error.io_kind().unwrap_or(io::ErrorKind::Other);
        io::Error::new(kind, error)
    }
}
