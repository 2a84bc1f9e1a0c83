//! Random calls of functions.

use super::queries::{percent, pick, scalar, vector};
use super::selectors::{matcher, range_vector};
use crate::support::Random;

const OF_RANGES: &[&str] = &[
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "resets",
    "changes",
    "deriv",
    "sum_over_time",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "count_over_time",
    "last_over_time",
    "first_over_time",
    "present_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "absent_over_time",
    "mad_over_time",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
];

const OF_VECTORS: &[&str] = &[
    "abs",
    "ceil",
    "floor",
    "sqrt",
    "exp",
    "ln",
    "log2",
    "log10",
    "sgn",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "deg",
    "rad",
    "round",
    "timestamp",
    "start_timestamp",
    "-",
    "+",
    "sort",
    "sort_desc",
    "minute",
    "hour",
    "day_of_week",
    "day_of_month",
    "day_of_year",
    "days_in_month",
    "month",
    "year",
    "histogram_avg",
    "histogram_count",
    "histogram_sum",
    "histogram_stddev",
    "histogram_stdvar",
];

const BUCKETS: &[&str] = &[
    "h_bucket",
    "rate(h_bucket[5m])",
    "sum by (le) (rate(h_bucket[5m]))",
    "sum by (le, job) (h_bucket)",
    "increase(h_bucket[2m])",
    "k",
    "h_bucket{le!=\"+Inf\"}",
    "-h_bucket",
    "h_bucket * NaN",
    "label_replace(k, \"le\", \"$1\", \"code\", \"(.*)\")",
];

/// With bounds that are no numbers, and with equal ones.
const ODD_BUCKETS: &[&str] = &[
    "x_bucket",
    "x_bucket{job=\"web\"}",
    "{__name__=~\"[hx]_bucket\"}",
    "rate(x_bucket[1m])",
    "sum without (job) (x_bucket)",
];

fn buckets(random: &mut Random) -> &'static str {
    let list = if percent(random, 30) { ODD_BUCKETS } else { BUCKETS };
    pick(random, list)
}

/// A call; its arguments are at most `depth` deep.
pub(super) fn call(random: &mut Random, depth: u32) -> String {
    match random.below(1_000) {
        0..=499 => {
            let name = pick(random, OF_RANGES);
            format!("{name}({})", range_vector(random, depth))
        }
        500..=559 => {
            let level = scalar(random, depth);
            format!("quantile_over_time({level}, {})", range_vector(random, depth))
        }
        560..=599 => {
            let range = range_vector(random, depth);
            format!("predict_linear({range}, {})", scalar(random, depth))
        }
        600..=619 => {
            let range = range_vector(random, depth);
            let factors = ["0.3", "0.5", "0.9", "0", "1", "2", "NaN"];
            let (level, trend) = (pick(random, &factors), pick(random, &factors));
            format!("double_exponential_smoothing({range}, {level}, {trend})")
        }
        620..=779 => of_vector(random, depth),
        780..=799 => absent(random, depth),
        800..=839 => {
            let inner = vector(random, depth);
            let name = pick(random, &["clamp_min", "clamp_max", "round"]);
            format!("{name}({inner}, {})", scalar(random, depth))
        }
        840..=859 => {
            let (inner, low) = (vector(random, depth), scalar(random, depth));
            format!("clamp({inner}, {low}, {})", scalar(random, depth))
        }
        860..=889 => label_replace(random, depth),
        890..=909 => label_join(random, depth),
        910..=944 => {
            let levels =
                ["0.5", "0.9", "0", "1", "-1", "2", "NaN", "0.999999", "1e-9", "scalar(up)/3"];
            let level = pick(random, &levels);
            format!("histogram_quantile({level}, {})", buckets(random))
        }
        945..=959 => {
            let low = pick(random, &["0", "-Inf", "0.3", "2", "NaN", "-1"]);
            let high = pick(random, &["1", "Inf", "0.2", "7", "NaN", "0.5"]);
            format!("histogram_fraction({low}, {high}, {})", buckets(random))
        }
        960..=969 => {
            let label = pick(random, &["q", "job", "le", "", "a.b", "__name__"]);
            let levels = ["0.5, 0.99", "0.5", "-1, 2", "NaN, 0.5, 0.5", "1, 0"];
            let levels = pick(random, &levels);
            // Prometheus adds up buckets of equal bounds once more for each level.
            let buckets = pick(random, BUCKETS);
            format!("histogram_quantiles({buckets}, \"{label}\", {levels})")
        }
        970..=984 => {
            let inner = vector(random, depth);
            let second = [
                "",
                ", {version=\"1\"}",
                ", {__name__=\"build_info\"}",
                ", {k8s=~\".+\"}",
                ", {__name__=~\".*_info\"}",
                ", {version=~\".*\", k8s!=\"ca\"}",
                ", {rev=\"\"}",
                ", {__name__!=\"target_info\", rev=~\".+\"}",
                ", {nope=\"x\"}",
                ", target_info{version=\"1\"}",
                ", {}",
            ];
            format!("info({inner}{})", pick(random, &second))
        }
        _ => {
            let inner = vector(random, depth);
            let name = pick(random, &["sort_by_label", "sort_by_label_desc"]);
            let labels =
                ["\"job\"", "\"instance\", \"job\"", "\"nope\"", "\"a.b\"", "\"le\", \"le\""];
            format!("{name}({inner}, {})", pick(random, &labels))
        }
    }
}

