//! What a request asks for: parameters of the query string and of a form body, in Prometheus'
//! grammar.
//!
//! Values of a form body come before those of the query string, as Go's `Request.Form` has them.
//! Source: prometheus/web/api/v1/api.go, prometheus/common/model/time.go.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::header;
use chrono::DateTime;

use crate::http::body;
use crate::http::error::ApiError;
use crate::http::service::Service;
use crate::model::{Matcher, TimeRange, Timestamp};
use crate::promql::parse_selector;

/// Largest form, as in Go's `Request.ParseForm`.
const FORM_BYTES_MAX: usize = 10 << 20;
const FORM: &str = "application/x-www-form-urlencoded";

/// What Go prints for the first and the last moment that Prometheus' API knows; clients send them
/// for "all of time".
const MIN_TIME_TEXT: &str = "-292273086-05-16T16:47:06Z";
const MAX_TIME_TEXT: &str = "292277025-08-18T07:12:54.999999999Z";
/// The range of times that every part of the query engine can calculate with; times beyond are
/// moved to it. Half of what fits leaves room for offsets and windows.
pub(crate) const TIME_MIN: Timestamp = -(1 << 62);
pub(crate) const TIME_MAX: Timestamp = 1 << 62;

/// The parameters of one request, in order.
#[derive(Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// `query` is the part of the address behind `?`, `form` the body if it is a form.
    pub(crate) fn parse(query: &str, form: &[u8]) -> Self {
        let mut pairs: Vec<_> = url::form_urlencoded::parse(form).into_owned().collect();
        pairs.extend(url::form_urlencoded::parse(query.as_bytes()).into_owned());
        Self(pairs)
    }

    /// The first value of a parameter; empty if it is absent.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.find(name).unwrap_or_default()
    }

    fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A point in time that must be given.
    pub(crate) fn time(&self, name: &str) -> Result<Timestamp, ApiError> {
        parse_time(self.get(name)).map_err(|error| ApiError::invalid_parameter(name, error))
    }

    /// A point in time, `default` if it is not given.
    pub(crate) fn time_or(&self, name: &str, default: Timestamp) -> Result<Timestamp, ApiError> {
        match self.get(name) {
            "" => Ok(default),
            text => parse_time(text).map_err(|error| {
                let error = format!("Invalid time value for '{name}': {error}");
                ApiError::invalid_parameter(name, error)
            }),
        }
    }

    /// `start` and `end` of a listing, all of time if they are not given; `None` if no time lies
    /// between them.
    pub(crate) fn range(&self) -> Result<Option<TimeRange>, ApiError> {
        let start = self.time_or("start", TIME_MIN)?;
        let end = self.time_or("end", TIME_MAX)?;
        Ok(TimeRange::new(start, end))
    }

    /// A duration; `None` if it is not given.
    pub(crate) fn duration_ms(&self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.get(name) {
            "" => Ok(None),
            text => parse_duration_ms(text)
                .map(Some)
                .map_err(|error| ApiError::invalid_parameter(name, error)),
        }
    }

    /// `limit`: how many series or names to answer at most; `None` for all of them.
    pub(crate) fn limit(&self) -> Result<Option<usize>, ApiError> {
        let number = self.integer("limit")?.unwrap_or(0);
        match usize::try_from(number) {
            Ok(0) => Ok(None),
            Ok(limit) => Ok(Some(limit)),
            Err(_) => Err(ApiError::invalid_parameter("limit", "limit must be non-negative")),
        }
    }

    /// A whole number; `None` if it is not given.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.get(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                let error = format!("strconv.Atoi: parsing {text:?}: invalid syntax");
                ApiError::invalid_parameter(name, error)
            }),
        }
    }

    /// A switch: absent is off; present without a value, `1` and `true` are on.
    pub(crate) fn switch(&self, name: &str) -> Result<bool, ApiError> {
        match self.find(name) {
            None | Some("0" | "false") => Ok(false),
            Some("" | "1" | "true") => Ok(true),
            Some(other) => {
                Err(ApiError::invalid_parameter(name, format!("{other:?} is not true or false")))
            }
        }
    }
}

