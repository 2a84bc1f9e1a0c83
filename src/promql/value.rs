//! What a query answers.

use std::time::Duration;

use crate::model::{Labels, Timestamp};

/// The value of a query, of one of PromQL's four types.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Scalar {
        timestamp: Timestamp,
        value: f64,
    },
    String {
        timestamp: Timestamp,
        text: String,
    },
    /// What an instant query of an instant vector answers: sorted if the query sorts.
    Vector(Vec<VectorSample>),
    /// What a range query answers, and an instant query of a range vector; sorted by labels.
    Matrix(Vec<RangeSeries>),
}

impl Value {
    /// Prometheus' name of the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Scalar { .. } => "scalar",
            Value::String { .. } => "string",
            Value::Vector(_) => "vector",
            Value::Matrix(_) => "matrix",
        }
    }
}

/// One element of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSample {
    pub labels: Labels,
    pub timestamp: Timestamp,
    pub value: f64,
}

/// One element of a matrix: columns of equal length, ascending by time, never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeSeries {
    pub labels: Labels,
    pub timestamps: Vec<Timestamp>,
    pub values: Vec<f64>,
}

/// What a query answers and what there is to say about it.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryOutcome {
    pub value: Value,
    /// What may make the answer wrong.
    pub warnings: Vec<String>,
    /// What the one who asked may want to know.
    pub infos: Vec<String>,
    pub stats: QueryStats,
    /// The physical plan, if the query asked for it; with measurements if it was analyzed.
    pub plan: Option<String>,
}

/// What a query cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueryStats {
    /// Time spent waiting for a turn.
    pub queued: Duration,
    /// Time to parse, plan and select series.
    pub prepared: Duration,
    /// Time from the turn to the value.
    pub executed: Duration,
    /// Series that selectors found.
    pub series: u64,
    /// Samples read from storage.
    pub samples: u64,
    /// Chunks and bytes that were decoded for them.
    pub chunks: u64,
    pub bytes: u64,
    /// Most bytes of memory held at once.
    pub bytes_peak: u64,
}
