//! Type, help and unit of metrics, as clients reported them last.
//!
//! Advice for people and tools; no answer of a query depends on it. Reports go through the log;
//! the file `METADATA` holds what the log no longer does:
//!
//! ```text
//! file   := magic "AETHMETA" | version u32 | crc u32 | entry*     crc of all entries
//! entry  := type u8 | name text | help text | unit text           text := len u32 | UTF-8
//! ```

use std::collections::BTreeMap;

use parking_lot::RwLock;

use crate::model::{Metadata, MetricType};

/// Metric names that are kept; further ones are dropped.
const METRICS_MAX: usize = 100_000;

/// Bytes of one name, help text or unit that are kept.
const TEXT_BYTES_MAX: usize = 4096;

/// What a file can grow to.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 30;

const MAGIC: [u8; 8] = *b"AETHMETA";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = MAGIC.len() + 4 + 4;

/// Metadata by metric name.
#[derive(Debug, Default)]
pub struct MetadataStore {
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    metrics: BTreeMap<String, Metadata>,
    /// Counts changes, to tell whether a file is still up to date.
    version: u64,
}

impl MetadataStore {
    /// Replaces what was known of `metric`.
    pub(crate) fn record(&self, metric: &str, metadata: &Metadata) {
        let metadata = Metadata {
            metric_type: metadata.metric_type,
            help: cut(&metadata.help).to_owned(),
            unit: cut(&metadata.unit).to_owned(),
        };
        let mut known = self.known.write();
        if known.metrics.len() < METRICS_MAX || known.metrics.contains_key(metric) {
            known.metrics.insert(metric.to_owned(), metadata);
            known.version += 1;
        }
    }

    /// Whether recording it would change nothing.
    pub(crate) fn knows(&self, metric: &str, metadata: &Metadata) -> bool {
        let known = self.known.read();
        match known.metrics.get(metric) {
            Some(old) => {
                old.metric_type == metadata.metric_type
                    && old.help == cut(&metadata.help)
                    && old.unit == cut(&metadata.unit)
            }
            None => known.metrics.len() >= METRICS_MAX,
        }
    }

    pub fn get(&self, metric: &str) -> Option<Metadata> {
        self.known.read().metrics.get(metric).cloned()
    }

    /// At most `limit` metrics, ascending by name.
    pub fn list(&self, limit: usize) -> Vec<(String, Metadata)> {
        let known = self.known.read();
        let metrics = known.metrics.iter().take(limit);
        metrics.map(|(name, metadata)| (name.clone(), metadata.clone())).collect()
    }

    /// Changes so far.
    pub(crate) fn version(&self) -> u64 {
        self.known.read().version
    }

    /// The bytes of a `METADATA` file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut entries = Vec::new();
        for (name, metadata) in &self.known.read().metrics {
            entries.push(type_code(metadata.metric_type));
            for text in [name, &metadata.help, &metadata.unit] {
                let text = cut(text);
                let len = u32::try_from(text.len()).expect("cut to TEXT_BYTES_MAX");
                entries.extend_from_slice(&len.to_le_bytes());
                entries.extend_from_slice(text.as_bytes());
            }
        }
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&entries).to_le_bytes());
        out.extend_from_slice(&entries);
        out
    }

    /// Records what a file holds; `Err` says why it holds nothing.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<(), String> {
        let header = bytes.get(..HEADER_BYTES).ok_or("the header is cut off")?;
        let mut entries = &bytes[HEADER_BYTES..];
        if header[..MAGIC.len()] != MAGIC {
            return Err("this is not a metadata file".to_owned());
        }
        if header[MAGIC.len()..MAGIC.len() + 4] != VERSION.to_le_bytes() {
            return Err("the version is not known".to_owned());
        }
        if header[MAGIC.len() + 4..] != crc32fast::hash(entries).to_le_bytes() {
            return Err("the checksum is wrong".to_owned());
        }
        while let Some((code, rest)) = entries.split_first() {
            entries = rest;
            let mut text = || take_text(&mut entries).ok_or("an entry is malformed");
            let (name, help, unit) = (text()?, text()?, text()?);
            let metric_type = MetricType::ALL.get(usize::from(*code)).copied().unwrap_or_default();
            self.record(&name, &Metadata { metric_type, help, unit });
        }
        Ok(())
    }
}

/// The position in [`MetricType::ALL`], which only ever grows at its end.
fn type_code(metric_type: MetricType) -> u8 {
    let at = MetricType::ALL.iter().position(|known| *known == metric_type).unwrap_or(0);
    u8::try_from(at).expect("there are few types")
}

fn take_text(bytes: &mut &[u8]) -> Option<String> {
    let (len, rest) = bytes.split_first_chunk()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    let (text, rest) = rest.split_at_checked(len)?;
    *bytes = rest;
    String::from_utf8(text.to_vec()).ok()
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_report_stays_and_long_texts_are_cut_at_a_character() {
        let store = MetadataStore::default();
        store.record("m", &Metadata::default());
        let help = "é".repeat(TEXT_BYTES_MAX);
        let metadata = Metadata { metric_type: MetricType::Counter, help, unit: "s".to_owned() };
        assert!(!store.knows("m", &metadata));
        store.record("m", &metadata);
        assert!(store.knows("m", &metadata));
        let known = store.get("m").unwrap();
        assert_eq!(known.metric_type, MetricType::Counter);
        assert_eq!(known.help.len(), TEXT_BYTES_MAX);
        assert_eq!(store.list(10).len(), 1);
        assert_eq!(store.get("n"), None);
    }

    #[test]
    fn a_file_brings_everything_back_and_damage_is_found() {
        let store = MetadataStore::default();
        for (metric_type, name) in MetricType::ALL.into_iter().zip('a'..) {
            let metadata = Metadata { metric_type, help: format!("{name}?"), unit: "s".to_owned() };
            store.record(&name.to_string(), &metadata);
        }
        let bytes = store.encode();
        let copy = MetadataStore::default();
        copy.decode(&bytes).unwrap();
        assert_eq!(copy.list(99), store.list(99));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(MetadataStore::default().decode(&flipped).is_err(), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert!(MetadataStore::default().decode(&bytes[..end]).is_err(), "cut at {end}");
        }
    }
}
