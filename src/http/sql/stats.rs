//! What a query took, as JSON.

use std::time::Duration;

use crate::http::json;
use crate::sql::SqlStats;

/// `{"seconds":0.25,"series":1000,…}`
pub(super) fn object(stats: &SqlStats, took: Duration) -> Vec<u8> {
    let mut out = br#"{"seconds":"#.to_vec();
    json::push_value(&mut out, took.as_secs_f64());
    let members = [
        ("series", stats.series),
        ("samples", stats.read.samples),
        ("chunks", stats.read.chunks),
        ("chunksSettled", stats.read.settled),
        ("rollupRows", stats.rollup_rows),
        ("rollupFiles", stats.rollup_files),
        ("bytesRead", stats.read.bytes),
        ("bytesPeak", stats.bytes_peak),
    ];
    for (name, member) in members {
        out.push(b',');
        json::push_string(&mut out, name);
        out.push(b':');
        json::push_integer(&mut out, member);
    }
    out.push(b'}');
    out
}
