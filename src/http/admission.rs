//! How many bytes of request bodies may be in memory at once.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::http::error::{ApiError, ErrorType};

/// Bytes are counted in units of this size.
const UNIT_BYTES: usize = 1 << 10;
/// Longest wait for a share.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// What errors call the bound.
const SETTING: &str = "--write-bytes-in-flight-max";

/// A number of bytes, handed out in shares.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    units: Semaphore,
    units_max: u32,
    wait_max: Duration,
}

/// Bytes taken from a budget, given back on drop.
#[derive(Debug)]
pub(crate) struct ByteShare<'a>(SemaphorePermit<'a>);

impl ByteBudget {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let units_max = units(bytes_max).max(1);
        Self { units: Semaphore::new(units_max as usize), units_max, wait_max: WAIT_MAX }
    }

    /// Takes `bytes`, waiting for others to give back theirs. A request for more than there is
    /// at all takes everything.
    pub(crate) async fn take(&self, bytes: usize) -> Result<ByteShare<'_>, ApiError> {
        let units = units(bytes).min(self.units_max);
        if let Ok(permit) = self.units.try_acquire_many(units) {
            return Ok(ByteShare(permit));
        }
        match tokio::time::timeout(self.wait_max, self.units.acquire_many(units)).await {
            Ok(Ok(permit)) => Ok(ByteShare(permit)),
            Ok(Err(_)) | Err(_) => Err(ApiError::new(
                ErrorType::Unavailable,
                format!(
                    "too many bytes of writes in flight: waited {}s for {bytes} of {} (setting {SETTING})",
                    self.wait_max.as_secs(),
                    self.units_max as usize * UNIT_BYTES,
                ),
            )),
        }
    }
}

impl ByteShare<'_> {
    /// Gives back what is above `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.0.num_permits().saturating_sub(units(bytes) as usize);
        drop(self.0.split(surplus));
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_share_waits_for_others_but_not_for_ever() {
        let mut budget = ByteBudget::new(10 << 10);
        budget.wait_max = Duration::from_millis(20);
        let mut first = budget.take(9 << 10).await.unwrap();
        let error = budget.take(2 << 10).await.unwrap_err();
        assert_eq!(error.kind, ErrorType::Unavailable);
        assert!(error.message.contains(SETTING), "{}", error.message);
        let mut waits = Box::pin(budget.take(2 << 10));
        assert!(futures::poll!(&mut waits).is_pending());
        first.shrink_to(8 << 10);
        waits.await.unwrap();
        drop(first);
        budget.take(100 << 20).await.unwrap();
    }
}
