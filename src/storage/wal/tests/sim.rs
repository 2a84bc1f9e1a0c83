//! The log on a simulated disk: crashes, torn writes, failing and lying disks.
//!
//! Everything runs on the calling thread, so a seed is a full description of a run.
//! `AETHER_SIM_SEEDS=n` runs n seeds instead of the default; a failure names its seed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::ManualClock;
use crate::storage::options::WalSync;
use crate::storage::vfs::{Fault, SimVfs};
use crate::storage::wal::commit::Next;
use crate::storage::wal::tests::*;

const DIR: &str = "/data/wal";

/// Two records of the tests' larger batches fill most of it.
const SEGMENT_BYTES: u64 = 6 << 10;

fn options(sync: WalSync) -> WalOptions {
    WalOptions {
        sync,
        segment_bytes: SEGMENT_BYTES,
        disk_free_bytes_min: 0,
        ..WalOptions::default()
    }
}

/// What must hold: every lifetime of the process adds to it, every recovery is held against it.
#[derive(Debug, Default, Clone)]
struct Model {
    /// Acknowledged or recovered records, in order.
    known: Vec<(Lsn, Rows)>,
    /// Records that were handed in after those, and whose fate is not known.
    doubtful: Vec<Rows>,
    /// Series whose registration a flush has put elsewhere.
    flushed_series: BTreeSet<u64>,
    flushed: Lsn,
    next_batch: u32,
    next_series: u64,
}

/// The process: a log without threads.
struct Process {
    wal: Wal,
    committer: Committer,
    clock: Arc<ManualClock>,
    live: Arc<Live>,
}

impl Process {
    /// Starts on what the disk holds and holds it against the model.
    ///
    /// The inner error is what is wrong; the outer one is a disk that fails.
    fn start(
        vfs: &SimVfs,
        model: &mut Model,
        sync: WalSync,
        survivors: usize,
    ) -> Result<Result<Self, String>, StorageError> {
        let clock = Arc::new(ManualClock::at(0));
        let wal = Wal::new(
            Arc::new(vfs.clone()),
            PathBuf::from(DIR),
            DATABASE,
            options(sync),
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::default(),
        );
        let mut story = Story::default();
        match wal.recover(model.flushed, &mut story) {
            Ok(_) => {}
            Err(error @ StorageError::Corrupt { .. }) => return Ok(Err(error.to_string())),
            Err(error) => return Err(error),
        }
        if let Err(wrong) = model.check(&story, survivors) {
            return Ok(Err(wrong));
        }
        let live = Arc::new(Live::default());
        let committer = wal.committer(Arc::clone(&live) as Arc<dyn CommitSink>)?;
        // What was registered without a sample that got through is forgotten, as by the table.
        let known =
            story.series.iter().map(|(id, _)| *id).chain(model.flushed_series.iter().copied());
        model.next_series = known.max().map_or(0, |last| last + 1);
        // From here on readers may see what was recovered, so it must stay.
        model.known = story.samples;
        model.doubtful.clear();
        Ok(Ok(Self { wal, committer, clock, live }))
    }

    /// Hands in a batch of `len` samples, of which the first may be of a new series.
    fn append(&self, model: &mut Model, len: u32, new_series: bool) -> Option<CommitTicket> {
        if new_series || model.next_series == 0 {
            self.wal.log_series(model.next_series, format!("s{}", model.next_series).as_bytes());
            model.next_series += 1;
        }
        let mut batch = batch(model.next_batch, len);
        let last = u32::try_from(model.next_series - 1).unwrap();
        for series in &mut batch.series {
            series.0 = last - series.0 % (last + 1);
        }
        model.next_batch += 1;
        let rows = rows(&batch);
        let ticket = self.wal.append_blocking(batch).ok()?;
        model.doubtful.push(rows);
        Some(ticket)
    }

