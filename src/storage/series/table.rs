//! All series that the store knows: labels to ids and back, and which ids matchers select.
//!
//! Registration takes one shard's lock and touches no index; the index (`postings`) catches up
//! when it is asked, so that it sees every series that is registered by then.
//!
//! Invariant: a series' registration is in the log before anybody can learn its id.
//! Invariant: ids are given once; one that was given is never given to another series.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use hashbrown::HashTable;
use parking_lot::{Mutex, RwLock};
use roaring::RoaringBitmap;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::model::{Labels, Matcher, SeriesRef};
use crate::storage::error::StorageError;
use crate::storage::series::keys::SeriesRegistry;
use crate::storage::series::postings::Postings;

const SHARDS: usize = 64;
/// Labels in the first segment of [`Slots`]; each further segment is twice as long.
const SLOTS_FIRST: usize = 4096;
const SEGMENTS: usize = 32 - SLOTS_FIRST.trailing_zeros() as usize + 1;
/// Selections larger than this are put in order by rank instead of by comparing labels.
const COMPARED_SERIES_MAX: u64 = 1024;

/// Where registrations go before ids are known: the write-ahead log.
pub trait RegistrationLog: Send + Sync + Debug {
    /// Called under a lock of the table: must not wait.
    fn log_series(&self, id: u64, key: &[u8]);
}

/// The table of series.
pub struct SeriesTable {
    log: Arc<dyn RegistrationLog>,
    series_max: u32,
    /// Of this process alone, so that clients cannot choose labels that collide.
    seed: u64,
    /// Ids by hash of the canonical key.
    shards: Vec<Mutex<HashTable<u32>>>,
    slots: Slots,
    next: AtomicU32,
    /// Ids below this that have no labels never will: they are gaps that a crash left.
    settled: AtomicU32,
    len: AtomicU32,
    key_bytes: AtomicU64,
    postings: RwLock<Postings>,
    ranks: RwLock<Ranks>,
}

impl SeriesTable {
    /// An empty table that takes `series_max` series.
    pub fn new(log: Arc<dyn RegistrationLog>, series_max: u32) -> Self {
        Self {
            log,
            series_max,
            seed: RandomState::new().hash_one(0),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            slots: Slots::default(),
            next: AtomicU32::new(0),
            settled: AtomicU32::new(0),
            len: AtomicU32::new(0),
            key_bytes: AtomicU64::new(0),
            postings: RwLock::default(),
            ranks: RwLock::default(),
        }
    }

    /// Puts back a series that was registered in an earlier life. What is known already stays.
    /// Only before the first selection.
    pub fn restore(&self, id: u64, key: &[u8]) -> Result<(), StorageError> {
        let labels = Labels::from_bytes(key)
            .map_err(|error| StorageError::Internal(format!("series {id}: {error}")))?;
        let number = u32::try_from(id)
            .ok()
            .filter(|number| *number < u32::MAX)
            .ok_or_else(|| StorageError::Internal(format!("series id {id} is too large")))?;
        let hash = self.hash(labels.as_bytes());
        let mut shard = self.shard(hash).lock();
        if self.find(&shard, hash, &labels).is_none() {
            self.skip_to(id + 1);
            self.publish(&mut shard, hash, number, labels);
        }
        Ok(())
    }

    /// Gives no id below `next` from now on.
    pub fn skip_to(&self, next: u64) {
        let next = u32::try_from(next).unwrap_or(u32::MAX);
        self.next.fetch_max(next, Ordering::AcqRel);
        self.settled.fetch_max(next, Ordering::AcqRel);
    }

    pub fn labels(&self, series: SeriesRef) -> Option<Labels> {
        self.slots.get(series.0).cloned()
    }

    /// An id above all that were given, each of which has its labels by now.
    pub fn next_id(&self) -> u64 {
        let next = self.next.load(Ordering::Acquire);
        // An id is given and its labels set under one lock: whoever was between the two is done.
        for shard in &self.shards {
            drop(shard.lock());
        }
        u64::from(next)
    }

    /// Whether the series is known.
    pub fn holds(&self, series: SeriesRef) -> bool {
        self.slots.get(series.0).is_some()
    }

