use super::*;
use crate::storage::plan::WINDOW_MS;
use crate::storage::wal::Lsn;

const HOUR: i64 = 3_600_000;
const MIB: u64 = 1 << 20;
const GRACE_MS: i64 = 10 * 60 * 1000;

fn block(id: u64, level: u8, hour: i64, lsn: Lsn, bytes: u64) -> BlockMeta {
    let window = window_at(Levels::default().window_ms(level), hour * HOUR);
    let (samples, written) = (bytes, BlockMeta::written_at(window, lsn));
    let (lsn_first, lsn_last) = (lsn, lsn);
    let (time_range, cleaned) = (window, 0);
    BlockMeta {
        id,
        level,
        window,
        time_range,
        series: 1,
        samples,
        bytes,
        lsn_first,
        lsn_last,
        written,
        cleaned,
    }
}

/// The plan for blocks that have all been there for `age`.
fn plan(blocks: &[BlockMeta], occasion: Occasion, age: Duration) -> Option<Compaction> {
    let candidates: Vec<_> =
        blocks.iter().map(|meta| Candidate { meta, readable: true, age }).collect();
    next_compaction(&candidates, &Levels::default(), occasion)
}

fn look(hour: i64) -> Occasion {
    Occasion::Look { now_ms: hour * HOUR, flush_grace_ms: GRACE_MS }
}

fn asked(hour: i64) -> Occasion {
    Occasion::Asked { now_ms: hour * HOUR }
}

fn sources(plan: Option<Compaction>) -> Option<(u8, i64, Vec<u64>)> {
    plan.map(|plan| (plan.level, plan.window.start() / HOUR, plan.sources))
}

#[test]
fn a_window_that_is_over_goes_to_the_highest_level_at_once() {
    let blocks: Vec<_> =
        (0u64..4).map(|id| block(id, 0, i64::try_from(id).unwrap() * 2, id + 1, MIB)).collect();
    assert_eq!(sources(plan(&blocks, look(6), QUIET)), None, "its last flush is awaited");
    assert_eq!(sources(plan(&blocks, look(7), QUIET / 2)), None, "it has just been written");
    assert_eq!(sources(plan(&blocks, look(7), QUIET)), Some((1, 0, vec![0, 1, 2])));
    assert_eq!(sources(plan(&blocks, look(25), QUIET)), Some((2, 0, vec![0, 1, 2, 3])));
    assert_eq!(sources(plan(&blocks, asked(6), Duration::ZERO)), Some((1, 0, vec![0, 1, 2])));
    // Data behind a window says that it is over, whatever the clock says.
    assert_eq!(sources(plan(&blocks, asked(0), Duration::ZERO)), Some((1, 0, vec![0, 1, 2])));
}

#[test]
fn levels_say_where_blocks_go() {
    let blocks: Vec<_> =
        (0u64..4).map(|id| block(id, 0, i64::try_from(id).unwrap() * 2, id + 1, MIB)).collect();
    let candidates: Vec<_> =
        blocks.iter().map(|meta| Candidate { meta, readable: true, age: QUIET }).collect();
    let plan =
        |levels: &str| sources(next_compaction(&candidates, &levels.parse().unwrap(), look(25)));
    assert_eq!(plan("2h"), None);
    assert_eq!(plan("2h,4h"), Some((1, 4, vec![2, 3])));
    assert_eq!(plan("2h,4h,8h"), Some((2, 0, vec![0, 1, 2, 3])));
}

#[test]
fn a_lone_block_is_promoted_and_then_left_alone() {
    let lone = [block(7, 0, 0, 1, MIB)];
    assert_eq!(sources(plan(&lone, look(7), QUIET)), Some((1, 0, vec![7])));
    assert_eq!(sources(plan(&lone, look(26), QUIET)), Some((2, 0, vec![7])));
    let done = [block(8, 2, 0, 1, MIB)];
    assert_eq!(sources(plan(&done, look(99), QUIET_LATE)), None);
    assert_eq!(sources(plan(&done, asked(99), QUIET_LATE)), None);
}

#[test]
fn late_blocks_wait_until_they_are_many_or_old() {
    let large = block(1, 2, 0, 50, 100 * MIB);
    let few = [large.clone(), block(2, 0, 4, 60, MIB)];
    assert_eq!(sources(plan(&few, look(48), QUIET / 2)), None);
    // Among themselves they may rise, which costs little.
    assert_eq!(sources(plan(&few, look(48), QUIET)), Some((1, 0, vec![2])));
    assert_eq!(sources(plan(&few, look(48), QUIET_LATE)), Some((2, 0, vec![1, 2])));
    assert_eq!(sources(plan(&few, asked(48), Duration::ZERO)), Some((2, 0, vec![1, 2])));
    let many = [large, block(2, 0, 4, 60, 25 * MIB)];
    assert_eq!(sources(plan(&many, look(48), Duration::ZERO)), Some((2, 0, vec![1, 2])));
}