    /// Commits, and tells the model what was acknowledged. Tickets are in order of appends.
    fn commit(&mut self, model: &mut Model, tickets: Vec<CommitTicket>) -> Next {
        let next = self.committer.commit();
        for mut ticket in tickets {
            let first = 0;
            match ticket.done.try_recv() {
                Ok(Ok(lsn)) => {
                    let rows = model.doubtful.remove(first);
                    assert_eq!(
                        self.live.0.lock().samples.iter().filter(|(at, _)| *at == lsn).count(),
                        1
                    );
                    model.known.push((lsn, rows));
                }
                // Refused, not failed: it must not be in the log.
                Ok(Err(StorageError::ReadOnly(_))) => drop(model.doubtful.remove(first)),
                Ok(Err(_)) | Err(_) => break,
            }
        }
        next
    }

    /// A boundary, a flush of everything before it, and the end of the segments before it.
    fn flush(&mut self, model: &mut Model) -> Next {
        let (done, mut ticket) = ticket();
        if self.wal.shared.submit_rotation(|queue| queue.push_rotation(done)).is_err() {
            return Next::GoOn;
        }
        let next = self.committer.commit();
        if let Ok(Ok(boundary)) = ticket.done.try_recv() {
            model.flushed = boundary;
            model.flushed_series = (0..model.next_series).collect();
            // A failure here is found by the next lifetime at the latest.
            let _ = self.wal.truncate_through(boundary);
        }
        next
    }

    fn make_segment(&self) {
        self.wal.blanks.make();
    }
}

impl Model {
    /// Whether a recovery gave what it must: all known records but for those that a flush has
    /// taken over, at least `survivors` of them, then some of the doubtful ones, in order.
    fn check(&self, story: &Story, survivors: usize) -> Result<(), String> {
        let must: Vec<&Rows> = self
            .known
            .iter()
            .filter(|(lsn, _)| *lsn > self.flushed)
            .map(|(_, rows)| rows)
            .collect();
        let may: Vec<&Rows> = must.iter().copied().chain(&self.doubtful).collect();
        let flushed = self.known.len() - must.len();
        let least = survivors.saturating_sub(flushed).min(must.len());
        if story.samples.len() < least {
            return Err(format!("{} records of at least {least}", story.samples.len()));
        }
        if story.samples.len() > may.len() {
            return Err(format!("{} records of at most {}", story.samples.len(), may.len()));
        }
        let replayed: BTreeSet<u64> = story.series.iter().map(|(id, _)| *id).collect();
        let mut previous = self.flushed;
        for (index, (lsn, rows)) in story.samples.iter().enumerate() {
            if rows != may[index] {
                return Err(format!("record {lsn} is not what was written"));
            }
            let known = self.known.get(flushed + index);
            if *lsn <= previous || known.is_some_and(|(known, _)| known != lsn) {
                return Err(format!("record {lsn} has another number"));
            }
            previous = *lsn;
            for (series, ..) in rows {
                let id = u64::from(*series);
                if !replayed.contains(&id) && !self.flushed_series.contains(&id) {
                    return Err(format!("record {lsn} names series {id}, which is unknown"));
                }
            }
        }
        Ok(())
    }
}

/// A small generator for the tests' choices.
struct Choice(u64);

