//! A body that is written by a thread and read by a connection, a bounded number of chunks apart.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::stream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::http::service::HttpOptions;

/// Bytes of one chunk.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks that are written and not yet read.
const CHUNKS_IN_FLIGHT_MAX: usize = 8;
/// Longest wait for a client to take a chunk.
const STALL_MAX: Duration = Duration::from_secs(300);

enum Piece {
    Chunk(Bytes),
    /// The body is whole.
    End,
}

/// Both ends of a body that must be whole within `time_max`.
pub(super) fn channel(
    time_max: Duration,
) -> (ChunkSender, impl Stream<Item = io::Result<Bytes>> + Send) {
    let (sender, receiver) = mpsc::channel(CHUNKS_IN_FLIGHT_MAX);
    let deadline = Instant::now() + time_max;
    let sender = ChunkSender {
        sender,
        buffer: Vec::new(),
        bytes: 0,
        deadline,
        time_max,
        runtime: Handle::current(),
    };
    // The stream ends well only behind `End`. A writer that stops before, by an error or a panic,
    // makes it fail, and that breaks the connection in the middle of the body.
    let body = stream::unfold(Some(receiver), |receiver| async {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Piece::Chunk(chunk)) => Some((Ok(chunk), Some(receiver))),
            Some(Piece::End) => None,
            None => Some((Err(io::Error::other("the export failed")), None)),
        }
    });
    (sender, body)
}

/// The writing end, for use on a thread that may block.
#[derive(Debug)]
pub(super) struct ChunkSender {
    sender: mpsc::Sender<Piece>,
    buffer: Vec<u8>,
    /// Handed over so far.
    bytes: u64,
    deadline: Instant,
    time_max: Duration,
    runtime: Handle,
}

impl ChunkSender {
    /// Fails once nobody reads any more, or the time is up.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.sender.is_closed() {
            return Err(gone());
        }
        if Instant::now() >= self.deadline { Err(self.too_late()) } else { Ok(()) }
    }

    /// Declares the body whole; tells how long it is.
    pub(super) fn end(mut self) -> io::Result<u64> {
        self.flush()?;
        self.send(Piece::End)?;
        Ok(self.bytes)
    }

    fn send(&self, piece: Piece) -> io::Result<()> {
        let wait_until = self.deadline.min(Instant::now() + STALL_MAX);
        match self.runtime.block_on(timeout_at(wait_until, self.sender.send(piece))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(gone()),
            Err(_) if Instant::now() >= self.deadline => Err(self.too_late()),
            Err(_) => {
                let seconds = STALL_MAX.as_secs();
                let reason = format!("the client has read nothing for {seconds}s");
                Err(io::Error::new(io::ErrorKind::TimedOut, reason))
            }
        }
    }

    fn too_late(&self) -> io::Error {
        let (limit, setting) = (self.time_max.as_secs(), HttpOptions::EXPORT_TIMEOUT_SETTING);
        let reason = format!("the export took longer than {limit}s (setting {setting})");
        io::Error::new(io::ErrorKind::TimedOut, reason)
    }
}

impl Write for ChunkSender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let next = Vec::with_capacity(CHUNK_BYTES);
        let chunk = std::mem::replace(&mut self.buffer, next);
        self.bytes += chunk.len() as u64;
        self.send(Piece::Chunk(Bytes::from(chunk)))
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the client is gone")
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, TryStreamExt};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    #[tokio::test]
    async fn a_body_ends_well_only_if_its_writer_says_so() {
        let (mut sender, body) = channel(LONG);
        let writing = on_thread(move || {
            sender.write_all(&[7; 3 * CHUNK_BYTES])?;
            sender.write_all(b"end")?;
            sender.end()
        });
        let (written, read) = futures::join!(writing, body.try_collect::<Vec<_>>());
        written.unwrap();
        assert_eq!(read.unwrap().concat().len(), 3 * CHUNK_BYTES + 3);

        let (mut sender, body) = channel(LONG);
        on_thread(move || sender.write_all(&[7; CHUNK_BYTES])).await.unwrap();
        let pieces: Vec<_> = body.collect().await;
        assert!(pieces[0].is_ok() && pieces[1].is_err() && pieces.len() == 2);
    }

    #[tokio::test]
    async fn a_writer_learns_that_nobody_reads() {
        let (mut sender, body) = channel(LONG);
        drop(body);
        assert!(sender.check().is_err());
        let error = on_thread(move || sender.write_all(&[7; CHUNK_BYTES])).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn the_time_is_bounded() {
        let (mut sender, body) = channel(Duration::from_millis(20));
        let chunks = (CHUNKS_IN_FLIGHT_MAX + 1) * CHUNK_BYTES;
        let writing = on_thread(move || {
            (0..chunks / CHUNK_BYTES).try_for_each(|_| sender.write_all(&[7; CHUNK_BYTES]))
        });
        let error = writing.await.unwrap_err();
        assert!(error.to_string().contains("--export-timeout"), "{error}");
        drop(body);
    }
}
