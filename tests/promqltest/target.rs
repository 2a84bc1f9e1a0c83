//! What evaluations are asked of: the engine in this process, or the HTTP API.

use aetherdb::promql::{Query, QueryKind, Value, evaluate};
use aetherdb::query::QuerySession;
use aetherdb::storage::Snapshot;
use tokio::runtime::Runtime;

use crate::promqltest::store::Store;

/// What came back of a query.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) value: Value,
    pub(crate) warnings: Vec<String>,
    pub(crate) infos: Vec<String>,
}

pub(crate) trait Target {
    /// Makes what the store holds all the data there is.
    fn load(&mut self, store: &Store);

    /// The answer, or the text of the error.
    fn ask(&self, query: &str, kind: QueryKind) -> Result<Answer, String>;
}

/// The front door of PromQL, over a part in memory.
pub(crate) struct InProcess {
    runtime: Runtime,
    session: QuerySession,
    snapshot: Snapshot,
}

impl InProcess {
    pub(crate) fn new(session: QuerySession) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { runtime, session, snapshot: Store::default().snapshot() }
    }
}

impl Target for InProcess {
    fn load(&mut self, store: &Store) {
        self.snapshot = store.snapshot();
    }

    fn ask(&self, query: &str, kind: QueryKind) -> Result<Answer, String> {
        let query = Query::new(query, kind, self.session.limits());
        let outcome = self
            .runtime
            .block_on(evaluate(&self.snapshot, &query, &self.session))
            .map_err(|error| error.to_string())?;
        Ok(Answer { value: outcome.value, warnings: outcome.warnings, infos: outcome.infos })
    }
}
