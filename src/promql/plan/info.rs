//! `info(v, {selector})`: labels of info series, such as `target_info`, added to the series that
//! they describe.
//!
//! Which labels a series gets depends on which info series is the newest at each step, so both
//! are run here.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher, Timestamp, is_stale};
use crate::promql::ast::{Call, Expr, ExprKind};
use crate::promql::error::PromqlError;
use crate::promql::exec::leaf::Rows;
use crate::promql::exec::map::SAME_LABELSET;
use crate::promql::exec::table::{SeriesRow, SeriesTable, TableBuilder};
use crate::promql::functions::range::{InstantKernel, InstantValue};
use crate::promql::plan::{Planner, Vector, mistyped};
use crate::query::pace::Pace;
use crate::query::{ABSENT, Grid};

/// Where info series come from, unless the call names others.
const TARGET_INFO: &str = "target_info";
/// What it costs to find the infos of one cell, in cells read.
const DESCRIBED_LOOKS: usize = 64;
/// The labels by which an info series and what it describes belong together.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

impl Planner {
    pub(super) async fn plan_info(&self, call: &Call, grid: Grid) -> Result<Vector, PromqlError> {
        let base = self.vector(&call.args[0], grid).await?;
        let wanted = Wanted::new(call.args.get(1))?;
        let mut series = Vec::new();
        for (number, cells) in self.run(&base.plan).await? {
            let row = base.table.rows[number as usize].clone();
            let described = !wanted.is_info(row.labels.metric_name());
            series.push(Series { row, cells, described });
        }
        let infos = match wanted.matchers(&series)? {
            Some(matchers) => {
                let (offset_ms, at) = self.reference(&call.args[0])?.unwrap_or_default();
                self.info_series(&matchers, offset_ms, at, grid).await?
            }
            None => Vec::new(),
        };
        join(&series, &infos, &wanted, grid).await
    }

