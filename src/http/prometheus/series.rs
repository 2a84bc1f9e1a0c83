//! Listings: series, label names, label values.
//!
//! Series whose raw samples have expired are listed too, as long as rollups have them: a
//! dashboard's variables go on working where its queries do.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;

use crate::http::error::ApiError;
use crate::http::json;
use crate::http::params::{Params, named_selectors, selectors};
use crate::http::prometheus::result::TRUNCATED;
use crate::http::respond;
use crate::http::service::{Ready, Service};
use crate::model::{Labels, Matcher, Resolution, Span, TimeRange};
use crate::query::rollup_scan::add_expired_series;
use crate::query::{QueryError, SourceResolution};
use crate::storage::{SelectedSeries, Snapshot, StorageError};

/// What a listing answers: items in order, and whether `limit` cut some.
struct Listing<T> {
    items: Vec<T>,
    truncated: bool,
    warnings: Vec<String>,
}

impl<T> Listing<T> {
    fn new(
        mut items: Vec<T>,
        limit: Option<usize>,
        snapshot: &Snapshot,
        missing: Option<String>,
    ) -> Self {
        let truncated = limit.is_some_and(|limit| items.len() > limit);
        items.truncate(limit.unwrap_or(usize::MAX));
        let mut warnings = snapshot.warnings().to_vec();
        warnings.extend(missing);
        if truncated {
            warnings.push(TRUNCATED.to_owned());
        }
        Self { items, truncated, warnings }
    }
}

/// `GET|POST /api/v1/series`. Without `match[]` it lists all series, as many as `limit` says or
/// `--series-listed-max` allows.
pub(crate) async fn series(
    State(service): State<Arc<Service>>,
    Ready(engine): Ready,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let range = params.range()?;
    let mut selectors = named_selectors(&params)?;
    let listed_max = service.options.series_listed_max;
    let (limit, bounded) = match limit {
        None if selectors.is_empty() => (Some(listed_max), true),
        limit => (limit, false),
    };
    if selectors.is_empty() {
        selectors.push(Vec::new());
    }
    let snapshot = engine.snapshot();
    list(&service, headers, async move {
        let (mut found, mut missing) = (Vec::new(), None);
        if let Some(range) = range {
            for matchers in &selectors {
                let mut selected = snapshot.select(matchers, range).map_err(QueryError::from)?;
                missing = add_expired(&snapshot, matchers, range, &mut selected).await.or(missing);
                found.extend(selected.into_iter().map(|series| series.labels));
            }
        }
        found.sort_by_cached_key(Labels::prometheus_key);
        found.dedup();
        let mut listing = Listing::new(found, limit, &snapshot, missing);
        if bounded && listing.truncated {
            listing.warnings.push(format!(
                "only the first {listed_max} series are listed: add match[] or limit \
                 (setting --series-listed-max)"
            ));
        }
        let push = |out: &mut Vec<u8>| json::push_array(out, &listing.items, json::push_labels);
        Ok(respond::success_body(push, &listing.warnings, &[]))
    })
    .await
}

/// `GET|POST /api/v1/labels`.
pub(crate) async fn label_names(
    State(service): State<Arc<Service>>,
    Ready(engine): Ready,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let find =
        |snapshot: &Snapshot, matchers: &[Matcher], range| snapshot.label_names(matchers, range);
    let of_series = |labels: &Labels, found: &mut BTreeSet<String>| {
        found.extend(labels.iter().map(|(name, _)| name.to_owned()));
    };
    names(&service, &engine.snapshot(), headers, &params, find, of_series).await
}

/// `GET /api/v1/label/<name>/values`; a name that does not fit into an address is written `U__…`.
pub(crate) async fn label_values(
    State(service): State<Arc<Service>>,
    Ready(engine): Ready,
    Path(name): Path<String>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let label = unescape(&name)
        .filter(|label| !label.is_empty())
        .ok_or_else(|| ApiError::bad_data(format!("invalid label name: {name:?}")))?;
    let find = {
        let label = label.clone();
        move |snapshot: &Snapshot, matchers: &[Matcher], range| {
            snapshot.label_values(&label, matchers, range)
        }
    };
    let of_series = move |labels: &Labels, found: &mut BTreeSet<String>| {
        found.extend(labels.get(&label).map(str::to_owned));
    };
    names(&service, &engine.snapshot(), headers, &params, find, of_series).await
}

