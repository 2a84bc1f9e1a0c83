//! Random series with everything that formats like to lose, and how they are written and read back.

use std::collections::BTreeMap;

use prost::Message;
use serde_json::Value;

use crate::support::Random;

/// Label pairs to (timestamp, bits of the value), both sorted.
type Series = BTreeMap<Vec<(String, String)>, BTreeMap<i64, u64>>;

/// What a server holds.
#[derive(Debug)]
pub(super) struct Corpus(Series);

/// Pieces of names and values.
const TEXTS: [&str; 12] =
    ["a", "job", "é", "日本", "\"", "\\", "\n", ",", " x", "{}", "\r\t\u{1}", "value"];
const NAMES: [&str; 10] = [
    "host",
    "Host",
    "metric",
    "timestamp",
    "value",
    "label_value",
    "odd name",
    "dot.ted",
    "ö",
    "le",
];
const VALUES: [u64; 12] = [
    0x7ff0_0000_0000_0002, // stale marker
    0x7ff8_0000_0000_0001, // NaN as Prometheus stores it
    0x7ff8_0000_0000_0000,
    0xfff8_dead_beef_0001,
    0x7ff0_0000_0000_0001,
    0x7ff0_0000_0000_0000, // +Inf
    0xfff0_0000_0000_0000, // -Inf
    0x8000_0000_0000_0000, // -0.0
    0x0000_0000_0000_0001,
    0x0000_0000_0000_0000,
    0x7fef_ffff_ffff_ffff,
    0x3fb9_9999_9999_999a, // 0.1
];

impl Corpus {
    pub(super) fn random(seed: u64, count: usize) -> Self {
        let mut random = Random(seed);
        let pick = |random: &mut Random, from: &[&str]| {
            from[random.below(from.len() as u64) as usize].to_owned()
        };
        let mut series = Series::new();
        while series.len() < count {
            let mut labels = BTreeMap::new();
            let metric = match random.below(3) {
                0 => format!("metric_{}", random.below(9)),
                1 => format!("odd.{}", pick(&mut random, &TEXTS)),
                _ => "http_requests_total".to_owned(),
            };
            labels.insert("__name__".to_owned(), metric);
            for _ in 0..random.below(5) {
                let value = pick(&mut random, &TEXTS) + &pick(&mut random, &TEXTS);
                labels.insert(pick(&mut random, &NAMES), value);
            }
            let mut samples = BTreeMap::new();
            let mut at = 1_700_000_000_000 + random.below(100_000) as i64;
            for _ in 0..random.below(300) + 1 {
                at += [1, 15_000, 15_000, 86_400_000][random.below(4) as usize];
                let bits = match random.below(3) {
                    0 => VALUES[random.below(VALUES.len() as u64) as usize],
                    1 => (random.below(1000) as f64 / 8.0).to_bits(),
                    _ => random.next(),
                };
                samples.insert(at, bits);
            }
            if random.below(4) == 0 {
                samples.insert(-(random.below(1 << 40) as i64), 1.5f64.to_bits());
            }
            series.insert(labels.into_iter().collect(), samples);
        }
        Self(series)
    }

    /// Panics with the first difference.
    pub(super) fn assert_equals(&self, wanted: &Self, what: &str) {
        assert!(self.0.keys().eq(wanted.0.keys()), "{what}: other series");
        for ((labels, samples), wanted) in self.0.iter().zip(wanted.0.values()) {
            let differs = samples.iter().zip(wanted).find(|(sample, wanted)| sample != wanted);
            let lens = (samples.len(), wanted.len());
            assert!(
                differs.is_none() && lens.0 == lens.1,
                "{what}: {labels:?} {lens:?} {differs:x?}"
            );
        }
    }

    pub(super) fn samples(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }
}

/// The corpus that JSON lines hold, read with no code of ours.
pub(super) fn of_json_lines(text: &[u8]) -> Corpus {
    let mut series = Series::new();
    for line in std::str::from_utf8(text).unwrap().lines() {
        // Numbers are read as text: serde_json may be one unit in the last place off.
        let (head, timestamps) = line.rsplit_once("],\"timestamps\":[").unwrap();
        let (head, values) = head.rsplit_once(",\"values\":[").unwrap();
        let metric: Value = serde_json::from_str(&format!("{head}}}")).unwrap();
        let labels = metric["metric"].as_object().unwrap().iter();
        let labels = labels.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()));
        let mut labels: Vec<_> = labels.collect();
        labels.sort();
        let samples = series.entry(labels).or_default();
        let timestamps = timestamps.strip_suffix("]}").unwrap().split(',');
        for (timestamp, value) in timestamps.zip(values.split(',')) {
            let before = samples.insert(timestamp.parse().unwrap(), bits(value));
            assert_eq!(before, None, "twice at {timestamp}");
        }
    }
    Corpus(series)
}

fn bits(value: &str) -> u64 {
    match value {
        "null" => 0x7ff0_0000_0000_0002,
        "\"Infinity\"" => f64::INFINITY.to_bits(),
        "\"-Infinity\"" => f64::NEG_INFINITY.to_bits(),
        "\"NaN\"" => 0x7ff8_0000_0000_0001,
        nan if nan.starts_with('"') => {
            let digits = nan.strip_prefix("\"NaN(0x").and_then(|nan| nan.strip_suffix(")\""));
            u64::from_str_radix(digits.unwrap(), 16).unwrap()
        }
        number => number.parse::<f64>().unwrap().to_bits(),
    }
}

#[derive(Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Message)]
struct Sample {
    // Optional, because prost leaves out a plain -0.0 as if it were 0.0.
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

/// The corpus as a remote write 1.0 request.
pub(super) fn remote_write(corpus: &Corpus) -> Vec<u8> {
    let timeseries = corpus.0.iter().map(|(labels, samples)| TimeSeries {
        labels: labels
            .iter()
            .map(|(name, value)| Label { name: name.clone(), value: value.clone() })
            .collect(),
        samples: samples
            .iter()
            .map(|(timestamp, bits)| Sample {
                value: Some(f64::from_bits(*bits)),
                timestamp: *timestamp,
            })
            .collect(),
    });
    let request = WriteRequest { timeseries: timeseries.collect() };
    snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).unwrap()
}
