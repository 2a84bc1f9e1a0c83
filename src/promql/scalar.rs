//! A scalar: one number for each step of a grid.

use std::fmt;
use std::sync::Arc;

/// The value of a scalar expression on a grid. Scalars are known when a plan is made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    /// The same at every step.
    Const(f64),
    /// One value per step.
    Steps(Arc<[f64]>),
}

impl Scalar {
    #[inline]
    pub(crate) fn at(&self, step: usize) -> f64 {
        match self {
            Scalar::Const(value) => *value,
            Scalar::Steps(values) => values[step],
        }
    }

    /// All values that occur, at least one.
    pub(crate) fn values(&self) -> &[f64] {
        match self {
            Scalar::Const(value) => std::slice::from_ref(value),
            Scalar::Steps(values) => values,
        }
    }

    pub(crate) fn map(self, f: impl Fn(f64) -> f64) -> Self {
        match self {
            Scalar::Const(value) => Scalar::Const(f(value)),
            Scalar::Steps(values) => Scalar::Steps(values.iter().map(|value| f(*value)).collect()),
        }
    }

    pub(crate) fn zip(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        match (self, other) {
            (Scalar::Const(left), Scalar::Const(right)) => Scalar::Const(f(left, right)),
            (Scalar::Const(left), right) => right.map(|right| f(left, right)),
            (left, Scalar::Const(right)) => left.map(|left| f(left, right)),
            (Scalar::Steps(left), Scalar::Steps(right)) => Scalar::Steps(
                left.iter().zip(right.iter()).map(|(left, right)| f(*left, *right)).collect(),
            ),
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Const(value) => write!(f, "{value}"),
            Scalar::Steps(_) => f.write_str("<scalar>"),
        }
    }
}