impl Choice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// Several lifetimes on one disk, each ended by a power cut, a kill or a fault.
fn lifetimes(seed: u64, sync: WalSync, lying: bool) -> Result<(), String> {
    let mut choice = Choice(seed);
    choice.below(1);
    let mut vfs = SimVfs::new(seed);
    let mut model = Model::default();
    // How many known records must survive the way in which the last lifetime ended.
    let mut survivors = usize::MAX;
    let mut durable = 0;
    for _ in 0..4 {
        if lying {
            vfs.ignore_syncs();
        }
        let faults = [Fault::Io, Fault::DiskFull, Fault::ShortWrite, Fault::LostSync];
        match choice.below(4) {
            0 => vfs.power_off_at(choice.below(60)),
            1 => vfs.fail_at(
                vfs.operations() + choice.below(40),
                faults[usize::try_from(choice.below(4)).unwrap()],
            ),
            _ => {}
        }
        vfs.set_capacity(choice.one_in(4).then(|| 12_000 + choice.below(40_000)));
        let started = Process::start(&vfs, &mut model, sync, survivors);
        let has_started = started.is_ok();
        if let Ok(process) = started {
            let mut process = process?;
            process.run(&mut model, &mut choice);
            durable = process.wal.status().durable_lsn;
        }
        let power_cut = vfs.is_off() || !choice.one_in(3);
        if power_cut {
            vfs = vfs.crash();
        } else {
            // A killed process: what it wrote is there, unless its sync failed.
            vfs.set_capacity(None);
        }
        if has_started {
            survivors = usize::MAX;
        }
        if power_cut && sync != WalSync::Always {
            let durable = model.known.iter().filter(|(lsn, _)| *lsn <= durable).count();
            survivors = survivors.min(durable);
        }
    }
    // At the end nothing goes wrong.
    vfs = vfs.crash();
    vfs.set_capacity(None);
    match Process::start(
        &vfs,
        &mut model,
        sync,
        if sync == WalSync::Always { survivors } else { 0 },
    ) {
        Ok(process) => process.map(drop),
        Err(error) => Err(format!("a healthy disk: {error}")),
    }
}

impl Process {
    fn run(&mut self, model: &mut Model, choice: &mut Choice) {
        for _ in 0..choice.below(30) {
            let next = match choice.below(10) {
                0 => self.flush(model),
                1 => self.committer.idle(),
                2 => {
                    self.clock.advance(Duration::from_millis(700));
                    self.committer.idle()
                }
                _ => {
                    let tickets = (0..=choice.below(4))
                        .filter_map(|_| {
                            let len = u32::try_from(1 + choice.below(150)).unwrap();
                            self.append(model, len, choice.one_in(3))
                        })
                        .collect();
                    self.commit(model, tickets)
                }
            };
            if next == Next::End {
                return;
            }
            if choice.one_in(2) {
                self.make_segment();
            }
        }
        if choice.one_in(3) {
            self.committer.stop(Stop::Close);
        }
    }
}

fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("AETHER_SIM_SEEDS").ok().and_then(|count| count.parse().ok());
    0..count.unwrap_or(2_000)
}

#[test]
fn no_crash_loses_what_was_acknowledged() {
    for seed in seeds() {
        if let Err(wrong) = lifetimes(seed, WalSync::Always, false) {
            panic!("seed {seed}: {wrong}");
        }
    }
}

#[test]
fn weaker_modes_lose_only_the_end() {
    for seed in seeds().take(300) {
        for sync in [WalSync::Interval(Duration::from_secs(1)), WalSync::Never] {
            if let Err(wrong) = lifetimes(seed, sync, false) {
                panic!("seed {seed}, sync {sync}: {wrong}");
            }
        }
    }
}

/// The control: if the disk lies about syncs, the harness must notice.
#[test]
fn a_lying_disk_is_found_out() {
    let noticed = (0..100).filter(|seed| lifetimes(*seed, WalSync::Always, true).is_err()).count();
    assert!(noticed > 50, "only {noticed} of 100 seeds noticed that nothing was synced");
}

/// One life with everything in it, always the same.
fn script(vfs: &SimVfs, model: &mut Model) -> Result<(), StorageError> {
    for round in 0..3u32 {
        let mut process = match Process::start(vfs, model, WalSync::Always, usize::MAX)? {
            Ok(process) => process,
            Err(wrong) => panic!("{wrong}"),
        };
        for step in 0..12u32 {
            let tickets = (0..3)
                .filter_map(|append| {
                    process.append(model, 10 + 30 * append, (step + append).is_multiple_of(4))
                })
                .collect();
            if process.commit(model, tickets) == Next::End {
                return Ok(());
            }
            process.make_segment();
            if step == 5 && process.committer.idle() == Next::End {
                return Ok(());
            }
            if step == 8 && process.flush(model) == Next::End {
                return Ok(());
            }
        }
        if round == 1 {
            process.committer.stop(Stop::Close);
        }
    }
    Ok(())
}

