//! Random PromQL of nearly the whole language over what `data` has. Some of it is refused: then the
//! texts of errors are compared.

use super::calls;
use super::selectors::{instant_selector, range_vector};
use crate::support::Random;

const GROUPED_BY: &[&str] =
    &["job", "instance", "le", "zone", "nope", "__name__", "\"a.b\"", "\"job\"", "\"été\""];
const MATCHED_ON: &[&str] = &["job", "instance", "le", "code", "zone", "\"job\"", "\"a.b\""];
const AGGREGATIONS: &[&str] = &["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"];
const ARITHMETIC: &[&str] = &["+", "-", "*", "/", "%", "^", "atan2", "</", ">/"];
const COMPARISONS: &[&str] = &["==", "!=", ">", "<", ">=", "<="];

pub(super) fn pick<'a>(random: &mut Random, list: &[&'a str]) -> &'a str {
    list[random.below(list.len() as u64) as usize]
}

/// True so many times of a hundred.
pub(super) fn percent(random: &mut Random, part: u64) -> bool {
    random.below(100) < part
}

/// An expression of any type.
pub(super) fn query(random: &mut Random) -> String {
    match random.below(100) {
        0..=2 => range_vector(random, 1),
        3..=4 => scalar(random, 2),
        5 => {
            let (left, right) = (scalar(random, 1), scalar(random, 1));
            let bool = if percent(random, 90) { " bool" } else { "" };
            format!("{left} {}{bool} {right}", pick(random, COMPARISONS))
        }
        6 => pick(random, &[r#""a""#, r#"'b\n\'"'"#, "`c\\`", r#""\x41\u00e9\\""#, r#"("d")"#])
            .to_owned(),
        _ => {
            let depth = [1, 1, 2, 2, 3][random.below(5) as usize];
            vector(random, depth)
        }
    }
}

/// An instant vector; `depth` bounds how deep it is.
pub(super) fn vector(random: &mut Random, depth: u32) -> String {
    let part = random.below(100);
    if depth == 0 {
        return match part {
            0..=74 => instant_selector(random),
            75..=96 => calls::call(random, 0),
            _ => "vector(1)".to_owned(),
        };
    }
    match part {
        0..=19 => instant_selector(random),
        20..=49 => calls::call(random, depth - 1),
        50..=74 => aggregation(random, depth - 1),
        _ => binary(random, depth - 1),
    }
}

pub(super) fn scalar(random: &mut Random, depth: u32) -> String {
    match random.below(100) {
        60..=69 if depth > 0 => "time()".to_owned(),
        70..=74 if depth > 0 => {
            pick(random, &["pi()", "step()", "range()", "start()", "end()"]).to_owned()
        }
        75..=89 if depth > 0 => format!("scalar({})", vector(random, depth - 1)),
        90..=99 if depth > 0 => {
            let (left, right) = (scalar(random, depth - 1), scalar(random, depth - 1));
            if percent(random, 20) {
                return format!("{}({left}, {right})", pick(random, &["max_of", "min_of"]));
            }
            let operator = pick(random, &["+", "-", "*", "/", "%", "^", "atan2", "> bool", "<="]);
            format!("({left} {operator} {right})")
        }
        _ => pick(
            random,
            &[
                "0", "1", "-1", "2", "0.5", "-0.5", "1e3", "NaN", "Inf", "-Inf", "0x1F", "1_000",
                "3.7", "1m", "60", "5", "0b101", "017", "1e-300", "1h30m", "-0",
            ],
        )
        .to_owned(),
    }
}

fn some_labels(random: &mut Random, labels: &[&str]) -> String {
    let count = [0, 1, 1, 2][random.below(4) as usize];
    let names: Vec<&str> = (0..count).map(|_| pick(random, labels)).collect();
    names.join(", ")
}

fn aggregation(random: &mut Random, depth: u32) -> String {
    let grouping = match random.below(10) {
        0..=2 => String::new(),
        part => {
            let word = if part % 2 == 0 { "by" } else { "without" };
            format!(" {word} ({}) ", some_labels(random, GROUPED_BY))
        }
    };
    let inner = vector(random, depth);
    let (name, arguments) = match random.below(100) {
        0..=67 => (pick(random, AGGREGATIONS), inner),
        68..=79 => (pick(random, &["topk", "bottomk"]), format!("{}, {inner}", count(random))),
        80..=85 => {
            let level =
                pick(random, &["0.5", "0.9", "0", "1", "-1", "1.5", "NaN", "scalar(up)", "1m"]);
            ("quantile", format!("{level}, {inner}"))
        }
        86..=91 => {
            let label = pick(random, &["v", "job", "value", "a.b", "", "9", "__name__"]);
            ("count_values", format!("\"{label}\", {inner}"))
        }
        92..=95 => ("limitk", format!("{}, {inner}", count(random))),
        96..=98 => {
            let ratio =
                pick(random, &["0.5", "-0.5", "1", "-1", "0", "0.3", "-0.1", "2", "-3", "NaN"]);
            ("limit_ratio", format!("{ratio}, {inner}"))
        }
        // Our addition.
        _ => (pick(random, AGGREGATIONS), range_vector(random, depth)),
    };
    if percent(random, 50) {
        format!("{name}{grouping}({arguments})")
    } else {
        format!("{name}({arguments}){grouping}")
    }
}

/// How many `topk` and its kin keep.
fn count(random: &mut Random) -> &'static str {
    const COUNTS: &[&str] = &[
        "1",
        "2",
        "3",
        "0",
        "5",
        "-1",
        "100",
        "2",
        "2",
        "1.9",
        "0.3",
        "scalar(const)/21",
        "scalar(up)",
        "time()/1e9",
        "1e18",
        "1e19",
        "-1e19",
        "Inf",
        "NaN",
        "9223372036854775807",
    ];
    pick(random, COUNTS)
}

fn binary(random: &mut Random, depth: u32) -> String {
    let left = vector(random, depth);
    if percent(random, 25) {
        let operator = pick(random, &["and", "or", "unless"]);
        let matching = matching(random, true);
        return format!("({left} {operator}{matching} {})", vector(random, depth));
    }
    let operator = match percent(random, 50) {
        true => pick(random, ARITHMETIC).to_owned(),
        false => {
            let bool = if percent(random, 40) { " bool" } else { "" };
            format!("{}{bool}", pick(random, COMPARISONS))
        }
    };
    match random.below(100) {
        0..=24 => format!("({left} {operator} {})", scalar(random, depth)),
        25..=44 => format!("({} {operator} {left})", scalar(random, depth)),
        45..=67 => {
            let matching = matching(random, false);
            format!("({left} {operator}{matching} {})", vector(random, depth))
        }
        _ => {
            // Sides that fit each other.
            let left = pick(random, &["c_total", "g", "up", "n", "h_sum"]);
            let right = pick(random, &["h_count", "c_total", "g", "up", "mem_bytes", "n"]);
            let shape = pick(random, &["{}", "{} offset 1m", "rate({}[5m])", "{} > 0"]);
            let right = shape.replace("{}", right);
            format!("({left} {operator}{} {right})", matching(random, false))
        }
    }
}

fn matching(random: &mut Random, is_set: bool) -> String {
    let mut text = String::new();
    if percent(random, 55) {
        let word = pick(random, &["on", "ignoring"]);
        text = format!(" {word} ({})", some_labels(random, MATCHED_ON));
        if percent(random, if is_set { 2 } else { 35 }) {
            let side = pick(random, &["group_left", "group_right"]);
            let extra = ["", " ()", " (zone)", " (version)", " (job)", " (\"a.b\", zone)"];
            text += &format!(" {side}{}", pick(random, &extra));
        }
    }
    if percent(random, if is_set { 1 } else { 10 }) {
        text += pick(
            random,
            &[
                " fill (0)",
                " fill_left (1)",
                " fill_right (2)",
                " fill_left (1) fill_right (3)",
                " fill (-1.5)",
                " fill_right (NaN) fill_left (-0)",
                " fill (Inf)",
                " fill (1m)",
            ],
        );
    }
    text
}
