//! Builds what is due, day by day, and drops what retention lets go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::model::{Resolution, Timestamp};
use crate::storage::error::{ErrorKind, StorageError};
use crate::storage::part::Part;
use crate::storage::plan::WINDOW_MS;
use crate::storage::rollup::build::{Source, build_run};
use crate::storage::rollup::file::{BuiltSpan, FileFacts, RollupFile};
use crate::storage::rollup::fresh::Freshness;
use crate::storage::rollup::plan::{Floors, Job, Situation, Which, day_start};
use crate::storage::rollup::set::RollupSet;
use crate::storage::rollup::status::DownsampleProgress;
use crate::storage::rollup::upload::below;
use crate::storage::rollup::worker::day::Day;
use crate::storage::rollup::worker::{Done, Dropped, Next, Worker};
use crate::storage::snapshot::Snapshot;
use crate::storage::state::State;

impl Worker {
    /// Drops whole files whose last span ends at or before the floor of their resolution, and
    /// remembers the floors, so that rows that they hide in other files stay hidden.
    pub(crate) fn drop_expired(&mut self, wanted: &Floors) -> Result<Dropped, StorageError> {
        let Some(opened) = &mut self.opened else { return Ok(Dropped::default()) };
        let mut floors = opened.floors.clone();
        for (resolution, floor) in &wanted.rows {
            floors.raise(*resolution, *floor);
        }
        floors.raw = floors.raw.max(wanted.raw);
        let expired = |file: &RollupFile| {
            floors.of_rows(file.resolution()).is_some_and(|floor| file.span().end <= floor)
        };
        let hides = |file: &RollupFile| {
            let (resolution, start) = (file.resolution(), file.span().start);
            let floor = floors.of_rows(resolution).filter(|floor| start < *floor);
            floor.is_some() && floor > opened.floors.of_rows(resolution)
        };
        let any = opened.files.iter().any(|file| expired(file) || hides(file));
        if !any && floors.raw == opened.floors.raw {
            // The next manifest says so: until then there is nothing that it would be wrong about.
            opened.floors = floors;
            return Ok(Dropped::default());
        }
        let (leaving, kept): (Vec<_>, Vec<_>) =
            opened.files.iter().cloned().partition(|file| expired(file));
        let dropped = Dropped {
            files: leaving.len() as u64,
            bytes: leaving.iter().map(|file| file.bytes()).sum(),
        };
        let next =
            Next { labels: opened.labels.clone(), floors: floors.clone(), kept, added: Vec::new() };
        self.commit(next)?;
        if dropped.files > 0 {
            tracing::info!(files = dropped.files, bytes = dropped.bytes, "dropped rollups");
        }
        Ok(dropped)
    }

    /// Does all work of one look, day by day; stops early when `stop` says so.
    pub(crate) fn build(
        &mut self,
        which: Which,
        progress: &DownsampleProgress,
        stop: &AtomicBool,
    ) -> Result<Done, StorageError> {
        let jobs = self.jobs(which);
        progress.add_work(jobs.iter().map(|job| job.build.len() as u64).sum());
        let (mut total, mut failed) = (Done::default(), None);
        for job in jobs {
            if stop.load(Ordering::Relaxed) {
                return Err(StorageError::ShuttingDown);
            }
            let done = match self.run(&job, stop) {
                // One day's damage must not keep the others from being built.
                Err(error) if matches!(error.kind(), ErrorKind::Data | ErrorKind::Internal) => {
                    tracing::error!(%error, day_ms = job.day, "building the rollups of a day");
                    failed.get_or_insert(error);
                    self.open()?;
                    continue;
                }
                done => done?,
            };
            progress.add_done(job.build.len() as u64, done.samples);
            total.spans += done.spans;
            total.samples += done.samples;
            total.rows += done.rows;
            total.bytes += done.bytes;
            self.empty_trash();
        }
        failed.map_or(Ok(total), Err)
    }

    pub(super) fn jobs(&self, which: Which) -> Vec<Job> {
        let Some(opened) = &self.opened else { return Vec::new() };
        let fresh = Freshness::of(&self.store.state.load());
        let built = built(&opened.files);
        let mut files = BTreeMap::new();
        for file in &opened.files {
            *files.entry((day_start(file.span().start), file.resolution())).or_default() += 1;
        }
        let situation = Situation {
            now_ms: self.store.clock.now_ms(),
            fresh: &fresh,
            built: &built,
            empty: &self.empty,
            floors: &opened.floors,
        };
        situation.jobs(which, &files)
    }