    /// Number of series.
    pub fn len(&self) -> u64 {
        u64::from(self.len.load(Ordering::Relaxed))
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory of labels and index, roughly.
    pub fn bytes(&self) -> u64 {
        const SERIES_BYTES: u64 =
            (size_of::<OnceLock<Labels>>() + 2 * size_of::<usize>() + 8) as u64;
        let postings = self.postings.read().bytes();
        self.key_bytes.load(Ordering::Relaxed) + self.len() * SERIES_BYTES + postings
    }

    /// Ids of the series that satisfy all matchers.
    pub fn select(&self, matchers: &[Matcher]) -> RoaringBitmap {
        self.with_postings(|postings| postings.select(matchers))
    }

    /// Labels of the series, ascending, with their ids.
    pub fn in_order(&self, ids: &RoaringBitmap) -> Vec<(Labels, u32)> {
        if ids.len() <= COMPARED_SERIES_MAX {
            let mut series: Vec<_> =
                ids.iter().filter_map(|id| Some((self.slots.get(id)?.clone(), id))).collect();
            series.sort_unstable();
            return series;
        }
        let mut ranks = self.ranks.read();
        // Ids that were selected are in the index, and the ranks follow the index.
        if ids.max().is_some_and(|id| !ranks.knows(id)) {
            drop(ranks);
            self.with_postings(|postings| self.ranks.write().catch_up(postings.all(), &self.slots));
            ranks = self.ranks.read();
        }
        let mut ranked: Vec<(u32, u32)> = ids.iter().map(|id| (ranks.of(id), id)).collect();
        ranked.sort_unstable();
        ranked.into_iter().filter_map(|(_, id)| Some((self.slots.get(id)?.clone(), id))).collect()
    }

    /// Adds the names of labels that series in `ids` have.
    pub fn label_names(&self, ids: &RoaringBitmap, names: &mut BTreeSet<String>) {
        self.with_postings(|postings| postings.label_names(ids, names));
    }

    /// Adds the values that label `name` has in series of `ids`.
    pub fn label_values(&self, name: &str, ids: &RoaringBitmap, values: &mut BTreeSet<String>) {
        self.with_postings(|postings| postings.label_values(name, ids, values));
    }

    /// Runs `read` on an index that holds everything registered by now.
    fn with_postings<T>(&self, read: impl FnOnce(&Postings) -> T) -> T {
        let next = self.next.load(Ordering::Acquire);
        {
            let postings = self.postings.read();
            if postings.is_complete(next) {
                return read(&postings);
            }
        }
        let mut postings = self.postings.write();
        let settled = self.settled.load(Ordering::Acquire);
        postings.catch_up(next, settled, |id| self.slots.get(id));
        read(&parking_lot::RwLockWriteGuard::downgrade(postings))
    }

    fn hash(&self, key: &[u8]) -> u64 {
        xxh3_64_with_seed(key, self.seed)
    }

    fn shard(&self, hash: u64) -> &Mutex<HashTable<u32>> {
        // The table below uses the other end of the hash.
        &self.shards[(hash >> 32) as usize % SHARDS]
    }

    fn find(&self, shard: &HashTable<u32>, hash: u64, labels: &Labels) -> Option<u32> {
        shard.find(hash, |id| self.slots.get(*id) == Some(labels)).copied()
    }

    fn publish(&self, shard: &mut HashTable<u32>, hash: u64, id: u32, labels: Labels) {
        self.key_bytes.fetch_add(labels.as_bytes().len() as u64, Ordering::Relaxed);
        self.len.fetch_add(1, Ordering::Relaxed);
        self.slots.set(id, labels);
        shard.insert_unique(hash, id, |id| {
            self.slots.get(*id).map_or(0, |labels| self.hash(labels.as_bytes()))
        });
    }
}

impl SeriesRegistry for SeriesTable {
    fn get_or_register(&self, labels: &Labels) -> Result<SeriesRef, StorageError> {
        let hash = self.hash(labels.as_bytes());
        let mut shard = self.shard(hash).lock();
        if let Some(id) = self.find(&shard, hash, labels) {
            return Ok(SeriesRef(id));
        }
        let full = || StorageError::LimitReached {
            limit: "active series",
            setting: "series-max",
            value: u64::from(self.series_max),
        };
        if self.len.load(Ordering::Relaxed) >= self.series_max {
            return Err(full());
        }
        let given =
            self.next.fetch_update(Ordering::AcqRel, Ordering::Acquire, |id| id.checked_add(1));
        let id = given.map_err(|_| full())?;
        self.log.log_series(u64::from(id), labels.as_bytes());
        self.publish(&mut shard, hash, id, labels.clone());
        Ok(SeriesRef(id))
    }
}

impl Debug for SeriesTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeriesTable").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Labels by id: segments that grow by doubling and never move, so that reading takes no lock.
struct Slots {
    segments: [OnceLock<Box<[OnceLock<Labels>]>>; SEGMENTS],
}

impl Default for Slots {
    fn default() -> Self {
        Self { segments: [const { OnceLock::new() }; SEGMENTS] }
    }
}

impl Slots {
    /// Segment, its length, and place in it.
    fn place(id: u32) -> (usize, usize, usize) {
        let shifted = id as usize + SLOTS_FIRST;
        let segment = (shifted / SLOTS_FIRST).ilog2() as usize;
        let len = SLOTS_FIRST << segment;
        (segment, len, shifted - len)
    }