    /// Offset and pinned time of the first selector in an expression: the info series are those
    /// of that time. Offsets of subqueries around it add up until one of them is pinned.
    fn reference(&self, expr: &Expr) -> Result<Option<(i64, Option<Timestamp>)>, PromqlError> {
        match &expr.kind {
            ExprKind::VectorSelector(selector) => self.shift(&selector.shift).map(Some),
            ExprKind::MatrixSelector(matrix) => self.shift(&matrix.selector.shift).map(Some),
            ExprKind::Subquery(subquery) => {
                let Some((offset_ms, at)) = self.reference(&subquery.operand)? else {
                    return Ok(None);
                };
                if at.is_some() {
                    return Ok(Some((offset_ms, at)));
                }
                let (own_ms, at) = self.shift(&subquery.shift)?;
                Ok(Some((offset_ms.saturating_add(own_ms), at)))
            }
            _ => {
                for child in expr.children() {
                    if let Some(found) = self.reference(child)? {
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            }
        }
    }

    /// The info series that match, with the time of their newest sample at each step.
    async fn info_series(
        &self,
        matchers: &[Matcher],
        offset_ms: i64,
        at: Option<Timestamp>,
        grid: Grid,
    ) -> Result<Vec<(Labels, Vec<f64>)>, PromqlError> {
        let wanted = InstantValue::Timestamp;
        let kernel = InstantKernel { offset_ms, at, lookback_ms: self.lookback_ms, wanted };
        let infos = self.plan_matching(matchers, "info".to_owned(), kernel, grid).await?;
        let rows = self.run(&infos.plan).await?;
        Ok(rows.into_iter().map(|(row, at)| (infos.table.labels(row).clone(), at)).collect())
    }
}

/// A series to be described.
struct Series {
    row: SeriesRow,
    cells: Vec<f64>,
    /// Info series are not described themselves.
    described: bool,
}

/// What the second argument asks for.
struct Wanted {
    /// Matchers of the info series' names.
    names: Vec<Matcher>,
    /// Matchers of the labels that are added; without any, all labels are.
    labels: BTreeMap<String, Vec<Matcher>>,
}

impl Wanted {
    fn new(selector: Option<&Expr>) -> Result<Self, PromqlError> {
        let mut wanted = Self { names: Vec::new(), labels: BTreeMap::new() };
        if let Some(selector) = selector {
            let ExprKind::VectorSelector(selector) = &selector.without_parens().kind else {
                return Err(mistyped(selector));
            };
            for matcher in &selector.matchers {
                if matcher.name() == METRIC_NAME {
                    wanted.names.push(matcher.clone());
                } else {
                    let name = matcher.name().to_owned();
                    wanted.labels.entry(name).or_default().push(matcher.clone());
                }
            }
        }
        if wanted.names.is_empty() {
            wanted.names.push(Matcher::equal(METRIC_NAME, TARGET_INFO));
        } else if wanted.names.iter().all(|matcher| matcher.op().is_negative()) {
            let infos = Matcher::new(MatchOp::Regex, METRIC_NAME, ".+_info")
                .map_err(|error| PromqlError::execution(error.to_string()))?;
            wanted.names.insert(0, infos);
        }
        Ok(wanted)
    }

    fn is_info(&self, metric: &str) -> bool {
        self.names.iter().all(|matcher| matcher.matches(metric))
    }

    /// Selects the info series that can describe any of these; `None` if none can.
    fn matchers(&self, series: &[Series]) -> Result<Option<Vec<Matcher>>, PromqlError> {
        let mut matchers: Vec<Matcher> = self.labels.values().flatten().cloned().collect();
        let known = matchers.len();
        for name in IDENTIFYING {
            let described = series.iter().filter(|series| series.described);
            let mut values: Vec<&str> =
                described.filter_map(|series| series.row.labels.get(name)).collect();
            values.sort_unstable();
            values.dedup();
            if !values.is_empty() {
                let values: Vec<String> = values.into_iter().map(regex::escape).collect();
                let matcher = Matcher::new(MatchOp::Regex, name, values.join("|"));
                matchers.push(matcher.map_err(|error| PromqlError::execution(error.to_string()))?);
            }
        }
        if matchers.len() == known {
            return Ok(None);
        }
        matchers.extend(self.names.iter().cloned());
        Ok(Some(matchers))
    }

    /// Whether a series that no info describes is left out.
    fn needs_info(&self) -> bool {
        self.labels.values().flatten().any(|matcher| !matcher.matches_empty())
    }

    /// The series' labels with those of its infos.
    fn joined(&self, base: &Labels, infos: &[&Labels]) -> Result<Labels, PromqlError> {
        let mut added: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, value) in infos.iter().flat_map(|labels| labels.iter()) {
            if name == METRIC_NAME || !self.labels.is_empty() && !self.labels.contains_key(name) {
                continue;
            }
            if added.get(name).is_some_and(|known| *known != value) {
                return Err(PromqlError::execution(format!("conflicting label: {name}")));
            }
            if base.get(name).is_none() {
                added.insert(name, value);
            }
        }
        let mut builder = LabelsBuilder::from_labels(base);
        for (name, value) in added {
            builder.set(name, value);
        }
        Ok(builder.build())
    }
}

/// The identifying labels of a series.
fn identity(labels: &Labels) -> Labels {
    labels.filter(|name| IDENTIFYING.contains(&name))
}

/// Info series of one name that describe the same thing.
struct Versions<'a> {
    of: Labels,
    /// Number of each one among all info series.
    members: Vec<usize>,
    times: &'a [(Labels, Vec<f64>)],
}

impl Versions<'_> {
    /// The newest one at a step.
    fn newest(&self, step: usize) -> Result<Option<usize>, PromqlError> {
        let mut newest: Option<usize> = None;
        for member in &self.members {
            let time = self.times[*member].1[step];
            if is_stale(time) {
                continue;
            }
            let Some(known) = newest else {
                newest = Some(*member);
                continue;
            };
            let known_time = self.times[known].1[step];
            if time == known_time {
                let (one, two) = (&self.times[known].0, &self.times[*member].0);
                let at = time * 1_000.0;
                return Err(PromqlError::execution(format!(
                    "found duplicate series for info metric: existing {one} @ {at}, new {two} @ {at}"
                )));
            }
            if time > known_time {
                newest = Some(*member);
            }
        }
        Ok(newest)
    }
}

