//! Answers: Prometheus' envelope, plain bodies, gzip for those who take it.
//!
//! ```text
//! {"status":"success","data":…,"warnings":[…],"infos":[…]}       empty lists are left out
//! {"status":"error","errorType":"bad_data","error":"…"}
//! ```

use std::io::Write;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use crate::http::error::ApiError;
use crate::http::json;

/// Shorter bodies are not worth compressing.
const GZIP_BYTES_MIN: usize = 1024;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The envelope of a success around `data`, which is JSON that `push` writes. Whoever collects
/// warnings and infos bounds them.
pub(crate) fn success_body(
    push: impl FnOnce(&mut Vec<u8>),
    warnings: &[String],
    infos: &[String],
) -> Vec<u8> {
    let mut body = Vec::with_capacity(256);
    body.extend_from_slice(br#"{"status":"success","data":"#);
    push(&mut body);
    for (name, notes) in [("warnings", warnings), ("infos", infos)] {
        if !notes.is_empty() {
            body.push(b',');
            json::push_string(&mut body, name);
            body.push(b':');
            json::push_strings(&mut body, notes.iter());
        }
    }
    body.push(b'}');
    body
}

/// The envelope of an error.
pub(crate) fn error_body(error: &ApiError) -> Vec<u8> {
    let mut body = Vec::with_capacity(128 + error.message.len());
    body.extend_from_slice(br#"{"status":"error","errorType":"#);
    json::push_string(&mut body, error.kind.as_str());
    body.extend_from_slice(br#","error":"#);
    json::push_string(&mut body, &error.message);
    body.push(b'}');
    body
}

/// A success with a small document as its data.
pub(crate) fn success(data: &impl Serialize) -> Response {
    json(StatusCode::OK, success_body(|out| push_document(out, data), &[], &[]))
}

/// Appends a document through serde. Only for small ones; results are written by `json`.
pub(crate) fn push_document(out: &mut Vec<u8>, document: &impl Serialize) {
    serde_json::to_writer(out, document)
        .expect("our documents have string keys and writing to memory cannot fail");
}

/// A JSON body.
pub(crate) fn json(status: StatusCode, body: Vec<u8>) -> Response {
    typed(status, JSON, body)
}

/// A plain text body.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Response {
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    typed(status, plain, text.into().into_bytes())
}

/// A body of any type.
pub(crate) fn typed(status: StatusCode, content_type: HeaderValue, body: Vec<u8>) -> Response {
    let mut response = empty(status);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    *response.body_mut() = Body::from(body);
    response
}

/// No body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A JSON body that may be large: compressed if the client takes it. Compressing takes a while:
/// call it where a thread may be busy.
pub(crate) fn large_json(request: &HeaderMap, body: Vec<u8>) -> Response {
    if body.len() < GZIP_BYTES_MIN || !accepts_gzip(request) {
        return json(StatusCode::OK, body);
    }
    let mut response = json(StatusCode::OK, gzip(&body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body).expect("writing to memory cannot fail");
    encoder.finish().expect("writing to memory cannot fail")
}

/// Whether `Accept-Encoding` names gzip with a weight above zero.
pub(crate) fn accepts_gzip(request: &HeaderMap) -> bool {
    request
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| {
            let mut parts = item.split(';').map(str::trim);
            let names_gzip =
                parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip") || name == "*");
            let refused = parts
                .filter_map(|part| part.strip_prefix("q="))
                .any(|weight| weight.trim().parse::<f32>().is_ok_and(|weight| weight <= 0.0));
            names_gzip && !refused
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::error::ErrorType;

    #[test]
    fn envelopes() {
        let data = |out: &mut Vec<u8>| out.extend_from_slice(b"[]");
        assert_eq!(success_body(data, &[], &[]), br#"{"status":"success","data":[]}"#);
        let notes = ["n0".to_owned(), "n1".to_owned()];
        assert_eq!(
            success_body(data, &notes[..1], &notes),
            br#"{"status":"success","data":[],"warnings":["n0"],"infos":["n0","n1"]}"#
        );
        let error = ApiError::new(ErrorType::Execution, "a \"b\"");
        assert_eq!(
            error_body(&error),
            br#"{"status":"error","errorType":"execution","error":"a \"b\""}"#
        );
    }

    #[test]
    fn gzip_is_negotiated() {
        let accepts = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            accepts_gzip(&headers)
        };
        assert!(accepts("gzip") && accepts("deflate, gzip;q=1.0, *;q=0.5") && accepts("GZip"));
        assert!(!accepts("deflate, br") && !accepts("gzip;q=0") && !accepts("gzip; q=0.0"));
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
