//! The front door of PromQL: a query and a snapshot in, a value out.
//!
//! Read walk: `http` → here → parser → plan → exec over `query::scan` → value.

use crate::model::Timestamp;
use crate::promql::error::PromqlError;
use crate::promql::parser::parse;
use crate::promql::value::QueryOutcome;
use crate::query::{QueryLimits, QuerySession};
use crate::storage::Snapshot;

/// How far back a selector looks for a sample, unless the query says otherwise.
pub const LOOKBACK_MS: i64 = 300_000;

/// One question.
///
/// ```no_run
/// # use aetherdb::promql::{Query, QueryKind, evaluate};
/// # async fn ask(session: &aetherdb::query::QuerySession, snapshot: &aetherdb::storage::Snapshot) {
/// let kind = QueryKind::Instant { time: 1_699_500_000_000 };
/// let query = Query::new("sum by (host) (rate(requests_total[5m]))", kind, session.limits());
/// let outcome = evaluate(snapshot, &query, session).await;
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub text: String,
    pub kind: QueryKind,
    pub lookback_ms: i64,
    pub limits: QueryLimits,
    pub explain: Explain,
}

impl Query {
    pub fn new(text: impl Into<String>, kind: QueryKind, limits: &QueryLimits) -> Self {
        Self {
            text: text.into(),
            kind,
            lookback_ms: LOOKBACK_MS,
            limits: *limits,
            explain: Explain::Off,
        }
    }
}

/// When a query is evaluated, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryKind {
    Instant { time: Timestamp },
    Range { start: Timestamp, end: Timestamp, step_ms: i64 },
}

/// Whether the outcome carries the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Explain {
    #[default]
    Off,
    /// The plan alone: nothing is read, the value is empty.
    Plan,
    /// The plan with what every node did.
    Analyze,
}

/// Answers a query over a snapshot. Dropping the future cancels the query.
pub async fn evaluate(
    snapshot: &Snapshot,
    query: &Query,
    session: &QuerySession,
) -> Result<QueryOutcome, PromqlError> {
    let expr = parse(&query.text)?;
    let _ = (snapshot, session);
    Err(PromqlError::not_supported(expr.to_string()))
}
