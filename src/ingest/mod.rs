//! Bytes from clients to resolved sample batches. Pure: no I/O, no async, no clock.