#[test]
fn a_power_cut_at_every_operation_loses_nothing() {
    let vfs = SimVfs::new(0);
    script(&vfs, &mut Model::default()).unwrap();
    let operations = vfs.operations();
    assert!(operations > 100, "{operations}");
    for operation in 0..operations {
        for seed in 0..4 {
            let vfs = SimVfs::new(seed);
            vfs.power_off_at(operation);
            let mut model = Model::default();
            // The power going is what makes it fail.
            let _ = script(&vfs, &mut model);
            assert!(vfs.is_off());
            let vfs = vfs.crash();
            // A second cut, during the recovery, and then a third start.
            vfs.power_off_at(seed * 2);
            let _ = Process::start(&vfs, &mut model, WalSync::Always, usize::MAX).map(|started| {
                started
                    .map(drop)
                    .unwrap_or_else(|wrong| panic!("operation {operation}, seed {seed}: {wrong}"));
            });
            let vfs = vfs.crash();
            Process::start(&vfs, &mut model, WalSync::Always, usize::MAX)
                .unwrap()
                .map(drop)
                .unwrap_or_else(|wrong| panic!("operation {operation}, seed {seed}: {wrong}"));
        }
    }
}

#[test]
fn every_fault_at_every_operation_loses_nothing() {
    let vfs = SimVfs::new(0);
    script(&vfs, &mut Model::default()).unwrap();
    for operation in 0..vfs.operations() {
        for fault in [Fault::Io, Fault::DiskFull, Fault::ShortWrite, Fault::LostSync] {
            let vfs = SimVfs::new(operation);
            vfs.fail_at(operation, fault);
            let mut model = Model::default();
            // Some faults stop the script; what counts is what is there afterwards.
            let _ = script(&vfs, &mut model);
            // The process ends, another one starts, then the power goes: what it showed must stay.
            for crash in [false, true] {
                let vfs = if crash { vfs.crash() } else { vfs.clone() };
                Process::start(&vfs, &mut model, WalSync::Always, usize::MAX)
                    .unwrap()
                    .map(drop)
                    .unwrap_or_else(|wrong| panic!("operation {operation}, {fault:?}: {wrong}"));
            }
        }
    }
}

/// All segments of a disk, oldest first.
fn segments(vfs: &SimVfs) -> Vec<PathBuf> {
    let files = vfs.list(Path::new(DIR)).unwrap();
    files
        .into_iter()
        .map(|entry| entry.path)
        .filter(|path| path.extension().is_some_and(|e| e == "wal"))
        .collect()
}

/// A log in one segment and its model.
fn small_log(records: u32) -> (SimVfs, Model) {
    let vfs = SimVfs::new(7);
    let mut model = Model::default();
    let mut process = Process::start(&vfs, &mut model, WalSync::Always, 0).unwrap().unwrap();
    for record in 0..records {
        let ticket = process.append(&mut model, 3, record.is_multiple_of(3)).unwrap();
        process.commit(&mut model, vec![ticket]);
    }
    process.committer.idle();
    (vfs.copy(), model)
}

fn recover(vfs: &SimVfs, flushed: Lsn) -> Result<(Story, ReplayReport), StorageError> {
    let wal = Wal::new(
        Arc::new(vfs.clone()),
        PathBuf::from(DIR),
        DATABASE,
        options(WalSync::Always),
        Arc::new(ManualClock::at(0)),
        Arc::default(),
    );
    let mut story = Story::default();
    let report = wal.recover(flushed, &mut story)?;
    Ok((story, report))
}