impl FromRequest<Arc<Service>> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, service: &Arc<Service>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let is_form = parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case(FORM));
        let mut form = Vec::new();
        if is_form && !parts.method.is_safe() {
            body::read(service, body, FORM_BYTES_MAX, &mut form).await?;
        }
        Ok(Self::parse(parts.uri.query().unwrap_or_default(), &form))
    }
}

/// The matchers of every `match[]`; the error is Prometheus' reason alone.
pub(crate) fn selectors(params: &Params) -> Result<Vec<Vec<Matcher>>, String> {
    params
        .all("match[]")
        .map(|text| {
            let matchers = parse_selector(text).map_err(|error| error.to_string())?;
            if matchers.iter().all(Matcher::matches_empty) {
                return Err("match[] must contain at least one non-empty matcher".to_owned());
            }
            Ok(matchers)
        })
        .collect()
}

/// The same, with errors that name the parameter.
pub(crate) fn named_selectors(params: &Params) -> Result<Vec<Vec<Matcher>>, ApiError> {
    selectors(params).map_err(|error| ApiError::invalid_parameter("match[]", error))
}

/// Seconds since 1970, or RFC 3339. Times beyond what can be calculated with are moved to the
/// nearest that can: Grafana sends milliseconds as seconds.
pub fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Some(seconds) = parse_float(text) {
        // The fraction of an infinity is NaN.
        let fraction = if seconds.is_finite() { seconds.fract() } else { 0.0 };
        let whole = seconds.trunc();
        return Ok(clamp_ms(whole * 1000.0 + (fraction * 1000.0).round()));
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_millis());
    }
    match text {
        MIN_TIME_TEXT => Ok(TIME_MIN),
        MAX_TIME_TEXT => Ok(TIME_MAX),
        _ => Err(format!("cannot parse {text:?} to a valid timestamp")),
    }
}

/// Seconds, or a Prometheus duration such as `1h30m`; in milliseconds.
pub fn parse_duration_ms(text: &str) -> Result<i64, String> {
    if let Some(seconds) = parse_float(text) {
        if seconds.abs() > Duration::from_nanos(i64::MAX.unsigned_abs()).as_secs_f64() {
            return Err(format!("cannot parse {text:?} to a valid duration. It overflows int64"));
        }
        return Ok(clamp_ms(seconds * 1000.0));
    }
    parse_units_ms(text).ok_or_else(|| format!("cannot parse {text:?} to a valid duration"))
}

/// A number as Go's `ParseFloat` takes it, except NaN, which is no time: underscores may stand
/// between digits, and what is too large is not a number.
fn parse_float(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    let is_digit =
        |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let underscores = || bytes.iter().enumerate().filter(|(_, byte)| **byte == b'_');
    if !underscores().all(|(at, _)| is_digit(at.checked_sub(1)) && is_digit(Some(at + 1))) {
        return None;
    }
    let number = match underscores().next() {
        None => text.parse::<f64>().ok()?,
        Some(_) => text.replace('_', "").parse::<f64>().ok()?,
    };
    let overflows = number.is_infinite() && bytes.iter().any(u8::is_ascii_digit);
    (!number.is_nan() && !overflows).then_some(number)
}

#[expect(clippy::cast_possible_truncation, reason = "bounded just before")]
fn clamp_ms(ms: f64) -> i64 {
    // The bounds are powers of two and exact.
    ms.clamp(TIME_MIN as f64, TIME_MAX as f64) as i64
}