    /// Builds the spans of one day, and puts its files in their place.
    fn run(&mut self, job: &Job, stop: &AtomicBool) -> Result<Done, StorageError> {
        let Some(opened) = &self.opened else { return Ok(Done::default()) };
        let (mut labels, floors, files) =
            (opened.labels.clone(), opened.floors.clone(), opened.files.clone());
        self.ensure_manifest()?;
        let state = self.store.state.load();
        let mut done = Done::default();
        let (mut uploaded, mut built_spans): (Vec<FileFacts>, BTreeMap<Timestamp, BuiltSpan>) =
            Default::default();
        let outcome = runs(&job.build, &built(&files)).into_iter().try_for_each(|run| {
            // Blocks that are replaced meanwhile stay on disk no longer than this run reads them.
            let source = source_of(&self.store.state.load());
            let built = build_run(&self.target, &source, &floors, run, &mut labels, stop)?;
            built_spans.extend(built.spans.iter().map(|span| (span.start_ms, *span)));
            uploaded.extend(built.files);
            Ok(())
        });
        self.doubtful.extend(uploaded.iter().map(|facts| below(&self.target.root, &facts.path)));
        outcome.inspect_err(|_| self.discard())?;

        let (same_day, other_days): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| day_start(file.span().start) == job.day);
        let set = Arc::new(RollupSet {
            store: Arc::clone(&self.target.io),
            root: self.target.root.clone(),
            footers: Arc::clone(&self.footers),
            labels: labels.clone(),
            files: Vec::new(),
            empty: Vec::new(),
            floors: Floors::default(),
        });
        let mut next = Next { labels, floors, kept: other_days, added: Vec::new() };
        for resolution in Resolution::ALL {
            let old = same_day.iter().filter(|file| file.resolution() == resolution);
            let new = uploaded.iter().filter(|facts| facts.resolution == resolution.name());
            let day = Day { job, resolution, built: &built_spans, state: &state };
            day.assemble(&self.target, &set, old, new, &mut next, &mut self.doubtful)
                .inspect_err(|_| self.discard())?;
        }
        done.spans = built_spans.len() as u64;
        done.samples = built_spans.values().map(|span| span.samples).sum();
        done.rows = next.added.iter().map(|facts| facts.rows).sum();
        done.bytes = next.added.iter().map(|facts| facts.bytes).sum();
        let empty = built_spans.into_values().filter(|span| span.samples == 0);
        self.empty.extend(empty.map(|span| (span.start_ms, span)));
        if next.added.is_empty() && next.kept.len() == self.file_count() {
            self.publish();
            return Ok(done);
        }
        self.commit(next)?;
        Ok(done)
    }

    fn file_count(&self) -> usize {
        self.opened.as_ref().map_or(0, |opened| opened.files.len())
    }
}

/// What a span is built from: blocks only, so that everything up to one record is in it.
fn source_of(state: &Arc<State>) -> Source {
    let sound = state.blocks.iter().filter(|block| block.damage().is_none());
    let blocks = sound.map(|block| Arc::clone(block) as Arc<dyn Part>).collect();
    let first_in_memory = state.generations().next().map_or(0, |oldest| oldest.lsn_first);
    Source {
        snapshot: Snapshot::new(blocks, state.tombstones.clone(), Vec::new()),
        lsn: first_in_memory.saturating_sub(1),
        cleaned: state.tombstones.iter().map(|tombstone| tombstone.id).max().unwrap_or(0),
    }
}

/// The spans that files hold, by resolution and start.
pub(super) fn built(
    files: &[Arc<RollupFile>],
) -> BTreeMap<Resolution, BTreeMap<Timestamp, BuiltSpan>> {
    let mut built: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for file in files {
        let spans = file.facts().spans.iter().map(|span| (span.start_ms, *span));
        built.entry(file.resolution()).or_default().extend(spans);
    }
    built
}

/// First and last start of stretches that are built in one go. Spans between two that have no
/// rows yet come along, so that a hole in the data is known to be one.
fn runs(
    starts: &[Timestamp],
    built: &BTreeMap<Resolution, BTreeMap<Timestamp, BuiltSpan>>,
) -> Vec<(Timestamp, Timestamp)> {
    let is_built = |start: Timestamp| built.values().any(|spans| spans.contains_key(&start));
    let mut runs: Vec<(Timestamp, Timestamp)> = Vec::new();
    for &start in starts {
        let joins = runs.last().is_some_and(|(_, last)| {
            let mut between = last.saturating_add(WINDOW_MS);
            while between < start && !is_built(between) {
                between = between.saturating_add(WINDOW_MS);
            }
            between >= start
        });
        match runs.last_mut() {
            Some((_, last)) if joins => *last = start,
            _ => runs.push((start, start)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_bridge_holes_but_not_what_is_built() {
        let at = |n: i64| n * WINDOW_MS;
        let span = BuiltSpan { start_ms: at(4), source_lsn: 1, cleaned: 0, samples: 1 };
        let known = BTreeMap::from([(Resolution::OneHour, BTreeMap::from([(at(4), span)]))]);
        let starts = [at(0), at(1), at(3), at(5)];
        assert_eq!(runs(&starts, &known), [(at(0), at(3)), (at(5), at(5))]);
    }
}
