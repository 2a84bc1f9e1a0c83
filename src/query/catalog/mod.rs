//! What SQL sees of a snapshot: schemas, tables made on demand, columns.
//!
//! ```text
//! raw.<metric>        labels, time, value           raw.samples         metric, labels, time, value
//! rollup_1m.<metric>  labels, buckets               rollup_1m.samples   metric, labels, buckets
//! rollup_5m, rollup_1h                              information_schema  tables, columns, schemata
//! ```
//!
//! Invariant: all tables of a query are of one snapshot, and a table that no query names costs
//! nothing.

mod columns;
mod filters;
mod sample_scan;
mod sample_table;
mod schema;

use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider};

use crate::query::session::QueryTask;
use crate::storage::Snapshot;

pub use schema::RawSchema;

/// The one catalog.
pub const CATALOG: &str = "aether";
/// The schema of tables that are named without one.
pub const RAW_SCHEMA: &str = "raw";
/// The table of all metrics in each schema.
pub const ALL_METRICS: &str = "samples";

/// The catalog of one query.
#[derive(Debug)]
pub struct SnapshotCatalog {
    raw: Arc<RawSchema>,
}

impl SnapshotCatalog {
    pub(crate) fn new(snapshot: &Snapshot, task: &QueryTask) -> Arc<Self> {
        Arc::new(Self { raw: Arc::new(RawSchema::new(snapshot.clone(), task.clone())) })
    }
}

impl CatalogProvider for SnapshotCatalog {
    fn schema_names(&self) -> Vec<String> {
        vec![RAW_SCHEMA.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        (name == RAW_SCHEMA).then(|| Arc::clone(&self.raw) as _)
    }
}

/// DataFusion asks a list of catalogs; this one has one.
#[derive(Debug)]
pub struct OneCatalog(pub Arc<SnapshotCatalog>);

impl CatalogProviderList for OneCatalog {
    fn register_catalog(
        &self,
        _: String,
        _: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| Arc::clone(&self.0) as _)
    }
}