/// `1h30m`: each unit at most once, from large to small.
fn parse_units_ms(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    let (mut rest, mut total, mut units) = (text, 0_i64, UNITS.as_slice());
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, behind) = rest.split_at(digits);
        let letters = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        let at = units.iter().position(|(name, _)| *name == unit)?;
        let ms = number.parse::<i64>().ok()?.checked_mul(units[at].1)?;
        total = total.checked_add(ms)?;
        (rest, units) = (behind, &units[at + 1..]);
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1435781451.781", Some(1_435_781_451_781)),
            ("1435781451.7815", Some(1_435_781_451_782)),
            ("-1.5", Some(-1500)),
            ("1e3", Some(1_000_000)),
            ("2015-07-01T20:10:51.781Z", Some(1_435_781_451_781)),
            ("2015-07-01T22:10:51.781+02:00", Some(1_435_781_451_781)),
            ("2015-07-01T20:10:51.7819Z", Some(1_435_781_451_781)),
            (MIN_TIME_TEXT, Some(TIME_MIN)),
            (MAX_TIME_TEXT, Some(TIME_MAX)),
            ("1700000000000", Some(1_700_000_000_000_000)),
            ("1e300", Some(TIME_MAX)),
            ("-Inf", Some(TIME_MIN)),
            ("", None),
            ("NaN", None),
            ("now", None),
            ("2015-07-01", None),
        ] {
            let parsed = parse_time(text);
            assert_eq!(parsed.clone().ok(), expected, "{text}");
            if expected.is_none() {
                assert_eq!(parsed, Err(format!("cannot parse {text:?} to a valid timestamp")));
            }
        }
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("5", Ok(5000)),
            ("0.5", Ok(500)),
            ("1m", Ok(60_000)),
            ("1h30m", Ok(5_400_000)),
            ("1y2w3d4h5m6s7ms", Ok(33_019_506_007)),
            ("100ms", Ok(100)),
            ("0s", Ok(0)),
            ("-1", Ok(-1000)),
            ("1e300", Err("cannot parse \"1e300\" to a valid duration. It overflows int64")),
            ("", Err("cannot parse \"\" to a valid duration")),
            ("m", Err("cannot parse \"m\" to a valid duration")),
            ("1m1h", Err("cannot parse \"1m1h\" to a valid duration")),
            ("1h1h", Err("cannot parse \"1h1h\" to a valid duration")),
            ("1mm", Err("cannot parse \"1mm\" to a valid duration")),
            ("-1m", Err("cannot parse \"-1m\" to a valid duration")),
            ("é1m", Err("cannot parse \"é1m\" to a valid duration")),
        ] {
            assert_eq!(parse_duration_ms(text), expected.map_err(str::to_owned), "{text}");
        }
        assert!(parse_duration_ms("99999999999999999999y").is_err());
        assert!(parse_duration_ms("9223372036854775807y").is_err());
    }

    #[test]
    fn the_form_comes_before_the_address() {
        let params = Params::parse("a=1&b=x%20y+z&m%5B%5D=q", b"a=2&m[]=p");
        assert_eq!(params.get("a"), "2");
        assert_eq!(params.get("b"), "x y z");
        assert_eq!(params.all("m[]").collect::<Vec<_>>(), ["p", "q"]);
        assert_eq!(params.get("c"), "");
    }

    #[test]
    fn numbers_are_those_of_go() {
        assert_eq!(parse_time("1_000"), Ok(1_000_000));
        assert_eq!(parse_duration_ms("1_0.5"), Ok(10_500));
        for wrong in ["_1", "1_", "1__0", "1_.5", "1e400", "-1e400", "0x10"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
            assert!(parse_duration_ms(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_time("+Inf"), Ok(TIME_MAX));
    }

    #[test]
    fn limits() {
        let limit = |text| Params::parse(text, b"").limit().map_err(|error| error.message);
        assert_eq!(limit(""), Ok(None));
        assert_eq!(limit("limit=0"), Ok(None));
        assert_eq!(limit("limit=7"), Ok(Some(7)));
        assert_eq!(
            limit("limit=-1"),
            Err("invalid parameter \"limit\": limit must be non-negative".to_owned())
        );
        assert_eq!(
            limit("limit=x"),
            Err("invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax".into())
        );
    }
}
