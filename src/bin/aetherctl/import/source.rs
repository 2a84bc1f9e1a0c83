//! An input file: opened, recognised, unpacked.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use indicatif::ProgressBar;

use crate::client::Failure;
use crate::{Format, write};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 1 << 20;

/// A file whose format is known.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    pub(super) progress: ProgressBar,
    /// The file itself; none for standard input.
    pub(super) file: Option<File>,
    input: Box<dyn BufRead>,
}

impl Source {
    pub(super) fn open(path: &Path, format: Option<Format>) -> Result<Self, Failure> {
        let broken = |error: io::Error| Failure::Broken(format!("{}: {error}", path.display()));
        let (file, len) = if path == Path::new("-") {
            (None, None)
        } else {
            let file = File::open(path).map_err(broken)?;
            let len = file.metadata().map_err(broken)?.len();
            (Some(file), Some(len))
        };
        let progress = write::progress(path, len);
        let raw: Box<dyn Read> = match &file {
            Some(file) => Box::new(progress.wrap_read(file.try_clone().map_err(broken)?)),
            None => Box::new(progress.wrap_read(io::stdin())),
        };
        let mut input: Box<dyn BufRead> = Box::new(BufReader::with_capacity(BUFFER_BYTES, raw));
        let head = input.fill_buf().map_err(broken)?;
        if head.starts_with(&[0x1f, 0x8b]) {
            let unpacked = MultiGzDecoder::new(input);
            input = Box::new(BufReader::with_capacity(BUFFER_BYTES, unpacked));
        } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            let unpacked = zstd::stream::read::Decoder::with_buffer(input).map_err(broken)?;
            input = Box::new(BufReader::with_capacity(BUFFER_BYTES, unpacked));
        }
        let format = match format.or_else(|| Format::of_file(path)) {
            Some(format) => format,
            None => recognised(input.fill_buf().map_err(broken)?),
        };
        Ok(Self { path: path.to_owned(), format, progress, file, input })
    }

    pub(super) fn broken(&self, reason: impl ToString) -> Failure {
        Failure::Broken(format!("{}: {}", self.path.display(), reason.to_string()))
    }

    /// The unpacked bytes.
    pub(super) fn input(&mut self) -> &mut dyn BufRead {
        &mut *self.input
    }

    /// The unpacked bytes, to keep.
    pub(super) fn take_input(&mut self) -> Box<dyn BufRead> {
        std::mem::replace(&mut self.input, Box::new(io::empty()))
    }
}

/// The format by the first bytes.
fn recognised(head: &[u8]) -> Format {
    let text = head.trim_ascii_start();
    if head.starts_with(b"PAR1") {
        Format::Parquet
    } else if head.starts_with(b"ARROW1") || head.starts_with(&[0xff; 4]) {
        Format::Arrow
    } else if text.starts_with(b"{") {
        // OpenMetrics may begin with a brace too, but then with a name, never with a field.
        let field = text[1..].trim_ascii_start();
        let json = [&b"\"metric\""[..], b"\"values\"", b"\"timestamps\""];
        let is_json = json.iter().any(|name| {
            field.strip_prefix(*name).is_some_and(|rest| rest.trim_ascii_start().starts_with(b":"))
        });
        if is_json { Format::Jsonl } else { Format::Openmetrics }
    } else if text.starts_with(b"metric,") {
        Format::Csv
    } else {
        Format::Openmetrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_their_beginning() {
        for (head, format) in [
            (&b"PAR1\x15\x04"[..], Format::Parquet),
            (b"ARROW1\0\0", Format::Arrow),
            (b"\xff\xff\xff\xff\x70\0\0\0", Format::Arrow),
            (b"\n{ \"metric\" : {}", Format::Jsonl),
            (b"{\"values\":[]", Format::Jsonl),
            (b"{\"metric\",\"a\"=\"b\"} 1", Format::Openmetrics),
            (b"metric,host,timestamp,value\n", Format::Csv),
            (b"# TYPE up gauge\n", Format::Openmetrics),
            (b"metric{a=\"b\"} 1\n", Format::Openmetrics),
            (b"", Format::Openmetrics),
        ] {
            assert_eq!(recognised(head), format, "{head:?}");
        }
    }
}
