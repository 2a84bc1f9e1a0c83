//! Random PromQL over metrics that exist. Only what Prometheus 2.42 and 3.x both have, and
//! nothing whose meaning changed between them.

use crate::support::Random;

const DEPTH_MAX: u32 = 3;

const RANGE_FUNCTIONS: &[&str] = &[
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "resets",
    "changes",
    "deriv",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "sum_over_time",
    "count_over_time",
    "last_over_time",
    "present_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "absent_over_time",
];

const MAPS: &[&str] = &[
    "abs",
    "ceil",
    "floor",
    "exp",
    "ln",
    "log2",
    "log10",
    "sqrt",
    "sgn",
    "round",
    "sin",
    "cos",
    "tan",
    "atan",
    "asinh",
    "tanh",
    "deg",
    "rad",
    "sort",
    "sort_desc",
    "absent",
    "timestamp",
    "scalar_vector",
];

const AGGREGATIONS: &[&str] = &["sum", "avg", "min", "max", "count", "group"];
/// Of selectors only: 3.x gives NaN for values that are not finite.
const SPREADS: &[&str] = &["stddev", "stdvar"];

/// Of real times only: what Go makes of a NaN as a time is nobody's business.
const TIME_PARTS: &[&str] = &[
    "hour",
    "minute",
    "day_of_week",
    "day_of_month",
    "day_of_year",
    "days_in_month",
    "month",
    "year",
];

/// Without `atan2`, after which 2.42 keeps the metric name and 3.x does not.
const ARITHMETIC: &[&str] = &["+", "-", "*", "/", "%", "^"];
const COMPARISONS: &[&str] = &["==", "!=", ">", "<", ">=", "<="];
const GROUPINGS: &[&str] =
    &["", " by (job)", " by (instance, job)", " by (mode)", " without (instance)", " by (le)"];

fn pick<'a>(random: &mut Random, list: &[&'a str]) -> &'a str {
    list[random.below(list.len() as u64) as usize]
}

/// An instant vector. Never a subquery inside of another: the steps of the inner one would lie on
/// the borders of the outer one's windows, which 2.x counts in and 3.x does not.
pub(crate) fn expression(random: &mut Random, names: &[String]) -> String {
    loop {
        let expression = vector(random, names, 0);
        if expression.matches("s:").count() < 2 {
            return expression;
        }
    }
}

fn vector(random: &mut Random, names: &[String], depth: u32) -> String {
    if depth >= DEPTH_MAX {
        return selector(random, names);
    }
    match random.below(16) {
        0..=1 => format!("{}{}", selector(random, names), offset(random)),
        2..=5 => range_call(random, names, depth),
        6..=9 => aggregation(random, names, depth),
        10 => map(random, names, depth),
        11..=12 => with_scalar(random, names, depth),
        13 => of_two(random, names, depth),
        14 => labels_changed(random, names, depth),
        _ => quantile_of_buckets(random, names),
    }
}

fn selector(random: &mut Random, names: &[String]) -> String {
    let name = &names[random.below(names.len() as u64) as usize];
    let matchers = pick(
        random,
        &[
            "",
            "",
            "",
            "{job=\"real\"}",
            "{job!=\"\"}",
            "{instance=~\".+\"}",
            "{mode!~\"i.*\"}",
            "{code=~\"2..|\"}",
            "{job=~\"real|other\"}",
            "{missing=\"\"}",
        ],
    );
    format!("{name}{matchers}")
}

fn offset(random: &mut Random) -> &'static str {
    let shifts = [" offset 3s", " offset 10s", " offset -2s", " @ end()", " @ start() offset 3s"];
    if random.below(2) == 0 { pick(random, &shifts) } else { "" }
}

fn range_call(random: &mut Random, names: &[String], depth: u32) -> String {
    let seconds = 2 + random.below(25);
    let range = if random.below(5) == 0 {
        let inner = vector(random, names, depth + 1);
        format!("({inner})[{seconds}s:{}s]", 1 + random.below(4))
    } else {
        format!("{}[{seconds}s]{}", selector(random, names), offset(random))
    };
    match random.below(12) {
        0 => format!("quantile_over_time(0.{}, {range})", random.below(100)),
        // After its first step 2.42 lets go of the samples of a pinned window, which 3.x keeps. Other
        // functions are computed once, at that step.
        1 if !range.contains('@') => format!("predict_linear({range}, {})", random.below(60)),
        _ => format!("{}({range})", pick(random, RANGE_FUNCTIONS)),
    }
}

