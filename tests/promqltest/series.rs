//! Series notation: `name{label="value"} 1 2+3x4 _ _x2 stale {{…}}`.

use aetherdb::model::{Labels, METRIC_NAME, stale_nan};
use aetherdb::promql::parse_selector;

/// One place in a sequence of values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    Absent,
    Value(f64),
    /// A native histogram, which is recognised but not read.
    Histogram,
}

/// Labels and the sequence behind them.
pub(crate) fn parse_series(line: &str) -> Result<(Labels, Vec<Item>), String> {
    let (labels, rest) = parse_labels(line)?;
    Ok((labels, parse_items(rest)?))
}

/// The labels a line begins with, and what follows them.
pub(crate) fn parse_labels(line: &str) -> Result<(Labels, &str), String> {
    let name_end = line.find(|char: char| char == '{' || char == '@' || char.is_whitespace());
    let (name, mut rest) = line.split_at(name_end.unwrap_or(line.len()));
    let mut inner = "";
    // `{{` opens a histogram, not labels.
    if rest.starts_with('{') && !(name.is_empty() && rest.starts_with("{{")) {
        let end = closing_brace(rest).ok_or_else(|| format!("unclosed labels in {line:?}"))?;
        inner = rest[1..end].trim().trim_end_matches(',');
        rest = &rest[end + 1..];
    }
    // The parser for selectors insists on something that is not empty.
    let comma = if inner.is_empty() { "" } else { "," };
    let matchers = parse_selector(&format!("{{{inner}{comma}__any__=\"x\"}}"))
        .map_err(|error| format!("{line:?}: {error}"))?;
    let mut pairs: Vec<(&str, &str)> = matchers
        .iter()
        .filter(|matcher| matcher.name() != "__any__")
        .map(|matcher| (matcher.name(), matcher.value()))
        .collect();
    if !name.is_empty() {
        pairs.push((METRIC_NAME, name));
    }
    let labels = Labels::from_pairs(pairs).map_err(|error| format!("{line:?}: {error}"))?;
    Ok((labels, rest))
}

/// Where the brace closes that `text` begins with.
fn closing_brace(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, char) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(open) if char == '\\' && open != '`' => escaped = true,
            Some(open) if char == open => quote = None,
            Some(_) => {}
            None if matches!(char, '"' | '\'' | '`') => quote = Some(char),
            None if char == '}' => return Some(at),
            None => {}
        }
    }
    None
}

/// Start timestamps behind `@st`: how far each lies from its sample, in milliseconds.
/// `-30s-1mx2` stands for three.
pub(crate) fn parse_starts(text: &str) -> Result<Vec<Option<i64>>, String> {
    let mut starts = Vec::new();
    for item in text.split_whitespace() {
        let wrong = || format!("not a start timestamp: {item:?}");
        if let Some(times) = item.strip_prefix('_') {
            let times = times.strip_prefix('x').map_or(Ok(1), str::parse).map_err(|_| wrong())?;
            starts.extend(std::iter::repeat_n(None, times));
            continue;
        }
        let (sequence, times) = match item.rsplit_once('x') {
            Some((sequence, times)) => (sequence, times.parse().map_err(|_| wrong())?),
            None => (item, 0),
        };
        let step_at = sequence.rfind(['+', '-']).filter(|at| *at > 0).unwrap_or(sequence.len());
        let (first, step) = sequence.split_at(step_at);
        // A step alone begins where it steps to, as with values.
        let step_ms = if step.is_empty() { 0 } else { signed_millis(step).ok_or_else(wrong)? };
        let first_ms = signed_millis(first).ok_or_else(wrong)?;
        starts.extend((0..=times).map(|time| Some(first_ms + time * step_ms)));
    }
    Ok(starts)
}

/// Milliseconds of `-1m30s`, `+1ms` or `0`.
fn signed_millis(text: &str) -> Option<i64> {
    let unsigned = text.trim_start_matches(['+', '-']);
    let sign = if text.starts_with('-') { -1 } else { 1 };
    if unsigned == "0" {
        return Some(0);
    }
    let expr = aetherdb::promql::parse(unsigned).ok()?;
    match expr.kind {
        aetherdb::promql::ExprKind::Number(literal) if literal.is_duration => {
            Some(sign * literal.millis())
        }
        _ => None,
    }
}

fn parse_items(text: &str) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = item_end(rest);
        parse_item(&rest[..end], &mut items)
            .ok_or_else(|| format!("not a value: {:?}", &rest[..end]))?;
        rest = rest[end..].trim_start();
    }
    Ok(items)
}

