//! Whether two answers of the query API say the same.

use std::collections::BTreeMap;

use serde_json::Value;

/// Relative difference up to which two numbers are equal: Prometheus 2.x sums without the
/// compensation that 3.x has.
const TOLERANCE: f64 = 1e-9;

/// How two answers agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agreement {
    Data = 0,
    Empty = 1,
    Refused = 2,
}

/// Where two answers first differ, and how.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) at_ms: Option<i64>,
    pub(crate) text: String,
}

impl From<String> for Difference {
    fn from(text: String) -> Self {
        Self { at_ms: None, text }
    }
}

/// Samples by series and time.
pub(super) type Points = BTreeMap<(String, i64), f64>;

pub(crate) fn compare(query: &str, theirs: &Value, ours: &Value) -> Result<Agreement, Difference> {
    if theirs["status"] != ours["status"] {
        return Err(format!("theirs {}\n    ours   {}", short(theirs), short(ours)).into());
    }
    if theirs["status"] == "error" {
        return if theirs["errorType"] == ours["errorType"] {
            Ok(Agreement::Refused)
        } else {
            Err(format!("error type: theirs {}, ours {}", short(theirs), short(ours)).into())
        };
    }
    let kind = &theirs["data"]["resultType"];
    if *kind != ours["data"]["resultType"] {
        return Err(format!("type: theirs {kind}, ours {}", ours["data"]["resultType"]).into());
    }
    let (theirs, ours) = (points(&theirs["data"]), points(&ours["data"]));
    // Which of several equal values topk keeps is nobody's business.
    let by_value = query.contains("topk") || query.contains("bottomk");
    if by_value {
        compare_values(&theirs, &ours)?;
    } else {
        compare_points(&theirs, &ours)?;
    }
    Ok(if theirs.is_empty() { Agreement::Empty } else { Agreement::Data })
}

pub(super) fn points(data: &Value) -> Points {
    let mut points = Points::new();
    let mut add = |name: String, sample: &Value| {
        let ms = (sample[0].as_f64().unwrap() * 1e3).round() as i64;
        points.insert((name, ms), number(&sample[1]));
    };
    match &data["result"] {
        Value::Array(list) if list.first().is_some_and(|first| first.is_object()) => {
            for series in list {
                // serde_json's maps are sorted, so the text is canonical.
                let name = series["metric"].to_string();
                let values = series["values"].as_array().cloned();
                for sample in values.unwrap_or_else(|| vec![series["value"].clone()]) {
                    add(name.clone(), &sample);
                }
            }
        }
        Value::Array(scalar) if scalar.len() == 2 => add(String::new(), &data["result"]),
        _ => {}
    }
    points
}

pub(super) fn number(text: &Value) -> f64 {
    match text.as_str().unwrap() {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        text => text.parse().unwrap_or(f64::NAN),
    }
}

pub(super) fn equal(left: f64, right: f64) -> bool {
    left == right
        || left.is_nan() && right.is_nan()
        || (left - right).abs() <= TOLERANCE * left.abs().max(right.abs())
        // What cancels to nothing has no relative error worth the name.
        || left.abs().max(right.abs()) < 1e-12
}

fn compare_points(theirs: &Points, ours: &Points) -> Result<(), Difference> {
    let differs = |at: &(String, i64), text| Difference { at_ms: Some(at.1), text };
    for (at, value) in theirs {
        match ours.get(at) {
            None => return Err(differs(at, format!("missing in ours: {at:?} = {value}"))),
            Some(own) if !equal(*value, *own) => {
                return Err(differs(at, format!("{at:?}: theirs {value}, ours {own}")));
            }
            Some(_) => {}
        }
    }
    match ours.iter().find(|(at, _)| !theirs.contains_key(at)) {
        Some((at, value)) => Err(differs(at, format!("only in ours: {at:?} = {value}"))),
        None => Ok(()),
    }
}

/// The values at each time, whatever the series.
fn compare_values(theirs: &Points, ours: &Points) -> Result<(), Difference> {
    let by_time = |points: &Points| {
        let mut times: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
        for ((_, ms), value) in points {
            times.entry(*ms).or_default().push(*value);
        }
        times.values_mut().for_each(|values| values.sort_by(f64::total_cmp));
        times
    };
    let (theirs, ours) = (by_time(theirs), by_time(ours));
    for (ms, values) in &theirs {
        let own = ours.get(ms).cloned().unwrap_or_default();
        let same = values.len() == own.len() && values.iter().zip(&own).all(|(a, b)| equal(*a, *b));
        if !same {
            let text = format!("at {ms}: theirs {values:?}, ours {own:?}");
            return Err(Difference { at_ms: Some(*ms), text });
        }
    }
    if ours.len() == theirs.len() { Ok(()) } else { Err("more times in ours".to_owned().into()) }
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(300).collect()
}
