//! HTTP: routes, parameters, JSON and status codes, over the engine and PromQL.
//!
//! First on the write walk (`write`) and on the read walk (`prometheus`).
//!
//! Invariant: no other folder knows of HTTP, JSON answers or status codes, and nothing here
//! touches samples one by one except to print a result.

pub(crate) mod admin;
pub(crate) mod admission;
pub(crate) mod body;
pub(crate) mod downsample;
pub(crate) mod drain;
pub(crate) mod error;
pub(crate) mod export;
pub(crate) mod health;
pub(crate) mod json;
pub(crate) mod params;
pub(crate) mod prometheus;
pub(crate) mod respond;
pub(crate) mod router;
pub(crate) mod serve;
pub(crate) mod service;
pub(crate) mod sql;
pub(crate) mod ui;
pub(crate) mod write;

pub use params::{parse_duration_ms, parse_time};
pub use router::router;
pub use serve::serve;
pub use service::{HttpOptions, Service};
