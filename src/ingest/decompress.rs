//! Compressed bodies to plain ones. What comes out is bounded while it is unpacked, because a
//! few hundred kilobytes can unpack to gigabytes.

use std::io::Read;

use crate::ingest::error::IngestError;
use crate::ingest::limits::Limits;

/// Largest window that a zstd frame may ask for, as a power of two.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// A `Content-Encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
    /// Snappy's block format, as remote write uses it.
    Snappy,
}

impl Encoding {
    /// The encoding with that name in HTTP; `None` if it is not supported.
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.trim();
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        Some(match () {
            () if name.is_empty() || is("identity") => Encoding::Identity,
            () if is("gzip") || is("x-gzip") => Encoding::Gzip,
            () if is("deflate") => Encoding::Deflate,
            () if is("zstd") => Encoding::Zstd,
            () if is("snappy") => Encoding::Snappy,
            () => return None,
        })
    }
}

/// Replaces `out` with the unpacked body. A gzip body may have several members, a zstd body
/// several frames.
pub fn decompress(
    encoding: Encoding,
    body: &[u8],
    limits: &Limits,
    out: &mut Vec<u8>,
) -> Result<(), IngestError> {
    out.clear();
    let max = limits.decompressed_bytes_max;
    match encoding {
        Encoding::Identity if body.len() > max => Err(too_large(max)),
        Encoding::Identity => {
            out.extend_from_slice(body);
            Ok(())
        }
        Encoding::Gzip => read_bounded(flate2::read::MultiGzDecoder::new(body), "gzip", max, out),
        // The name means zlib, but some clients send bare deflate.
        Encoding::Deflate if is_zlib(body) => {
            read_bounded(flate2::read::ZlibDecoder::new(body), "zlib", max, out)
        }
        Encoding::Deflate => {
            read_bounded(flate2::read::DeflateDecoder::new(body), "deflate", max, out)
        }
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body)
                .map_err(|error| malformed("zstd", error))?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG_MAX)
                .map_err(|error| malformed("zstd", error))?;
            read_bounded(decoder, "zstd", max, out)
        }
        Encoding::Snappy => snappy(body, max, out),
    }
}

fn snappy(body: &[u8], max: usize, out: &mut Vec<u8>) -> Result<(), IngestError> {
    // The length is the sender's claim: it is checked before it becomes an allocation.
    let len = snap::raw::decompress_len(body).map_err(|error| malformed("snappy", error))?;
    if len > max {
        return Err(too_large(max));
    }
    out.resize(len, 0);
    let written = snap::raw::Decoder::new()
        .decompress(body, out)
        .map_err(|error| malformed("snappy", error))?;
    out.truncate(written);
    Ok(())
}

fn read_bounded(
    reader: impl Read,
    format: &'static str,
    max: usize,
    out: &mut Vec<u8>,
) -> Result<(), IngestError> {
    let bound = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(bound).read_to_end(out).map_err(|error| malformed(format, error))?;
    if out.len() > max { Err(too_large(max)) } else { Ok(()) }
}

/// Whether the two first bytes are a zlib header.
fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [cmf, flags, ..]
        if cmf & 0x0f == 8 && (u16::from(*cmf) << 8 | u16::from(*flags)).is_multiple_of(31))
}

fn too_large(max: usize) -> IngestError {
    IngestError::TooLarge { what: "the decompressed body", max, setting: "decompressed_bytes_max" }
}

fn malformed(format: &'static str, error: impl ToString) -> IngestError {
    IngestError::Malformed { format, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::ingest::error::ErrorKind;

    fn limits(decompressed_bytes_max: usize) -> Limits {
        Limits { decompressed_bytes_max, ..Limits::default() }
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(plain: &[u8]) -> Vec<u8> {
        let mut encoder =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn snappy(plain: &[u8]) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(plain).unwrap()
    }

    fn packed(plain: &[u8]) -> Vec<(Encoding, Vec<u8>)> {
        vec![
            (Encoding::Identity, plain.to_vec()),
            (Encoding::Gzip, gzip(plain)),
            (Encoding::Deflate, zlib(plain)),
            (Encoding::Deflate, deflate(plain)),
            (Encoding::Zstd, zstd::encode_all(plain, 3).unwrap()),
            (Encoding::Snappy, snappy(plain)),
        ]
    }

    #[test]
    fn every_encoding_gives_the_body_back() {
        let plain = b"cpu_usage,host=server1 45.2\n".repeat(1000);
        for (encoding, body) in packed(&plain) {
            let mut out = b"rest of the request before".to_vec();
            decompress(encoding, &body, &limits(plain.len()), &mut out).unwrap();
            assert_eq!(out, plain, "{encoding:?}");
        }
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        let mut out = Vec::new();
        let members = [gzip(b"a 1\n"), gzip(b"b 2\n")].concat();
        decompress(Encoding::Gzip, &members, &limits(100), &mut out).unwrap();
        assert_eq!(out, b"a 1\nb 2\n");
        let frames = [zstd::encode_all(&b"a 1\n"[..], 1), zstd::encode_all(&b"b 2\n"[..], 1)];
        let frames = frames.map(|frame| frame.unwrap()).concat();
        decompress(Encoding::Zstd, &frames, &limits(100), &mut out).unwrap();
        assert_eq!(out, b"a 1\nb 2\n");
    }

    #[test]
    fn a_body_over_the_limit_is_refused_before_it_is_whole() {
        let plain = vec![b'x'; 8 << 20];
        for (encoding, body) in packed(&plain) {
            let mut out = Vec::new();
            let error = decompress(encoding, &body, &limits(1 << 20), &mut out).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge, "{encoding:?}");
            assert!(out.capacity() <= 4 << 20, "{encoding:?}: {}", out.capacity());
        }
    }

    #[test]
    fn a_snappy_bomb_allocates_nothing() {
        // Declares 4 GiB - 1 in five bytes.
        let mut out = Vec::new();
        let bomb = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
        let error = decompress(Encoding::Snappy, &bomb, &Limits::default(), &mut out).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert_eq!(out.capacity(), 0);
    }

    #[test]
    fn damaged_bodies_are_errors() {
        let plain = b"cpu_usage,host=server1 45.2\n".repeat(50);
        for (encoding, body) in packed(&plain).into_iter().skip(1) {
            for cut in 0..body.len() {
                let mut out = Vec::new();
                // An empty body is an empty gzip or zstd stream; all others are errors.
                if decompress(encoding, &body[..cut], &limits(1 << 20), &mut out).is_ok() {
                    assert!(out.len() < plain.len(), "{encoding:?} cut at {cut}");
                }
            }
        }
        assert_eq!(Encoding::parse("GZIP"), Some(Encoding::Gzip));
        assert_eq!(Encoding::parse("br"), None);
    }
}
