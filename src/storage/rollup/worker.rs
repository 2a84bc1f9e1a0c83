//! Does the work: opens the rollup store, builds, merges, drops, and names the result in
//! `_manifest.json`.
//!
//! What a crash leaves at each step, and what repairs it:
//! 1. uploaded files that no manifest names: removed by the next start;
//! 2. the new manifest: from here on the new files count, and the old ones are the orphans;
//! 3. old files that readers still had open: likewise.
//!
//! If putting the manifest fails, nobody knows which one is there: it is read again before
//! anything else is done, and files that it does not name are removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::columnar::parquet::LabelColumns;
use crate::model::{Resolution, Timestamp};
use crate::storage::error::{ErrorKind, StorageError};
use crate::storage::part::Part;
use crate::storage::plan::WINDOW_MS;
use crate::storage::rollup::build::{Source, build_run, file_path};
use crate::storage::rollup::file::{BuiltSpan, FileFacts, FooterRoom, RollupFile};
use crate::storage::rollup::fresh::Freshness;
use crate::storage::rollup::manifest::{MANIFEST_BYTES_MAX, MANIFEST_NAME, RollupManifest};
use crate::storage::rollup::merge::{Piece, merge};
use crate::storage::rollup::plan::{Floors, Job, Situation, Which, day_start};
use crate::storage::rollup::set::RollupSet;
use crate::storage::rollup::status::{DownsampleProgress, ResolutionStatus};
use crate::storage::rollup::upload::{Target, below};
use crate::storage::snapshot::Snapshot;
use crate::storage::state::State;
use crate::storage::store::Store;

/// Where replaced files go once nobody reads them any more.
#[derive(Debug, Default)]
pub(crate) struct Trash(Mutex<Vec<Path>>);

impl Trash {
    pub(crate) fn add(&self, location: Path) {
        self.0.lock().push(location);
    }

    fn take(&self) -> Vec<Path> {
        std::mem::take(&mut self.0.lock())
    }
}

/// The one writer of a rollup store.
#[derive(Debug)]
pub(crate) struct Worker {
    store: Arc<Store>,
    target: Target,
    /// Whether the object store compares versions before it replaces an object. A local directory
    /// is ours alone by the data directory's lock.
    compares_versions: bool,
    database: Uuid,
    opened: Option<Opened>,
    trash: Arc<Trash>,
    footers: Arc<FooterRoom>,
    /// Uploaded and perhaps named: to be removed once the manifest was read again.
    doubtful: Vec<Path>,
    /// What was named before a manifest that may or may not be there.
    before: Vec<Arc<RollupFile>>,
    /// Spans that were looked at and had no samples.
    empty: BTreeMap<Timestamp, BuiltSpan>,
    swept: bool,
}

/// What the manifest says, and which version of it.
#[derive(Debug)]
struct Opened {
    labels: LabelColumns,
    floors: Floors,
    files: Vec<Arc<RollupFile>>,
    version: Option<UpdateVersion>,
}

/// What one piece of work came to.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) spans: u64,
    pub(crate) samples: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

/// What the next manifest says.
struct Next {
    labels: LabelColumns,
    floors: Floors,
    /// Files that stay.
    kept: Vec<Arc<RollupFile>>,
    added: Vec<FileFacts>,
}

impl Worker {
    pub(crate) fn new(
        store: Arc<Store>,
        target: Target,
        compares_versions: bool,
        database: Uuid,
    ) -> Self {
        Self {
            store,
            target,
            compares_versions,
            database,
            opened: None,
            trash: Arc::default(),
            footers: Arc::default(),
            doubtful: Vec::new(),
            before: Vec::new(),
            empty: BTreeMap::new(),
            swept: false,
        }
    }

    /// Reads the manifest, unless it is known. A store of another database, or one without a
    /// manifest that has rollup files, is refused and left as it is.
    pub(crate) fn open(&mut self) -> Result<(), StorageError> {
        if self.opened.is_some() {
            return Ok(());
        }
        let opened = match self.read_manifest()? {
            Some((manifest, version)) => {
                if manifest.database != self.database {
                    return Err(StorageError::ForeignRollups {
                        place: self.place(),
                        owner: manifest.database,
                        us: self.database,
                    });
                }
                let files = manifest.open_files(&self.target.root).into_iter().map(|file| {
                    let known = self.before.iter().find(|old| old.location() == file.location());
                    known.map_or_else(|| Arc::new(file), Arc::clone)
                });
                Opened {
                    files: files.collect(),
                    labels: manifest.labels,
                    floors: manifest.floors,
                    version: Some(version),
                }
            }
            None => {
                if let Some(file) = self.list_files()?.first() {
                    return Err(StorageError::Corrupt {
                        path: self.place().into(),
                        offset: 0,
                        reason: format!("{MANIFEST_NAME} is missing, though there is {file}"),
                    });
                }
                Opened {
                    labels: LabelColumns::new(),
                    floors: Floors::default(),
                    files: Vec::new(),
                    version: None,
                }
            }
        };
        let opened = self.opened.insert(opened);
        opened.files.sort_by_key(|file| (file.resolution(), file.span()));
        self.publish();
        self.remove_leftovers()
    }

