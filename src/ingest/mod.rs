//! Bytes from clients to resolved sample batches. Pure: no I/O, no async, no clock.
//!
//! Every parser takes a body, options and a [`SeriesResolver`], appends to a batch and tells what
//! it refused. The same bytes give the same batch; a bad line never hides a good one. A caller
//! that wants all or nothing throws the batch away when [`IngestOutcome::rejected`] is not zero.

pub mod decompress;
pub mod error;
pub mod exposition;
pub mod influx;
pub mod json_lines;
mod labels;
pub mod limits;
pub mod line_protocol;
mod lines;
mod number;
pub mod options;
pub mod remote_write;
pub mod resolver;

pub use decompress::{Encoding, decompress};
pub use error::{ErrorKind, IngestError, IngestOutcome, LineError, LineErrorCode};
pub use limits::{AcceptedTimes, Limits};
pub use number::parse_float;
pub use options::{ParseOptions, Precision};
pub use resolver::{
    Field, KeyFormat, KeyRef, Known, ResolveError, SeriesResolver, Shape, ShapeId, ShapeKey,
};

#[cfg(test)]
pub(crate) mod tests;
