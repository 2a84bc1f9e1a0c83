//! How long loops give way: others get their turn, and a query that nobody waits for ends.
//!
//! A task that is dropped, or is too late, ends where it next waits; one that never waits holds
//! its thread. So every loop whose length the data decides counts what it looks at.

/// Cells, samples or the like that are looked at between two moments at which others run: a
/// millisecond or so.
const LOOKS_MAX: usize = 1 << 19;

/// Counts work, and waits for a moment after so much of it.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    looks: usize,
}

impl Pace {
    /// Gives way at once, for those who are about to start.
    pub(crate) fn due() -> Self {
        Self { looks: LOOKS_MAX }
    }

    /// Counts looks at data that was just read, roughly two nanoseconds each.
    #[inline]
    pub(crate) fn count(&mut self, looks: usize) {
        self.looks = self.looks.saturating_add(looks);
    }

    /// Lets others run if it is time.
    #[inline]
    pub(crate) async fn breathe(&mut self) {
        if self.looks >= LOOKS_MAX {
            self.looks = 0;
            tokio::task::yield_now().await;
        }
    }

    /// Both at once.
    #[inline]
    pub(crate) async fn look(&mut self, looks: usize) {
        self.count(looks);
        self.breathe().await;
    }
}

/// A vector of so many equal items, however many those are.
pub(crate) async fn filled<T: Copy>(item: T, count: usize, pace: &mut Pace) -> Vec<T> {
    let mut items = Vec::with_capacity(count);
    while items.len() < count {
        items.resize(count.min(items.len() + LOOKS_MAX), item);
        pace.look(LOOKS_MAX).await;
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_loop_gives_way_now_and_then() {
        let mut pace = Pace::default();
        let yields = async |pace: &mut Pace, looks| {
            let mut looking = Box::pin(pace.look(looks));
            futures::poll!(&mut looking).is_pending()
        };
        assert!(!yields(&mut pace, LOOKS_MAX - 1).await);
        assert!(yields(&mut pace, 1).await);
        assert!(!yields(&mut pace, 1).await);
        assert!(yields(&mut Pace::due(), 0).await);
        let many = filled(7u8, 2 * LOOKS_MAX + 3, &mut pace).await;
        assert!(many.len() == 2 * LOOKS_MAX + 3 && many.iter().all(|item| *item == 7));
    }
}
