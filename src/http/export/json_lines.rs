//! JSON lines as VictoriaMetrics exports them; a series may have several lines.
//!
//! ```text
//! {"metric":{"__name__":"up","job":"a"},"values":[1,0,null],"timestamps":[1000,2000,3000]}
//! ```

use std::io::{self, Write};

use crate::http::export::raw::Encoder;
use crate::http::export::stream::ChunkSender;
use crate::http::export::value;
use crate::http::json;
use crate::model::{Labels, Samples};

pub(super) struct JsonLines {
    sink: ChunkSender,
    rows_per_line_max: usize,
    line: Vec<u8>,
}

impl JsonLines {
    pub(super) fn new(sink: ChunkSender, rows_per_line_max: usize) -> Self {
        Self { sink, rows_per_line_max, line: Vec::new() }
    }
}

impl Encoder for JsonLines {
    fn push(&mut self, labels: &Labels, samples: &Samples) -> io::Result<()> {
        let timestamps = samples.timestamps.chunks(self.rows_per_line_max);
        let values = samples.values.chunks(self.rows_per_line_max);
        for (timestamps, values) in timestamps.zip(values) {
            let line = &mut self.line;
            line.clear();
            line.extend_from_slice(br#"{"metric":"#);
            json::push_labels(line, labels);
            line.extend_from_slice(br#","values":"#);
            json::push_array(line, values, |out, value| value::push_json(out, *value));
            line.extend_from_slice(br#","timestamps":"#);
            json::push_array(line, timestamps, |out, at| value::push_signed(out, *at));
            line.extend_from_slice(b"}\n");
            self.sink.write_all(line)?;
        }
        Ok(())
    }

    fn sink(&self) -> &ChunkSender {
        &self.sink
    }

    fn finish(self: Box<Self>) -> io::Result<ChunkSender> {
        Ok(self.sink)
    }
}
