//! How parsers ask for series ids: by the raw bytes of a key, so that labels are parsed only when
//! a key is new. Storage implements the trait with a shared cache; parsers know only this file.
//!
//! A key means a series only together with its [`Shape`]: the format it is written in, labels
//! that the request adds, and the fields that stand behind it.
//!
//! Invariant: keys are compared byte by byte; no answer rests on a hash alone.

use std::error::Error;

use crate::model::{Labels, SeriesRef};

/// What the bytes of a raw key are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyFormat {
    /// `measurement,tag=value` up to the first space that is not escaped.
    Line,
    /// The `labels` fields of a remote write 1.0 series as they stand in the message.
    RemoteWriteV1,
    /// References of a remote write 2.0 series, translated to `Symbol` keys, 4 bytes each.
    RemoteWriteV2,
    /// A text of a remote write 2.0 symbol table; such a key has no series.
    Symbol,
    /// `name{label="value"}` of the text exposition format.
    Exposition,
    /// The `metric` object of a JSON line.
    JsonLines,
}

/// A shape in the form in which it is built and compared.
#[derive(Debug, Clone)]
pub struct ShapeKey {
    format: KeyFormat,
    bytes: Vec<u8>,
    scope_len: usize,
}

impl ShapeKey {
    /// A shape without fields; `extra_labels` are those that the request adds to every series.
    pub fn new(format: KeyFormat, extra_labels: &[(String, String)]) -> Self {
        let mut key = Self { format, bytes: vec![format as u8], scope_len: 0 };
        for text in extra_labels.iter().flat_map(|(name, value)| [name, value]) {
            key.push_text(text.as_bytes());
        }
        key.scope_len = key.bytes.len();
        key
    }

    /// The shape of formats whose keys mean one series each.
    pub fn single(format: KeyFormat, extra_labels: &[(String, String)]) -> Self {
        let mut key = Self::new(format, extra_labels);
        key.push_field(b"", true);
        key
    }

    pub fn format(&self) -> KeyFormat {
        self.format
    }

    pub fn clear_fields(&mut self) {
        self.bytes.truncate(self.scope_len);
    }

    /// Adds a field: the raw bytes in front of its value, and whether it is a sample.
    pub fn push_field(&mut self, prefix: &[u8], sampled: bool) {
        self.bytes.push(u8::from(sampled));
        self.push_text(prefix);
    }

    /// Equal exactly for equal shapes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The shape with its fields laid out for reading.
    pub fn to_shape(&self) -> Shape {
        let mut fields = Vec::new();
        let mut at = self.scope_len;
        while at < self.bytes.len() {
            let len = u32::from_le_bytes(self.bytes[at + 1..at + 5].try_into().expect("4 bytes"));
            let start = at + 5;
            let end = start + len as usize;
            fields.push(Field {
                prefix: Box::from(&self.bytes[start..end]),
                sampled: self.bytes[at] == 1,
            });
            at = end;
        }
        Shape { scope: Box::from(&self.bytes[..self.scope_len]), fields: fields.into_boxed_slice() }
    }

    fn push_text(&mut self, text: &[u8]) {
        let len = u32::try_from(text.len()).expect("bodies are smaller than 4 GiB");
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(text);
    }
}

/// What stands behind a raw key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Format and added labels, as one comparable text.
    pub scope: Box<[u8]>,
    pub fields: Box<[Field]>,
}

/// One field of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The raw bytes in front of the value, `name=`; empty for a bare value.
    pub prefix: Box<[u8]>,
    /// False for text and booleans, which have no series.
    pub sampled: bool,
}

/// Number of a shape, valid as long as the resolver that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShapeId(pub u32);

/// Number of a known key, valid as long as the resolver that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyRef(pub u32);

/// A key that has been resolved before.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    pub key: KeyRef,
    pub key_len: usize,
    pub shape_id: ShapeId,
    pub shape: &'a Shape,
    /// One for each sampled field of the shape, in order.
    pub series: &'a [SeriesRef],
}

/// Why a new series has no id.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// This series may not be created (a limit, say); others may.
    #[error("{0}")]
    Refused(String),
    /// No series can be created.
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
}

/// Finds series by raw keys. Made for one request, used by one thread.
pub trait SeriesResolver {
    /// Forgets the current key: what follows has another format, or another sender.
    fn start(&mut self);

    /// The number of a shape; `None` if there is no room for another.
    fn shape(&mut self, shape: &ShapeKey) -> Option<ShapeId>;

    /// The key that followed the current one last time, if `input` starts with it. Only keys of
    /// one format and the same added labels follow each other.
    fn predict(&self, input: &[u8]) -> Option<Known<'_>>;

    fn known(&self, key: KeyRef) -> Known<'_>;

    /// Looks a key up.
    fn find(&mut self, shape: ShapeId, key: &[u8]) -> Option<KeyRef>;

    /// Looks many keys up, which overlaps their waits for memory. Answers stand in order.
    fn find_many(&mut self, keys: &[(ShapeId, &[u8])], found: &mut Vec<Option<KeyRef>>) {
        found.clear();
        for (shape, key) in keys {
            let key = self.find(*shape, key);
            found.push(key);
        }
    }

    /// Makes `key` the current one. True if it was the one to be expected.
    fn advance(&mut self, key: KeyRef) -> bool;

    /// Resolves a new key to one series per sampled field, in order, and remembers it under
    /// `shape` if there is room. Appends the series to `series`.
    fn register(
        &mut self,
        shape: Option<ShapeId>,
        key: &[u8],
        labels: &[Labels],
        series: &mut Vec<SeriesRef>,
    ) -> Result<Option<KeyRef>, ResolveError>;
}
