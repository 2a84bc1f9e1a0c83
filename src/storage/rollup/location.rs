//! Where rollups lie: a directory beside the blocks, or any object store by its URL.
//!
//! Credentials, region, endpoint and whether plain HTTP is allowed come from the environment
//! variables that `object_store` reads (`AWS_…`, `GOOGLE_…`, `AZURE_…`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::limit::LimitStore;
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectStore, ObjectStoreScheme, RetryConfig};
use url::Url;

use crate::storage::error::StorageError;
use crate::storage::rollup::local::DirectoryStore;
use crate::storage::store::Store;

/// The directory of rollups inside the data directory.
const DIRECTORY: &str = "rollups";
/// Requests to an object store at once, of queries and building together.
const REQUESTS_IN_FLIGHT_MAX: usize = 32;
/// The longest time for one attempt of a request.
const REQUEST_TIMEOUT: &str = "30 seconds";
const CONNECT_TIMEOUT: &str = "5 seconds";
/// Attempts after the first, and the longest time for all of them.
const RETRIES_MAX: usize = 5;
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);

/// An object store and where in it the rollups are.
pub(crate) struct Located {
    pub(crate) io: Arc<dyn ObjectStore>,
    pub(crate) root: Path,
    /// As it is shown; without credentials.
    pub(crate) url: String,
    /// Whether an object can be replaced on condition that nobody else did.
    pub(crate) compares_versions: bool,
}

/// Finds what the options of `store` name. Asks nothing of the network.
pub(crate) fn locate(store: &Store) -> Result<Located, StorageError> {
    let options = &store.options;
    if let Some(io) = &options.rollup_store {
        let (io, root) = (Arc::clone(&io.0), Path::default());
        return Ok(Located { url: io.to_string(), io, root, compares_versions: true });
    }
    let Some(text) = &options.rollup_url else {
        return Ok(directory(store, store.layout.dir().join(DIRECTORY)));
    };
    // What is no URL is a path.
    let Ok(url) = Url::parse(text) else { return Ok(directory(store, PathBuf::from(text))) };
    let refused = |reason: &dyn std::fmt::Display| StorageError::RollupUrl {
        url: shown(&url),
        reason: reason.to_string(),
    };
    let (scheme, root) = ObjectStoreScheme::parse(&url).map_err(|error| refused(&error))?;
    let retry = RetryConfig {
        max_retries: RETRIES_MAX,
        retry_timeout: RETRY_TIMEOUT,
        ..RetryConfig::default()
    };
    let (timeout, connect) = (ClientConfigKey::Timeout, ClientConfigKey::ConnectTimeout);
    let io: Arc<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::Local => {
            let path = url.to_file_path().map_err(|()| refused(&"it is not a local path"))?;
            return Ok(directory(store, path));
        }
        ObjectStoreScheme::AmazonS3 => {
            let built = AmazonS3Builder::from_env()
                .with_url(url.as_str())
                .with_config(AmazonS3ConfigKey::Client(timeout), REQUEST_TIMEOUT)
                .with_config(AmazonS3ConfigKey::Client(connect), CONNECT_TIMEOUT)
                .with_retry(retry)
                .build();
            Arc::new(LimitStore::new(
                built.map_err(|error| refused(&error))?,
                REQUESTS_IN_FLIGHT_MAX,
            ))
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            let built = GoogleCloudStorageBuilder::from_env()
                .with_url(url.as_str())
                .with_config(GoogleConfigKey::Client(timeout), REQUEST_TIMEOUT)
                .with_config(GoogleConfigKey::Client(connect), CONNECT_TIMEOUT)
                .with_retry(retry)
                .build();
            Arc::new(LimitStore::new(
                built.map_err(|error| refused(&error))?,
                REQUESTS_IN_FLIGHT_MAX,
            ))
        }
        ObjectStoreScheme::MicrosoftAzure => {
            let built = MicrosoftAzureBuilder::from_env()
                .with_url(url.as_str())
                .with_config(AzureConfigKey::Client(timeout), REQUEST_TIMEOUT)
                .with_config(AzureConfigKey::Client(connect), CONNECT_TIMEOUT)
                .with_retry(retry)
                .build();
            Arc::new(LimitStore::new(
                built.map_err(|error| refused(&error))?,
                REQUESTS_IN_FLIGHT_MAX,
            ))
        }
        _ => return Err(refused(&"say a directory, s3://…, gs://… or az://…")),
    };
    Ok(Located { io, root, url: shown(&url), compares_versions: true })
}

fn directory(store: &Store, dir: PathBuf) -> Located {
    let url = dir.display().to_string();
    let io = Arc::new(DirectoryStore::new(Arc::clone(&store.vfs), dir));
    Located { io, root: Path::default(), url, compares_versions: false }
}

/// The URL without what may be secret.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    // A URL that cannot have a user has none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}
