//! What is left of a request's body when its handler has answered already.
//!
//! A client that still sends reads its answer only later. Were the connection closed at once, it
//! would meet a reset while sending and never see why it was refused (a body that is too large, a
//! wrong parameter). So the rest of the body is read and thrown away, up to a bound.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// Bytes that are read and thrown away.
const DRAIN_BYTES_MAX: u64 = 256 << 20;
/// How long that may take.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);

/// A request's body that is drained if it is dropped before its end.
#[derive(Debug)]
pub(crate) struct DrainedBody {
    /// `None` once it is being drained.
    body: Option<Incoming>,
    /// Whether the client sends even if nobody asks: one that expects `100 Continue` waits.
    sends: bool,
}

impl DrainedBody {
    pub(crate) fn new(headers: &HeaderMap, body: Incoming) -> Self {
        Self { body: Some(body), sends: !headers.contains_key(header::EXPECT) }
    }
}

impl Body for DrainedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.sends = true;
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Drop for DrainedBody {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        // A body that is known to be longer than the bound is not worth its beginning.
        let worth = body.size_hint().lower() <= DRAIN_BYTES_MAX;
        if !body.is_end_stream() && self.sends && worth {
            tokio::spawn(tokio::time::timeout(DRAIN_WITHIN, drain(body)));
        }
    }
}

async fn drain(mut body: Incoming) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        if bytes > DRAIN_BYTES_MAX {
            tracing::debug!(bytes, "gave up on the rest of a refused body");
            return;
        }
    }
}
