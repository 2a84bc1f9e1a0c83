//! Raw keys that have been seen, with their series: the cache behind [`SeriesResolver`].
//!
//! One generation fills up; when it is half of the bound, the next starts and the full one is
//! kept to be asked after it, so that what is in use moves on and the rest is forgotten. Label
//! order permutations and escapes make any number of raw keys for one series, so a bound is due.
//!
//! Reading takes no lock: entries lie in append-only segments and are found by their number, by
//! open-addressed slots of numbers, or by the link from the key that they followed last time.
//! Writers of one generation take turns.
//!
//! Invariant: a key's bytes and shape are compared before its series are given.
//! Invariant: links join keys of one scope (format and added labels), so a prediction is never
//! read in another format.

mod generation;
mod slots;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::RwLock;
use xxhash_rust::xxh3::xxh3_64_with_secret;

use crate::ingest::{KeyFormat, KeyRef, Known, ResolveError, SeriesResolver};
use crate::ingest::{ShapeId, ShapeKey};
use crate::model::{Labels, SeriesRef};
use crate::storage::StorageError;
use crate::storage::series::keys::generation::{Entry, Generation, InternedShape, SeriesOfKey};
use crate::telemetry::Telemetry;

/// Memory that a store's key cache takes at most, both generations together.
pub const KEY_CACHE_BYTES_MAX: usize = 1 << 30;

/// Keys whose waits for memory overlap in [`SeriesResolver::find_many`].
const LOOKUPS_AT_ONCE: usize = 32;
/// Shapes that a request remembers before it asks the generation again.
const REQUEST_SHAPES_MAX: usize = 64;
/// No key; numbers in links and slots are one higher than the entry's.
const NONE: u32 = 0;

/// Gives series their ids; the series table does.
pub trait SeriesRegistry {
    /// The id of the series with these labels, new if there is none.
    fn get_or_register(&self, labels: &Labels) -> Result<SeriesRef, StorageError>;
}

/// Raw keys and their series, shared by all workers.
pub struct KeyCache {
    generations: RwLock<Generations>,
    /// Of this process alone, so that clients cannot choose keys that collide.
    secret: [u8; 192],
    bytes_max: usize,
    telemetry: Arc<Telemetry>,
}

#[derive(Clone)]
struct Generations {
    current: Arc<Generation>,
    previous: Arc<Generation>,
}

impl KeyCache {
    pub fn new(bytes_max: usize, telemetry: Arc<Telemetry>) -> Self {
        let mut secret = [0; 192];
        for word in secret.chunks_exact_mut(8) {
            word.copy_from_slice(&RandomState::new().hash_one(0).to_le_bytes());
        }
        let generation = || Arc::new(Generation::new(bytes_max / 2));
        Self {
            generations: RwLock::new(Generations { current: generation(), previous: generation() }),
            secret,
            bytes_max,
            telemetry,
        }
    }

    /// A resolver for one request; new series come from `registry`.
    pub fn resolver<'a, R: SeriesRegistry>(&'a self, registry: &'a R) -> KeyResolver<'a, R> {
        let mut generations = self.generations.read().clone();
        if generations.current.is_full() {
            let mut shared = self.generations.write();
            if shared.current.is_full() {
                let full = std::mem::replace(
                    &mut shared.current,
                    Arc::new(Generation::new(self.bytes_max / 2)),
                );
                shared.previous = full;
            }
            generations = shared.clone();
        }
        KeyResolver {
            cache: self,
            registry,
            current: generations.current,
            previous: generations.previous,
            shapes: Vec::new(),
            last: NONE,
            resolved: 0,
            remembered: 0,
            missed: 0,
        }
    }

    /// Bytes that keys and entries take.
    pub fn bytes(&self) -> usize {
        let generations = self.generations.read();
        generations.current.bytes.load(Ordering::Relaxed)
            + generations.previous.bytes.load(Ordering::Relaxed)
    }

    fn hash(&self, shape: u32, key: &[u8]) -> u32 {
        // The high half is the better mixed one; the shape only has to tell neighbours apart,
        // since the whole key is compared.
        let hash = xxh3_64_with_secret(key, &self.secret) >> 32;
        u32::try_from(hash).expect("half of 64 bits") ^ shape.wrapping_mul(0x9e37_79b1)
    }
}

impl std::fmt::Debug for KeyCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyCache").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

/// One request's view of a [`KeyCache`].
pub struct KeyResolver<'a, R> {
    cache: &'a KeyCache,
    registry: &'a R,
    current: Arc<Generation>,
    previous: Arc<Generation>,
    /// The request's shapes; few.
    shapes: Vec<RequestShape>,
    /// The current key's number, one higher.
    last: u32,
    /// For telemetry: keys used, those of them that were new, and all that were new.
    resolved: u64,
    remembered: u64,
    missed: u64,
}

struct RequestShape {
    interned: Arc<InternedShape>,
    /// Its number in the generation before.
    previous: Option<u32>,
}

impl<R> KeyResolver<'_, R> {
    fn entry(&self, key: KeyRef) -> &Entry {
        self.current.entries.get(key.0).expect("a KeyRef is the number of an entry")
    }

    fn request_shape(&self, shape: ShapeId) -> &RequestShape {
        let of_id = |known: &&RequestShape| known.interned.id == shape.0;
        self.shapes.iter().rev().find(of_id).expect("a ShapeId was given by this resolver")
    }

    /// Looks into the generation before, and brings what is found into the current one.
    fn promote(&self, shape: ShapeId, key: &[u8]) -> Option<KeyRef> {
        let shape = self.request_shape(shape);
        let hash = self.cache.hash(shape.previous?, key);
        let old = self.previous.find(hash, shape.previous?, key)?;
        let series = self.previous.entries.get(old)?.series.clone();
        let hash = self.cache.hash(shape.interned.id, key);
        self.current.insert(hash, key, &shape.interned, series).map(KeyRef)
    }
}