fn of_vector(random: &mut Random, depth: u32) -> String {
    if percent(random, 5) {
        return format!("vector({})", scalar(random, depth));
    }
    let inner = vector(random, depth);
    format!("{}({inner})", pick(random, OF_VECTORS))
}

/// Which labels the answer has, depends on the form of the matchers.
fn absent(random: &mut Random, depth: u32) -> String {
    if percent(random, 50) {
        return format!("absent({})", vector(random, depth));
    }
    let matchers: Vec<String> = (0..random.below(4)).map(|_| matcher(random)).collect();
    let metric = pick(random, &["nowhere", "up", "short"]);
    let selector = format!("{metric}{{{}}}", matchers.join(", "));
    match random.below(3) {
        0 => format!("absent({selector})"),
        1 => format!("absent_over_time({selector}[1m])"),
        _ => format!("absent(({selector}))"),
    }
}

fn label_replace(random: &mut Random, depth: u32) -> String {
    const TEMPLATES: &[&str] = &[
        "$1",
        "x$1-$2",
        "",
        "${1}y",
        "const",
        "$name",
        "$1y",
        "$$",
        "$",
        "${",
        "${}",
        "${name}$3",
        "$1$0",
        "é$1",
        "$ 1",
        "\\\\$1",
        "$01",
        "${ 1}",
    ];
    const PATTERNS: &[&str] = &[
        "(.*)",
        "(a)(.*)",
        "(?P<name>.+)",
        "(?<name>a.*)|b",
        "db",
        "",
        ".*",
        "(a|b)?(.*)",
        "(",
        "a{2,1}",
        "(?i)A(.*)",
        "\\\\w+",
        "[^a](.)$",
        "(?s).*",
    ];
    let inner = vector(random, depth);
    let to = pick(random, &["dst", "job", "instance", "__name__", "a.b", "", "le"]);
    let from = pick(random, &["job", "instance", "nope", "__name__", "a.b", ""]);
    let (template, pattern) = (pick(random, TEMPLATES), pick(random, PATTERNS));
    format!("label_replace({inner}, \"{to}\", \"{template}\", \"{from}\", \"{pattern}\")")
}

fn label_join(random: &mut Random, depth: u32) -> String {
    let inner = vector(random, depth);
    let to = pick(random, &["dst", "job", "a.b", "", "__name__"]);
    let between = pick(random, &["-", "", "$1"]);
    let from = ["", ", \"job\"", ", \"job\", \"instance\"", ", \"nope\", \"job\"", ", \"\""];
    format!("label_join({inner}, \"{to}\", \"{between}\"{})", pick(random, &from))
}
