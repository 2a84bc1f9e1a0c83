//! Retention: what is past its time, or more than there may be, goes.
//!
//! There is one *floor*, a time at which a two-hour window begins: nobody sees samples before it,
//! wherever they still lie. Blocks that lie wholly before it are dropped, the others are trimmed
//! when a compaction writes them anew. The floor only rises, and the manifest remembers it.
//!
//! It never rises over samples that are not yet in the rollups that are to outlive them, however
//! long that takes, nor beyond the newest sample, so that a clock that once went wrong does not
//! keep later writes out.
//!
//! What a crash leaves: before the manifest's edit nothing has happened, after it files that no
//! manifest names, which the next start removes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Resolution, TimeRange, Timestamp};
use crate::storage::block_part::BlockPart;
use crate::storage::engine::Engine;
use crate::storage::error::StorageError;
use crate::storage::manifest::Item;
use crate::storage::plan::{
    Group, RollupDay, Surplus, are_inside, first_uncovered, groups, surplus, window_end,
    window_start,
};
use crate::storage::rollup::{RollupView, day_start};
use crate::storage::state::State;
use crate::storage::store::Store;

/// How long somebody who waits does so for the rollups' manifest; the background goes on.
const TOLD_LOOKS_MAX: usize = 100;
const TOLD_PAUSE: Duration = Duration::from_millis(50);

/// What became of an attempt to drop what is past its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// Nothing is left that should go.
    Done,
    /// The rollups' manifest has to say first that samples go; ask again soon.
    Told,
    /// Samples stay until rollups of this resolution have them.
    NotIn(Resolution),
    /// Nobody knows what rollups there are.
    Unreachable,
}

impl Expiry {
    fn reason(self) -> Option<String> {
        match self {
            Self::Done => None,
            Self::Told => Some("the rollups are being told of it".to_owned()),
            Self::NotIn(resolution) => {
                Some(format!("samples are not in the {resolution} rollups yet"))
            }
            Self::Unreachable => Some("the rollups cannot be reached".to_owned()),
        }
    }
}

impl Engine {
    /// Drops what is past its retention, or over its bound.
    pub(crate) fn drop_expired(&self) -> Result<Expiry, StorageError> {
        let store = &self.store;
        let now_ms = store.clock.now_ms();
        // No merge has one of the blocks as its source meanwhile.
        let _alone = self.compactor.alone();
        let state = store.state.load();
        let groups = groups(state.blocks.iter().map(|block| block.meta()));
        let days = rollup_days(&state);
        let surplus = self.surplus(&state, &groups, &days);
        let (floor, expiry) = self.next_floor(&state, &groups[..surplus.groups], now_ms);
        let is_below = |group: &Group| floor.is_some_and(|floor| group.range.end() < floor);
        let (leaving, remaining) = groups.split_at(groups.partition_point(is_below));
        raise_floor(store, &state, floor, leaving)?;
        // Rollups stay as long as samples of their time do, though they may be too much.
        let first = remaining.first().map(|group| floor.max(Some(group.range.start())));
        let is_before = |day: &&RollupDay| first.is_none_or(|first| Some(day.end) <= first);
        let by_size = days[..surplus.days].iter().take_while(is_before).last();
        self.drop_rollups(now_ms, by_size.map(|day| day.end));
        let mut status = self.retention.lock();
        status.waiting = expiry.reason();
        for group in leaving {
            status.blocks += group.ids.len() as u64;
            status.samples += group.samples;
            status.bytes += group.bytes;
        }
        Ok(expiry)
    }

    /// The same for somebody who waits: until the rollups have been told, but not for long.
    pub(crate) fn drop_expired_soon(&self) -> Result<(), StorageError> {
        for _ in 0..TOLD_LOOKS_MAX {
            self.check_open()?;
            if self.drop_expired()? != Expiry::Told {
                break;
            }
            std::thread::sleep(TOLD_PAUSE);
        }
        Ok(())
    }

    /// Samples before it have been dropped, or are about to be: what is written there would never
    /// be seen, nor get into rollups.
    pub fn dropped_before(&self) -> Timestamp {
        let known = self.store.state.with(|state| {
            let told = state.rollups.as_ref().and_then(|rollups| rollups.floors.raw);
            state.raw_floor.max(told)
        });
        known.unwrap_or(Timestamp::MIN)
    }

    /// Bytes of blocks, of what is written in the log, and of the rollup files that are known: what
    /// the bound of the total size is about.
    pub(crate) fn stored_bytes(&self, state: &State) -> u64 {
        let blocks: u64 = state.blocks.iter().map(|block| block.meta().bytes).sum();
        let rollups = state.rollups.iter().flat_map(|rollups| &rollups.files);
        let rollups: u64 = rollups.map(|file| file.bytes()).sum();
        blocks.saturating_add(self.wal.status().bytes).saturating_add(rollups)
    }

    /// What is too much, oldest first.
    fn surplus(&self, state: &State, groups: &[Group], days: &[RollupDay]) -> Surplus {
        match self.store.options.retention_bytes {
            0 => Surplus::default(),
            bytes_max => {
                let floor = state.raw_floor.unwrap_or(Timestamp::MIN);
                surplus(groups, days, floor, self.stored_bytes(state), bytes_max)
            }
        }
    }

