//! Whether two answers say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::known::{Known, compare_errors, own_addition, own_refusal};

/// Relative error that digits lost in sliding windows may make.
const DIGITS_LOST: f64 = 1e-9;

/// What two answers that agree have between them: nothing, or what is known.
pub(super) type Agreement = Result<BTreeSet<Known>, String>;

/// Compares the values of two answers, or their errors; says where they differ first.
pub(super) fn judge_values(query: &str, theirs: &Value, ours: &Value) -> Agreement {
    let refused = |answer: &Value| answer["error"].as_str().map(str::to_owned);
    match (refused(theirs), refused(ours)) {
        (Some(theirs), Some(ours)) => compare_errors(&theirs, &ours),
        (Some(theirs), None) => match own_addition(&theirs) {
            Some(addition) => Ok([addition].into()),
            None => Err(format!("refused by them alone: {theirs}")),
        },
        (None, Some(ours)) => match own_refusal(&ours) {
            Some(refusal) => Ok([refusal].into()),
            None => Err(format!("refused by us alone: {ours}")),
        },
        (None, None) => compare_data(query, &theirs["data"], &ours["data"]),
    }
}

/// Compares the warnings and infos of two answers.
pub(super) fn judge_remarks(theirs: &Value, ours: &Value) -> Agreement {
    let mut known = BTreeSet::new();
    if theirs["status"] == ours["status"] {
        for kind in ["warnings", "infos"] {
            let remark = compare_remarks(remarks(&theirs[kind]), remarks(&ours[kind]))
                .map_err(|difference| format!("{kind}: {difference}"))?;
            known.extend(remark);
        }
    }
    Ok(known)
}

/// A series' labels as JSON, and its samples: times in milliseconds and values as text.
type Row<'a> = (String, Vec<(i64, &'a str)>);

/// In the order of the answer. A scalar or a string is a series without labels.
fn rows(data: &Value) -> Vec<Row<'_>> {
    let Value::Array(list) = &data["result"] else { return Vec::new() };
    if matches!(data["resultType"].as_str(), Some("scalar" | "string")) {
        return vec![(String::new(), vec![sample(&data["result"])])];
    }
    list.iter()
        .map(|series| {
            let values = match &series["values"] {
                Value::Array(values) => values.as_slice(),
                _ => std::slice::from_ref(&series["value"]),
            };
            // serde_json's maps are sorted, so the text is canonical.
            (series["metric"].to_string(), values.iter().map(sample).collect())
        })
        .collect()
}

fn sample(pair: &Value) -> (i64, &str) {
    let ms = (pair[0].as_f64().unwrap() * 1e3).round() as i64;
    (ms, pair[1].as_str().unwrap())
}

fn compare_data(query: &str, theirs: &Value, ours: &Value) -> Agreement {
    let mut known = BTreeSet::new();
    let kind = &theirs["resultType"];
    if *kind != ours["resultType"] {
        return Err(format!("type: theirs {kind}, ours {}", ours["resultType"]));
    }
    let (mut theirs, mut ours) = (rows(theirs), rows(ours));
    let is_ordered =
        kind == "matrix" || ["sort", "topk", "bottomk"].iter().any(|name| query.starts_with(name));
    if is_ordered {
        known.extend(compare_order(query, &theirs, &ours)?);
    }
    theirs.sort();
    ours.sort();
    for (one, own) in theirs.iter().zip(&ours) {
        match agree_in_labels(&one.0, &own.0) {
            None => return Err(format!("labels: theirs {}, ours {}", one.0, own.0)),
            Some(bits) => known.extend((!bits).then_some(Known::LastDigits)),
        }
        for ((at, value), (own_at, own_value)) in one.1.iter().zip(&own.1) {
            if at != own_at {
                return Err(format!("{}: theirs has a sample at {at}, ours at {own_at}", one.0));
            }
            match agree(value, own_value) {
                None => return Err(format!("{} at {at}: theirs {value}, ours {own_value}", one.0)),
                Some(bits) => known.extend((!bits).then_some(Known::LastDigits)),
            }
        }
        if one.1.len() != own.1.len() {
            let (theirs, ours) = (one.1.len(), own.1.len());
            return Err(format!("{}: theirs has {theirs} samples, ours {ours}", one.0));
        }
    }
    match theirs.len() == ours.len() {
        true => Ok(known),
        false => Err(format!("theirs has {} series, ours {}", theirs.len(), ours.len())),
    }
}

