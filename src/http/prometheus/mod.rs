//! Prometheus' query API, as Grafana, promtool and client libraries call it.

mod admin_tsdb;
mod expression;
mod federate;
mod metadata;
mod query;
mod result;
mod series;
mod status;
mod stubs;

pub(crate) use admin_tsdb::{clean_tombstones, delete_series, snapshot};
pub(crate) use expression::{format_query, parse_query};
pub(crate) use federate::federate;
pub(crate) use metadata::metadata;
pub(crate) use query::{query, query_range};
pub(crate) use series::{label_names, label_values, series};
pub(crate) use status::{
    blocks, build_info, config, features, flags, runtime_info, tsdb, wal_replay,
};
pub(crate) use stubs::{
    alertmanagers, alerts, notifications, query_exemplars, rules, scrape_pools, target_metadata,
    targets,
};
