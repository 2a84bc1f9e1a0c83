//! Bodies: received into pooled buffers, within bounds of size, memory and time.

use std::ops::{Deref, DerefMut};

use axum::body::Body;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use parking_lot::Mutex;

use crate::http::admission::ByteShare;
use crate::http::error::{ApiError, ErrorType};
use crate::http::service::Service;
use crate::ingest::{Encoding, IngestError};

/// Buffers kept for the next request.
const BUFFERS_KEPT_MAX: usize = 16;
/// Larger buffers are given back to the allocator.
const BUFFER_BYTES_KEPT_MAX: usize = 16 << 20;
/// Work on more bytes than this is announced to the runtime, which then moves other tasks to
/// another thread.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// Buffers that have grown to the size of a body, for use by the next one.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    free: Mutex<Vec<Vec<u8>>>,
}

impl BufferPool {
    pub(crate) fn take(&self) -> PooledBuffer<'_> {
        let bytes = self.free.lock().pop().unwrap_or_default();
        PooledBuffer { bytes, pool: self }
    }
}

/// An empty buffer at first; goes back to its pool on drop.
#[derive(Debug)]
pub(crate) struct PooledBuffer<'a> {
    bytes: Vec<u8>,
    pool: &'a BufferPool,
}

impl Deref for PooledBuffer<'_> {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for PooledBuffer<'_> {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Drop for PooledBuffer<'_> {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        if bytes.capacity() == 0 || bytes.capacity() > BUFFER_BYTES_KEPT_MAX {
            return;
        }
        bytes.clear();
        let mut free = self.pool.free.lock();
        if free.len() < BUFFERS_KEPT_MAX {
            free.push(bytes);
        }
    }
}

/// A body as it came, with its share of memory.
#[derive(Debug)]
pub(crate) struct ReceivedBody<'a> {
    pub(crate) bytes: PooledBuffer<'a>,
    _share: ByteShare<'a>,
}

/// Reads a write request's body. Memory is reserved before the first byte is read.
pub(crate) async fn receive<'a>(
    service: &'a Service,
    headers: &HeaderMap,
    body: Body,
) -> Result<ReceivedBody<'a>, ApiError> {
    let max = service.options.limits.body_bytes_max;
    let declared = declared_len(headers);
    if declared.is_some_and(|len| len > max) {
        return Err(too_large(max));
    }
    let mut share = service.wire_budget.take(declared.unwrap_or(max)).await?;
    let mut bytes = service.buffers.take();
    bytes.reserve(declared.unwrap_or(0));
    read(service, body, max, &mut bytes).await?;
    share.shrink_to(bytes.len());
    Ok(ReceivedBody { bytes, _share: share })
}

/// Appends a body of at most `max` bytes to `out`.
pub(crate) async fn read(
    service: &Service,
    mut body: Body,
    max: usize,
    out: &mut Vec<u8>,
) -> Result<(), ApiError> {
    let wait_max = service.options.read_timeout;
    loop {
        let frame = tokio::time::timeout(wait_max, body.frame()).await.map_err(|_| {
            let seconds = wait_max.as_secs();
            ApiError::new(ErrorType::RequestTimeout, format!("no byte of the body for {seconds}s"))
        })?;
        let Some(frame) = frame else { return Ok(()) };
        let frame =
            frame.map_err(|error| ApiError::bad_data(format!("reading the body: {error}")))?;
        if let Ok(data) = frame.into_data() {
            if out.len() + data.len() > max {
                return Err(too_large(max));
            }
            out.extend_from_slice(&data);
        }
    }
}

/// The most bytes that `body` can become, by which memory is reserved before it is unpacked.
pub(crate) fn unpacked_bytes_max(
    service: &Service,
    encoding: Encoding,
    body: &[u8],
) -> Result<usize, ApiError> {
    let max = service.options.limits.decompressed_bytes_max;
    match encoding {
        Encoding::Snappy => match snap::raw::decompress_len(body) {
            Ok(len) => Ok(len.min(max)),
            Err(error) => {
                let reason = error.to_string();
                Err(ApiError::from(IngestError::Malformed { format: "snappy", reason }))
            }
        },
        _ => Ok(max),
    }
}

/// The `Content-Encoding`, `default` if there is none.
pub(crate) fn encoding(headers: &HeaderMap, default: Encoding) -> Result<Encoding, ApiError> {
    let Some(name) = headers.get(header::CONTENT_ENCODING) else { return Ok(default) };
    name.to_str().ok().and_then(Encoding::parse).ok_or_else(|| {
        ApiError::new(
            ErrorType::UnsupportedMediaType,
            format!("Content-Encoding {name:?}: send identity, gzip, deflate, zstd or snappy"),
        )
    })
}

/// Runs CPU work in place. Before a large piece the runtime hands the thread's other tasks to
/// another thread, so that health checks and small requests do not wait.
pub(crate) fn work<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes <= INLINE_BYTES_MAX { work() } else { tokio::task::block_in_place(work) }
}

fn declared_len(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(max: usize) -> ApiError {
    ApiError::new(
        ErrorType::TooLarge,
        format!("the body is over the limit of {max} bytes (setting --body-bytes-max)"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_empty_with_their_memory() {
        let pool = BufferPool::default();
        let mut buffer = pool.take();
        buffer.extend_from_slice(&[1; 1000]);
        let memory = buffer.as_ptr();
        drop(buffer);
        let again = pool.take();
        assert!(again.is_empty());
        assert_eq!(again.as_ptr(), memory);
        drop(again);
        let mut huge = pool.take();
        huge.reserve(BUFFER_BYTES_KEPT_MAX + 1);
        drop(huge);
        assert!(pool.free.lock().is_empty());
        let many: Vec<_> = (0..BUFFERS_KEPT_MAX * 2).map(|_| pool.take()).collect();
        for mut buffer in many {
            buffer.reserve(1);
        }
        assert_eq!(pool.free.lock().len(), BUFFERS_KEPT_MAX);
    }
}
