//! Data sets of a fixed seed, after those that `research/codec.md` measured. Tests and benches
//! share them.

use aetherdb::columnar::schema::{self, BATCH_ROWS_MAX};
use aetherdb::model::{Labels, METRIC_NAME};
use arrow::array::RecordBatch;

/// Aligned to two hours.
pub(crate) const START: i64 = 1_700_006_400_000;

/// Series in label order, each with its column.
pub(crate) struct DataSet {
    pub(crate) labels: Vec<Labels>,
    pub(crate) columns: Vec<(Vec<i64>, Vec<f64>)>,
}

impl DataSet {
    fn new(mut series: Vec<(Labels, Vec<i64>, Vec<f64>)>) -> Self {
        series.sort_by(|left, right| left.0.cmp(&right.0));
        let mut set = Self { labels: Vec::new(), columns: Vec::new() };
        for (labels, timestamps, values) in series {
            set.labels.push(labels);
            set.columns.push((timestamps, values));
        }
        set
    }

    pub(crate) fn samples(&self) -> usize {
        self.columns.iter().map(|(timestamps, _)| timestamps.len()).sum()
    }

    /// Ordered batches of the samples schema.
    pub(crate) fn batches(&self) -> Vec<RecordBatch> {
        let mut batches = Vec::new();
        let (mut series, mut timestamps, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (number, (times, column)) in (0u32..).zip(&self.columns) {
            series.resize(series.len() + times.len(), number);
            timestamps.extend_from_slice(times);
            values.extend_from_slice(column);
            if series.len() >= BATCH_ROWS_MAX || number as usize + 1 == self.columns.len() {
                let batch = schema::batch(
                    std::mem::take(&mut series),
                    std::mem::take(&mut timestamps),
                    std::mem::take(&mut values),
                );
                batches.push(batch.unwrap());
            }
        }
        batches
    }

    /// Only the series whose values change.
    pub(crate) fn varying(&self) -> impl Iterator<Item = &[f64]> {
        let varies = |values: &&[f64]| values.iter().any(|value| *value != values[0]);
        self.columns.iter().map(|(_, values)| values.as_slice()).filter(varies)
    }
}

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.next() % u64::from(bound)).unwrap()
    }

    /// From 0 to 1.
    pub(crate) fn unit(&mut self) -> f64 {
        f64::from(self.below(1 << 30)) / f64::from(1 << 30)
    }

    /// About normal with mean 0 and deviation 1.
    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

/// Scraped by Prometheus from node_exporter: 1,822 series per target of which one fifth changes,
/// every 15 s with up to 5 ms of jitter shared by the scrape.
pub(crate) fn node_exporter(targets: u32, scrapes: u32) -> DataSet {
    let mut random = Random(1);
    let mut series = Vec::new();
    for target in 0..targets {
        let instance = format!("10.0.{}.{}:9100", target / 250, target % 250);
        let phase = i64::from(random.below(15_000));
        let times: Vec<i64> = (0..scrapes)
            .map(|scrape| START + phase + i64::from(scrape) * 15_000 + i64::from(random.below(6)))
            .collect();
        for number in 0..1_822u32 {
            // 308 metric names, a few of them with many series.
            let metric = match number {
                0..280 => format!("node_metric_{number:03}_total"),
                280..1200 => format!("node_cpu_detail_{:02}_seconds_total", number % 20),
                _ => format!("node_disk_{}_bytes", number % 8),
            };
            let device = format!("dev{}", number / 8);
            let mode = ["user", "system", "idle", "iowait", "steal"][number as usize % 5];
            let mut pairs =
                vec![(METRIC_NAME, metric.as_str()), ("instance", &instance), ("job", "node")];
            if number >= 280 {
                pairs.push(("device", &device));
                pairs.push(("mode", mode));
            }
            let values = node_column(&mut random, number, scrapes);
            series.push((labels(&pairs), times.clone(), values));
        }
    }
    DataSet::new(series)
}

fn node_column(random: &mut Random, number: u32, scrapes: u32) -> Vec<f64> {
    let scrapes = 0..scrapes;
    if !number.is_multiple_of(5) {
        let constant = match random.below(10) {
            0..5 => 0.0,
            5..7 => 1.0,
            7 => f64::from(random.below(1_000_000)),
            8 => f64::from(random.below(1 << 30)) * 4096.0,
            _ => f64::from(random.below(100_000)) / 1000.0,
        };
        return scrapes.map(|_| constant).collect();
    }
    let mut at = f64::from(random.below(1_000_000));
    match number / 5 % 20 {
        // Seconds of CPU, in hundredths.
        0..6 => scrapes
            .map(|_| {
                at += f64::from(random.below(16));
                at / 100.0
            })
            .collect(),
        // Packets and bytes: quiet, with bursts.
        6..11 => {
            let rate = 1 << (4 + random.below(8));
            scrapes
                .map(|_| {
                    let burst = if random.below(30) == 0 { 50 } else { 1 };
                    at += f64::from(random.below(rate) * burst);
                    at
                })
                .collect()
        }
        // Memory in pages.
        11..14 => scrapes
            .map(|_| {
                at = (at + (random.normal() * 40.0).round()).abs();
                at * 4096.0
            })
            .collect(),
        // Durations in nanoseconds, as seconds.
        14..16 => scrapes.map(|_| f64::from(100_000 + random.below(1 << 22)) / 1e9).collect(),
        // Rare changes.
        _ => scrapes
            .map(|_| {
                at += f64::from(u32::from(random.below(60) == 0));
                at
            })
            .collect(),
    }
}

