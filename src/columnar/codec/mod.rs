//! One chunk of a series to bytes and back: [`timestamps`] and [`values`].
//!
//! Bottom up: `bits` packs words of equal width, `pfor` chooses the width and patches the
//! exceptions, `integers` chooses a transform that makes words narrow, and the two public codecs
//! turn their columns into such integers. Why these: `DESIGN.md` §5, measured in
//! `research/codec.md`.
//!
//! An encoder is reused for many chunks and then allocates nothing; decoding needs no scratch.
//! The bytes do not say how many samples they hold: whoever keeps them keeps the count.

pub(crate) mod bits;
pub(crate) mod decimal;
pub(crate) mod integers;
pub(crate) mod pfor;
pub(crate) mod simd;
pub(crate) mod varint;

pub mod timestamps;
pub mod values;

/// Most samples in one chunk, so that a damaged count cannot ask for much memory.
pub const CHUNK_SAMPLES_MAX: usize = 1 << 16;

/// Bytes that no encoder writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(pub(crate) &'static str);

/// Fixed seed unless `PROPTEST_RNG_SEED` says otherwise; more cases by `PROPTEST_CASES`.
#[cfg(test)]
pub(crate) fn test_config() -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, RngSeed};
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if matches!(config.rng_seed, RngSeed::Random) {
        config.rng_seed = RngSeed::Fixed(0xAE7E_4DB0);
    }
    config
}
