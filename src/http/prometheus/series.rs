//! Listings: series, label names, label values.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;

use crate::http::error::ApiError;
use crate::http::json;
use crate::http::params::{Params, selectors};

use crate::http::prometheus::result::TRUNCATED;
use crate::http::respond;
use crate::http::service::{Ready, Service};
use crate::model::{Labels, Matcher, TimeRange};
use crate::query::QueryError;
use crate::storage::{Snapshot, StorageError};

/// What a listing answers: items in order, and whether `limit` cut some.
struct Listing<T> {
    items: Vec<T>,
    truncated: bool,
    warnings: Vec<String>,
}

impl<T> Listing<T> {
    fn new(mut items: Vec<T>, limit: Option<usize>, snapshot: &Snapshot) -> Self {
        let truncated = limit.is_some_and(|limit| items.len() > limit);
        items.truncate(limit.unwrap_or(usize::MAX));
        let mut warnings = snapshot.warnings().to_vec();
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
    let mut selectors = selectors(&params)?;
    let listed_max = service.options.series_listed_max;
    let (limit, bounded) = match limit {
        None if selectors.is_empty() => (Some(listed_max), true),
        limit => (limit, false),
    };
    if selectors.is_empty() {
        selectors.push(Vec::new());
    }
    let snapshot = engine.snapshot();
    list(&service, headers, move || {
        let mut found = Vec::new();
        if let Some(range) = range {
            for matchers in &selectors {
                let selected = snapshot.select(matchers, range)?;
                found.extend(selected.into_iter().map(|series| series.labels));
            }
        }
        found.sort_by_cached_key(Labels::prometheus_key);
        found.dedup();
        let mut listing = Listing::new(found, limit, &snapshot);
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
    names(&service, &engine.snapshot(), headers, &params, |snapshot, matchers, range| {
        snapshot.label_names(matchers, range)
    })
    .await
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
    names(&service, &engine.snapshot(), headers, &params, move |snapshot, matchers, range| {
        snapshot.label_values(&label, matchers, range)
    })
    .await
}

/// The union of what `find` gives for each selector, sorted.
async fn names(
    service: &Service,
    snapshot: &Snapshot,
    headers: HeaderMap,
    params: &Params,
    find: impl Fn(&Snapshot, &[Matcher], TimeRange) -> Result<BTreeSet<String>, StorageError>
    + Send
    + 'static,
) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let range = params.range()?;
    let mut selectors = selectors(params)?;
    if selectors.is_empty() {
        selectors.push(Vec::new());
    }
    let snapshot = snapshot.clone();
    list(service, headers, move || {
        let mut found = BTreeSet::new();
        if let Some(range) = range {
            for matchers in &selectors {
                found.append(&mut find(&snapshot, matchers, range)?);
            }
        }
        let listing = Listing::new(found.into_iter().collect(), limit, &snapshot);
        let push = |out: &mut Vec<u8>| json::push_strings(out, &listing.items);
        Ok(respond::success_body(push, &listing.warnings, &[]))
    })
    .await
}

/// Runs a listing on the query threads, under their limits.
async fn list(
    service: &Service,
    headers: HeaderMap,
    work: impl FnOnce() -> Result<Vec<u8>, StorageError> + Send + 'static,
) -> Result<Response, ApiError> {
    let timeout = service.queries.limits().timeout;
    let ran = service.queries.run(timeout, async move {
        let body = work().map_err(QueryError::from)?;
        Ok(respond::large_json(&headers, body))
    });
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
