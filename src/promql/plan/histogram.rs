//! Functions of classic histograms: series that differ only in `le` are one histogram.

use std::sync::Arc;

use crate::model::labels::quote;
use crate::model::{Labels, LabelsBuilder};
use crate::promql::annotations::Repaired;
use crate::promql::ast::Call;
use crate::promql::error::PromqlError;
use crate::promql::exec::histogram::{Bucket, BucketFn, Histogram, NoBucketFn};
use crate::promql::exec::table::{SeriesRow, SeriesTable, TableBuilder};
use crate::promql::functions::histogram;
use crate::promql::plan::call::{relabeled, texts};
use crate::promql::plan::{Planner, Vector, mistyped};
use crate::promql::scalar::Scalar;
use crate::promql::types::FunctionId;
use crate::query::Grid;

/// The label that holds a bucket's upper bound.
const BUCKET_LABEL: &str = "le";

impl Planner {
    pub(super) async fn plan_histogram(
        &self,
        call: &Call,
        grid: Grid,
    ) -> Result<Vector, PromqlError> {
        let args = &call.args;
        let (vector_arg, quantile_args) = match call.function.id {
            FunctionId::HistogramQuantile => (&args[1], &args[..1]),
            FunctionId::HistogramFraction => (&args[2], &args[..2]),
            FunctionId::HistogramQuantiles => (&args[0], &args[2..]),
            _ => return Err(mistyped(&args[0])),
        };
        let vector = self.vector(vector_arg, grid).await?;
        let mut params = Vec::new();
        for arg in quantile_args {
            params.push((self.scalar(arg, grid).await?, arg.span.start));
        }

        let mut groups = TableBuilder::default();
        let mut buckets = Vec::with_capacity(vector.table.len());
        let mut metrics: Vec<String> = Vec::new();
        for row in &vector.table.rows {
            let le = row.labels.get(BUCKET_LABEL).unwrap_or_default();
            let Some(upper) = histogram::upper_bound(le) else {
                buckets.push(Bucket::Malformed);
                continue;
            };
            let labels = row.labels.filter(|name| name != BUCKET_LABEL);
            let group = groups.number(SeriesRow { labels, drop_name: true })?;
            if group as usize == metrics.len() {
                metrics.push(row.labels.metric_name().to_owned());
            }
            buckets.push(Bucket::Of { group, upper });
        }
        let group_count = groups.len();
        let groups = groups.build();
        let metrics: Arc<[String]> = metrics.into();

        let mut functions: Vec<BucketFn> = Vec::new();
        let table = match call.function.id {
            FunctionId::HistogramFraction => {
                let (lower, upper) = (params[0].0.clone(), params[1].0.clone());
                functions.push(Arc::new(move |_, step, buckets| {
                    histogram::fraction(lower.at(step), upper.at(step), buckets)
                }));
                groups
            }
            FunctionId::HistogramQuantiles => {
                let label = texts(&args[1..2])?[0];
                let mut rows = Vec::with_capacity(groups.len() * params.len());
                for row in &groups.rows {
                    for (quantile, _) in &params {
                        let text = histogram::format_quantile(quantile.at(0));
                        let labels =
                            LabelsBuilder::from_labels(&row.labels).set(label, &text).build();
                        rows.push(SeriesRow { labels, drop_name: true });
                    }
                }
                for (quantile, position) in params {
                    functions.push(self.quantile(
                        quantile,
                        position,
                        vector_arg.span.start,
                        &metrics,
                        grid,
                    ));
                }
                Arc::new(SeriesTable { rows })
            }
            _ => {
                let (quantile, position) = params.remove(0);
                functions.push(self.quantile(
                    quantile,
                    position,
                    vector_arg.span.start,
                    &metrics,
                    grid,
                ));
                groups
            }
        };
        let malformed = self.malformed(&vector, vector_arg.span.start);
        let plan = Histogram::plan(
            vector.plan,
            call.function.name.to_owned(),
            (buckets.into(), group_count),
            functions,
            malformed,
            grid.steps(),
        );
        let vector = Vector::new(plan, table);
        match call.function.id {
            // Quantiles that are written alike clash if they meet.
            FunctionId::HistogramQuantiles => relabeled(vector, call, grid, false, |_| None),
            _ => Ok(vector),
        }
    }

    fn quantile(
        &self,
        quantile: Scalar,
        quantile_at: usize,
        vector_at: usize,
        metrics: &Arc<[String]>,
        grid: Grid,
    ) -> BucketFn {
        let (annotations, metrics) = (Arc::clone(&self.annotations), Arc::clone(metrics));
        for value in quantile.values() {
            annotations.check_quantile(*value, quantile_at);
        }
        Arc::new(move |group, step, buckets| {
            let (value, repair) = histogram::quantile(quantile.at(step), buckets);
            if let Some(repair) = repair {
                let at = grid.at(step);
                let repaired = Repaired {
                    first_ms: at,
                    last_ms: at,
                    bucket_min: repair.bucket_min,
                    bucket_max: repair.bucket_max,
                    difference_max: repair.difference_max,
                    count: 1,
                };
                annotations.repaired(&metrics[group as usize], vector_at, repaired);
            }
            value
        })
    }

    fn malformed(&self, vector: &Vector, position: usize) -> NoBucketFn {
        let (annotations, table) = (Arc::clone(&self.annotations), Arc::clone(&vector.table));
        Arc::new(move |row| {
            let labels: &Labels = table.labels(row);
            let le = quote(labels.get(BUCKET_LABEL).unwrap_or_default());
            let mut text =
                format!("bucket label \"le\" is missing or has a malformed value of {le}");
            if !labels.metric_name().is_empty() {
                text.push_str(&format!(" for metric name {}", quote(labels.metric_name())));
            }
            annotations.warn(text, position);
        })
    }
}
