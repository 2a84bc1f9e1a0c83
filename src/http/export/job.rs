//! The work of an export: what is selected before the answer begins, and the reading behind it.

use std::io;
use std::sync::atomic::Ordering;

use crate::http::export::raw::RawExport;
use crate::http::export::request::ExportRequest;
use crate::http::export::rollups::RollupExport;
use crate::http::export::running::Progress;
use crate::http::export::stream::ChunkSender;
use crate::query::{QueryError, QueryLimits};
use crate::storage::{Engine, StorageError};

/// Everything that must be known before the first byte.
#[derive(Debug)]
pub(super) enum Plan {
    Raw(RawExport),
    Rollups(RollupExport),
}

impl Plan {
    /// The first pass over what is asked for.
    pub(super) async fn prepare(
        engine: &Engine,
        request: &ExportRequest,
        limits: QueryLimits,
    ) -> Result<Self, QueryError> {
        let snapshot = engine.snapshot();
        let plan = match request.resolution {
            None => Self::Raw(RawExport::select(snapshot, request, engine.metadata())?),
            Some(resolution) => {
                Self::Rollups(RollupExport::select(&snapshot, resolution, request, limits).await?)
            }
        };
        limits.check_series(plan.series_count())?;
        Ok(plan)
    }

    pub(super) fn series_count(&self) -> usize {
        match self {
            Self::Raw(export) => export.series_count(),
            Self::Rollups(export) => export.series_count(),
        }
    }

    /// What is known to be missing before anything is read.
    pub(super) fn warnings(&self) -> Vec<String> {
        match self {
            Self::Raw(export) => export.warnings(),
            Self::Rollups(export) => export.warnings(),
        }
    }

    /// Reads, encodes and sends until all is sent, something breaks, or the client is gone. Takes
    /// a thread that may block.
    pub(super) fn run(self, sink: ChunkSender, progress: &Progress) {
        let sent = match self {
            Self::Raw(export) => export.run(sink, progress),
            Self::Rollups(export) => export.run(sink, progress),
        };
        let rows = progress.rows.load(Ordering::Relaxed);
        match sent {
            Ok(bytes) => tracing::info!(rows, bytes, "exported"),
            Err(Broken::Stream(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                tracing::info!("the client of an export went away");
            }
            Err(error) => tracing::warn!(%error, "an export was broken off"),
        }
    }
}

/// Why an export is not whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Stream(#[from] io::Error),
    /// What a reader would otherwise take for all there is.
    #[error("samples are missing: {0}")]
    Incomplete(String),
}