/// TSBS devops, cpu-only: ten integer gauges per host that walk between 0 and 100, every 10 s.
pub(crate) fn tsbs_cpu(hosts: u32, samples: u32) -> DataSet {
    const FIELDS: [&str; 10] = [
        "user",
        "system",
        "idle",
        "nice",
        "iowait",
        "irq",
        "softirq",
        "steal",
        "guest",
        "guest_nice",
    ];
    let mut random = Random(2);
    let mut series = Vec::new();
    let times: Vec<i64> = (0..samples).map(|i| START + i64::from(i) * 10_000).collect();
    for host in 0..hosts {
        let tags = Tags::new(&mut random, host);
        for field in FIELDS {
            let mut at = f64::from(random.below(101));
            let walk = |_: u32| {
                at = (at + random.normal()).clamp(0.0, 100.0);
                at.trunc()
            };
            let values: Vec<f64> = (0..samples).map(walk).collect();
            series.push((tags.labels(&format!("cpu_usage_{field}")), times.clone(), values));
        }
    }
    DataSet::new(series)
}

/// Series that live for one sample, with ten tags each.
pub(crate) fn churn(series: u32) -> DataSet {
    let mut random = Random(3);
    let one = |number: u32| {
        let tags = Tags::new(&mut random, number);
        let value = f64::from(random.below(1000));
        (tags.labels("request_seconds"), vec![START + i64::from(number / 1000)], vec![value])
    };
    DataSet::new((0..series).map(one).collect())
}

/// Sensors with two decimals: a daily cycle, a walk and noise.
pub(crate) fn sensors(series: u32, samples: u32) -> DataSet {
    let mut random = Random(4);
    let one = |number: u32| {
        let times: Vec<i64> = (0..samples)
            .map(|i| START + i64::from(i) * 10_000 + i64::from(random.below(20)))
            .collect();
        let mut walk = 20.0;
        let values = (0..samples)
            .map(|i| {
                walk += random.normal() * 0.05;
                let value = walk + 5.0 * (f64::from(i) / 1000.0).sin() + random.normal() * 0.2;
                (value * 100.0).round() / 100.0
            })
            .collect();
        let labels = labels(&[(METRIC_NAME, "temperature"), ("sensor", &format!("s{number:05}"))]);
        (labels, times, values)
    };
    DataSet::new((0..series).map(one).collect())
}

/// A walk of full precision, which no decimal form fits.
pub(crate) fn full_precision(series: u32, samples: u32) -> DataSet {
    let mut random = Random(5);
    let times: Vec<i64> = (0..samples).map(|i| START + i64::from(i) * 10_000).collect();
    let one = |number: u32| {
        let mut at = 100.0 * random.unit();
        let walk = |_: u32| {
            at += random.normal() * 0.1;
            at
        };
        let values = (0..samples).map(walk).collect();
        let labels = labels(&[(METRIC_NAME, "walk"), ("id", &format!("{number:05}"))]);
        (labels, times.clone(), values)
    };
    DataSet::new((0..series).map(one).collect())
}

struct Tags(Vec<(&'static str, String)>);

impl Tags {
    fn new(random: &mut Random, host: u32) -> Self {
        let region = random.below(9);
        Self(vec![
            ("hostname", format!("host_{host}")),
            ("region", format!("region-{region}")),
            ("datacenter", format!("region-{region}-{}", random.below(3))),
            ("rack", random.below(100).to_string()),
            (
                "os",
                ["Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10"][random.below(3) as usize].into(),
            ),
            ("arch", ["x64", "x86"][random.below(2) as usize].into()),
            ("team", ["NYC", "LON", "SF", "CHI"][random.below(4) as usize].into()),
            ("service", random.below(20).to_string()),
            ("service_version", random.below(2).to_string()),
            (
                "service_environment",
                ["production", "staging", "test"][random.below(3) as usize].into(),
            ),
        ])
    }

    fn labels(&self, metric: &str) -> Labels {
        let tags = self.0.iter().map(|(name, value)| (*name, value.as_str()));
        Labels::from_pairs(tags.chain([(METRIC_NAME, metric)])).unwrap()
    }
}