/// Compares the order of rows. What is only in another order may be known.
fn compare_order(
    query: &str,
    theirs: &[Row<'_>],
    ours: &[Row<'_>],
) -> Result<Option<Known>, String> {
    let both = || theirs.iter().zip(ours);
    if both().all(|(one, own)| agree_in_labels(&one.0, &own.0).is_some()) {
        return Ok(None);
    }
    let is_choice = query.starts_with("topk") || query.starts_with("bottomk");
    if both().all(|(one, own)| one.1 == own.1) {
        Ok(Some(Known::OrderOfEquals))
    } else if is_choice && (query.contains("by") || query.contains("without")) {
        Ok(Some(Known::OrderOfGroups))
    } else {
        let labels = |rows: &[Row<'_>]| rows.iter().map(|row| row.0.clone()).collect::<Vec<_>>();
        Err(format!("order: theirs {:?}\n    ours   {:?}", labels(theirs), labels(ours)))
    }
}

/// Whether labels agree, of which `count_values` may have made some from values; if so, whether
/// to the last bit.
fn agree_in_labels(theirs: &str, ours: &str) -> Option<bool> {
    if theirs == ours {
        return Some(true);
    }
    let labels = |text: &str| -> BTreeMap<String, String> { serde_json::from_str(text).unwrap() };
    let (theirs, ours) = (labels(theirs), labels(ours));
    let same = |(one, own): ((&String, &String), (&String, &String))| {
        one.0 == own.0 && (one.1 == own.1 || agree(one.1, own.1).is_some())
    };
    (theirs.len() == ours.len() && theirs.iter().zip(&ours).all(same)).then_some(false)
}

/// Whether two values agree, and if so, whether to the last bit.
fn agree(theirs: &str, ours: &str) -> Option<bool> {
    let (Ok(one), Ok(own)) = (theirs.parse::<f64>(), ours.parse::<f64>()) else {
        return (theirs == ours).then_some(true);
    };
    if one.to_bits() == own.to_bits() || one.is_nan() && own.is_nan() {
        return Some(true);
    }
    ((one - own).abs() <= DIGITS_LOST * one.abs().max(own.abs()) && one != own).then_some(false)
}

fn remarks(list: &Value) -> Vec<&str> {
    let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    texts.collect()
}

fn compare_remarks(mut theirs: Vec<&str>, mut ours: Vec<&str>) -> Result<Option<Known>, String> {
    static REPAIRED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"over \d+ samples").unwrap());
    static PLACE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\(\d+:\d+\)$").unwrap());
    let omitted = |texts: &[&str]| texts.last().is_some_and(|last| last.ends_with(" omitted"));
    if omitted(&theirs) && theirs.last() == ours.last() {
        return Ok(Some(Known::ManyRemarks));
    }
    theirs.sort_unstable();
    ours.sort_unstable();
    if theirs == ours {
        return Ok(None);
    }
    for (known, what) in [(Known::RepairedCount, &*REPAIRED), (Known::PlaceOfRemark, &*PLACE)] {
        let without = |texts: &[&str]| -> Vec<String> {
            texts.iter().map(|text| what.replace(text, "").into_owned()).collect()
        };
        if without(&theirs) == without(&ours) {
            return Ok(Some(known));
        }
    }
    let difference = format!("theirs {theirs:?}\n    ours   {ours:?}");
    theirs.retain(|text| !text.contains("sort is ineffective"));
    if theirs == ours { Ok(Some(Known::SortOfOneStep)) } else { Err(difference) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vector(pairs: &[(&str, &str)]) -> Value {
        let result: Vec<Value> = pairs
            .iter()
            .map(|(job, value)| json!({"metric": {"job": job}, "value": [1, value]}))
            .collect();
        json!({"status": "success", "data": {"resultType": "vector", "result": result}})
    }

    #[test]
    fn what_differs_is_seen() {
        let alike = || Ok(BTreeSet::new());
        let known = |one| Ok([one].into());
        let theirs = vector(&[("a", "1"), ("b", "2")]);
        let turned = vector(&[("b", "2"), ("a", "1")]);
        assert_eq!(judge_values("x", &theirs, &turned), alike());
        assert!(judge_values("sort(x)", &theirs, &turned).is_err());
        let others = [
            vector(&[("a", "1")]),
            vector(&[("a", "1"), ("b", "2.00001")]),
            vector(&[("a", "1"), ("b", "NaN")]),
            vector(&[("a", "1"), ("c", "2")]),
        ];
        for ours in others {
            assert!(judge_values("x", &theirs, &ours).is_err(), "{ours}");
        }
        let near = vector(&[("a", "1"), ("b", "2.0000000000000004")]);
        assert_eq!(judge_values("x", &theirs, &near), known(Known::LastDigits));
        let zeros = judge_values("x", &vector(&[("a", "0")]), &vector(&[("a", "-0")]));
        assert!(zeros.is_err());
        let equals = [vector(&[("a", "1"), ("b", "1")]), vector(&[("b", "1"), ("a", "1")])];
        let order = judge_values("sort(x)", &equals[0], &equals[1]);
        assert_eq!(order, known(Known::OrderOfEquals));
    }

    #[test]
    fn errors_and_remarks_are_compared() {
        let error = |text| json!({"status": "error", "error": text});
        assert!(judge_values("x", &error("no"), &error("nothing")).is_err());
        assert_eq!(judge_values("x", &error("no"), &error("no; but")), Ok([Known::Hint].into()));
        assert!(judge_values("x", &error("no"), &vector(&[])).is_err());
        assert!(judge_values("x", &vector(&[]), &error("no")).is_err());
        let remarked = |text: &str| json!({"status": "success", "infos": [text]});
        let repaired = |count| remarked(&format!("fixed, over {count} samples"));
        let doubled = judge_remarks(&repaired(2), &repaired(1));
        assert_eq!(doubled, Ok([Known::RepairedCount].into()));
        assert!(judge_remarks(&remarked("one"), &remarked("two")).is_err());
        assert!(judge_remarks(&remarked("one"), &json!({"status": "success"})).is_err());
    }
}
