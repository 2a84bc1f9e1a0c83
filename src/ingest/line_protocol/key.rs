//! The key of a line, `measurement,tag=value,…`, to the label sets of its fields.

use std::borrow::Cow;

use crate::ingest::error::LineErrorCode;
use crate::ingest::labels;
use crate::ingest::lines::{Fault, utf8};
use crate::ingest::options::ParseOptions;
use crate::model::{Labels, METRIC_NAME};

/// The field that gives its series no name of its own.
const UNNAMED_FIELD: &[u8] = b"value";

/// The label sets of a line, one for each sampled field. `key_start` is the key's offset in the
/// body, `prefixes` are the fields' raw `name=`, empty for a bare value.
pub(crate) fn series_labels<'a>(
    key: &[u8],
    key_start: usize,
    prefixes: impl Iterator<Item = &'a [u8]>,
    options: &ParseOptions,
) -> Result<Vec<Labels>, Fault> {
    let text = utf8(key, key_start)?;
    let mut parts = split_unescaped(text, b',');
    let (_, measurement) = parts.next().expect("a split gives at least one part");
    if measurement.is_empty() {
        return Err(Fault::new(key_start, LineErrorCode::Syntax, "a metric name is missing"));
    }
    let measurement = unescape(measurement);
    let tags = parts
        .map(|(offset, part)| tag(part, key_start + offset))
        .collect::<Result<Vec<_>, Fault>>()?;
    prefixes
        .map(|prefix| {
            let metric = match prefix.strip_suffix(b"=").unwrap_or(prefix) {
                b"" | UNNAMED_FIELD => Cow::Borrowed(&*measurement),
                field => format!("{measurement}_{}", unescape(utf8(field, key_start)?)).into(),
            };
            let pairs = std::iter::once((METRIC_NAME, &*metric))
                .chain(tags.iter().map(|(name, value)| (&**name, &**value)))
                .collect();
            labels::checked(pairs, &options.extra_labels, &options.limits)
                .map_err(|(code, message)| Fault::new(key_start, code, message))
        })
        .collect()
}

fn tag(part: &str, at: usize) -> Result<(Cow<'_, str>, Cow<'_, str>), Fault> {
    let mut sides = split_unescaped(part, b'=');
    let (_, name) = sides.next().expect("a split gives at least one part");
    let Some((value_offset, _)) = sides.next() else {
        return Err(Fault::new(at, LineErrorCode::Syntax, "a label without `=`"));
    };
    if name.is_empty() {
        return Err(Fault::new(at, LineErrorCode::BadLabels, "a label without a name"));
    }
    if name == METRIC_NAME {
        let message = format!("{METRIC_NAME} stands in front of the labels");
        return Err(Fault::new(at, LineErrorCode::BadLabels, message));
    }
    Ok((unescape(name), unescape(&part[value_offset..])))
}

/// Parts of `text` between separators that no backslash precedes, with their offsets.
fn split_unescaped(text: &str, separator: u8) -> impl Iterator<Item = (usize, &str)> {
    let bytes = text.as_bytes();
    let mut start = Some(0);
    std::iter::from_fn(move || {
        let from = start?;
        let end = memchr::memchr_iter(separator, &bytes[from..])
            .map(|at| from + at)
            .find(|&at| at == from || bytes[at - 1] != b'\\');
        start = end.map(|end| end + 1);
        Some((from, &text[from..end.unwrap_or(text.len())]))
    })
}

/// Takes away the backslash in front of a comma, equals sign or space; others are ordinary.
fn unescape(text: &str) -> Cow<'_, str> {
    if memchr::memchr(b'\\', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match chars.peek() {
            Some(&escaped @ (',' | '=' | ' ')) if char == '\\' => {
                plain.push(escaped);
                chars.next();
            }
            _ => plain.push(char),
        }
    }
    Cow::Owned(plain)
}