#[test]
fn small_blocks_of_an_open_window_are_stacked() {
    let with = |bytes: &[u64]| -> Vec<BlockMeta> {
        (1..).zip(bytes).map(|(id, bytes)| block(id, 0, 0, id, *bytes)).collect()
    };
    let plan = |bytes: &[u64]| sources(plan(&with(bytes), look(1), Duration::ZERO));
    assert_eq!(plan(&[8, 8, 8]), None);
    assert_eq!(plan(&[8, 8, 8, 7]), Some((0, 0, vec![1, 2, 3, 4])));
    assert_eq!(plan(&[100, 8, 8, 8]), None);
    assert_eq!(plan(&[100, 8, 8, 8, 8]), Some((0, 0, vec![2, 3, 4, 5])));
    assert_eq!(plan(&[60, 8, 8, 8, 8]), Some((0, 0, vec![1, 2, 3, 4, 5])));
    assert_eq!(plan(&[MERGE_BYTES_MAX, 8, 8, 8]), None);
    assert_eq!(plan(&[MERGE_BYTES_MAX / 3; 6]), None, "at most three fit into one merge");
}

#[test]
fn a_merge_has_a_bound() {
    let third = MERGE_BYTES_MAX / 3;
    let blocks: Vec<_> =
        (0u64..4).map(|id| block(id, 1, i64::try_from(id).unwrap() * 6, id + 1, third)).collect();
    assert_eq!(sources(plan(&blocks, look(48), QUIET_LATE)), None);
    assert_eq!(sources(plan(&blocks[1..], look(48), QUIET_LATE)), Some((2, 0, vec![1, 2, 3])));
}

#[test]
fn a_damaged_block_is_neither_moved_nor_jumped_over() {
    let blocks: Vec<_> = (1..=5).map(|id| block(id, 0, 0, id, MIB)).collect();
    let with_damage = |damaged: u64| {
        let candidates: Vec<_> = blocks
            .iter()
            .map(|meta| Candidate { meta, readable: meta.id != damaged, age: QUIET })
            .collect();
        sources(next_compaction(&candidates, &Levels::default(), look(48)))
    };
    assert_eq!(with_damage(3), Some((2, 0, vec![1, 2])));
    assert_eq!(with_damage(1), Some((2, 0, vec![2, 3, 4, 5])));
    // A result would come to stand behind a damaged block with the same last write.
    let mut tied = blocks.clone();
    tied[1].lsn_last = 3;
    let candidates: Vec<_> =
        tied.iter().map(|meta| Candidate { meta, readable: meta.id != 3, age: QUIET }).collect();
    assert_eq!(
        sources(next_compaction(&candidates, &Levels::default(), look(48))),
        Some((2, 0, vec![1]))
    );
}

#[test]
fn the_ends_of_time_are_windows_too() {
    for at in [i64::MIN, i64::MIN + 5, -1, 0, i64::MAX] {
        for len in [WINDOW_MS, DAY_MS] {
            assert!(window_at(len, at).contains(at), "{at}");
        }
    }
    let mut first = block(1, 0, 0, 1, MIB);
    first.window = TimeRange::new(i64::MIN, i64::MIN + WINDOW_MS - 1).unwrap();
    let mut last = block(2, 0, 0, 2, MIB);
    last.window = window_at(WINDOW_MS, i64::MAX);
    let _ = plan(&[first, last], asked(0), QUIET);
}

/// A store as the planner knows it: who wins in each two-hour stretch stands for its samples.
#[derive(Debug, Default)]
struct Store {
    blocks: Vec<Held>,
    next_id: u64,
    next_lsn: Lsn,
    written_bytes: u64,
    flushed_bytes: u64,
    levels: Levels,
}

#[derive(Debug, Clone)]
struct Held {
    meta: BlockMeta,
    readable: bool,
    since_ms: i64,
    /// By stretch, the write whose samples are seen.
    content: BTreeMap<i64, Lsn>,
}

impl Store {
    fn flush(&mut self, hours: &[i64], bytes: u64, now_ms: i64) {
        self.next_lsn += 1;
        let lsn = self.next_lsn;
        let stretches: BTreeSet<i64> = hours.iter().map(|hour| hour.div_euclid(2)).collect();
        for stretch in stretches {
            self.next_id += 1;
            let meta = block(self.next_id, 0, stretch * 2, lsn, bytes);
            let content = BTreeMap::from([(stretch, lsn)]);
            self.blocks.push(Held { meta, readable: true, since_ms: now_ms, content });
            self.flushed_bytes += bytes;
        }
        self.sort();
    }

    fn sort(&mut self) {
        self.blocks.sort_by_key(|held| (held.meta.lsn_last, held.meta.id));
    }

    fn plan(&self, occasion: Occasion, now_ms: i64) -> Option<Compaction> {
        let candidates: Vec<_> = self
            .blocks
            .iter()
            .map(|held| {
                let age_ms = now_ms.abs_diff(held.since_ms);
                let age = Duration::from_millis(age_ms);
                Candidate { meta: &held.meta, readable: held.readable, age }
            })
            .collect();
        next_compaction(&candidates, &self.levels, occasion)
    }

