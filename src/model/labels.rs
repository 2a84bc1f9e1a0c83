//! A series' identity: its metric name and sorted labels, as one canonical key.
//!
//! ```text
//! key := metric FF { name FE value FF }        names ascending by bytes, __name__ in front
//! ```
//!
//! `FE` and `FF` occur in no UTF-8 text, so the key needs no lengths and no escapes, two label
//! sets are equal exactly if their keys are, and `memcmp` over keys is the one total order of
//! series everywhere (head, blocks, compaction, scans): metric name first, then labels.
//!
//! Invariant: names and values are valid UTF-8, no label value is empty, no name occurs twice.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

/// The label that holds the metric name.
pub const METRIC_NAME: &str = "__name__";

/// The labels that say what a series measures, and that no longer hold once it is computed with.
/// Source: prometheus/schema, `IsMetadataLabel`.
pub const METADATA_LABELS: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

/// Ends the metric name and every label.
pub const END: u8 = 0xFF;
/// Stands between a label's name and its value.
pub const BETWEEN: u8 = 0xFE;

/// An immutable label set, cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Arc<[u8]>);

/// Why pairs or bytes are not a label set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelsError {
    #[error("label {0:?} occurs twice")]
    DuplicateName(String),
    #[error("label with an empty name")]
    EmptyName,
    #[error("series key is malformed at byte {0}")]
    MalformedKey(usize),
}

impl Labels {
    /// The label set without labels.
    pub fn empty() -> Self {
        Self(Arc::from([END].as_slice()))
    }

    /// Sorts the pairs; a pair with an empty value is left out, as Prometheus does.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, LabelsError> {
        let mut pairs: Vec<_> = pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        pairs.sort_unstable_by_key(|(name, _)| *name);
        if let Some(twice) = pairs.windows(2).find(|two| two[0].0 == two[1].0) {
            return Err(LabelsError::DuplicateName(twice[0].0.to_owned()));
        }
        if pairs.first().is_some_and(|(name, _)| name.is_empty()) {
            return Err(LabelsError::EmptyName);
        }
        Ok(Self(Arc::from(encode(&pairs))))
    }

    /// Takes back what [`Labels::as_bytes`] gave; everything is checked.
    pub fn from_bytes(key: &[u8]) -> Result<Self, LabelsError> {
        validate_key(key)?;
        Ok(Self(Arc::from(key)))
    }

    /// The canonical key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The metric name, empty if the set has none.
    pub fn metric_name(&self) -> &str {
        text(&self.0[..memchr::memchr(END, &self.0).unwrap_or(0)])
    }

    /// The value of label `name` (`__name__` included).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(label, _)| *label == name).map(|(_, value)| value)
    }

    /// Name and value of every label: `__name__` first if there is one, the rest sorted by name.
    pub fn iter(&self) -> LabelsIter<'_> {
        let end = memchr::memchr(END, &self.0).unwrap_or(0);
        LabelsIter { metric: Some(&self.0[..end]), rest: &self.0[(end + 1).min(self.0.len())..] }
    }

    pub fn is_empty(&self) -> bool {
        self.0.len() <= 1
    }

    /// The set without its metric name.
    pub fn without_metric_name(&self) -> Self {
        let end = memchr::memchr(END, &self.0).unwrap_or(0);
        if end == 0 { self.clone() } else { Self(Arc::from(&self.0[end..])) }
    }

    /// The set without the [`METADATA_LABELS`].
    pub fn without_metadata(&self) -> Self {
        if METADATA_LABELS[1..].iter().all(|name| self.get(name).is_none()) {
            return self.without_metric_name();
        }
        self.filter(|name| !METADATA_LABELS.contains(&name))
    }

    /// Only the labels whose name `keep` approves.
    pub fn filter(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        let pairs: Vec<_> = self.iter().filter(|(name, _)| keep(name)).collect();
        Self(Arc::from(encode(&pairs)))
    }

    /// Prometheus' order of label sets: pairs sorted by name with `__name__` as an ordinary name,
    /// compared pair by pair, the shorter set first. Results are presented in this order.
    /// Source: prometheus/model/labels, `Compare`.
    pub fn prometheus_cmp(&self, other: &Self) -> Ordering {
        self.prometheus_pairs().cmp(&other.prometheus_pairs())
    }

    /// A key whose order is [`Labels::prometheus_cmp`], for sorting many label sets. Labels that
    /// contain NUL may come out of order.
    pub fn prometheus_key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.0.len() + METRIC_NAME.len() + 2);
        for (name, value) in self.prometheus_pairs() {
            key.extend_from_slice(name.as_bytes());
            key.push(0);
            key.extend_from_slice(value.as_bytes());
            key.push(0);
        }
        key
    }

    /// The hash by which Prometheus' `limit_ratio` chooses: xxHash64 over names and values, each
    /// behind its length. Source: prometheus/model/labels, `labels_stringlabels.go`.
    pub fn prometheus_hash(&self) -> u64 {
        let mut bytes = Vec::with_capacity(self.0.len() + METRIC_NAME.len() + 2);
        for text in self.prometheus_pairs().into_iter().flat_map(|(name, value)| [name, value]) {
            match u8::try_from(text.len()) {
                Ok(length @ ..=254) => bytes.push(length),
                _ => {
                    bytes.push(255);
                    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes()[..3]);
                }
            }
            bytes.extend_from_slice(text.as_bytes());
        }
        xxh64(&bytes, 0)
    }

    fn prometheus_pairs(&self) -> Vec<(&str, &str)> {
        let mut pairs: Vec<_> = self.iter().collect();
        pairs.sort_unstable();
        pairs
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As Prometheus prints a metric: `name{a="b"}`, or `{"odd name", a="b"}` for names outside the
/// classic character set.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metric = self.metric_name();
        let classic = is_classic_metric_name(metric);
        if classic {
            f.write_str(metric)?;
        }
        let mut parts: Vec<String> = Vec::new();
        if !classic && !metric.is_empty() {
            parts.push(quote(metric));
        }
        for (name, value) in self.iter().filter(|(name, _)| *name != METRIC_NAME) {
            let name =
                if is_classic_label_name(name) { Cow::Borrowed(name) } else { quote(name).into() };
            parts.push(format!("{name}={}", quote(value)));
        }
        if parts.is_empty() && !metric.is_empty() {
            return Ok(());
        }
        write!(f, "{{{}}}", parts.join(", "))
    }
}