#[test]
fn a_log_cut_at_any_byte_is_a_prefix_of_whole_records() {
    let (vfs, model) = small_log(12);
    assert_eq!(segments(&vfs).len(), 1);
    let path = segments(&vfs)[0].clone();
    let bytes = vfs.bytes(&path).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut seen = BTreeSet::new();
    for len in 0..=used {
        let copy = vfs.copy();
        let file = copy.open(&path).unwrap();
        file.set_len(len as u64).unwrap();
        let result = recover(&copy, 0);
        if (1..segment::HEADER_LEN).contains(&len) {
            // Not even the header is whole, which no crash leaves.
            assert!(matches!(result, Err(StorageError::Corrupt { .. })), "{len}");
            continue;
        }
        let (story, _) = result.unwrap();
        let count = story.samples.len();
        assert_eq!(story.samples, model.known[..count], "cut at {len}");
        seen.insert(count);
    }
    // Every length of prefix was seen.
    assert_eq!(seen, (0..=model.known.len()).collect());
}

#[test]
fn every_flipped_bit_is_noticed_or_harmless() {
    let (vfs, model) = small_log(12);
    // A second process: the first segment is sealed, the second is the last one.
    let mut model = model;
    {
        let mut process =
            Process::start(&vfs, &mut model, WalSync::Always, usize::MAX).unwrap().unwrap();
        for _ in 0..4 {
            let ticket = process.append(&mut model, 3, false).unwrap();
            process.commit(&mut model, vec![ticket]);
        }
        process.committer.idle();
        process.make_segment();
    }
    let vfs = vfs.copy();
    assert_eq!(segments(&vfs).len(), 3, "sealed, used, blank");
    let mut noticed = 0;
    let mut harmless = 0;
    for path in segments(&vfs) {
        let bytes = vfs.bytes(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        // Some zeros behind the records, too.
        let bits = (used.min(bytes.len()) + 64).min(bytes.len()) * 8;
        for bit in 0..bits {
            let copy = vfs.copy();
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            copy.set_bytes(&path, &damaged);
            match recover(&copy, 0) {
                Err(StorageError::Corrupt { path: named, .. }) => {
                    assert_eq!(named.parent(), Some(Path::new(DIR)));
                    noticed += 1;
                }
                Err(other) => panic!("{}, bit {bit}: {other}", path.display()),
                Ok((story, _)) => {
                    model.check(&story, usize::MAX).unwrap_or_else(|wrong| {
                        panic!("{}, bit {bit}: {wrong}", path.display());
                    });
                    harmless += 1;
                }
            }
        }
    }
    assert!(noticed > 5_000 && harmless > 100, "{noticed} noticed, {harmless} harmless");
}

#[test]
fn damage_to_the_last_acknowledged_group_is_noticed_once_it_is_marked() {
    let (vfs, _) = small_log(5);
    let path = segments(&vfs)[0].clone();
    let mut bytes = vfs.bytes(&path).unwrap();
    let mut scan = scan::SegmentScan::new(
        vfs.open(&path).unwrap(),
        bytes.len() as u64,
        record::Seed::new(DATABASE, 1),
    );
    let mut offsets = Vec::new();
    while let scan::Found::Record(found) = scan.peek().unwrap() {
        let stride = found.stride();
        offsets.push(scan.offset());
        scan.advance(stride);
    }
    let last_samples = usize::try_from(offsets[offsets.len() - 2]).unwrap();
    bytes[last_samples + 30] ^= 4;
    vfs.set_bytes(&path, &bytes);
    match recover(&vfs, 0) {
        Err(StorageError::Corrupt { path: named, offset, reason }) => {
            assert_eq!((named, offset), (path, last_samples as u64));
            assert!(reason.contains("acknowledged record"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_missing_segment_is_noticed() {
    let (vfs, _) = small_log(200);
    let all = segments(&vfs);
    assert!(all.len() > 3);
    recover(&vfs, 0).unwrap();
    // The last one with records cannot be missed: nothing stands behind it.
    for path in &all[..all.len() - 1] {
        let copy = vfs.copy();
        copy.remove(path).unwrap();
        let result = recover(&copy, 0);
        assert!(matches!(result, Err(StorageError::Corrupt { .. })), "{}", path.display());
    }
    let other = SimVfs::new(1);
    other.create_dir_all(Path::new(DIR)).unwrap();
    assert!(matches!(recover(&other, 5), Err(StorageError::Corrupt { .. })));
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_space() {
    let vfs = SimVfs::new(3);
    let mut model = Model::default();
    let mut process = Process::start(&vfs, &mut model, WalSync::Always, 0).unwrap().unwrap();
    vfs.set_capacity(Some(3 * SEGMENT_BYTES));
    let mut refused = false;
    for _ in 0..100 {
        let Some(ticket) = process.append(&mut model, 100, true) else {
            refused = true;
            break;
        };
        process.commit(&mut model, vec![ticket]);
    }
    assert!(refused);
    assert!(matches!(process.wal.status().state, LogState::ReadOnly(_)));
    let written = model.known.len();
    assert!(written > 3);

    // A flush needs no new segment, and frees what the log needs to go on.
    assert_eq!(process.flush(&mut model), Next::GoOn);
    assert!(model.flushed >= model.known.last().unwrap().0);
    process.make_segment();
    assert_eq!(process.committer.idle(), Next::GoOn);
    assert_eq!(process.wal.status().state, LogState::Running);
    let ticket = process.append(&mut model, 100, false).unwrap();
    process.commit(&mut model, vec![ticket]);
    assert_eq!(model.known.len(), written + 1);
    drop(process);
    let vfs = vfs.crash();
    Process::start(&vfs, &mut model, WalSync::Always, usize::MAX).unwrap().map(drop).unwrap();
}

#[test]
fn a_start_on_a_full_disk_serves_and_waits() {
    let (vfs, mut model) = small_log(5);
    vfs.set_capacity(Some(SEGMENT_BYTES));
    let mut process =
        Process::start(&vfs, &mut model, WalSync::Always, usize::MAX).unwrap().unwrap();
    assert!(matches!(process.wal.status().state, LogState::ReadOnly(_)));
    assert!(process.append(&mut model, 1, false).is_none());
    vfs.set_capacity(None);
    assert_eq!(process.committer.idle(), Next::GoOn);
    assert_eq!(process.wal.status().state, LogState::Running);
    let ticket = process.append(&mut model, 1, false).unwrap();
    assert_eq!(process.commit(&mut model, vec![ticket]), Next::GoOn);
    assert_eq!(model.known.len(), 6);
}

#[test]
fn nothing_is_acknowledged_after_a_failed_write() {
    for fault in [Fault::Io, Fault::ShortWrite, Fault::LostSync, Fault::DiskFull] {
        let vfs = SimVfs::new(3);
        let mut model = Model::default();
        let mut process = Process::start(&vfs, &mut model, WalSync::Always, 0).unwrap().unwrap();
        process.make_segment();
        let ticket = process.append(&mut model, 5, true).unwrap();
        process.commit(&mut model, vec![ticket]);
        vfs.fail_at(vfs.operations(), fault);
        let mut ticket = process.append(&mut model, 5, false).unwrap();
        assert_eq!(process.committer.commit(), Next::End);
        assert!(matches!(ticket.done.try_recv(), Ok(Err(StorageError::WalPoisoned(_)))));
        assert!(process.append(&mut model, 5, false).is_none());
        let refused = process.wal.append_blocking(batch(1, 1));
        assert!(matches!(refused, Err(StorageError::WalPoisoned(_))), "{refused:?}");
        assert!(matches!(process.wal.status().state, LogState::Poisoned(_)));
        assert_eq!(process.live.0.lock().samples.len(), 1);
    }
}
