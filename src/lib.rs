#![doc = include_str!("../ARCHITECTURE.md")]

pub mod clock;
pub mod telemetry;

pub mod model;

pub mod columnar;
pub mod ingest;

pub mod storage;

pub mod query;

pub mod promql;

pub mod sql;

pub mod http;

pub mod config;

pub mod server;
