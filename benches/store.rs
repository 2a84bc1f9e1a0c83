//! A store on disk that holds a data set, and copies of it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use aetherdb::clock::SystemClock;
use aetherdb::ingest::SeriesResolver;
use aetherdb::model::SampleBatch;
use aetherdb::storage::vfs::RealVfs;
use aetherdb::storage::{Engine, ReplayProgress, StorageOptions};
use aetherdb::telemetry::Telemetry;

use crate::data::DataSet;

pub(crate) fn open(options: StorageOptions) -> Arc<Engine> {
    let telemetry = Arc::new(Telemetry::default());
    let (clock, progress) = (Arc::new(SystemClock::new()), ReplayProgress::default());
    Engine::open(options, Arc::new(RealVfs), clock, telemetry, &progress).unwrap()
}

/// Writes the whole set, series after series.
pub(crate) async fn fill(engine: &Engine, set: &DataSet) {
    let mut series = Vec::new();
    engine.resolver().register(None, &[], &set.labels, &mut series).unwrap();
    for (series, (timestamps, values)) in series.iter().zip(&set.columns) {
        let mut batch = SampleBatch::default();
        for (at, value) in timestamps.iter().zip(values) {
            batch.push(*series, *at, *value);
        }
        engine.append(batch).await.unwrap();
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
