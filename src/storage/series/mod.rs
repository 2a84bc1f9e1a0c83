//! Series: raw keys that clients send, ids, labels, and the index that matchers ask.

pub mod keys;
mod postings;
pub mod table;

pub use keys::{KEY_CACHE_BYTES_MAX, KeyCache, KeyResolver, SeriesRegistry};
pub use table::{RegistrationLog, SeriesTable};
