//! Makes segments ahead of their use, so that a commit never waits for 128 MB of zeros.
//!
//! One blank segment is kept ready. Segments begin short and double until they have the length of
//! the options, so that a store which takes little, or has just flushed, holds little disk.
//!
//! Where space is scarce, segments are as long as the reserve leaves room for. On a full disk the
//! maker tries again every so often and asks for twice the reserve before it goes on, so that it
//! does not flap.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::storage::error::StorageError;
use crate::storage::vfs::Vfs;
use crate::storage::wal::WalOptions;
use crate::storage::wal::segment::BlankSegment;

/// Where blank segments are made and taken.
#[derive(Debug)]
pub(super) struct Blanks {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    options: WalOptions,
    state: Mutex<State>,
    changed: Condvar,
}

/// The first segment is so many times shorter than the longest one.
const FIRST_SHARE: u64 = 1024;
/// No segment is shorter than this, unless the longest one is.
const SEGMENT_BYTES_MIN: u64 = 16 << 10;

#[derive(Debug, Default)]
struct State {
    ready: Vec<BlankSegment>,
    /// Length of the next segment to make; 0 stands for the shortest.
    len: u64,
    /// Number of the next segment to make; 0 before the first segment is there.
    next: u64,
    /// Whether a thread makes segments; otherwise the taker does.
    threaded: bool,
    stopping: bool,
    /// Why none can be made at the moment.
    full: Option<String>,
    /// Why none can be made any more.
    failed: Option<String>,
}

/// What came of an attempt to take a blank segment.
#[derive(Debug)]
pub(super) enum Taken {
    Segment(BlankSegment),
    /// The disk is full.
    Full(String),
    Failed(String),
}

impl Blanks {
    pub(super) fn new(vfs: Arc<dyn Vfs>, dir: PathBuf, options: WalOptions) -> Self {
        Self { vfs, dir, options, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Goes on after recovery: `ready` are the segments before number `next`.
    pub(super) fn resume(&self, ready: Vec<BlankSegment>, next: u64) {
        let mut state = self.state.lock();
        state.ready = ready;
        state.next = next;
        drop(state);
        self.changed.notify_all();
    }

    /// Length of the shortest segment.
    pub(super) fn shortest(&self) -> u64 {
        let longest = self.options.segment_bytes;
        (longest / FIRST_SHARE).max(SEGMENT_BYTES_MIN).min(longest)
    }

    fn next_len(&self, state: &State) -> u64 {
        state.len.clamp(self.shortest(), self.options.segment_bytes)
    }

    /// Begins with short segments again: what comes after a flush may be little.
    pub(super) fn shorten(&self) {
        let shortest = self.shortest();
        let number = {
            let mut state = self.state.lock();
            state.len = shortest;
            state.ready.first().filter(|blank| blank.len > shortest).map(|blank| blank.number)
        };
        // Only the committer takes segments, and none is made while one is ready. The short one
        // replaces the long one under its name; if that fails, the long one is as good.
        if let Some(number) = number
            && let Ok(blank) = BlankSegment::create(&*self.vfs, &self.dir, number, shortest)
        {
            self.state.lock().ready[0] = blank;
        }
    }

    /// Lets the maker look at the disk again: there may be space now.
    pub(super) fn retry(&self) {
        self.changed.notify_all();
    }

    /// The maker's thread, until [`Blanks::stop`].
    pub(super) fn run(&self) {
        loop {
            self.make();
            let mut state = self.state.lock();
            if state.stopping || state.failed.is_some() {
                return;
            }
            if state.full.is_some() {
                self.changed.wait_for(&mut state, self.options.retry_after);
            } else if !state.ready.is_empty() || state.next == 0 {
                self.changed.wait(&mut state);
            }
            if state.stopping {
                return;
            }
        }
    }

    /// From here on a thread is in [`Blanks::run`].
    pub(super) fn set_threaded(&self) {
        self.state.lock().threaded = true;
    }

    pub(super) fn stop(&self) {
        self.state.lock().stopping = true;
        self.changed.notify_all();
    }

    /// Makes a segment if none is ready and there is space.
    pub(super) fn make(&self) {
        let number = {
            let state = self.state.lock();
            let resumed = state.next > 0;
            if !resumed || !state.ready.is_empty() || state.stopping || state.failed.is_some() {
                return;
            }
            state.next
        };
        let made =
            self.space().and_then(|len| BlankSegment::create(&*self.vfs, &self.dir, number, len));
        let mut state = self.state.lock();
        match made {
            Ok(blank) => {
                state.next = number + 1;
                state.ready.push(blank);
                state.full = None;
            }
            Err(StorageError::ReadOnly(reason)) => state.full = Some(reason),
            Err(error) if error.is_disk_full() => state.full = Some(error.to_string()),
            Err(error) => state.failed = Some(error.to_string()),
        }
        drop(state);
        self.changed.notify_all();
    }

    /// How long the next segment is to be so that the reserve is left alone; an error if there is
    /// no space for even the shortest.
    pub(super) fn space(&self) -> Result<u64, StorageError> {
        let (was_full, len) = {
            let state = self.state.lock();
            (state.full.is_some(), self.next_len(&state))
        };
        let reserve = self.options.disk_free_bytes_min;
        let reserve = if was_full { reserve.saturating_mul(2) } else { reserve };
        let needed = self.shortest().saturating_add(reserve);
        let free = self.vfs.free_space(&self.dir)?;
        if free >= needed {
            // Whole pages, for the file system's sake.
            let room = (free - reserve) / SEGMENT_BYTES_MIN * SEGMENT_BYTES_MIN;
            return Ok(len.min(room.max(self.shortest())));
        }
        Err(StorageError::ReadOnly(format!(
            "{free} bytes are free on the disk of {}, a log segment and the reserve need {needed}",
            self.dir.display()
        )))
    }

    /// Takes a blank segment; waits while one is being made.
    pub(super) fn take(&self) -> Taken {
        loop {
            if !self.state.lock().threaded {
                self.make();
            }
            let mut state = self.state.lock();
            if let Some(blank) = state.take() {
                // The one before was too short.
                state.len = blank.len.saturating_mul(2);
                drop(state);
                self.changed.notify_all();
                return Taken::Segment(blank);
            }
            if let Some(reason) = &state.failed {
                return Taken::Failed(reason.clone());
            }
            if let Some(reason) = &state.full {
                return Taken::Full(reason.clone());
            }
            if state.stopping {
                return Taken::Failed("the log is stopping".to_owned());
            }
            self.changed.wait(&mut state);
        }
    }

    /// Takes a blank segment if one is ready.
    pub(super) fn try_take(&self) -> Option<BlankSegment> {
        let blank = self.state.lock().take();
        if blank.is_some() {
            self.changed.notify_all();
        }
        blank
    }
}

impl State {
    /// The oldest, so that numbers follow each other.
    fn take(&mut self) -> Option<BlankSegment> {
        (!self.ready.is_empty()).then(|| self.ready.remove(0))
    }
}
