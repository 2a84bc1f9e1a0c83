//! What to build next, as a pure function of what is known.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Resolution, Timestamp};
use crate::storage::plan::{WINDOW_MS, window_start};
use crate::storage::rollup::file::{BuiltSpan, span_at};
use crate::storage::rollup::fresh::Freshness;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// How long after its start a span is built even if nothing came after it: a sample at the span's
/// very end belongs to the next window.
const SETTLED_MS: i64 = 2 * WINDOW_MS;

/// What the planner looks at.
#[derive(Debug)]
pub(crate) struct Situation<'a> {
    pub(crate) now_ms: Timestamp,
    pub(crate) fresh: &'a Freshness,
    /// Spans that files hold, by resolution and start.
    pub(crate) built: &'a BTreeMap<Resolution, BTreeMap<Timestamp, BuiltSpan>>,
    /// Spans that were looked at and had no samples.
    pub(crate) empty: &'a BTreeMap<Timestamp, BuiltSpan>,
    pub(crate) floors: &'a Floors,
}

/// Below these nothing is built: retention has removed it, or what it would be built from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Floors {
    pub(crate) rows: BTreeMap<Resolution, Timestamp>,
    pub(crate) raw: Option<Timestamp>,
}

impl Floors {
    /// Whether raw samples of the span may be gone.
    pub(crate) fn raw_expired(&self, start: Timestamp) -> bool {
        self.raw.is_some_and(|raw| start < raw)
    }

    /// Lets rows of buckets that end at or before `before` go.
    pub(crate) fn raise(&mut self, resolution: Resolution, before: Timestamp) {
        let floor = self.rows.entry(resolution).or_insert(before);
        *floor = (*floor).max(before);
    }

    /// Up to where rows are not to be kept: the end of a span.
    pub(crate) fn of_rows(&self, resolution: Resolution) -> Option<Timestamp> {
        self.rows.get(&resolution).map(|floor| window_start(*floor))
    }

    /// Whether rows of the span are not to be kept.
    pub(crate) fn expired(&self, resolution: Resolution, start: Timestamp) -> bool {
        self.of_rows(resolution).is_some_and(|floor| span_at(start).end <= floor)
    }
}

/// Which spans to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those that will hardly change any more.
    Settled,
    /// All that have samples in blocks.
    All,
}

/// Work on the files of one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    /// Where the day begins.
    pub(crate) day: Timestamp,
    /// Starts of the spans to build, ascending.
    pub(crate) build: Vec<Timestamp>,
    /// Spans without raw samples whose rows a deletion hides.
    pub(crate) filter: BTreeSet<Timestamp>,
    /// Make one file of what there is.
    pub(crate) merge: bool,
}

/// Start of the UTC day that holds `at`.
pub(crate) fn day_start(at: Timestamp) -> Timestamp {
    at.saturating_sub(at.rem_euclid(DAY_MS))
}

impl Situation<'_> {
    /// The starts of the spans that should be built, ascending.
    pub(crate) fn due(&self, which: Which) -> Vec<Timestamp> {
        let mut starts = self.fresh.span_starts();
        // A deletion may have left no block behind, but rows.
        let hidden = self.rows().filter(|span| self.fresh.is_hidden(span));
        starts.extend(hidden.map(|span| span.start_ms));
        let due = |start: &Timestamp| {
            !self.floors.raw_expired(*start)
                && self.is_out_of_date(*start)
                && (which == Which::All || self.is_settled(*start))
        };
        starts.into_iter().filter(due).collect()
    }

    /// The work of every day that needs some, oldest day first. `files` counts the files by day
    /// and resolution.
    pub(crate) fn jobs(
        &self,
        which: Which,
        files: &BTreeMap<(Timestamp, Resolution), usize>,
    ) -> Vec<Job> {
        let mut jobs: BTreeMap<Timestamp, Job> = BTreeMap::new();
        let new = |day| Job { day, build: Vec::new(), filter: BTreeSet::new(), merge: false };
        for start in self.due(which) {
            let day = day_start(start);
            jobs.entry(day).or_insert_with(|| new(day)).build.push(start);
        }
        for span in self.rows() {
            if self.floors.raw_expired(span.start_ms) && self.fresh.is_hidden(span) {
                let day = day_start(span.start_ms);
                jobs.entry(day).or_insert_with(|| new(day)).filter.insert(span.start_ms);
            }
        }
        let unsettled: BTreeSet<Timestamp> =
            self.due(Which::All).into_iter().map(day_start).collect();
        for ((day, _), count) in files {
            let over = self.now_ms >= day.saturating_add(DAY_MS + WINDOW_MS);
            let waits = unsettled.contains(day) && !jobs.contains_key(day);
            if *count > 1 && over && !waits {
                jobs.entry(*day).or_insert_with(|| new(*day)).merge = true;
            }
        }
        jobs.into_values()
            .map(|job| {
                let over = self.now_ms >= job.day.saturating_add(DAY_MS + WINDOW_MS);
                Job { merge: over, ..job }
            })
            .collect()
    }

    fn rows(&self) -> impl Iterator<Item = &BuiltSpan> {
        self.built.values().flat_map(BTreeMap::values)
    }

    fn is_out_of_date(&self, start: Timestamp) -> bool {
        if let Some(empty) = self.empty.get(&start)
            && self.fresh.is_built(empty)
        {
            return false;
        }
        Resolution::ALL.into_iter().any(|resolution| {
            match self.built.get(&resolution).and_then(|spans| spans.get(&start)) {
                _ if self.floors.expired(resolution, start) => false,
                Some(span) => !self.fresh.is_built(span),
                None => true,
            }
        })
    }

    fn is_settled(&self, start: Timestamp) -> bool {
        !self.fresh.is_in_memory(start)
            && (self.fresh.has_blocks_at(start.saturating_add(WINDOW_MS))
                || self.now_ms >= start.saturating_add(SETTLED_MS))
    }
}