    /// Whether it is known what the manifest says.
    pub(crate) fn is_open(&self) -> bool {
        self.opened.is_some()
    }

    /// Removes files that no manifest names: all of them once after the start, later only our own
    /// that may have been named or not.
    fn remove_leftovers(&mut self) -> Result<(), StorageError> {
        let named: BTreeSet<Path> = self
            .opened
            .iter()
            .flat_map(|opened| &opened.files)
            .map(|f| f.location().clone())
            .collect();
        for old in std::mem::take(&mut self.before) {
            if !named.contains(old.location()) {
                old.retire(Arc::clone(&self.trash));
            }
        }
        let mut leftovers = std::mem::take(&mut self.doubtful);
        if !self.swept {
            leftovers = self.list_files()?;
            self.swept = true;
        }
        for location in leftovers.into_iter().filter(|location| !named.contains(location)) {
            tracing::info!(%location, "removing a rollup file that no manifest names");
            self.trash.add(location);
        }
        Ok(())
    }

    /// Removes replaced files that nobody reads any more.
    pub(crate) fn empty_trash(&self) {
        for location in self.trash.take() {
            match self.target.runtime.block_on(self.target.io.delete(&location)) {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                // The next start finds it.
                Err(error) => tracing::warn!(%location, %error, "removing a rollup file"),
            }
        }
    }