/// The union of what `find` gives for each selector, and of what `of_series` takes from series
/// that only rollups still know; sorted.
async fn names(
    service: &Service,
    snapshot: &Snapshot,
    headers: HeaderMap,
    params: &Params,
    find: impl Fn(&Snapshot, &[Matcher], TimeRange) -> Result<BTreeSet<String>, StorageError>
    + Send
    + Sync
    + 'static,
    of_series: impl Fn(&Labels, &mut BTreeSet<String>) + Send + Sync + 'static,
) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let range = params.range()?;
    let mut selectors = selectors(params).map_err(ApiError::bad_data)?;
    if selectors.is_empty() {
        selectors.push(Vec::new());
    }
    let snapshot = snapshot.clone();
    list(service, headers, async move {
        let (mut found, mut missing) = (BTreeSet::new(), None);
        if let Some(range) = range {
            for matchers in &selectors {
                let names = find(&snapshot, matchers, range).map_err(QueryError::from)?;
                found.extend(names);
                let mut expired = Vec::new();
                missing = add_expired(&snapshot, matchers, range, &mut expired).await.or(missing);
                expired.iter().for_each(|series| of_series(&series.labels, &mut found));
            }
        }
        let listing = Listing::new(found.into_iter().collect(), limit, &snapshot, missing);
        let push = |out: &mut Vec<u8>| json::push_strings(out, &listing.items);
        Ok(respond::success_body(push, &listing.warnings, &[]))
    })
    .await
}

/// Adds series that only rollups still know. Says what is missing if they cannot be read: a
/// failing object store does not hide what raw samples there are.
async fn add_expired(
    snapshot: &Snapshot,
    matchers: &[Matcher],
    range: TimeRange,
    series: &mut Vec<SelectedSeries>,
) -> Option<String> {
    let last = Resolution::OneHour.ms();
    let end = range.end().saturating_add(last - 1).div_euclid(last).saturating_mul(last);
    let span = Span { start: range.start().saturating_sub(1), end };
    let cap = SourceResolution::Auto;
    let added = add_expired_series(snapshot, matchers, cap, span, series).await;
    let error = added.err()?;
    Some(format!("series whose raw samples have expired may be missing: {error}"))
}

/// Runs a listing on the query threads, under their limits.
async fn list(
    service: &Service,
    headers: HeaderMap,
    work: impl Future<Output = Result<Vec<u8>, QueryError>> + Send + 'static,
) -> Result<Response, ApiError> {
    let timeout = service.queries.limits().timeout;
    let ran =
        service.queries.run(timeout, async move { Ok(respond::large_json(&headers, work.await?)) });
    Ok(ran.await?.value)
}

/// Reads Prometheus' escape for names in addresses: `U__`, then `__` for an underscore and
/// `_hex_` for any other character. `None` if it is malformed.
/// Source: prometheus/common/model/metric.go, `UnescapeName`.
fn unescape(name: &str) -> Option<String> {
    let Some(escaped) = name.strip_prefix("U__") else { return Some(name.to_owned()) };
    let mut plain = String::new();
    let mut rest = escaped;
    while let Some((before, behind)) = rest.split_once('_') {
        plain.push_str(before);
        if let Some(behind) = behind.strip_prefix('_') {
            plain.push('_');
            rest = behind;
            continue;
        }
        let (code, behind) = behind.split_once('_')?;
        let code = u32::from_str_radix(code, 16).ok().filter(|_| code.len() <= 6)?;
        plain.push(char::from_u32(code)?);
        rest = behind;
    }
    plain.push_str(rest);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names() {
        for (name, expected) in [
            ("job", Some("job")),
            ("__name__", Some("__name__")),
            ("U__http_2e_status:sum", Some("http.status:sum")),
            ("U__a__b", Some("a_b")),
            ("U___e9_t", Some("ét")),
            ("U__label_20_with_20_spaces", Some("label with spaces")),
            ("U__broken_2e", None),
            ("U__broken_zz_", None),
            ("U___d800_", None),
            ("U___0000002e_", None),
        ] {
            assert_eq!(unescape(name).as_deref(), expected, "{name}");
        }
    }
}