impl<R: SeriesRegistry> SeriesResolver for KeyResolver<'_, R> {
    fn start(&mut self) {
        self.last = NONE;
    }

    fn shape(&mut self, shape: &ShapeKey) -> Option<ShapeId> {
        let bytes = shape.as_bytes();
        if let Some(known) = self.shapes.iter().rev().find(|known| *known.interned.key == *bytes) {
            return Some(ShapeId(known.interned.id));
        }
        let interned = self.current.intern(shape)?;
        // Keys of this format hold numbers of their generation's entries.
        let previous = match shape.format() {
            KeyFormat::RemoteWriteV2 => None,
            _ => self.previous.shape_id(bytes),
        };
        let id = interned.id;
        if self.shapes.len() == REQUEST_SHAPES_MAX {
            self.shapes.remove(0);
        }
        self.shapes.push(RequestShape { interned, previous });
        Some(ShapeId(id))
    }

    #[inline]
    fn predict(&self, input: &[u8]) -> Option<Known<'_>> {
        let last = self.current.entries.get(self.last.checked_sub(1)?)?;
        let next = last.next.load(Ordering::Relaxed).checked_sub(1)?;
        let entry = self.current.entries.get(next)?;
        input.starts_with(&entry.key).then(|| entry.known(KeyRef(next)))
    }

    #[inline]
    fn known(&self, key: KeyRef) -> Known<'_> {
        self.entry(key).known(key)
    }

    fn find(&mut self, shape: ShapeId, key: &[u8]) -> Option<KeyRef> {
        let hash = self.cache.hash(shape.0, key);
        match self.current.find(hash, shape.0, key) {
            Some(number) => Some(KeyRef(number)),
            None => self.promote(shape, key),
        }
    }

    fn find_many(&mut self, keys: &[(ShapeId, &[u8])], found: &mut Vec<Option<KeyRef>>) {
        found.clear();
        for keys in keys.chunks(LOOKUPS_AT_ONCE) {
            // Each pass makes loads that do not depend on each other, so that the processor waits
            // for them together: first slots, then entries, then keys.
            let slots = self.current.slots.load();
            let mut hashes = [0; LOOKUPS_AT_ONCE];
            for ((shape, key), hash) in keys.iter().zip(&mut hashes) {
                *hash = self.cache.hash(shape.0, key);
            }
            let mut numbers = [NONE; LOOKUPS_AT_ONCE];
            for (hash, number) in hashes[..keys.len()].iter().zip(&mut numbers) {
                *number = slots.first(*hash);
            }
            let mut entries = [None; LOOKUPS_AT_ONCE];
            for (number, entry) in numbers[..keys.len()].iter().zip(&mut entries) {
                *entry = number.checked_sub(1).and_then(|number| self.current.entries.get(number));
            }
            let mut likely = [false; LOOKUPS_AT_ONCE];
            for (((_, key), entry), likely) in keys.iter().zip(entries).zip(&mut likely) {
                *likely = entry.is_some_and(|entry| entry.key.last() == key.last());
            }
            drop(slots);
            for (index, (shape, key)) in keys.iter().enumerate() {
                let is = |entry: &Entry| likely[index] && entry.is(shape.0, key);
                let known = match entries[index] {
                    Some(entry) if is(entry) => Some(KeyRef(numbers[index] - 1)),
                    _ => match self.current.find(hashes[index], shape.0, key) {
                        Some(number) => Some(KeyRef(number)),
                        None => self.promote(*shape, key),
                    },
                };
                found.push(known);
            }
        }
    }

    #[inline]
    fn advance(&mut self, key: KeyRef) -> bool {
        self.resolved += 1;
        let last = std::mem::replace(&mut self.last, key.0 + 1);
        let Some(last) = last.checked_sub(1) else { return true };
        let last = self.entry(KeyRef(last));
        let expected = last.next.load(Ordering::Relaxed) == key.0 + 1;
        if !expected {
            let entry = self.entry(key);
            if Arc::ptr_eq(&entry.shape, &last.shape)
                || entry.shape.shape.scope == last.shape.shape.scope
            {
                last.next.store(key.0 + 1, Ordering::Relaxed);
            }
        }
        expected
    }

    fn register(
        &mut self,
        shape: Option<ShapeId>,
        key: &[u8],
        labels: &[Labels],
        series: &mut Vec<SeriesRef>,
    ) -> Result<Option<KeyRef>, ResolveError> {
        self.missed += 1;
        let start = series.len();
        for labels in labels {
            series.push(self.registry.get_or_register(labels).map_err(|error| match error {
                StorageError::LimitReached { .. } => ResolveError::Refused(error.to_string()),
                error => ResolveError::Failed(Box::new(error)),
            })?);
        }
        let Some(shape) = shape else { return Ok(None) };
        let hash = self.cache.hash(shape.0, key);
        let interned = &self.request_shape(shape).interned;
        let series = SeriesOfKey::from(&series[start..]);
        let known = self.current.insert(hash, key, interned, series).map(KeyRef);
        self.remembered += u64::from(known.is_some());
        Ok(known)
    }
}

impl<R> Drop for KeyResolver<'_, R> {
    fn drop(&mut self) {
        self.cache.telemetry.key_cache_hits.add(self.resolved.saturating_sub(self.remembered));
        self.cache.telemetry.key_cache_misses.add(self.missed);
    }
}

#[cfg(test)]
mod tests;
