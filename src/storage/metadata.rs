//! Type, help and unit of metrics, as clients reported them last.
//!
//! Advice for people and tools; no answer of a query depends on it.

use std::collections::BTreeMap;

use parking_lot::RwLock;

use crate::model::Metadata;

/// Metric names that are kept; further ones are dropped.
const METRICS_MAX: usize = 100_000;

/// Bytes of one help text or unit that are kept.
const TEXT_BYTES_MAX: usize = 4096;

/// Metadata by metric name.
#[derive(Debug, Default)]
pub struct MetadataStore {
    metrics: RwLock<BTreeMap<String, Metadata>>,
}

impl MetadataStore {
    /// Replaces what was known of `metric`.
    pub fn record(&self, metric: &str, mut metadata: Metadata) {
        truncate(&mut metadata.help);
        truncate(&mut metadata.unit);
        if self.metrics.read().get(metric) == Some(&metadata) {
            return;
        }
        let mut metrics = self.metrics.write();
        if let Some(known) = metrics.get_mut(metric) {
            *known = metadata;
        } else if metrics.len() < METRICS_MAX {
            metrics.insert(metric.to_owned(), metadata);
        }
    }

    pub fn get(&self, metric: &str) -> Option<Metadata> {
        self.metrics.read().get(metric).cloned()
    }

    /// At most `limit` metrics, ascending by name.
    pub fn list(&self, limit: usize) -> Vec<(String, Metadata)> {
        self.metrics
            .read()
            .iter()
            .take(limit)
            .map(|(name, metadata)| (name.clone(), metadata.clone()))
            .collect()
    }
}

fn truncate(text: &mut String) {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MetricType;

    #[test]
    fn the_last_report_stays_and_long_texts_are_cut_at_a_character() {
        let store = MetadataStore::default();
        store.record("m", Metadata::default());
        let help = "é".repeat(TEXT_BYTES_MAX);
        let unit = "s".to_owned();
        store.record("m", Metadata { metric_type: MetricType::Counter, help, unit });
        let known = store.get("m").unwrap();
        assert_eq!(known.metric_type, MetricType::Counter);
        assert_eq!(known.help.len(), TEXT_BYTES_MAX);
        assert_eq!(store.list(10).len(), 1);
        assert_eq!(store.get("n"), None);
    }
}