    /// Drops whole files whose last span ends at or before the floor of their resolution.
    pub(crate) fn drop_expired(&mut self, wanted: &Floors) -> Result<(), StorageError> {
        let Some(opened) = &self.opened else { return Ok(()) };
        let mut floors = opened.floors.clone();
        for (resolution, floor) in &wanted.rows {
            let known = floors.rows.entry(*resolution).or_insert(*floor);
            *known = (*known).max(*floor);
        }
        floors.raw = floors.raw.max(wanted.raw);
        let expired = |file: &RollupFile| {
            floors.rows.get(&file.resolution()).is_some_and(|floor| file.span().end <= *floor)
        };
        let any = opened.files.iter().any(|file| expired(file));
        if !any && floors.raw == opened.floors.raw {
            return Ok(());
        }
        let kept = opened.files.iter().filter(|file| !expired(file)).cloned().collect();
        let next =
            Next { labels: opened.labels.clone(), floors: floors.clone(), kept, added: Vec::new() };
        self.commit(next)
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

    fn jobs(&self, which: Which) -> Vec<Job> {
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
            let built = build_run(&self.target, &source, run, &mut labels, stop)?;
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

    /// Puts a manifest in place before the first file is uploaded, so that files without one are
    /// never ours.
    fn ensure_manifest(&mut self) -> Result<(), StorageError> {
        match &self.opened {
            Some(opened) if opened.version.is_none() => {
                let (labels, floors) = (opened.labels.clone(), opened.floors.clone());
                self.commit(Next { labels, floors, kept: Vec::new(), added: Vec::new() })
            }
            _ => Ok(()),
        }
    }

    /// Gives up what was uploaded and is certainly not named.
    fn discard(&mut self) {
        self.doubtful.drain(..).for_each(|location| self.trash.add(location));
    }

    /// Names the files. After an error the manifest is read anew before anything else.
    fn commit(&mut self, next: Next) -> Result<(), StorageError> {
        let Some(opened) = self.opened.take() else { return Ok(()) };
        let mut files = next.kept;
        for facts in &next.added {
            let resolution: Resolution =
                facts.resolution.parse().map_err(|error: crate::model::UnknownResolution| {
                    StorageError::Internal(error.to_string())
                })?;
            files.push(Arc::new(RollupFile::new(facts.clone(), resolution, &self.target.root)));
        }
        files.sort_by_key(|file| (file.resolution(), file.span()));
        let manifest = RollupManifest {
            database: self.database,
            labels: next.labels.clone(),
            watermarks: self.watermarks(&files, &next.floors),
            floors: next.floors.clone(),
            files: files.iter().map(|file| file.facts().clone()).collect(),
        };
        let version = match self.put_manifest(&manifest, opened.version) {
            Ok(version) => version,
            Err(error) => {
                self.before = opened.files;
                return Err(error);
            }
        };
        self.doubtful.retain(|location| files.iter().all(|file| file.location() != location));
        self.discard();
        let named: BTreeSet<&Path> = files.iter().map(|file| file.location()).collect();
        for old in opened.files.iter().filter(|old| !named.contains(old.location())) {
            old.retire(Arc::clone(&self.trash));
        }
        drop(named);
        let (labels, floors) = (next.labels, next.floors);
        self.opened = Some(Opened { labels, floors, files, version: Some(version) });
        self.publish();
        Ok(())
    }

    /// Shows what is there to the next snapshot.
    fn publish(&self) {
        let Some(opened) = &self.opened else { return };
        let set = Arc::new(RollupSet {
            store: Arc::clone(&self.target.io),
            root: self.target.root.clone(),
            footers: Arc::clone(&self.footers),
            labels: opened.labels.clone(),
            files: opened.files.clone(),
            empty: self.empty.values().copied().collect(),
            floors: opened.floors.clone(),
        });
        self.store.state.change(|state| state.rollups = Some(set));
    }

    fn put_manifest(
        &self,
        manifest: &RollupManifest,
        known: Option<UpdateVersion>,
    ) -> Result<UpdateVersion, StorageError> {
        let mode = match known {
            None => PutMode::Create,
            Some(version) if self.compares_versions => PutMode::Update(version),
            Some(_) => PutMode::Overwrite,
        };
        let options = PutOptions { mode, ..PutOptions::default() };
        let location = self.manifest();
        let put = self.target.io.put_opts(&location, manifest.encode().into(), options);
        let put = self.target.runtime.block_on(put).map_err(object_store_error)?;
        Ok(UpdateVersion { e_tag: put.e_tag, version: put.version })
    }

    fn read_manifest(&self) -> Result<Option<(RollupManifest, UpdateVersion)>, StorageError> {
        let read = async {
            let got = self.target.io.get_opts(&self.manifest(), GetOptions::default()).await?;
            if got.meta.size > MANIFEST_BYTES_MAX {
                return Ok(Err(format!("it is {} bytes long", got.meta.size)));
            }
            let version =
                UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
            let bytes = got.bytes().await?;
            Ok(RollupManifest::decode(&bytes).map(|manifest| (manifest, version)))
        };
        match self.target.runtime.block_on(read) {
            Ok(Ok(found)) => Ok(Some(found)),
            Ok(Err(reason)) => Err(StorageError::Corrupt {
                path: format!("{}/{MANIFEST_NAME}", self.place()).into(),
                offset: 0,
                reason,
            }),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(object_store_error(error)),
        }
    }

    /// Files that look like ours.
    fn list_files(&self) -> Result<Vec<Path>, StorageError> {
        let root = Some(&self.target.root).filter(|root| root.parts().next().is_some());
        let listed = self.target.io.list(root).map_ok(|meta| meta.location).try_collect();
        let listed: Vec<Path> = self.target.runtime.block_on(listed).map_err(object_store_error)?;
        Ok(listed.into_iter().filter(|location| is_ours(&self.target.root, location)).collect())
    }

    fn manifest(&self) -> Path {
        below(&self.target.root, MANIFEST_NAME)
    }

    fn place(&self) -> String {
        match self.target.root.as_ref() {
            "" => self.target.io.to_string(),
            root => format!("{}/{root}", self.target.io),
        }
    }

    /// What each resolution costs and how far it is.
    pub(crate) fn resolutions(&self) -> BTreeMap<Resolution, ResolutionStatus> {
        let Some(opened) = &self.opened else { return BTreeMap::new() };
        let watermarks = self.watermarks(&opened.files, &opened.floors);
        let mut all = BTreeMap::new();
        for resolution in Resolution::ALL {
            let mut status = ResolutionStatus {
                watermark_ms: watermarks.get(&resolution).copied(),
                ..ResolutionStatus::default()
            };
            for file in opened.files.iter().filter(|file| file.resolution() == resolution) {
                status.files += 1;
                status.rows += file.rows();
                status.bytes += file.bytes();
                status.samples += file.samples();
            }
            all.insert(resolution, status);
        }
        all
    }

    /// Spans that have samples in blocks and no rows that sum them up.
    pub(crate) fn dirty_spans(&self) -> u64 {
        self.jobs(Which::All).iter().map(|job| (job.build.len() + job.filter.len()) as u64).sum()
    }

    /// For each resolution, up to where all rows are right.
    fn watermarks(
        &self,
        files: &[Arc<RollupFile>],
        floors: &Floors,
    ) -> BTreeMap<Resolution, Timestamp> {
        let fresh = Freshness::of(&self.store.state.load());
        let built = built(files);
        let situation = Situation {
            now_ms: self.store.clock.now_ms(),
            fresh: &fresh,
            built: &built,
            empty: &self.empty,
            floors,
        };
        let due = situation.due(Which::All).first().copied();
        let mut watermarks = BTreeMap::new();
        for (resolution, spans) in &built {
            if let Some(last) = spans.values().next_back() {
                let end = last.span().end;
                watermarks.insert(*resolution, due.map_or(end, |due| due.min(end)));
            }
        }
        watermarks
    }
}

/// The files of one day at one resolution, about to be put together.
struct Day<'a> {
    job: &'a Job,
    resolution: Resolution,
    built: &'a BTreeMap<Timestamp, BuiltSpan>,
    state: &'a State,
}

impl Day<'_> {
    /// Decides which files the day has from now on, and writes the one that takes the others'
    /// place if one is needed.
    fn assemble<'f>(
        &self,
        target: &Target,
        set: &Arc<RollupSet>,
        old: impl Iterator<Item = &'f Arc<RollupFile>>,
        new: impl Iterator<Item = &'f FileFacts>,
        next: &mut Next,
        doubtful: &mut Vec<Path>,
    ) -> Result<(), StorageError> {
        let (mut whole, mut cut) = (Vec::new(), false);
        let mut pieces: Vec<Piece> = Vec::new();
        for file in old {
            let spans = file.facts().spans.iter();
            let kept: Vec<_> =
                spans.filter(|span| !self.built.contains_key(&span.start_ms)).copied().collect();
            let is_whole = kept.len() == file.facts().spans.len();
            cut |= !is_whole && !kept.is_empty();
            cut |= kept.iter().any(|span| self.job.filter.contains(&span.start_ms));
            if is_whole {
                whole.push(Arc::clone(file));
            }
            if !kept.is_empty() {
                pieces.push(Piece { file: Arc::clone(file), spans: kept });
            }
        }
        let new: Vec<&FileFacts> = new.collect();
        let many = self.job.merge && pieces.len() + new.len() > 1;
        if !cut && !many {
            next.kept.extend(whole);
            next.added.extend(new.into_iter().cloned());
            return Ok(());
        }
        for facts in new {
            let file = RollupFile::new(facts.clone(), self.resolution, &target.root);
            pieces.push(Piece { file: Arc::new(file), spans: facts.spans.clone() });
        }
        let hidden: Vec<_> =
            if self.job.filter.is_empty() { Vec::new() } else { self.state.tombstones.clone() };
        let cleaned = hidden.iter().map(|tombstone| tombstone.id).max().unwrap_or(0);
        for span in pieces.iter_mut().flat_map(|piece| &mut piece.spans) {
            if self.job.filter.contains(&span.start_ms) {
                span.cleaned = span.cleaned.max(cleaned);
            }
        }
        let path = file_path(self.resolution, self.job.day);
        doubtful.push(below(&target.root, &path));
        let merged = merge(target, set, &pieces, &hidden, self.resolution, path)?;
        next.added.extend(merged);
        Ok(())
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

/// Shows the files to the next reader.
fn built(files: &[Arc<RollupFile>]) -> BTreeMap<Resolution, BTreeMap<Timestamp, BuiltSpan>> {
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

/// `resolution=…/day=…/<32 hex>.parquet`, and nothing that somebody else put there.
fn is_ours(root: &Path, location: &Path) -> bool {
    let Some(parts) = location.prefix_match(root) else { return false };
    let parts: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
    let [resolution, day, name] = &parts[..] else { return false };
    let id = name.strip_suffix(".parquet").unwrap_or_default();
    resolution.strip_prefix("resolution=").is_some_and(|name| name.parse::<Resolution>().is_ok())
        && day.starts_with("day=")
        && id.len() == 32
        && Uuid::parse_str(id).is_ok()
}

fn object_store_error(source: object_store::Error) -> StorageError {
    StorageError::ObjectStore { source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_swept() {
        let root = Path::from("a/b");
        let name = file_path(Resolution::OneHour, 1_700_000_000_000);
        assert!(name.starts_with("resolution=1h/day=2023-11-14/"), "{name}");
        assert!(is_ours(&root, &below(&root, &name)));
        assert!(!is_ours(&Path::from("a/c"), &below(&root, &name)));
        for foreign in ["_manifest.json", "resolution=1h/day=2023-11-14/x.parquet", "x.parquet"] {
            assert!(!is_ours(&root, &below(&root, foreign)), "{foreign}");
        }
    }

    #[test]
    fn runs_bridge_holes_but_not_what_is_built() {
        let at = |n: i64| n * WINDOW_MS;
        let span = BuiltSpan { start_ms: at(4), source_lsn: 1, cleaned: 0, samples: 1 };
        let known = BTreeMap::from([(Resolution::OneHour, BTreeMap::from([(at(4), span)]))]);
        let starts = [at(0), at(1), at(3), at(5)];
        assert_eq!(runs(&starts, &known), [(at(0), at(3)), (at(5), at(5))]);
    }
}
