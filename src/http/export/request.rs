//! What an export is asked for.

use axum::http::HeaderMap;

use crate::http::error::ApiError;
use crate::http::export::format::ExportFormat;
use crate::http::params::{Params, named_selectors};
use crate::model::{Matcher, Resolution, TimeRange};

/// Samples of one JSON line, unless the client says otherwise.
const ROWS_PER_LINE_MAX: usize = 10_000;

/// The parameters of one export.
#[derive(Debug, Clone)]
pub(super) struct ExportRequest {
    /// Series that match one of these.
    pub(super) selectors: Vec<Vec<Matcher>>,
    /// `None` if no time lies between `start` and `end`.
    pub(super) range: Option<TimeRange>,
    /// `None` is raw samples.
    pub(super) resolution: Option<Resolution>,
    pub(super) format: ExportFormat,
    pub(super) rows_per_line_max: usize,
}

impl ExportRequest {
    pub(super) fn parse(params: &Params, headers: &HeaderMap) -> Result<Self, ApiError> {
        let resolution = match params.get("resolution") {
            "" | "raw" => None,
            name => Some(name.parse().map_err(|_| {
                let reason = format!("{name:?} is not raw, 1m, 5m or 1h");
                ApiError::invalid_parameter("resolution", reason)
            })?),
        };
        let format = ExportFormat::negotiate(params.get("format"), headers)?;
        if let (Some(resolution), ExportFormat::OpenMetrics) = (resolution, format) {
            let reason = format!("openmetrics holds samples, not {resolution} rollups");
            return Err(ApiError::invalid_parameter("format", reason));
        }
        let rows_per_line = params.integer("max_rows_per_line")?.unwrap_or(0);
        let rows_per_line = usize::try_from(rows_per_line).map_err(|_| {
            ApiError::invalid_parameter("max_rows_per_line", "must be non-negative")
        })?;
        let mut selectors = named_selectors(params)?;
        if selectors.is_empty() {
            selectors.push(Vec::new());
        }
        Ok(Self {
            selectors,
            range: params.range()?,
            resolution,
            format,
            rows_per_line_max: if rows_per_line == 0 { ROWS_PER_LINE_MAX } else { rows_per_line },
        })
    }
}
