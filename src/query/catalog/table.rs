//! Our tables as DataFusion `TableProvider`s: the only file that implements that trait.
//!
//! A table says which columns it has, what it makes of a filter and how it is scanned; what
//! DataFusion asks besides is answered here, once for all tables.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

/// Something that has rows.
#[async_trait]
pub(crate) trait Table: Send + Sync + 'static {
    /// For messages.
    const NAME: &'static str;
    const KIND: TableType = TableType::Base;

    fn schema(&self) -> &SchemaRef;

    /// Whether rows for which the filter does not hold are left out by the scan, all or some.
    fn pushdown(&self, filter: &Expr) -> TableProviderFilterPushDown;

    async fn scan(&self, wanted: Wanted<'_>) -> DataFusionResult<Arc<dyn ExecutionPlan>>;
}

/// What a statement wants of a table.
pub(crate) struct Wanted<'a> {
    pub(crate) session: &'a dyn Session,
    /// Columns by their numbers.
    pub(crate) columns: Vec<usize>,
    /// All of them hold for the rows that are wanted.
    pub(crate) filters: &'a [Expr],
    /// More rows than this are of no use.
    pub(crate) limit: Option<usize>,
}

/// A table as DataFusion sees it.
struct Provided<T>(T);

/// A table for DataFusion.
pub(crate) fn provided(table: impl Table) -> Arc<dyn TableProvider> {
    Arc::new(Provided(table))
}

impl<T: Table> fmt::Debug for Provided<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::NAME)
    }
}

#[async_trait]
impl<T: Table> TableProvider for Provided<T> {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.0.schema())
    }

    fn table_type(&self) -> TableType {
        T::KIND
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        Ok(filters.iter().map(|filter| self.0.pushdown(filter)).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let all = || (0..self.0.schema().fields().len()).collect();
        let columns = projection.cloned().unwrap_or_else(all);
        self.0.scan(Wanted { session, columns, filters, limit }).await
    }
}
