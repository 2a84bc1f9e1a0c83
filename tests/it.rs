//! The one integration-test binary.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod columnar;
mod engine;
mod layering;
mod promqltest;
mod support;