    #[inline]
    fn get(&self, id: u32) -> Option<&Labels> {
        let (segment, _, at) = Self::place(id);
        self.segments[segment].get()?[at].get()
    }

    fn set(&self, id: u32, labels: Labels) {
        let (segment, len, at) = Self::place(id);
        let empty = || (0..len).map(|_| OnceLock::new()).collect();
        let slot = &self.segments[segment].get_or_init(empty)[at];
        assert!(slot.set(labels).is_ok(), "series {id} was given twice");
    }
}

/// The place of every series in label order, for large selections.
#[derive(Debug, Default)]
struct Ranks {
    /// Ids in label order.
    sorted: Vec<u32>,
    /// Place of each id in `sorted`; `u32::MAX` where there is none.
    places: Vec<u32>,
}

impl Ranks {
    fn knows(&self, id: u32) -> bool {
        self.of(id) != u32::MAX
    }

    fn of(&self, id: u32) -> u32 {
        self.places.get(id as usize).copied().unwrap_or(u32::MAX)
    }

    /// Takes in the series of `all` that are new: they are sorted and merged with the rest.
    fn catch_up(&mut self, all: &RoaringBitmap, slots: &Slots) {
        let mut new: Vec<(&Labels, u32)> = all
            .iter()
            .filter(|id| !self.knows(*id))
            .filter_map(|id| Some((slots.get(id)?, id)))
            .collect();
        new.sort_unstable();
        let mut merged = Vec::with_capacity(self.sorted.len() + new.len());
        let mut new = new.into_iter().peekable();
        for &id in &self.sorted {
            while let Some((_, earlier)) = new.next_if(|(labels, _)| Some(*labels) < slots.get(id))
            {
                merged.push(earlier);
            }
            merged.push(id);
        }
        merged.extend(new.map(|(_, id)| id));
        self.sorted = merged;
        let ids = all.max().map_or(0, |max| max as usize + 1);
        self.places.clear();
        self.places.resize(ids, u32::MAX);
        for (place, &id) in (0u32..).zip(&self.sorted) {
            self.places[id as usize] = place;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{METRIC_NAME, MatchOp};

    #[derive(Debug, Default)]
    struct Logged(Mutex<Vec<(u64, Vec<u8>)>>);

    impl RegistrationLog for Logged {
        fn log_series(&self, id: u64, key: &[u8]) {
            self.0.lock().push((id, key.to_vec()));
        }
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn ids_are_given_once_logged_first_and_come_back_after_a_restart() {
        let log = Arc::new(Logged::default());
        let table = SeriesTable::new(Arc::clone(&log) as _, 3);
        let (a, b) = (labels(&[(METRIC_NAME, "a")]), labels(&[(METRIC_NAME, "b")]));
        assert_eq!(table.get_or_register(&a).unwrap(), SeriesRef(0));
        assert_eq!(table.get_or_register(&b).unwrap(), SeriesRef(1));
        assert_eq!(table.get_or_register(&a).unwrap(), SeriesRef(0));
        assert_eq!(log.0.lock().len(), 2);

        let again = SeriesTable::new(Arc::clone(&log) as _, 3);
        again.restore(1, b.as_bytes()).unwrap();
        again.restore(1, b.as_bytes()).unwrap();
        again.skip_to(7);
        assert_eq!(again.get_or_register(&b).unwrap(), SeriesRef(1));
        assert_eq!(again.get_or_register(&a).unwrap(), SeriesRef(7));
        assert_eq!(again.labels(SeriesRef(7)), Some(a.clone()));
        assert_eq!(again.labels(SeriesRef(3)), None);
        assert!(again.select(&[]).len() == 2 && again.postings.read().is_complete(8));
        again.get_or_register(&labels(&[("x", "1")])).unwrap();
        let refused = again.get_or_register(&labels(&[("x", "2")])).unwrap_err();
        assert!(matches!(refused, StorageError::LimitReached { value: 3, .. }), "{refused}");
        assert_eq!(again.get_or_register(&a).unwrap(), SeriesRef(7), "known ones are still given");
    }

    #[test]
    fn slots_are_found_at_every_edge_of_a_segment() {
        let slots = Slots::default();
        for id in [0, 1, 4095, 4096, 12_287, 12_288, 28_671, 28_672] {
            assert_eq!(slots.get(id), None);
            slots.set(id, labels(&[("id", &id.to_string())]));
            assert_eq!(slots.get(id), Some(&labels(&[("id", &id.to_string())])));
        }
        let (segment, len, at) = Slots::place(u32::MAX);
        assert!(segment < SEGMENTS && at < len);
    }

    #[test]
    fn many_threads_agree_on_ids_while_others_select() {
        let table = SeriesTable::new(Arc::new(Logged::default()), 100_000);
        let all = |table: &SeriesTable| table.select(&[Matcher::equal(METRIC_NAME, "m")]).len();
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let table = &table;
                scope.spawn(move || {
                    for number in 0..2_000u64 {
                        let name = ((number * 7 + thread * 13) % 2_000).to_string();
                        let set = labels(&[(METRIC_NAME, "m"), ("n", &name)]);
                        let id = table.get_or_register(&set).unwrap();
                        assert_eq!(table.labels(id), Some(set));
                        if number % 100 == 0 {
                            let found = table.select(&[Matcher::equal("n", &name)]);
                            assert!(found.contains(id.0), "registered, but not selected");
                        }
                    }
                });
            }
        });
        assert_eq!((table.len(), all(&table)), (2_000, 2_000));
        let ordered = table.in_order(&table.select(&[]));
        assert!(ordered.windows(2).all(|two| two[0].0 < two[1].0) && ordered.len() == 2_000);
    }

