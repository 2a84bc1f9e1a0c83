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

mod chunks;
mod columns;
mod filters;
mod fold;
mod information_schema;
mod latest_rows;
mod rollup_reader;
mod rollup_table;
mod sample_cursor;
mod sample_scan;
mod sample_table;
mod schema;
mod table;

use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;

pub(crate) use filters::time_bounds;

use crate::model::Resolution;
use crate::query::catalog::fold::FoldSamples;
use crate::query::catalog::information_schema::InformationSchema;
use crate::query::catalog::latest_rows::LatestRows;
use crate::query::catalog::schema::{MetricSchema, Metrics};
use crate::query::session::QueryTask;
use crate::storage::Snapshot;

/// The one catalog.
pub(crate) const CATALOG: &str = "aether";
/// The schema of tables that are named without one.
pub(crate) const RAW_SCHEMA: &str = "raw";
/// The table of all metrics in each schema.
pub(crate) const ALL_METRICS: &str = "samples";

/// DataFusion's physical optimizer, which learns what scans of ours can do.
pub(crate) fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    // Ours see sorts and aggregations as they were planned, before anything is put in between.
    let place = rules.iter().position(|rule| rule.name() == "EnsureRequirements").unwrap_or(0);
    let ours: [Arc<dyn PhysicalOptimizerRule + Send + Sync>; 2] =
        [Arc::new(FoldSamples), Arc::new(LatestRows)];
    rules.splice(place..place, ours);
    rules
}

/// The schema of rollups of a resolution.
pub(crate) fn rollup_schema(resolution: Resolution) -> &'static str {
    match resolution {
        Resolution::OneMinute => "rollup_1m",
        Resolution::FiveMinutes => "rollup_5m",
        Resolution::OneHour => "rollup_1h",
    }
}

/// The catalog of one query.
#[derive(Debug)]
pub(crate) struct SnapshotCatalog {
    /// By name, without the information schema.
    schemas: Vec<(&'static str, Arc<MetricSchema>)>,
    information: Arc<InformationSchema>,
}

impl SnapshotCatalog {
    pub(crate) fn new(snapshot: &Snapshot, task: &QueryTask) -> Self {
        let metrics = Arc::new(Metrics::new(snapshot.clone(), task.clone()));
        let schema = |resolution| Arc::new(MetricSchema::new(Arc::clone(&metrics), resolution));
        let rollups = Resolution::ALL.into_iter().filter(|_| metrics.rollups().is_some());
        let schemas: Vec<_> = std::iter::once((RAW_SCHEMA, schema(None)))
            .chain(rollups.map(|one| (rollup_schema(one), schema(Some(one)))))
            .collect();
        let information = Arc::new(InformationSchema::new(metrics, schemas.clone()));
        Self { schemas, information }
    }

    /// Metrics whose names are like this one, the likest first.
    pub(crate) fn similar(&self, name: &str) -> Vec<String> {
        self.information.similar(name)
    }
}

impl CatalogProvider for SnapshotCatalog {
    fn schema_names(&self) -> Vec<String> {
        let own = self.schemas.iter().map(|(name, _)| *name);
        own.chain([information_schema::NAME]).map(str::to_owned).collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if name == information_schema::NAME {
            return Some(Arc::clone(&self.information) as _);
        }
        let found = self.schemas.iter().find(|(known, _)| *known == name);
        found.map(|(_, schema)| Arc::clone(schema) as _)
    }
}

/// DataFusion asks a list of catalogs; this one has one.
#[derive(Debug)]
pub(crate) struct OneCatalog(pub(crate) Arc<SnapshotCatalog>);

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
