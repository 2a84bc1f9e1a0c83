//! A directory as an object store whose files survive a power cut.
//!
//! `object_store` has a local store too, but it syncs neither files nor directories. This one goes
//! through [`Vfs`], so the simulated disk of the tests cuts its power as well. An object appears
//! under its name only when its bytes are on disk.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, UploadPart,
};
use parking_lot::Mutex;

use crate::storage::error::StorageError;
use crate::storage::vfs::{Vfs, VfsFile, parent, temporary_path};

const NAME: &str = "directory";
const TEMPORARY: &str = ".tmp";

/// Objects are files below a directory.
#[derive(Debug, Clone)]
pub(crate) struct DirectoryStore {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
}

impl DirectoryStore {
    pub(crate) fn new(vfs: Arc<dyn Vfs>, dir: PathBuf) -> Self {
        Self { vfs, dir }
    }

    fn path(&self, location: &Path) -> PathBuf {
        let mut path = self.dir.clone();
        path.extend(location.parts().map(|part| part.as_ref().to_owned()));
        path
    }

    fn meta(location: &Path, size: u64) -> ObjectMeta {
        // Files do not change once they are named, so nobody needs to know how old they are.
        let last_modified = DateTime::UNIX_EPOCH;
        ObjectMeta { location: location.clone(), last_modified, size, e_tag: None, version: None }
    }

    fn open(&self, location: &Path) -> Result<(Arc<dyn VfsFile>, ObjectMeta), StorageError> {
        let file = self.vfs.open(&self.path(location))?;
        let meta = Self::meta(location, file.len()?);
        Ok((file, meta))
    }

    fn get(&self, location: &Path, options: &GetOptions) -> object_store::Result<GetResult> {
        let (file, meta) = self.open(location).map_err(|error| failed(location, error))?;
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => range.as_range(meta.size).map_err(|source| {
                object_store::Error::Generic { store: NAME, source: source.into() }
            })?,
            None => 0..meta.size,
        };
        let bytes = if options.head {
            Bytes::new()
        } else {
            read(file.as_ref(), &range).map_err(|error| failed(location, error))?
        };
        let payload = GetResultPayload::Stream(stream::iter([Ok(bytes)]).boxed());
        Ok(GetResult { payload, meta, range, attributes: Attributes::new() })
    }

    fn put(
        &self,
        location: &Path,
        payload: &PutPayload,
        mode: &PutMode,
    ) -> object_store::Result<()> {
        let path = self.path(location);
        let vfs = self.vfs.as_ref();
        let exists = || vfs.exists(&path).map_err(|error| failed(location, error));
        match mode {
            PutMode::Overwrite => {}
            PutMode::Create if exists()? => {
                let source = "there is one already".into();
                return Err(object_store::Error::AlreadyExists {
                    path: location.to_string(),
                    source,
                });
            }
            PutMode::Create => {}
            PutMode::Update(_) => {
                let source = "a directory does not compare versions".into();
                return Err(object_store::Error::NotSupported { source });
            }
        }
        let write = || {
            let mut file = NewFile::create(vfs, path.clone())?;
            payload.iter().try_for_each(|bytes| file.append(bytes))?;
            file.finish(vfs)
        };
        write().map_err(|error| failed(location, error))
    }

    fn delete(&self, location: &Path) -> object_store::Result<Path> {
        let path = self.path(location);
        let remove = || {
            self.vfs.remove(&path)?;
            self.vfs.sync_dir(parent(&path))
        };
        remove().map_err(|error| failed(location, error))?;
        Ok(location.clone())
    }

    /// Everything below `dir`, which is `prefix`.
    fn walk(
        &self,
        dir: PathBuf,
        prefix: &Path,
        depth: Depth,
        found: &mut ListResult,
    ) -> Result<(), StorageError> {
        let entries = match self.vfs.list(&dir) {
            Ok(entries) => entries,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let location = prefix.clone().join(entry.name());
            if entry.is_dir {
                match depth {
                    Depth::All => self.walk(entry.path, &location, depth, found)?,
                    Depth::One => found.common_prefixes.push(location),
                }
            } else if !entry.name().ends_with(TEMPORARY) {
                found.objects.push(self.open(&location)?.1);
            }
        }
        Ok(())
    }

    async fn listed(
        &self,
        prefix: Option<&Path>,
        depth: Depth,
    ) -> object_store::Result<ListResult> {
        let (this, prefix) = (self.clone(), prefix.cloned().unwrap_or_default());
        blocking(move || {
            let mut found = ListResult { common_prefixes: Vec::new(), objects: Vec::new() };
            let dir = this.path(&prefix);
            this.walk(dir, &prefix, depth, &mut found).map_err(|error| failed(&prefix, error))?;
            found.objects.sort_by(|left, right| left.location.cmp(&right.location));
            Ok(found)
        })
        .await
    }
}