fn aggregation(random: &mut Random, names: &[String], depth: u32) -> String {
    let inner = vector(random, names, depth + 1);
    let grouping = pick(random, GROUPINGS);
    match random.below(10) {
        0 => format!("topk{grouping} ({}, {inner})", 1 + random.below(4)),
        1 => format!("bottomk{grouping} ({}, {inner})", 1 + random.below(4)),
        2 => format!("quantile{grouping} (0.{}, {inner})", random.below(100)),
        3 => format!("count_values{grouping} (\"val\", round({inner}))"),
        4 => format!("{}{grouping} ({})", pick(random, SPREADS), selector(random, names)),
        _ => format!("{}{grouping} ({inner})", pick(random, AGGREGATIONS)),
    }
}

fn map(random: &mut Random, names: &[String], depth: u32) -> String {
    if random.below(8) == 0 {
        return format!("{}(timestamp({}))", pick(random, TIME_PARTS), selector(random, names));
    }
    let inner = vector(random, names, depth + 1);
    match pick(random, MAPS) {
        "scalar_vector" => format!("vector(scalar({inner}))"),
        "round" => format!("round({inner}, 0.5)"),
        name => format!("{name}({inner})"),
    }
}

fn with_scalar(random: &mut Random, names: &[String], depth: u32) -> String {
    let inner = vector(random, names, depth + 1);
    let number = pick(random, &["0", "1", "2", "-3.5", "0.1", "1e9", "Inf", "100"]);
    match random.below(4) {
        0 => format!("{inner} {} {number}", pick(random, COMPARISONS)),
        1 => format!("{inner} {} bool {number}", pick(random, COMPARISONS)),
        2 => format!("{number} {} ({inner})", pick(random, ARITHMETIC)),
        _ => format!("-({inner}) {} {number}", pick(random, ARITHMETIC)),
    }
}

fn of_two(random: &mut Random, names: &[String], depth: u32) -> String {
    let left = vector(random, names, depth + 1);
    // Related sides match more often than strangers.
    let right = if random.below(2) == 0 {
        format!("({left}) * 2")
    } else {
        vector(random, names, depth + 1)
    };
    let matching = pick(random, &["", "", " on (job, instance)", " ignoring (mode)"]);
    let operator = match random.below(3) {
        0 => pick(random, &["and", "or", "unless"]),
        // With `on`, 3.x refuses several matches even where the comparison does not hold.
        1 if matching.is_empty() => pick(random, COMPARISONS),
        _ => pick(random, ARITHMETIC),
    };
    match random.below(4) {
        0 if !matches!(operator, "and" | "or" | "unless") => {
            format!("({left}) {operator} on (instance) group_left sum by (instance) ({right})")
        }
        _ => format!("({left}) {operator}{matching} ({right})"),
    }
}

fn labels_changed(random: &mut Random, names: &[String], depth: u32) -> String {
    let inner = vector(random, names, depth + 1);
    if random.below(2) == 0 {
        format!("label_replace({inner}, \"to\", \"x-$1\", \"instance\", \"(.*):.*\")")
    } else {
        format!("label_join({inner}, \"to\", \"/\", \"job\", \"instance\")")
    }
}

fn quantile_of_buckets(random: &mut Random, names: &[String]) -> String {
    let buckets: Vec<&String> = names.iter().filter(|name| name.ends_with("_bucket")).collect();
    if buckets.is_empty() {
        return selector(random, names);
    }
    let name = buckets[random.below(buckets.len() as u64) as usize];
    let quantile = pick(random, &["0.5", "0.9", "0.99", "0", "1", "1.5", "-1"]);
    match random.below(2) {
        0 => format!("histogram_quantile({quantile}, {name})"),
        _ => format!("histogram_quantile({quantile}, sum by (le, handler) (rate({name}[15s])))"),
    }
}
