//! Two hours of series in which much of what makes PromQL difficult happens: counters that start
//! anew, gaps, stale markers, values that are no numbers, buckets in disorder.

use std::fmt::Write;

use aetherdb::model::stale_nan;
use serde_json::json;

use crate::support::Random;

/// Time of the first samples, a whole minute.
pub(super) const START_MS: i64 = 1_699_999_980_000;
/// Between samples.
pub(super) const STEP_MS: i64 = 15_000;
/// Of most series.
pub(super) const SAMPLES: usize = 480;
/// How far samples of `f_total` are from the times of the others.
const JITTER_MS: u64 = 3_000;
const GAP_SAMPLES_MAX: u64 = 30;

/// A value for each time, if there is a sample.
type Samples = Vec<Option<f64>>;
type Label<'a> = (&'a str, &'a str);

/// All series in the form of `/api/v1/import`, one a line.
pub(super) fn json_lines(random: Random) -> String {
    let mut data = Data { random, lines: String::new() };
    for job in ["api", "db", "web"] {
        for instance in ["a", "b"] {
            data.add_instance(job, instance);
        }
    }
    data.add_odd_buckets();
    data.add_singles();
    data.lines
}

struct Data {
    random: Random,
    lines: String,
}

impl Data {
    /// What every instance of a job exposes.
    fn add_instance(&mut self, job: &str, instance: &str) {
        let labels = [("job", job), ("instance", instance)];
        let with = |label| [&labels[..], &[label]].concat();
        let counter = self.counter(20, 1.0, 10);
        let counter = self.with_gaps(counter);
        self.add("c_total", &labels, &counter, 0);
        let fractional = self.counter(3_000, 1e-3, 20);
        let fractional = ended(self.with_gaps(fractional));
        self.add("f_total", &labels, &fractional, JITTER_MS);
        let gauge = self.gauge(-50.0, 50.0, 100.0);
        let gauge = ended(self.with_gaps(gauge));
        self.add("g", &labels, &gauge, 0);
        let zone = ["x", "y", "z"][self.random.below(3) as usize];
        let bytes = self.gauge(1e9, 4e9, 1.0);
        self.add("mem_bytes", &with(("zone", zone)), &bytes, 0);
        let odd = self.gauge(-5.0, 5.0, 100.0);
        let odd = self.with_odd_values(odd);
        self.add("n", &labels, &odd, 0);
        let up = (0..SAMPLES).map(|_| Some(f64::from(self.random.below(20) != 0)));
        let up: Samples = up.collect();
        self.add("up", &labels, &up, 0);
        let version = ["1", "2"][self.random.below(2) as usize];
        let pod = format!("c{instance}");
        let target = [&labels[..], &[("version", version), ("k8s", &pod)]].concat();
        self.add("target_info", &target, &vec![Some(1.0); SAMPLES], 0);
        let mut build = vec![Some(1.0); SAMPLES / 2];
        build.push(Some(stale_nan()));
        self.add("build_info", &with(("rev", pod.as_str())), &build, 0);
        if instance == "a" {
            for code in ["200", "500"] {
                let few = self.gauge(0.0, 3.0, 1.0);
                self.add("k", &with(("code", code)), &few, 0);
            }
        }
        self.add_histogram(&labels);
    }

