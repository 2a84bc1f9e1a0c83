//! Arrow batches to bytes and back: codecs, block files, rollup files. Pure: no I/O, no async.
