//! One generation of raw keys: entries that never move, and the shapes that they have.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::ingest::{KeyRef, Known, Shape, ShapeId, ShapeKey};
use crate::model::SeriesRef;
use crate::storage::series::keys::NONE;
use crate::storage::series::keys::slots::Slots;

/// What an entry takes beside its key: itself, its slots, and the allocators' share.
const ENTRY_BYTES: usize = size_of::<OnceLock<Entry>>() + 4 * size_of::<AtomicU64>() + 16;
const SEGMENT_BITS: u32 = 12;
const SEGMENT_LEN: usize = 1 << SEGMENT_BITS;

/// A known raw key.
pub(super) struct Entry {
    pub(super) key: Box<[u8]>,
    pub(super) series: SeriesOfKey,
    pub(super) shape: Arc<InternedShape>,
    /// The key that followed last time, one higher; a guess, so order of memory does not matter.
    pub(super) next: AtomicU32,
}

impl Entry {
    pub(super) fn is(&self, shape: u32, key: &[u8]) -> bool {
        *self.key == *key && self.shape.id == shape
    }

    #[inline]
    pub(super) fn known(&self, key: KeyRef) -> Known<'_> {
        Known {
            key,
            key_len: self.key.len(),
            shape_id: ShapeId(self.shape.id),
            shape: &self.shape.shape,
            series: self.series.as_slice(),
        }
    }
}

/// Most keys have one series, and it needs no allocation of its own.
#[derive(Clone)]
pub(super) enum SeriesOfKey {
    One(SeriesRef),
    Many(Box<[SeriesRef]>),
}

impl SeriesOfKey {
    #[inline]
    pub(super) fn as_slice(&self) -> &[SeriesRef] {
        match self {
            SeriesOfKey::One(series) => std::slice::from_ref(series),
            SeriesOfKey::Many(series) => series,
        }
    }
}

impl From<&[SeriesRef]> for SeriesOfKey {
    fn from(series: &[SeriesRef]) -> Self {
        match series {
            [one] => SeriesOfKey::One(*one),
            many => SeriesOfKey::Many(Box::from(many)),
        }
    }
}

pub(super) struct InternedShape {
    pub(super) id: u32,
    pub(super) key: Box<[u8]>,
    pub(super) shape: Shape,
}

/// Keys that came up since the generation began.
pub(super) struct Generation {
    pub(super) entries: Segments<Entry>,
    pub(super) slots: ArcSwap<Slots>,
    /// Held while something is added.
    writer: Mutex<Writer>,
    pub(super) bytes: AtomicUsize,
    bytes_max: usize,
}

#[derive(Default)]
struct Writer {
    entries: u32,
    shapes: HashMap<Box<[u8]>, Arc<InternedShape>>,
}

impl Generation {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            entries: Segments::new(bytes_max / ENTRY_BYTES + 1),
            slots: ArcSwap::from_pointee(Slots::new()),
            writer: Mutex::default(),
            bytes: AtomicUsize::new(0),
            bytes_max,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.bytes_max
    }

    pub(super) fn find(&self, hash: u32, shape: u32, key: &[u8]) -> Option<u32> {
        self.slots
            .load()
            .find(hash, |number| self.entries.get(number).is_some_and(|entry| entry.is(shape, key)))
    }

    /// Adds an entry, or finds that another worker did; `None` if the generation is full.
    pub(super) fn insert(
        &self,
        hash: u32,
        key: &[u8],
        shape: &Arc<InternedShape>,
        series: SeriesOfKey,
    ) -> Option<u32> {
        let mut writer = self.writer.lock();
        if let Some(number) = self.find(hash, shape.id, key) {
            return Some(number);
        }
        if self.is_full() {
            return None;
        }
        let number = writer.entries;
        let bytes = ENTRY_BYTES + key.len() + size_of_val(series.as_slice());
        let entry = Entry {
            key: Box::from(key),
            series,
            shape: Arc::clone(shape),
            next: AtomicU32::new(NONE),
        };
        self.entries.set(number, entry)?;
        writer.entries += 1;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut slots = self.slots.load_full();
        if !slots.has_room_for(number) {
            slots = Arc::new(slots.grown());
            self.slots.store(Arc::clone(&slots));
        }
        slots.put(hash, number);
        Some(number)
    }

    pub(super) fn intern(&self, shape: &ShapeKey) -> Option<Arc<InternedShape>> {
        let mut writer = self.writer.lock();
        if let Some(known) = writer.shapes.get(shape.as_bytes()) {
            return Some(Arc::clone(known));
        }
        if self.is_full() {
            return None;
        }
        let id = u32::try_from(writer.shapes.len()).ok()?;
        let key: Box<[u8]> = Box::from(shape.as_bytes());
        // The key stands here twice, and once more as fields.
        self.bytes.fetch_add(ENTRY_BYTES + 3 * key.len(), Ordering::Relaxed);
        let interned = Arc::new(InternedShape { id, key: key.clone(), shape: shape.to_shape() });
        writer.shapes.insert(key, Arc::clone(&interned));
        Some(interned)
    }

    pub(super) fn shape_id(&self, shape: &[u8]) -> Option<u32> {
        self.writer.lock().shapes.get(shape).map(|interned| interned.id)
    }
}

/// An array that grows without moving, read without a lock.
pub(super) struct Segments<T>(Box<[OnceLock<Segment<T>>]>);

type Segment<T> = Box<[OnceLock<T>]>;

impl<T> Segments<T> {
    fn new(len_max: usize) -> Self {
        Self((0..len_max.div_ceil(SEGMENT_LEN)).map(|_| OnceLock::new()).collect())
    }

    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<&T> {
        let segment = self.0.get((number >> SEGMENT_BITS) as usize)?.get()?;
        segment.get(number as usize % SEGMENT_LEN)?.get()
    }

    /// Fills a place for the first time; `None` if there is no such place.
    fn set(&self, number: u32, value: T) -> Option<()> {
        let segment = self.0.get((number >> SEGMENT_BITS) as usize)?;
        let segment = segment.get_or_init(|| (0..SEGMENT_LEN).map(|_| OnceLock::new()).collect());
        segment.get(number as usize % SEGMENT_LEN)?.set(value).ok()
    }
}
