//! Hashes to numbers of entries: a table that is read while it is written.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::storage::series::keys::NONE;

const SLOTS_MIN: usize = 1 << 10;

/// Open addressing with linear probing; a slot holds the hash and the entry's number, one higher.
/// Nothing is ever removed, and at most half of the slots are taken.
pub(super) struct Slots {
    slots: Box<[AtomicU64]>,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self::with_len(SLOTS_MIN)
    }

    fn with_len(len: usize) -> Self {
        Self { slots: (0..len).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Whether half of the slots stay free with entries up to `number`.
    pub(super) fn has_room_for(&self, number: u32) -> bool {
        (number as usize + 1) * 2 <= self.slots.len()
    }

    #[inline]
    fn slots_from(&self, hash: u32) -> impl Iterator<Item = &AtomicU64> {
        let start = hash as usize & (self.slots.len() - 1);
        self.slots[start..].iter().chain(&self.slots[..start])
    }

    /// The first number under `hash`, one higher.
    #[inline]
    pub(super) fn first(&self, hash: u32) -> u32 {
        self.find(hash, |_| true).map_or(NONE, |number| number + 1)
    }

    #[inline]
    pub(super) fn find(&self, hash: u32, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        for slot in self.slots_from(hash) {
            // Pairs with `put`: who sees the number sees the entry.
            let (slot_hash, number) = unpack(slot.load(Ordering::Acquire));
            let number = number.checked_sub(1)?;
            if slot_hash == hash && is(number) {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn put(&self, hash: u32, number: u32) {
        let free = self
            .slots_from(hash)
            .find(|slot| slot.load(Ordering::Relaxed) == 0)
            .expect("half of the slots are free");
        free.store(u64::from(hash) << 32 | u64::from(number + 1), Ordering::Release);
    }

    pub(super) fn grown(&self) -> Self {
        let grown = Self::with_len(self.slots.len() * 2);
        for slot in &self.slots {
            let (hash, number) = unpack(slot.load(Ordering::Relaxed));
            if let Some(number) = number.checked_sub(1) {
                grown.put(hash, number);
            }
        }
        grown
    }
}

/// Hash and number of a slot.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "takes a word apart into its halves")]
fn unpack(slot: u64) -> (u32, u32) {
    ((slot >> 32) as u32, slot as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_hashes_are_told_apart_by_who_asks() {
        let mut slots = Slots::new();
        for number in 0..2000 {
            if !slots.has_room_for(number) {
                slots = slots.grown();
            }
            // All in one chain, and every hash twice.
            slots.put((number / 2) << 20, number);
        }
        for number in 0..2000 {
            let hash = (number / 2) << 20;
            assert_eq!(slots.find(hash, |candidate| candidate == number), Some(number));
            assert_eq!(slots.find(hash, |_| false), None);
        }
        assert_eq!(slots.find(1, |_| true), None);
    }
}