    /// How high the floor may be now, and what keeps it from being higher. All of `surplus`, the
    /// oldest groups, is to go.
    fn next_floor(
        &self,
        state: &Arc<State>,
        surplus: &[Group],
        now_ms: i64,
    ) -> (Option<Timestamp>, Expiry) {
        let stay = |expiry| (state.raw_floor, expiry);
        let snapshot = state.snapshot();
        let Some(stored) = snapshot.time_range() else { return stay(Expiry::Done) };
        let by_time = self.store.options.retention.raw_ms.map_or(Timestamp::MIN, |kept_ms| {
            window_start(now_ms.saturating_sub(kept_ms)).min(window_end(stored.end()))
        });
        let wanted = surplus.last().map_or(by_time, |group| group.floor().max(by_time));
        if wanted <= stored.start() {
            return stay(Expiry::Done);
        }
        let Some(rollups) = self.rollups() else { return (Some(wanted), Expiry::Done) };
        let Some(view) = snapshot.rollups() else { return stay(Expiry::Unreachable) };
        let uncovered = self.uncovered(state, view, wanted, now_ms);
        let (ready, expiry) = match uncovered {
            Some((start, resolution)) => (start, Expiry::NotIn(resolution)),
            None => (wanted, Expiry::Done),
        };
        // To be over a bound is a reason to let whole blocks go, and none to hide a part of one.
        let by_size = surplus.iter().map(Group::floor).take_while(|floor| *floor <= ready).last();
        let floor = by_size.map_or(by_time.min(ready), |floor| floor.max(by_time.min(ready)));
        if floor <= stored.start() {
            return stay(expiry);
        }
        // Once a part of a span's samples is gone, its rows must never be built from the rest. The
        // rollups' manifest has to know it first.
        if view.raw_floor() < Some(floor) {
            rollups.raw_expires(floor);
            return stay(Expiry::Told);
        }
        (Some(floor), expiry)
    }

    /// Where the first window begins of which samples, before `before`, are missing in rollups that
    /// are to be there when the samples have gone.
    fn uncovered(
        &self,
        state: &State,
        view: &RollupView,
        before: Timestamp,
        now_ms: i64,
    ) -> Option<(Timestamp, Resolution)> {
        let retention = &self.store.options.retention;
        let of = |resolution| {
            let kept_ms = retention.rollup_ms(resolution);
            let kept = kept_ms.map_or(Timestamp::MIN, |kept_ms| now_ms.saturating_sub(kept_ms));
            let within = TimeRange::new(kept, before.saturating_sub(1))?;
            let settled = view.settled(resolution);
            // A damaged block has nothing to give to rollups.
            let blocks = state.blocks.iter().filter(|block| block.damage().is_none());
            let in_blocks =
                blocks.filter_map(|block| first_uncovered(block.meta(), &settled, within));
            let memtables = state.generations().flat_map(|one| one.memtable.window_firsts());
            let in_memory = memtables.filter_map(|(start, first)| {
                let samples = TimeRange::new(first, window_end(start).saturating_sub(1))?;
                (samples.overlaps(within) && !are_inside(samples, &settled)).then_some(start)
            });
            in_blocks.chain(in_memory).min().map(|start| (start, resolution))
        };
        Resolution::ALL.into_iter().filter_map(of).min()
    }

    /// Lets rows go that are past their time, and those that end at or before `by_size`.
    fn drop_rollups(&self, now_ms: i64, by_size: Option<Timestamp>) {
        let Some(rollups) = self.rollups() else { return };
        for resolution in Resolution::ALL {
            let kept_ms = self.store.options.retention.rollup_ms(resolution);
            // Whole spans go, so there is no need to be told of every moment.
            let by_time = kept_ms.map(|kept_ms| window_start(now_ms.saturating_sub(kept_ms)));
            if let Some(before) = by_time.max(by_size) {
                rollups.drop_before(resolution, before);
            }
        }
    }
}

/// The rollup files by days, oldest first.
fn rollup_days(state: &State) -> Vec<RollupDay> {
    let mut days: BTreeMap<Timestamp, RollupDay> = BTreeMap::new();
    for file in state.rollups.iter().flat_map(|rollups| &rollups.files) {
        let span = file.span();
        let new = RollupDay { end: span.end, bytes: 0 };
        let day = days.entry(day_start(span.start)).or_insert(new);
        day.end = day.end.max(span.end);
        day.bytes += file.bytes();
    }
    days.into_values().collect()
}

fn blocks_of<'a>(state: &'a State, group: &Group) -> impl Iterator<Item = &'a Arc<BlockPart>> {
    state.blocks.iter().filter(|block| group.ids.contains(&block.meta().id))
}

/// Raises the floor and takes the groups' blocks, which lie before it, out of the manifest. Their
/// files go with their last readers.
fn raise_floor(
    store: &Store,
    state: &State,
    floor: Option<Timestamp>,
    groups: &[Group],
) -> Result<(), StorageError> {
    let leaving: Vec<&Arc<BlockPart>> =
        groups.iter().flat_map(|group| blocks_of(state, group)).collect();
    let raised = floor.filter(|_| floor > state.raw_floor);
    let raised = raised.map(|before_ms| Item::RawFloor { before_ms });
    let removed = leaving.iter().map(|block| Item::RemoveBlock { id: block.meta().id });
    let items: Vec<Item> = raised.into_iter().chain(removed).collect();
    if items.is_empty() {
        return Ok(());
    }
    store.manifest.lock().commit(&items)?;
    store.state.change(|state| {
        state.raw_floor = floor;
        state.blocks.retain(|block| !leaving.iter().any(|leaving| Arc::ptr_eq(leaving, block)));
    });
    leaving.iter().for_each(|block| block.make_obsolete());
    store.telemetry.blocks_expired.add(leaving.len() as u64);
    for group in groups {
        tracing::info!(
            blocks = group.ids.len(),
            samples = group.samples,
            bytes = group.bytes,
            first_ms = group.range.start(),
            last_ms = group.range.end(),
            "dropped by retention"
        );
    }
    Ok(())
}
