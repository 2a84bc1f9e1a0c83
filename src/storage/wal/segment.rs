//! A segment file: its name, its header, how it is made, which there are.
//!
//! ```text
//!    0  magic     8     "AETHWAL\n"
//!    8  version   u32   1
//!   12  reserved  u32   0
//!   16  database  16    uuid
//!   32  segment   u64   number, as in the file's name
//!   40  start     u64   number of the first record. All records before it are on disk, in
//!                       earlier segments; whatever follows them there is not part of the log
//!   48  reserved  12    0
//!   60  crc       u32   CRC-32 of the 60 bytes before
//!   64  zeros, up to
//! 4096  records, up to zeros or the file's end
//! ```
//!
//! A segment is written full of zeros under a name with `.tmp`, synced, renamed, and its
//! directory synced, before anyone needs it; writes into it then need no new space and no change
//! of metadata. Its header is written and synced when the segment before is full. A crash leaves
//! a `.tmp`, which recovery removes, or a segment of zeros, which recovery removes or uses.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::storage::error::StorageError;
use crate::storage::vfs::{self, Vfs, VfsFile};
use crate::storage::wal::Lsn;

const MAGIC: [u8; 8] = *b"AETHWAL\n";
const VERSION: u32 = 1;

const DATABASE_OFFSET: usize = 16;
const NUMBER_OFFSET: usize = DATABASE_OFFSET + 16;
const START_OFFSET: usize = NUMBER_OFFSET + size_of::<u64>();
const CRC_OFFSET: usize = 60;

/// Bytes of a segment's header.
pub(super) const HEADER_LEN: usize = CRC_OFFSET + size_of::<u32>();
const _: () = assert!(HEADER_LEN == 64);

/// Where records start: the header has a disk sector to itself.
pub(super) const RECORDS_OFFSET: u64 = 4096;

/// What a segment's first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) database: Uuid,
    pub(super) number: u64,
    pub(super) start: Lsn,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[DATABASE_OFFSET..NUMBER_OFFSET].copy_from_slice(self.database.as_bytes());
        bytes[NUMBER_OFFSET..START_OFFSET].copy_from_slice(&self.number.to_le_bytes());
        bytes[START_OFFSET..START_OFFSET + 8].copy_from_slice(&self.start.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..CRC_OFFSET]);
        bytes[CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` if all is zero: the segment has not been used yet.
    pub(super) fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Option<Self>, String> {
        if *bytes == [0; HEADER_LEN] {
            return Ok(None);
        }
        let (fields, crc) = bytes.split_at(CRC_OFFSET);
        let u64_at = |at: usize| {
            let mut field = [0; 8];
            field.copy_from_slice(&fields[at..at + 8]);
            u64::from_le_bytes(field)
        };
        if crc32fast::hash(fields).to_le_bytes() != crc {
            return Err("the segment header's checksum is wrong".to_owned());
        }
        if fields[..8] != MAGIC {
            return Err("this is no log segment".to_owned());
        }
        if fields[8..12] != VERSION.to_le_bytes() {
            return Err(format!("version {:?} of the log is unknown", &fields[8..12]));
        }
        let mut database = [0; 16];
        database.copy_from_slice(&fields[DATABASE_OFFSET..NUMBER_OFFSET]);
        Ok(Some(Self {
            database: Uuid::from_bytes(database),
            number: u64_at(NUMBER_OFFSET),
            start: u64_at(START_OFFSET),
        }))
    }
}

/// A segment file full of zeros, durable under its name.
#[derive(Debug)]
pub(super) struct BlankSegment {
    pub(super) number: u64,
    pub(super) file: Arc<dyn VfsFile>,
    pub(super) len: u64,
}

impl BlankSegment {
    pub(super) fn create(
        vfs: &dyn Vfs,
        dir: &Path,
        number: u64,
        len: u64,
    ) -> Result<Self, StorageError> {
        let path = segment_path(dir, number);
        let temporary = vfs::temporary_path(&path);
        let file = vfs.create(&temporary)?;
        let written = file.allocate(len).and_then(|()| file.sync());
        drop(file);
        if let Err(error) = written {
            // Give the space back; the name means nothing if this fails too.
            let _ = vfs.remove(&temporary);
            return Err(error);
        }
        vfs.rename(&temporary, &path)?;
        vfs.sync_dir(dir)?;
        // Opened anew, so that messages name the file as it is called now.
        Ok(Self { number, file: vfs.open(&path)?, len })
    }
}

/// Makes segment `number` of the log in `dir`, whose first record comes after `flushed`.
pub(crate) fn begin(
    vfs: &dyn Vfs,
    dir: &Path,
    database: Uuid,
    number: u64,
    flushed: Lsn,
) -> Result<(), StorageError> {
    vfs.create_dir_all(dir)?;
    let blank = BlankSegment::create(vfs, dir, number, RECORDS_OFFSET)?;
    let header = SegmentHeader { database, number, start: flushed + 1 };
    blank.file.write_at_synced(0, &header.encode())
}

/// Where segment `number` is.
pub(super) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.wal"))
}

/// The segments in `dir` by number, and files that a crash has left behind.
pub(super) fn list(vfs: &dyn Vfs, dir: &Path) -> Result<(Vec<u64>, Vec<PathBuf>), StorageError> {
    let mut numbers = Vec::new();
    let mut leftovers = Vec::new();
    for entry in vfs.list(dir)? {
        if entry.is_dir {
            continue;
        }
        let name = entry.name();
        let number = name.strip_suffix(".wal").and_then(|number| number.parse().ok());
        if let Some(number) = number.filter(|number| segment_path(dir, *number) == entry.path) {
            numbers.push(number);
        } else if name.ends_with(".wal.tmp") {
            leftovers.push(entry.path);
        }
    }
    numbers.sort_unstable();
    Ok((numbers, leftovers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let header = SegmentHeader { database: Uuid::from_u128(7), number: 3, start: 1 << 40 };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(Some(header)));
        assert_eq!(SegmentHeader::decode(&[0; HEADER_LEN]), Ok(None));
        for bit in 0..HEADER_LEN * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&damaged).is_err(), "bit {bit}");
        }
    }
}