/// Iterator over name and value of a [`Labels`].
#[derive(Debug, Clone)]
pub struct LabelsIter<'a> {
    metric: Option<&'a [u8]>,
    rest: &'a [u8],
}

impl<'a> Iterator for LabelsIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(metric) = self.metric.take().filter(|metric| !metric.is_empty()) {
            return Some((METRIC_NAME, text(metric)));
        }
        let end = memchr::memchr(END, self.rest)?;
        let pair = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        let between = memchr::memchr(BETWEEN, pair).unwrap_or(end);
        Some((text(&pair[..between]), text(&pair[(between + 1).min(end)..])))
    }
}

/// Changes a label set: starts from one, sets and removes labels, builds another.
#[derive(Debug, Clone, Default)]
pub struct LabelsBuilder {
    /// Sorted by name; a label with an empty value does not exist.
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn from_labels(labels: &Labels) -> Self {
        let mut pairs: Vec<(String, String)> =
            labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        pairs.sort_unstable();
        Self { pairs }
    }

    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match self.pairs.binary_search_by(|(label, _)| label.as_str().cmp(name)) {
            Ok(at) if value.is_empty() => {
                self.pairs.remove(at);
            }
            Ok(at) => value.clone_into(&mut self.pairs[at].1),
            Err(_) if value.is_empty() => {}
            Err(at) => self.pairs.insert(at, (name.to_owned(), value.to_owned())),
        }
        self
    }

    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.set(name, "")
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.pairs.binary_search_by(|(label, _)| label.as_str().cmp(name)).ok()?;
        Some(&self.pairs[at].1)
    }

    pub fn build(&self) -> Labels {
        let pairs: Vec<_> =
            self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Labels(Arc::from(encode(&pairs)))
    }
}

