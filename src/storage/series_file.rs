//! Series files: ids and keys of series whose registration the log may have forgotten.
//!
//! ```text
//! file  := magic "AETHSERI" | version u32 | database uuid [16] | crc u32 | entry*
//! entry := id u64 | len u32 | key [len]                  the crc covers uuid and entries
//! ```

use std::ops::Range;

use uuid::Uuid;

use crate::model::SeriesRef;
use crate::storage::error::StorageError;
use crate::storage::series::SeriesTable;

const MAGIC: [u8; 8] = *b"AETHSERI";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = MAGIC.len() + 4 + 16 + 4;

/// A file larger than this is damaged or not ours.
pub(crate) const FILE_BYTES_MAX: u64 = 64 << 30;

/// The file with the series of these ids.
pub(crate) fn encode(database: Uuid, table: &SeriesTable, ids: Range<u64>) -> Vec<u8> {
    let mut entries = Vec::new();
    for id in ids {
        let Some(labels) = u32::try_from(id).ok().and_then(|id| table.labels(SeriesRef(id))) else {
            continue;
        };
        let key = labels.as_bytes();
        entries.extend_from_slice(&id.to_le_bytes());
        entries.extend_from_slice(&u32::try_from(key.len()).expect("keys are short").to_le_bytes());
        entries.extend_from_slice(key);
    }
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(database.as_bytes());
    out.extend_from_slice(&crc(database, &entries).to_le_bytes());
    out.extend_from_slice(&entries);
    out
}

/// Calls `each` with every id and key. Everything is checked first.
pub(crate) fn decode(
    database: Uuid,
    bytes: &[u8],
    mut each: impl FnMut(u64, &[u8]) -> Result<(), StorageError>,
) -> Result<Result<(), StorageError>, String> {
    let header = bytes.get(..HEADER_BYTES).ok_or("the header is cut off")?;
    let mut entries = &bytes[HEADER_BYTES..];
    if header[..MAGIC.len()] != MAGIC {
        return Err("this is not a series file".to_owned());
    }
    if header[MAGIC.len()..MAGIC.len() + 4] != VERSION.to_le_bytes() {
        return Err("the version is not known".to_owned());
    }
    if header[HEADER_BYTES - 4..] != crc(database, entries).to_le_bytes() {
        return Err("the checksum is wrong, or it belongs to another database".to_owned());
    }
    while !entries.is_empty() {
        let (id, key) = take_entry(&mut entries).ok_or("an entry is malformed")?;
        if let Err(error) = each(id, key) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

fn take_entry<'a>(bytes: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    let (id, rest) = bytes.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    let (key, rest) = rest.split_at_checked(len)?;
    *bytes = rest;
    Some((u64::from_le_bytes(*id), key))
}

fn crc(database: Uuid, entries: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(database.as_bytes());
    crc.update(entries);
    crc.finalize()
}