async fn join(
    series: &[Series],
    infos: &[(Labels, Vec<f64>)],
    wanted: &Wanted,
    grid: Grid,
) -> Result<Vector, PromqlError> {
    let mut groups: BTreeMap<(Labels, &str), Vec<usize>> = BTreeMap::new();
    for (number, (labels, _)) in infos.iter().enumerate() {
        groups.entry((identity(labels), labels.metric_name())).or_default().push(number);
    }
    let versions = groups
        .into_iter()
        .map(|((of, _), members)| Versions { of, members, times: infos })
        .collect::<Vec<_>>();
    let mut by_identity: HashMap<&Labels, Vec<usize>> = HashMap::new();
    let mut pace = Pace::default();
    // The info series of each kind that counts at each step.
    let mut newest: Vec<Vec<Option<usize>>> = Vec::with_capacity(versions.len());
    for (number, versions) in versions.iter().enumerate() {
        by_identity.entry(&versions.of).or_default().push(number);
        pace.look(versions.members.len() * grid.steps()).await;
        newest.push((0..grid.steps()).map(|step| versions.newest(step)).collect::<Result<_, _>>()?);
    }
    let mut output =
        Output { steps: grid.steps(), table: TableBuilder::default(), rows: Vec::new() };
    for series in series {
        let kinds = match series.described {
            true => by_identity.get(&identity(&series.row.labels)).map_or(&[][..], Vec::as_slice),
            false => &[],
        };
        let mut known: HashMap<Vec<usize>, Option<u32>> = HashMap::new();
        let present = series.cells.iter().enumerate().filter(|(_, cell)| !is_stale(**cell));
        for (step, cell) in present {
            let found: Vec<usize> = kinds.iter().filter_map(|kind| newest[*kind][step]).collect();
            let number = match known.get(&found) {
                Some(number) => *number,
                None => {
                    let number = output.number(series, &found, infos, wanted)?;
                    known.insert(found, number);
                    number
                }
            };
            if let Some(number) = number {
                output.put(number, step, *cell)?;
            }
        }
        pace.look(grid.steps() * DESCRIBED_LOOKS).await;
    }
    Ok(output.build())
}

/// The described series as they are made.
struct Output {
    steps: usize,
    table: TableBuilder,
    rows: Vec<Vec<f64>>,
}

impl Output {
    /// The row of a series that these infos describe, if it has one.
    fn number(
        &mut self,
        series: &Series,
        found: &[usize],
        infos: &[(Labels, Vec<f64>)],
        wanted: &Wanted,
    ) -> Result<Option<u32>, PromqlError> {
        if series.described && found.is_empty() && wanted.needs_info() {
            return Ok(None);
        }
        let found: Vec<&Labels> = found.iter().map(|info| &infos[*info].0).collect();
        let labels = wanted.joined(&series.row.labels, &found)?;
        let row = SeriesRow { labels, drop_name: series.row.drop_name };
        let number = self.table.number(row)?;
        if number as usize == self.rows.len() {
            self.rows.push(vec![ABSENT; self.steps]);
        }
        Ok(Some(number))
    }

    fn put(&mut self, number: u32, step: usize, cell: f64) -> Result<(), PromqlError> {
        let known = &mut self.rows[number as usize][step];
        if !is_stale(*known) {
            return Err(PromqlError::execution(SAME_LABELSET));
        }
        *known = cell;
        Ok(())
    }

    fn build(self) -> Vector {
        let rows = (0u32..).zip(self.rows.into_iter().map(Arc::from)).collect();
        let table: Arc<SeriesTable> = self.table.build();
        Vector::new(Rows::plan("info", self.steps, rows), table)
    }
}
