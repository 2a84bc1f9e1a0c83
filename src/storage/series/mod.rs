//! Series: raw keys that clients send, and their ids.

pub mod keys;

pub use keys::{KEY_CACHE_BYTES_MAX, KeyCache, KeyResolver, SeriesRegistry};