#[derive(Debug, Clone, Copy)]
enum Depth {
    One,
    All,
}

impl fmt::Display for DirectoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dir.display())
    }
}

#[async_trait]
impl ObjectStore for DirectoryStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let (this, location) = (self.clone(), location.clone());
        blocking(move || this.put(&location, &payload, &options.mode)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        let (this, path, at) = (self.clone(), self.path(location), location.clone());
        let file = blocking(move || {
            NewFile::create(this.vfs.as_ref(), path).map_err(|error| failed(&at, error))
        })
        .await?;
        let file = Arc::new(Mutex::new(Some(file)));
        Ok(Box::new(Upload { store: self.clone(), location: location.clone(), offset: 0, file }))
    }

    async fn get_opts(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        let (this, location) = (self.clone(), location.clone());
        blocking(move || this.get(&location, &options)).await
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        let (this, location, ranges) = (self.clone(), location.clone(), ranges.to_vec());
        blocking(move || {
            let (file, _) = this.open(&location).map_err(|error| failed(&location, error))?;
            let read = |range| read(file.as_ref(), range).map_err(|error| failed(&location, error));
            ranges.iter().map(read).collect()
        })
        .await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    blocking(move || this.delete(&location)).await
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        stream::once(async move {
            let listed = this.listed(prefix.as_ref(), Depth::All).await;
            stream::iter(match listed {
                Ok(listed) => listed.objects.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            })
        })
        .flatten()
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.listed(prefix, Depth::One).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        let (this, from, to) = (self.clone(), from.clone(), to.clone());
        blocking(move || {
            let (file, meta) = this.open(&from).map_err(|error| failed(&from, error))?;
            let bytes =
                read(file.as_ref(), &(0..meta.size)).map_err(|error| failed(&from, error))?;
            let mode = match options.mode {
                CopyMode::Overwrite => PutMode::Overwrite,
                CopyMode::Create => PutMode::Create,
            };
            this.put(&to, &bytes.into(), &mode)
        })
        .await
    }
}

/// A file being written under its temporary name.
#[derive(Debug)]
struct NewFile {
    file: Arc<dyn VfsFile>,
    path: PathBuf,
    len: u64,
}