    fn add_histogram(&mut self, labels: &[Label<'_>]) {
        const BOUNDS: [&str; 6] = ["0.1", "0.5", "1", "5", "10", "+Inf"];
        let mut buckets = [const { Vec::new() }; BOUNDS.len()];
        let (mut counts, mut sum, mut sums) = ([0.0; BOUNDS.len()], 0.0, Vec::new());
        for _ in 0..SAMPLES {
            if self.random.below(200) == 0 {
                (counts, sum) = ([0.0; BOUNDS.len()], 0.0);
            }
            for _ in 0..self.random.below(7) {
                // Most are small.
                let seen = self.between(0.0, 1.0).powi(4) * 20.0;
                sum += seen;
                for (count, bound) in counts.iter_mut().zip(BOUNDS) {
                    *count += f64::from(seen <= bound.parse().unwrap());
                }
            }
            for (bucket, count) in buckets.iter_mut().zip(counts) {
                bucket.push(Some(count));
            }
            sums.push(Some(sum));
        }
        for (bound, bucket) in BOUNDS.iter().zip(&buckets) {
            self.add("h_bucket", &[labels, &[("le", bound)]].concat(), bucket, 0);
        }
        self.add("h_count", labels, &buckets[BOUNDS.len() - 1], 0);
        self.add("h_sum", labels, &sums, 0);
    }

    /// Not monotonic, without `+Inf`, with bounds that are no numbers or say the same twice.
    fn add_odd_buckets(&mut self) {
        let all: [(&str, &[&str]); 5] = [
            ("api", &["1", "2", "+Inf"]),
            ("db", &["1", "abc"]),
            ("web", &["-1", "0", "1", "1.0", "+Inf"]),
            ("only", &["+Inf"]),
            ("none", &["NaN", "Inf", "2e0"]),
        ];
        for (job, bounds) in all {
            for bound in bounds {
                let bucket = self.gauge(2.0, 9.0, 1.0);
                self.add("x_bucket", &[("job", job), ("le", bound)], &bucket, 0);
            }
        }
    }

    fn add_singles(&mut self) {
        let every = |at: usize, number| if at.is_multiple_of(25) { Some(number) } else { None };
        let sparse: Samples = (0..SAMPLES).map(|at| every(at, at as f64)).collect();
        self.add("sparse", &[("job", "api")], &sparse, 0);
        for (metric, label) in [("dots.metric", "a.b"), ("größe/π", "été")] {
            let gauge = self.gauge(0.0, 10.0, 100.0);
            self.add(metric, &[(label, "c"), ("job", "api")], &gauge, 0);
        }
        let mut late = self.counter(10, 1.0, 10);
        late[..300].fill(None);
        self.add("late_total", &[("job", "api")], &late, 0);
        let short = self.gauge(0.0, 1.0, 100.0);
        self.add("short", &[("job", "db")], &short[..40], 0);
        self.add("const", &[("job", "db")], &vec![Some(42.0); SAMPLES], 0);
        let cycle =
            |values: &[f64]| (0..SAMPLES).map(|at| Some(values[at % values.len()])).collect();
        let (cancels, big): (Samples, Samples) = (cycle(&[1.0, 1e16]), cycle(&[-1e16, 1e16, 1e16]));
        self.add("tiny", &[("job", "db")], &cancels, 0);
        self.add("big", &[("job", "web")], &big, 0);
    }

    fn add(&mut self, metric: &str, labels: &[Label<'_>], samples: &[Option<f64>], jitter_ms: u64) {
        let mut names: serde_json::Map<_, _> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        names.insert("__name__".to_owned(), json!(metric));
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for (at, value) in samples.iter().enumerate() {
            let Some(value) = value else { continue };
            let moved = self.random.below(2 * jitter_ms + 1) as i64 - jitter_ms as i64;
            times.push(START_MS + at as i64 * STEP_MS + moved);
            values.push(if value.to_bits() == stale_nan().to_bits() {
                json!(null)
            } else if value.is_finite() {
                json!(value)
            } else if value.is_nan() {
                json!("NaN")
            } else {
                json!(if *value > 0.0 { "Infinity" } else { "-Infinity" })
            });
        }
        let line = json!({"metric": names, "values": values, "timestamps": times});
        writeln!(self.lines, "{line}").unwrap();
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.random.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Grows by less than `bound` units a sample, and starts anew at so many of a thousand.
    fn counter(&mut self, bound: u64, unit: f64, resets_per_mille: u64) -> Samples {
        let mut units = 0;
        let mut next = || {
            if self.random.below(1_000) < resets_per_mille {
                units = 0;
            }
            units += self.random.below(bound);
            Some(units as f64 * unit)
        };
        (0..SAMPLES).map(|_| next()).collect()
    }

    /// Wanders between the bounds in steps of one `per_unit`th.
    fn gauge(&mut self, low: f64, high: f64, per_unit: f64) -> Samples {
        let (mut level, step) = (self.between(low, high), (high - low) / 10.0);
        let mut next = || {
            level = (level + self.between(-step, step)).clamp(low, high);
            Some((level * per_unit).round() / per_unit)
        };
        (0..SAMPLES).map(|_| next()).collect()
    }

    fn with_gaps(&mut self, mut samples: Samples) -> Samples {
        let mut at = 0;
        while at < samples.len() {
            if self.random.below(100) == 0 {
                let end = samples.len().min(at + 1 + self.random.below(GAP_SAMPLES_MAX) as usize);
                samples[at..end].fill(None);
                at = end;
            }
            at += 1;
        }
        samples
    }

    fn with_odd_values(&mut self, mut samples: Samples) -> Samples {
        const ODD: [f64; 8] =
            [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1e300, -1e300, 1e-300];
        for sample in &mut samples {
            if self.random.below(20) == 0 {
                let stale = self.random.below(9) == 0;
                let odd = ODD[self.random.below(ODD.len() as u64) as usize];
                *sample = Some(if stale { stale_nan() } else { odd });
            }
        }
        samples
    }
}

/// With a stale marker at the beginning of each gap.
fn ended(mut samples: Samples) -> Samples {
    for at in 1..samples.len() {
        if samples[at].is_none() && samples[at - 1].is_some_and(|before| !before.is_nan()) {
            samples[at] = Some(stale_nan());
        }
    }
    samples
}