/// Items end at blanks, but for those inside of histograms.
fn item_end(text: &str) -> usize {
    let mut depth = 0usize;
    for (at, char) in text.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ if depth == 0 && char.is_whitespace() => return at,
            _ => {}
        }
    }
    text.len()
}

fn parse_item(item: &str, items: &mut Vec<Item>) -> Option<()> {
    if item.starts_with("{{") {
        let times = item.rsplit_once("}}")?.1;
        let times = times.strip_prefix('x').map_or(Some(0), |times| times.parse().ok())?;
        items.extend(std::iter::repeat_n(Item::Histogram, times + 1));
        return Some(());
    }
    if let Some(times) = item.strip_prefix('_') {
        let times = times.strip_prefix('x').map_or(Some(1), |times| times.parse().ok())?;
        items.extend(std::iter::repeat_n(Item::Absent, times));
        return Some(());
    }
    let (mut value, rest) = scan_number(item)?;
    let (step, times) = match rest.split_once('x') {
        None if rest.is_empty() => (0.0, 0),
        None => return None,
        Some(("", times)) => (0.0, times.parse().ok()?),
        Some((step, times)) => {
            let (step, left) = scan_number(step)?;
            if !left.is_empty() {
                return None;
            }
            (step, times.parse().ok()?)
        }
    };
    for _ in 0..=times {
        items.push(Item::Value(value));
        // Adding a zero would change the bits of a stale marker.
        if step != 0.0 {
            value += step;
        }
    }
    Some(())
}

/// A number at the beginning of a text, and what follows it.
fn scan_number(text: &str) -> Option<(f64, &str)> {
    if let Some(rest) = text.strip_prefix("stale") {
        return Some((stale_nan(), rest));
    }
    let unsigned = text.trim_start_matches(['+', '-']);
    let sign = text.len() - unsigned.len();
    let word = unsigned.get(..3).unwrap_or_default().to_ascii_lowercase();
    if word == "inf" || word == "nan" {
        let end = sign + 3;
        return Some((text[..end].parse().ok()?, &text[end..]));
    }
    let bytes = unsigned.as_bytes();
    let mut end = 0;
    while let Some(byte) = bytes.get(end) {
        let after_exponent = end > 0 && matches!(bytes[end - 1], b'e' | b'E');
        match byte {
            b'0'..=b'9' | b'.' | b'e' | b'E' => {}
            b'+' | b'-' if after_exponent => {}
            _ => break,
        }
        end += 1;
    }
    let end = sign + end;
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[test]
fn series_are_read() {
    let values = |line: &str| {
        let (labels, items) = parse_series(line).unwrap();
        let items: Vec<String> = items
            .iter()
            .map(|item| match item {
                Item::Absent => "_".to_owned(),
                Item::Histogram => "h".to_owned(),
                Item::Value(value) if aetherdb::model::is_stale(*value) => "stale".to_owned(),
                Item::Value(value) => value.to_string(),
            })
            .collect();
        format!("{labels} {}", items.join(" "))
    };
    for (line, expected) in [
        ("m 1 2", "m 1 2"),
        ("m{a=\"b c}\"} 1+2x3 _ -1", "m{a=\"b c}\"} 1 3 5 7 _ -1"),
        ("{} -1.5e3-1x1 stale _x2", "{} -1500 -1501 stale _ _"),
        ("{\"a.b\", c='d',} 0x2 Inf -inf NaN", "{\"a.b\", c=\"d\"} 0 0 0 inf -inf NaN"),
        ("m {{schema:1 buckets:[1 2]}}x1 3", "m h h 3"),
        ("m{a=\"b\"} {{count:1}}+{{count:2}}x2", "m{a=\"b\"} h h h"),
        ("m", "m "),
    ] {
        assert_eq!(values(line), expected, "{line}");
    }
    assert!(parse_series("m 1x").is_err() && parse_series("m{ 1").is_err());
    let starts = parse_starts("_ -30s-1mx2 _x2 0 +1m 1ms-1mx1 -1msx1").unwrap();
    let expected = [
        None,
        Some(-30_000),
        Some(-90_000),
        Some(-150_000),
        None,
        None,
        Some(0),
        Some(60_000),
        Some(1),
        Some(-59_999),
        Some(-1),
        Some(-1),
    ];
    assert_eq!(starts, expected);
    assert!(parse_starts("1").is_err() && parse_starts("-1mxx").is_err());
}