impl NewFile {
    fn create(vfs: &dyn Vfs, path: PathBuf) -> Result<Self, StorageError> {
        vfs.create_dir_all(parent(&path))?;
        Ok(Self { file: vfs.create(&temporary_path(&path))?, path, len: 0 })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.file.write_at(self.len, bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Bytes first, then the name.
    fn finish(self, vfs: &dyn Vfs) -> Result<(), StorageError> {
        self.file.sync()?;
        vfs.rename(&temporary_path(&self.path), &self.path)?;
        vfs.sync_dir(parent(&self.path))
    }
}

/// Parts that are written one behind the other, where the ones before say they end.
#[derive(Debug)]
struct Upload {
    store: DirectoryStore,
    location: Path,
    offset: u64,
    file: Arc<Mutex<Option<NewFile>>>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let mut offset = self.offset;
        self.offset += payload.content_length() as u64;
        let file = self.file.lock().as_ref().map(|new| Arc::clone(&new.file));
        let location = self.location.clone();
        Box::pin(blocking(move || {
            let Some(file) = file else { return Err(ended(&location)) };
            for bytes in &payload {
                file.write_at(offset, bytes).map_err(|error| failed(&location, error))?;
                offset += bytes.len() as u64;
            }
            Ok(())
        }))
    }

    async fn complete(&mut self) -> object_store::Result<PutResult> {
        let file = self.file.lock().take();
        let (store, location) = (self.store.clone(), self.location.clone());
        blocking(move || {
            let Some(file) = file else { return Err(ended(&location)) };
            file.finish(store.vfs.as_ref()).map_err(|error| failed(&location, error))
        })
        .await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        let file = self.file.lock().take();
        let (store, location) = (self.store.clone(), self.location.clone());
        blocking(move || match file {
            Some(file) => store
                .vfs
                .remove(&temporary_path(&file.path))
                .map_err(|error| failed(&location, error)),
            None => Ok(()),
        })
        .await
    }
}

fn read(file: &dyn VfsFile, range: &Range<u64>) -> Result<Bytes, StorageError> {
    let internal = || StorageError::Internal("a range that does not fit into memory".to_owned());
    let len = usize::try_from(range.end.saturating_sub(range.start)).map_err(|_| internal())?;
    let end = file.len()?;
    if range.end > end {
        let reason = format!("bytes {range:?} of {end} were asked for");
        return Err(StorageError::Corrupt { path: file.path().to_path_buf(), offset: end, reason });
    }
    let mut bytes = vec![0; len];
    file.read_at(range.start, &mut bytes)?;
    Ok(bytes.into())
}

/// Runs what blocks where it may: on the pool of whatever runtime asks, or here if none does.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> object_store::Result<T> + Send + 'static,
) -> object_store::Result<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await?,
        Err(_) => work(),
    }
}

fn failed(location: &Path, error: StorageError) -> object_store::Error {
    if error.is_not_found() {
        return object_store::Error::NotFound { path: location.to_string(), source: error.into() };
    }
    object_store::Error::Generic { store: NAME, source: error.into() }
}

fn ended(location: &Path) -> object_store::Error {
    let source = format!("the upload of {location} has ended").into();
    object_store::Error::Generic { store: NAME, source }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;
    use object_store::buffered::BufWriter;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::storage::vfs::SimVfs;

    #[tokio::test]
    async fn objects_come_back_and_survive_a_power_cut() {
        let disk = SimVfs::new(1);
        let store = DirectoryStore::new(Arc::new(disk.clone()), "/r".into());
        let shared: Arc<dyn ObjectStore> = Arc::new(store.clone());
        let (small, large) = (Path::from("a=1/b=2/small"), Path::from("a=1/large"));
        {
            store.put_opts(&small, "one".into(), PutMode::Create.into()).await.unwrap();
            let again = store.put_opts(&small, "two".into(), PutMode::Create.into()).await;
            assert!(matches!(again, Err(object_store::Error::AlreadyExists { .. })));
            let mut writer = BufWriter::with_capacity(shared, large.clone(), 10);
            for _ in 0..10 {
                writer.put("0123456".into()).await.unwrap();
            }
            writer.shutdown().await.unwrap();
        }
        let store: Arc<dyn ObjectStore> =
            Arc::new(DirectoryStore::new(Arc::new(disk.crash()), "/r".into()));
        {
            let bytes = store.get(&small).await.unwrap().bytes().await.unwrap();
            assert_eq!(bytes, "one");
            assert_eq!(store.get_range(&large, 5..9).await.unwrap(), "5601");
            assert_eq!(store.head(&large).await.unwrap().size, 70);
            let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
            let names: Vec<_> = listed.into_iter().map(|meta| meta.location).collect();
            assert_eq!(names, [small.clone(), large.clone()]);
            let below = store.list_with_delimiter(Some(&Path::from("a=1"))).await.unwrap();
            assert_eq!(below.common_prefixes, [Path::from("a=1/b=2")]);
            store.delete(&small).await.unwrap();
            let gone = store.get(&small).await;
            assert!(matches!(gone, Err(object_store::Error::NotFound { .. })));
        }
    }
}