    /// Merges as the engine does. Panics if the plan is not one that it may carry out.
    fn run(&mut self, plan: &Compaction, now_ms: i64) {
        let before = (self.winners(), self.rank());
        let (taken, kept): (Vec<_>, Vec<_>) =
            self.blocks.drain(..).partition(|held| plan.sources.contains(&held.meta.id));
        assert_eq!(taken.len(), plan.sources.len());
        assert!(taken.iter().all(|held| held.readable));
        assert!(taken.iter().all(|held| plan.window.contains_range(held.meta.window)));
        self.blocks = kept;
        let mut content = BTreeMap::new();
        taken.iter().for_each(|held| content.extend(held.content.clone()));
        self.next_id += 1;
        let meta = BlockMeta {
            window: plan.window,
            lsn_last: taken.iter().map(|held| held.meta.lsn_last).max().unwrap(),
            level: plan.level,
            ..block(self.next_id, 0, 0, 0, plan.bytes)
        };
        self.written_bytes += plan.bytes;
        assert!(plan.bytes <= MERGE_BYTES_MAX);
        self.blocks.push(Held { meta, readable: true, since_ms: now_ms, content });
        self.sort();
        assert_eq!(self.winners(), before.0, "{plan:?} changes who wins");
        assert!(self.rank() < before.1, "{plan:?} makes no progress");
    }

    /// Damaged blocks count: they may be put back.
    fn winners(&self) -> BTreeMap<i64, Lsn> {
        self.blocks.iter().flat_map(|held| held.content.clone()).collect()
    }

    /// What each merge makes smaller: how often blocks' windows go into a day.
    fn rank(&self) -> i64 {
        let len = |window: TimeRange| window.end() - window.start() + 1;
        self.blocks.iter().map(|held| DAY_MS / len(held.meta.window)).sum()
    }

    fn settle(&mut self, occasion: Occasion, now_ms: i64) {
        while let Some(plan) = self.plan(occasion, now_ms) {
            self.run(&plan, now_ms);
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config {
        failure_persistence: None,
        ..proptest::test_runner::Config::with_cases(400)
    })]

    #[test]
    fn any_blocks_are_merged_without_a_change_of_who_wins(
        steps in proptest::collection::vec(
            (proptest::collection::vec(-30i64..60, 1..5), 1u64..1000, 0u8..13), 1..60),
    ) {
        let mut store = Store::default();
        let mut now_ms = 0;
        for (hours, bytes, action) in steps {
            now_ms += HOUR / 2;
            match action {
                0 => store.settle(Occasion::Asked { now_ms }, now_ms),
                1 => {
                    let any = usize::try_from(bytes).unwrap() % store.blocks.len().max(1);
                    store.blocks.iter_mut().skip(any).take(1).for_each(|held| {
                        held.readable = !held.readable;
                    });
                }
                12 => {
                    let all = ["2h", "2h,24h", "2h,4h,12h", "2h,6h,24h"];
                    store.levels = all[usize::try_from(bytes).unwrap() % all.len()].parse().unwrap();
                }
                2..6 => store.settle(Occasion::Look { now_ms, flush_grace_ms: GRACE_MS }, now_ms),
                _ => store.flush(&hours, bytes, now_ms),
            }
        }
        store.levels = Levels::default();
        store.settle(Occasion::Asked { now_ms: i64::MAX }, now_ms);
        store.blocks.iter_mut().for_each(|held| held.readable = true);
        // At most those stay in more than one that a tie with a repaired block keeps apart.
        store.settle(Occasion::Asked { now_ms: i64::MAX }, now_ms);
        let days: BTreeSet<i64> =
            store.blocks.iter().map(|held| held.meta.window.start().div_euclid(24 * HOUR)).collect();
        proptest::prop_assert_eq!(days.len(), store.blocks.len());
    }
}

/// Thirty days of writing, a part of it up to two days late: what each byte costs.
#[test]
fn a_flushed_byte_is_written_a_few_times_more() {
    for (late_every, per_window, bound) in [(0, 1, 2.1), (0, 12, 4.5), (1, 1, 4.0), (3, 6, 5.0)] {
        let mut store = Store::default();
        let mut state = 7u64;
        let mut most = 0;
        for flush in 0..30 * 12 * per_window {
            let now_ms = 2 * HOUR * flush / per_window + HOUR;
            let now_hour = now_ms / HOUR;
            store.flush(&[now_hour], 12 * MIB, now_ms);
            if late_every > 0 && flush % late_every == 0 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let late = i64::try_from(state >> 33).unwrap() % 48;
                store.flush(&[now_hour - late], MIB, now_ms);
            }
            for minute in (0..120 / per_window).step_by(10) {
                let now_ms = now_ms + minute * 60_000;
                store.settle(Occasion::Look { now_ms, flush_grace_ms: GRACE_MS }, now_ms);
            }
            most = most.max(store.blocks.len());
        }
        let amplification = store.written_bytes as f64 / store.flushed_bytes as f64;
        println!(
            "{per_window} flushes a window, late one in {late_every}: {amplification:.2} bytes \
             compacted for a byte flushed; {most} blocks at most, {} at last",
            store.blocks.len()
        );
        assert!(amplification <= bound, "{amplification}");
        assert!(most <= 30 + 40, "{most} blocks");
    }
}