/// Whether `name` needs no quotes as a metric name: `[a-zA-Z_:][a-zA-Z0-9_:]*`.
pub fn is_classic_metric_name(name: &str) -> bool {
    is_classic(name, |byte| byte == b'_' || byte == b':')
}

/// Whether `name` needs no quotes as a label name: `[a-zA-Z_][a-zA-Z0-9_]*`.
pub fn is_classic_label_name(name: &str) -> bool {
    is_classic(name, |byte| byte == b'_')
}

fn is_classic(name: &str, also: impl Fn(u8) -> bool) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphabetic() || also(byte);
    let mut bytes = name.bytes();
    bytes.next().is_some_and(allowed) && bytes.all(|byte| allowed(byte) || byte.is_ascii_digit())
}

/// `text` in double quotes, with the escapes that Go's `strconv.Quote` writes for printable text.
pub fn quote(text: &str) -> String {
    quoted(text.chars(), '"')
}

/// A character in single quotes, as Go's `%q` writes it.
pub fn quote_char(char: char) -> String {
    quoted(std::iter::once(char), '\'')
}

fn quoted(chars: impl Iterator<Item = char>, mark: char) -> String {
    let mut out = String::from(mark);
    for char in chars {
        match char {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            control if u32::from(control) < 0x20 || control == '\u{7f}' => {
                out.push_str(&format!("\\x{:02x}", u32::from(control)));
            }
            other => {
                if other == mark {
                    out.push('\\');
                }
                out.push(other);
            }
        }
    }
    out.push(mark);
    out
}

/// `pairs` must be sorted by name, without repeats and without empty values.
fn encode(pairs: &[(&str, &str)]) -> Vec<u8> {
    let bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    let mut key = Vec::with_capacity(bytes + 1);
    if let Some((_, metric)) = pairs.iter().find(|(name, _)| *name == METRIC_NAME) {
        key.extend_from_slice(metric.as_bytes());
    }
    key.push(END);
    for (name, value) in pairs.iter().filter(|(name, _)| *name != METRIC_NAME) {
        key.extend_from_slice(name.as_bytes());
        key.push(BETWEEN);
        key.extend_from_slice(value.as_bytes());
        key.push(END);
    }
    key
}

