//! An object store that fails when told to, and what the rollups make of it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aetherdb::columnar::parquet::RollupColumnSet;
use aetherdb::model::{METRIC_NAME, Matcher, Resolution};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

use super::{Bed, EVERYTHING, HOUR, T0, labels, open, rows};

/// Counts what is read, and refuses what it is told to refuse.
#[derive(Debug, Default)]
pub(super) struct Flaky {
    inner: InMemory,
    refuses_manifests: AtomicBool,
    /// Puts the manifest and says that it did not.
    loses_answers: AtomicBool,
    refuses_everything: AtomicBool,
    bytes_read: AtomicU64,
}

impl Flaky {
    fn refuse(&self, refused: bool) -> object_store::Result<()> {
        if refused || self.refuses_everything.load(Ordering::SeqCst) {
            return Err(object_store::Error::Generic { store: "flaky", source: "no".into() });
        }
        Ok(())
    }
}

impl fmt::Display for Flaky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("flaky")
    }
}

#[async_trait]
impl ObjectStore for Flaky {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let is_manifest = location.filename() == Some("_manifest.json");
        self.refuse(is_manifest && self.refuses_manifests.load(Ordering::SeqCst))?;
        let put = self.inner.put_opts(location, payload, options).await?;
        self.refuse(is_manifest && self.loses_answers.load(Ordering::SeqCst))?;
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.refuse(false)?;
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        self.refuse(false)?;
        let got = self.inner.get_opts(location, options).await?;
        self.bytes_read.fetch_add(got.range.end - got.range.start, Ordering::SeqCst);
        Ok(got)
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        self.refuse(false)?;
        let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        self.bytes_read.fetch_add(bytes, Ordering::SeqCst);
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        match self.refuse(false) {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.refuse(false)?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// The Parquet files that there are, and those that the snapshot names, both sorted.
pub(super) async fn files(bed: &Bed) -> (Vec<Path>, Vec<Path>) {
    let all: Vec<ObjectMeta> = bed.io.list(None).try_collect().await.unwrap();
    let all = all.into_iter().map(|meta| meta.location);
    let mut all: Vec<Path> =
        all.filter(|location| location.extension() == Some("parquet")).collect();
    let snapshot = bed.engine.snapshot();
    let view = snapshot.rollups().unwrap();
    let named = Resolution::ALL.into_iter().flat_map(|resolution| view.files(resolution));
    let mut named: Vec<Path> = named.map(|file| file.location().clone()).collect();
    all.sort();
    named.sort();
    (all, named)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_upload_and_manifest_leaves_nothing_behind() {
    let io = Arc::new(Flaky::default());
    let mut bed = Bed::over(Arc::clone(&io) as _);
    let one = labels("m", &[("host", "a")]);
    bed.write(&[(one.clone(), T0 + 1, 1.0)]).await;
    bed.downsample().await;
    bed.write(&[(one.clone(), T0 + 2, 2.0), (one.clone(), T0 + 5 * HOUR, 3.0)]).await;
    io.refuses_manifests.store(true, Ordering::SeqCst);
    let error = bed.engine.downsample(Arc::default()).await.unwrap_err();
    assert!(error.to_string().contains("no"), "{error}");
    let status = bed.engine.rollup_status().unwrap();
    assert!(status.error.is_some() && status.ready, "{status:?}");
    // Writes and raw queries go on, and what is out of date does not answer.
    bed.write(&[(one.clone(), T0 + 6 * HOUR, 4.0)]).await;
    assert!(bed.engine.snapshot().rollups().unwrap().clean(Resolution::OneHour).is_empty());

    io.refuses_manifests.store(false, Ordering::SeqCst);
    bed.restart().await;
    bed.downsample().await;
    bed.check().await;
    bed.restart().await;
    let (all, named) = files(&bed).await;
    assert_eq!(all, named);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_was_put_without_an_answer_counts() {
    let io = Arc::new(Flaky::default());
    let mut bed = Bed::over(Arc::clone(&io) as _);
    let one = labels("m", &[]);
    bed.write(&[(one.clone(), T0 + 1, 1.0)]).await;
    bed.downsample().await;
    bed.write(&[(one.clone(), T0 + 2, 2.0)]).await;
    io.loses_answers.store(true, Ordering::SeqCst);
    bed.engine.downsample(Arc::default()).await.unwrap_err();
    io.loses_answers.store(false, Ordering::SeqCst);
    bed.downsample().await;
    bed.check().await;
    // The thread empties its trash when it stops.
    bed.restart().await;
    let (all, named) = files(&bed).await;
    assert_eq!(all, named);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_answer_at_the_start_is_waited_for() {
    let io = Arc::new(Flaky::default());
    let mut bed = Bed::over(Arc::clone(&io) as _);
    bed.write(&[(labels("m", &[]), T0 + 1, 1.0)]).await;
    io.refuses_everything.store(true, Ordering::SeqCst);
    bed.restart().await;
    assert!(bed.engine.snapshot().rollups().is_none());
    assert!(!bed.engine.rollup_status().unwrap().ready);
    io.refuses_everything.store(false, Ordering::SeqCst);
    bed.downsample().await;
    bed.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_manifest_is_no_reason_to_begin_anew() {
    let mut bed = Bed::new();
    bed.write(&[(labels("m", &[]), T0 + 1, 1.0)]).await;
    bed.downsample().await;
    bed.engine.close().await.unwrap();
    bed.io.delete(&Path::from("_manifest.json")).await.unwrap();
    let error = open(&bed.disk, Some(&bed.io), &bed.clock).unwrap_err();
    assert!(error.to_string().contains("_manifest.json is missing"), "{error}");
    assert!(bed.io.list(None).next().await.is_some(), "nothing was removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_series_of_a_thousand_is_read_without_the_others() {
    let io = Arc::new(Flaky::default());
    let mut bed = Bed::over(Arc::clone(&io) as _);
    let hosts: Vec<String> = (0..1_000).map(|number| format!("host-{number:04}")).collect();
    let mut written = Vec::new();
    for (number, host) in hosts.iter().enumerate() {
        let series = labels("cpu", &[("host", host)]);
        for step in 0..120 {
            let value = (number * 7919 + step * step) as f64 / 3.0;
            written.push((series.clone(), T0 + 1 + step as i64 * 60_000, value));
        }
    }
    for part in written.chunks(1_000) {
        bed.write(part).await;
    }
    bed.downsample().await;
    let snapshot = bed.engine.snapshot();
    let view = snapshot.rollups().unwrap();
    let file = view.files(Resolution::OneMinute).into_iter().max_by_key(|file| file.rows());
    let whole = file.unwrap().bytes();
    let matchers = [Matcher::equal(METRIC_NAME, "cpu"), Matcher::equal("host", &hosts[500])];
    // The footer is read once.
    rows(&snapshot, Resolution::OneMinute, &matchers, EVERYTHING).await;
    io.bytes_read.store(0, Ordering::SeqCst);
    let found = rows(&snapshot, Resolution::OneMinute, &matchers, EVERYTHING).await;
    assert_eq!(found.len(), 120);
    let read = io.bytes_read.load(Ordering::SeqCst);
    println!("one series of 1,000: {read} of {whole} bytes");
    assert!(read * 6 < whole, "{read} of {whole}");

    io.bytes_read.store(0, Ordering::SeqCst);
    let mut batches = view.read(Resolution::OneMinute, &matchers, EVERYTHING, RollupColumnSet::MAX);
    let (mut bytes, mut count) = (0, 0);
    while let Some(batch) = batches.next().await {
        let batch = batch.unwrap();
        bytes += batch.bytes_read;
        count += batch.rows.max.len();
        assert!(batch.rows.sum.is_empty() && batch.rows.bucket_end.len() == batch.rows.max.len());
    }
    assert_eq!((bytes, count), (io.bytes_read.load(Ordering::SeqCst), 120));
    assert!(bytes < read / 2, "one column costs {bytes} of {read}");

    io.bytes_read.store(0, Ordering::SeqCst);
    let nobody = [Matcher::equal(METRIC_NAME, "memory")];
    assert!(rows(&snapshot, Resolution::OneMinute, &nobody, EVERYTHING).await.is_empty());
    assert_eq!(io.bytes_read.load(Ordering::SeqCst), 0);
}
