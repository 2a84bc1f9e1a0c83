//! Random selectors and subqueries over what `data` has, with all that may follow them.

use super::queries::{percent, pick, vector};
use crate::support::Random;

const METRICS: &[&str] = &[
    "c_total",
    "f_total",
    "g",
    "mem_bytes",
    "n",
    "up",
    "k",
    "h_bucket",
    "h_count",
    "h_sum",
    "sparse",
    "late_total",
    "short",
    "const",
    "tiny",
    "big",
    "x_bucket",
    "target_info",
    "{\"dots.metric\"}",
    "{\"größe/π\"}",
];

/// What a range function is mostly asked of.
const COUNTERS: &[&str] =
    &["c_total", "f_total", "h_count", "h_bucket", "late_total", "g", "n", "up"];

pub(super) fn instant_selector(random: &mut Random) -> String {
    let metric = pick(random, METRICS);
    let selector = selector(random, metric);
    let extended = match random.below(100) {
        0..=2 => " smoothed",
        3..=4 => " anchored",
        _ => "",
    };
    let modifiers = modifiers(random);
    // Prometheus takes an operator behind `offset (…)` for one on durations.
    match modifiers.ends_with(')') {
        true => format!("({selector}{extended}{modifiers})"),
        false => format!("{selector}{extended}{modifiers}"),
    }
}

fn selector(random: &mut Random, metric: &str) -> String {
    let matchers: Vec<String> =
        (0..[0, 0, 0, 1, 1, 2][random.below(6) as usize]).map(|_| matcher(random)).collect();
    if percent(random, 3) {
        let names = pick(random, &["c_total|f_total", "g|n", "h_.*", "k|up", ".*metric|const"]);
        return format!(
            "{{{}}}",
            [vec![format!("__name__=~\"{names}\"")], matchers].concat().join(",")
        );
    }
    match metric.strip_prefix('{') {
        Some(quoted) => {
            let name = quoted.trim_end_matches('}').to_owned();
            format!("{{{}}}", [vec![name], matchers].concat().join(", "))
        }
        None if matchers.is_empty() => metric.to_owned(),
        None => format!("{metric}{{{}}}", matchers.join(",")),
    }
}

pub(super) fn matcher(random: &mut Random) -> String {
    let (label, values): (_, &[&str]) = match random.below(7) {
        0..=2 => ("job", &["api", "db", "a.*|web", "", ".+", "api|web", "(?i)API", "a[a-z]{2}"]),
        3 => ("instance", &["a", "b", "a|b", ""]),
        4 => ("zone", &["x", "y|z", ""]),
        5 => ("\"a.b\"", &["c", "", ".*"]),
        _ => ("nope", &["", "x", ".*"]),
    };
    let operator = pick(random, &["=", "!=", "=~", "!~"]);
    format!("{label}{operator}\"{}\"", pick(random, values))
}

/// `offset` and `@`, in both orders. Times lie on borders of samples, beside them, and far away, but
/// not so far that what Prometheus takes for an offset overflows: 292 years.
fn modifiers(random: &mut Random) -> String {
    const OFFSETS: &[&str] = &[
        "1m",
        "5m",
        "-1m",
        "-5m",
        "15s",
        "90s",
        "1ms",
        "-14s999ms",
        "1000y",
        "300",
        "step()",
        "(5m - step())",
        "-(2 * 1m)",
        "-min_of(1m, step())",
        "range()",
        "max_of(range()/4, 15s)",
        "(1m/0)",
    ];
    const TIMES: &[&str] = &[
        "start()",
        "end()",
        "1700003000",
        "1700001000.5",
        "1700003580",
        "1700003579.999",
        "0",
        "-1e3",
        "1e9",
        "5e9",
    ];
    let offset = match random.below(100) {
        0..=14 => format!(" offset {}", pick(random, OFFSETS)),
        _ => String::new(),
    };
    let at = match random.below(100) {
        0..=11 => format!(" @ {}", pick(random, TIMES)),
        _ => String::new(),
    };
    if percent(random, 50) { format!("{offset}{at}") } else { format!("{at}{offset}") }
}

fn range_duration(random: &mut Random) -> &'static str {
    if percent(random, 85) {
        return pick(random, &["15s", "30s", "45s", "1m", "90s", "2m", "5m", "7m30s", "10m", "1h"]);
    }
    pick(
        random,
        &[
            "step()+1m",
            "2*step()",
            "5m+30s",
            "range()/4",
            "max_of(1m,step())",
            "-(-5m)",
            "10m/2",
            "min_of(5m,step()*3)",
            "2^3*15s",
            "1h%37m",
            "step()",
            "300",
            "1ms",
            "15s1ms",
            "14s999ms",
            "1d",
            "1y2w",
            "290y",
            "300y",
            "1m-1m",
            "5m/0",
            "5m%0",
            "-5m",
            "1m-5m",
            "range()",
            "0s",
            "0.5*1m",
            "1e2",
            "end()",
            "1m>2m",
        ],
    )
}

/// Of a metric that is given, or of any.
pub(super) fn range_vector(random: &mut Random, depth: u32) -> String {
    if percent(random, 14) {
        return subquery(random, depth);
    }
    let metric = if percent(random, 50) { pick(random, COUNTERS) } else { pick(random, METRICS) };
    let selector = selector(random, metric);
    let extended = match random.below(100) {
        0..=6 => " anchored",
        7..=13 => " smoothed",
        _ => "",
    };
    format!("{selector}[{}]{extended}{}", range_duration(random), modifiers(random))
}

fn subquery(random: &mut Random, depth: u32) -> String {
    let inner = vector(random, depth.min(2));
    let range = match random.below(10) {
        0 => pick(random, &["step()", "2*range()", "1m+1ms", "0s", "-1m", "1d", "5m-1m"]),
        _ => pick(random, &["5m", "10m", "30m", "1m"]),
    };
    let step = match random.below(10) {
        0 => pick(random, &["step()", "-1m", "0s", "1m-2m", "step()/2", "1ms*7001", "2^5", "1d"]),
        _ => pick(random, &["", "", "30s", "1m", "2m", "7m", "15s"]),
    };
    format!("({inner})[{range}:{step}]{}", modifiers(random))
}
