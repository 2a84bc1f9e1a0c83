//! What became of a text body: 204 if all of it was stored, else 400 and every refused line.
//!
//! ```text
//! {"status":"error","errorType":"bad_data","error":"1 of 3 samples rejected: line 2, column 5: …",
//!  "accepted":2,"rejected":1,
//!  "errors":[{"line":2,"column":5,"code":"bad_value","message":"…","text":"cpu,host=a x"}]}
//! ```

use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::http::error::ApiError;
use crate::http::json;
use crate::http::respond;
use crate::http::write::SAMPLES_WRITTEN;
use crate::ingest::{IngestOutcome, LineError};

pub(super) fn answer(stored: Result<IngestOutcome, ApiError>) -> Response {
    let outcome = match stored {
        Ok(outcome) => outcome,
        Err(error) => return error.into_response(),
    };
    let mut response = match outcome.rejected {
        0 => respond::empty(StatusCode::NO_CONTENT),
        _ => respond::json(StatusCode::BAD_REQUEST, body(&outcome)),
    };
    response.headers_mut().insert(SAMPLES_WRITTEN, HeaderValue::from(outcome.accepted));
    response
}

/// The refusals in one line of text, for logs that show no more.
pub(super) fn summary(outcome: &IngestOutcome) -> String {
    let total = outcome.accepted + outcome.rejected;
    let mut text = format!("{} of {total} samples rejected", outcome.rejected);
    if let Some(LineError { line, column, message, text: quoted, .. }) = outcome.errors.first() {
        let column = if *column == 0 { String::new() } else { format!(", column {column}") };
        text.push_str(&format!(": line {line}{column}: {message} ({quoted})"));
    }
    text
}

fn body(outcome: &IngestOutcome) -> Vec<u8> {
    let mut body = respond::error_body(&ApiError::bad_data(summary(outcome)));
    body.pop();
    body.extend_from_slice(br#","accepted":"#);
    json::push_integer(&mut body, outcome.accepted);
    body.extend_from_slice(br#","rejected":"#);
    json::push_integer(&mut body, outcome.rejected);
    body.extend_from_slice(br#","errors":"#);
    json::push_array(&mut body, &outcome.errors, push_error);
    body.push(b'}');
    body
}

fn push_error(out: &mut Vec<u8>, error: &LineError) {
    out.extend_from_slice(br#"{"line":"#);
    json::push_integer(out, error.line as u64);
    out.extend_from_slice(br#","column":"#);
    json::push_integer(out, error.column as u64);
    out.extend_from_slice(br#","code":"#);
    json::push_string(out, error.code.as_str());
    out.extend_from_slice(br#","message":"#);
    json::push_string(out, &error.message);
    out.extend_from_slice(br#","text":"#);
    json::push_string(out, &error.text);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::LineErrorCode;

    #[test]
    fn a_refusal_is_told_in_full() {
        let mut outcome = IngestOutcome { accepted: 2, ..IngestOutcome::default() };
        outcome.reject(1, || LineError {
            line: 2,
            column: 12,
            code: LineErrorCode::BadValue,
            message: "not a number".to_owned(),
            text: "cpu,host=a \"x\"".to_owned(),
        });
        let expected = concat!(
            r#"{"status":"error","errorType":"bad_data","error":"1 of 3 samples rejected: "#,
            r#"line 2, column 12: not a number (cpu,host=a \"x\")","accepted":2,"rejected":1,"#,
            r#""errors":[{"line":2,"column":12,"code":"bad_value","message":"not a number","#,
            r#""text":"cpu,host=a \"x\""}]}"#
        );
        assert_eq!(String::from_utf8(body(&outcome)).unwrap(), expected);
        assert_eq!(answer(Ok(outcome)).status(), StatusCode::BAD_REQUEST);
        assert_eq!(answer(Ok(IngestOutcome::default())).status(), StatusCode::NO_CONTENT);
    }
}
