//! The one integration-test binary.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed, and its numbers are small"
)]

mod cli;
mod columnar;
mod differential;
mod engine;
mod equality;
mod export;
mod http;
mod kill;
mod layering;
mod promqltest;
mod remote_write;
mod rollups;
mod sql;
mod support;