    fn matcher() -> impl Strategy<Value = Matcher> {
        let op = prop::sample::select(vec![
            MatchOp::Equal,
            MatchOp::NotEqual,
            MatchOp::Regex,
            MatchOp::NotRegex,
        ]);
        let name = prop::sample::select(vec!["a", "b", METRIC_NAME, "none"]);
        let value = prop::sample::select(vec![
            "", "v1", "v2", "v1|v3", "v.*", ".*", ".+", "v1.*", "|v2", "(v1|x)y?", "m", "[mv]1?",
        ]);
        (op, name, value).prop_map(|(op, name, value)| Matcher::new(op, name, value).unwrap())
    }

    proptest! {
        #![proptest_config(crate::columnar::codec::test_config())]
        #[test]
        fn the_index_selects_what_a_plain_filter_selects(
            series in prop::collection::btree_set((0u8..3, 0u8..13, 0u8..4), 1..80),
            matchers in prop::collection::vec(matcher(), 0..4),
        ) {
            let table = SeriesTable::new(Arc::new(Logged::default()), 1_000);
            let mut known = Vec::new();
            for (index, (metric, a, b)) in series.into_iter().enumerate() {
                let text = |n: u8| if n == 0 { String::new() } else { format!("v{n}") };
                let metric = ["m", "v1", ""][usize::from(metric)];
                let set = labels(&[(METRIC_NAME, metric), ("a", &text(a)), ("b", &text(b))]);
                let id = table.get_or_register(&set).unwrap();
                if index % 7 == 0 {
                    table.select(&[]);
                }
                known.push((set, id.0));
            }
            known.sort_unstable();
            known.dedup();
            let wanted: Vec<_> = known
                .into_iter()
                .filter(|(set, _)| matchers.iter().all(|matcher| matcher.matches_labels(set)))
                .collect();
            prop_assert_eq!(table.in_order(&table.select(&matchers)), wanted);
        }
    }
}