fn validate_key(key: &[u8]) -> Result<(), LabelsError> {
    let malformed = |at: usize| LabelsError::MalformedKey(at);
    if key.last() != Some(&END) {
        return Err(malformed(key.len()));
    }
    let mut at = 0;
    let mut previous: Option<&[u8]> = None;
    for (index, part) in key[..key.len() - 1].split(|byte| *byte == END).enumerate() {
        let (name, value) = match (index, memchr::memchr(BETWEEN, part)) {
            (0, None) => (&[][..], part),
            (0, Some(_)) | (_, None) => return Err(malformed(at)),
            (_, Some(between)) => (&part[..between], &part[between + 1..]),
        };
        let well_formed = std::str::from_utf8(name).is_ok() && std::str::from_utf8(value).is_ok();
        let named =
            index == 0 || !(name.is_empty() || value.is_empty() || name == METRIC_NAME.as_bytes());
        if !well_formed || !named || previous.is_some_and(|previous| previous >= name) {
            return Err(malformed(at));
        }
        previous = (index > 0).then_some(name);
        at += part.len() + 1;
    }
    Ok(())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("Labels holds UTF-8: checked when it was made")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn keys_sort_as_label_sets_do() {
        let sets = [
            labels(&[]),
            labels(&[("A", "1"), (METRIC_NAME, "z")]),
            labels(&[(METRIC_NAME, "a")]),
            labels(&[(METRIC_NAME, "a"), ("b", "1")]),
            labels(&[(METRIC_NAME, "a"), ("b", "1"), ("c", "0")]),
            labels(&[(METRIC_NAME, "a"), ("b", "10")]),
            labels(&[(METRIC_NAME, "a"), ("bb", "0")]),
            labels(&[(METRIC_NAME, "ab")]),
            labels(&[("b", "1")]),
        ];
        assert!(sets.is_sorted_by(|one, two| one.prometheus_cmp(two).is_lt()));
        assert!(sets.is_sorted_by_key(Labels::prometheus_key));
    }

    #[test]
    fn hashes_are_those_of_prometheus() {
        // xxHash64 of nothing, and of 3 "foo" 3 "bar".
        assert_eq!(labels(&[]).prometheus_hash(), 0xef46_db37_51d8_e999);
        let expected = xxh64(b"\x03foo\x03bar", 0);
        assert_eq!(labels(&[("foo", "bar")]).prometheus_hash(), expected);
        let long = "x".repeat(300);
        let mut bytes = b"\x01a\xff\x2c\x01\x00".to_vec();
        bytes.extend_from_slice(long.as_bytes());
        let expected = xxh64(&bytes, 0);
        assert_eq!(labels(&[("a", &long)]).prometheus_hash(), expected);
    }

    #[test]
    fn order_of_pairs_and_empty_values_do_not_matter() {
        let one = labels(&[("b", "2"), (METRIC_NAME, "cpu"), ("a", "1"), ("c", "")]);
        let two = labels(&[(METRIC_NAME, "cpu"), ("a", "1"), ("b", "2")]);
        assert_eq!(one, two);
        assert_eq!(one.as_bytes(), b"cpu\xFFa\xFE1\xFFb\xFE2\xFF");
        assert_eq!(one.metric_name(), "cpu");
        assert_eq!(one.get("b"), Some("2"));
        assert_eq!(one.get("c"), None);
        assert_eq!(one.to_string(), r#"cpu{a="1", b="2"}"#);
    }

    #[test]
    fn a_name_given_twice_is_an_error() {
        let twice = Labels::from_pairs([("a", "1"), ("a", "2")]);
        assert_eq!(twice, Err(LabelsError::DuplicateName("a".into())));
        assert_eq!(Labels::from_pairs([("", "1")]), Err(LabelsError::EmptyName));
    }

    #[test]
    fn bytes_come_back_and_others_are_refused() {
        for pairs in [&[][..], &[("a", "1")], &[(METRIC_NAME, "m")], &[("z", "é\u{0}"), ("é", "x")]]
        {
            let set = labels(pairs);
            assert_eq!(Labels::from_bytes(set.as_bytes()), Ok(set));
        }
        for bad in [
            &b""[..],
            b"m",
            b"m\xFFa\xFE1",
            b"m\xFFa\xFF",
            b"m\xFFa\xFE\xFF",
            b"m\xFF\xFEx\xFF",
            b"m\xFFb\xFE1\xFFa\xFE1\xFF",
            b"m\xFFa\xFE1\xFFa\xFE1\xFF",
            b"m\xFF__name__\xFE1\xFF",
            b"\x80\xFF",
            b"m\xFFa\xFE1\xFE\xFF",
        ] {
            assert!(Labels::from_bytes(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn display_quotes_what_is_not_classic() {
        assert_eq!(Labels::empty().to_string(), "{}");
        assert_eq!(labels(&[(METRIC_NAME, "up")]).to_string(), "up");
        let odd = labels(&[(METRIC_NAME, "my.metric"), ("dot.ted", "a\"b\n")]);
        assert_eq!(odd.to_string(), r#"{"my.metric", "dot.ted"="a\"b\n"}"#);
    }

    #[test]
    fn builder_sets_and_removes() {
        let mut builder = LabelsBuilder::from_labels(&labels(&[(METRIC_NAME, "m"), ("a", "1")]));
        builder.set("b", "2").remove(METRIC_NAME).set("a", "3");
        assert_eq!(builder.build(), labels(&[("a", "3"), ("b", "2")]));
        assert_eq!(builder.get("b"), Some("2"));
    }

    #[test]
    fn prometheus_order_counts_the_metric_name_as_a_label() {
        // "A" sorts before "__name__", which sorts before "a".
        let upper = labels(&[(METRIC_NAME, "z"), ("A", "1")]);
        let plain = labels(&[(METRIC_NAME, "a")]);
        assert_eq!(upper.prometheus_cmp(&plain), Ordering::Less);
        assert_eq!(
            plain.prometheus_cmp(&labels(&[(METRIC_NAME, "a"), ("b", "1")])),
            Ordering::Less
        );
    }
}
