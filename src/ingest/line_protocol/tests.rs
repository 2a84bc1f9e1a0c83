use proptest::prelude::*;

use crate::ingest::error::LineErrorCode::{self, *};
use crate::ingest::tests::{NOW_MS, Random, Row, Store, cases, options, row};
use crate::ingest::{IngestError, IngestOutcome, Limits, ParseOptions, Precision};
use crate::ingest::{influx, line_protocol};
use crate::model::{Labels, METRIC_NAME};

fn parse(store: &Store, body: &[u8]) -> (Vec<Row>, IngestOutcome) {
    parse_with(store, body, &options()).unwrap()
}

fn parse_with(
    store: &Store,
    body: &[u8],
    options: &ParseOptions,
) -> Result<(Vec<Row>, IngestOutcome), IngestError> {
    store.request(|resolver, batch| line_protocol::parse(body, options, resolver, batch))
}

/// Reads the body twice, unknown and known, and expects the same both times.
fn check(body: &str, samples: &[(&str, i64, f64)], errors: &[(usize, usize, LineErrorCode)]) {
    let store = Store::default();
    let samples: Vec<Row> = samples.iter().map(|(l, t, v)| row(l, *t, *v)).collect();
    for round in ["unknown", "known"] {
        let (rows, outcome) = parse(&store, body.as_bytes());
        assert_eq!(rows, samples, "{round}: {body:?}");
        let found: Vec<_> =
            outcome.errors.iter().map(|error| (error.line, error.column, error.code)).collect();
        assert_eq!(found, errors, "{round}: {body:?} {:?}", outcome.errors);
        assert_eq!(outcome.rejected, errors.len() as u64, "{round}: {body:?}");
    }
}

#[test]
fn every_documented_form() {
    check("cpu_usage,host=server1 45.2", &[(r#"cpu_usage{host="server1"}"#, NOW_MS, 45.2)], &[]);
    check(
        "memory_used,host=server1,region=us-east 8589934592 1699500000000",
        &[(r#"memory_used{host="server1", region="us-east"}"#, 1_699_500_000_000, 8589934592.0)],
        &[],
    );
    check(
        "cpu_usage,host=server1,region=us-east value=45.2\n\
         memory_used,host=server1 value=8589934592\n\
         disk_io,host=server1,device=sda value=1024",
        &[
            (r#"cpu_usage{host="server1", region="us-east"}"#, NOW_MS, 45.2),
            (r#"memory_used{host="server1"}"#, NOW_MS, 8589934592.0),
            (r#"disk_io{device="sda", host="server1"}"#, NOW_MS, 1024.0),
        ],
        &[],
    );
    check("up 1", &[("up", NOW_MS, 1.0)], &[]);
}

#[test]
fn fields_name_their_series() {
    check(
        "cpu,host=a user=1,system=2.5,value=3i 77",
        &[
            (r#"cpu_user{host="a"}"#, 77, 1.0),
            (r#"cpu_system{host="a"}"#, 77, 2.5),
            (r#"cpu{host="a"}"#, 77, 3.0),
        ],
        &[],
    );
    // The same key with other fields is another set of series.
    check(
        "m,a=b x=1 1\nm,a=b y=2 2\nm,a=b 3 3\nm,a=b x=4,y=5 4\nm,a=b x=6 6",
        &[
            (r#"m_x{a="b"}"#, 1, 1.0),
            (r#"m_y{a="b"}"#, 2, 2.0),
            (r#"m{a="b"}"#, 3, 3.0),
            (r#"m_x{a="b"}"#, 4, 4.0),
            (r#"m_y{a="b"}"#, 4, 5.0),
            (r#"m_x{a="b"}"#, 6, 6.0),
        ],
        &[],
    );
}

#[test]
fn escapes_belong_to_names() {
    check(
        r"my\ metric\,x,a\ b=c\=d\,e f\ g=1 5",
        &[(r#"{"my metric,x_f g", "a b"="c=d,e"}"#, 5, 1.0)],
        &[],
    );
    check(r"m,path=C:\new\x 1 5", &[(r#"m{path="C:\\new\\x"}"#, 5, 1.0)], &[]);
    check("m,l=grüße 1 5", &[(r#"m{l="grüße"}"#, 5, 1.0)], &[]);
    check("m,l=a=b 1 5", &[(r#"m{l="a=b"}"#, 5, 1.0)], &[]);
}

#[test]
fn line_ends_comments_and_spaces() {
    check(
        "# comment\r\n\r\n  a 1 1 \r\nb  2  2\n\n#x\nc 3\r",
        &[("a", 1, 1.0), ("b", 2, 2.0), ("c", NOW_MS, 3.0)],
        &[],
    );
    check("", &[], &[]);
    check("\n \n\r\n#", &[], &[]);
}

#[test]
fn timestamps_of_any_age() {
    check("a 1 0\na 2 -5", &[("a", 0, 1.0), ("a", -5, 2.0)], &[]);
    let limit = NOW_MS + 600_000;
    check(
        &format!("a 1 {limit}\na 1 {}", limit + 1),
        &[("a", limit, 1.0)],
        &[(2, 5, FutureTimestamp)],
    );
    check(
        "a 1 99999999999999999999\na 1 1.5\na 1 x\na 1 1 1",
        &[],
        &[(1, 5, BadTimestamp), (2, 5, BadTimestamp), (3, 5, BadTimestamp), (4, 5, BadTimestamp)],
    );
}

#[test]
fn values_keep_their_meaning() {
    check(
        "a inf 1\na -Inf 1\na -0 1\na 1e3 1\na 9007199254740993i 1",
        &[
            ("a", 1, f64::INFINITY),
            ("a", 1, f64::NEG_INFINITY),
            ("a", 1, -0.0),
            ("a", 1, 1000.0),
            ("a", 1, 9007199254740993.0),
        ],
        &[],
    );
    let (rows, _) = parse(&Store::default(), b"a NaN 1");
    assert_eq!(rows[0].2, 0x7ff8_0000_0000_0001);
}

#[test]
fn bad_lines_do_not_hide_good_ones() {
    check(
        "a 1 1\nbroken\nb abc\nc,x 1\n,x=1 1\nd \ne,=v 1\nf x=1,y= 2\nü,l=ö y=é\ng,a=1,a=2 1\nh 2 2",
        &[("a", 1, 1.0), ("h", 2, 2.0)],
        &[
            (2, 7, Syntax),
            (3, 3, BadValue),
            (4, 3, Syntax),
            (5, 1, Syntax),
            (6, 3, Syntax),
            (7, 3, BadLabels),
            (8, 9, BadValue),
            (9, 9, BadValue),
            (10, 1, BadLabels),
        ],
    );
    check(
        "a true\na x=t\na x=\"text\"",
        &[],
        &[(1, 3, BadValue), (2, 5, BadValue), (3, 5, BadValue)],
    );
    check("a,__name__=b 1", &[], &[(1, 3, BadLabels)]);
    // A label without a value does not exist.
    check("a,b=,c=d 1 1", &[(r#"a{c="d"}"#, 1, 1.0)], &[]);
}

#[test]
fn errors_say_what_and_where() {
    let (_, outcome) = parse(&Store::default(), b"ok 1\ncpu,host=a 12x4 5\n");
    let error = &outcome.errors[0];
    assert_eq!((error.line, error.column), (2, 12));
    assert_eq!(error.message, "`12x4` is not a number");
    assert_eq!(error.text, "cpu,host=a 12x4 5");
    let long = format!("{} 1x", "ü".repeat(100));
    let (_, outcome) = parse(&Store::default(), long.as_bytes());
    assert_eq!(outcome.errors[0].text, "ü".repeat(32));
    assert_eq!(outcome.errors[0].column, 102);
}

#[test]
fn the_first_hundred_errors_are_kept_in_order() {
    let body: String = (0..300).map(|n| if n % 2 == 0 { "a,a=1,a=2 1\n" } else { "b\n" }).collect();
    let (_, outcome) = parse(&Store::default(), body.as_bytes());
    assert_eq!(outcome.rejected, 300);
    assert_eq!(outcome.errors.len(), 100);
    assert!(outcome.errors.is_sorted_by_key(|error| error.line));
}

#[test]
fn bytes_that_are_no_text() {
    let (rows, outcome) = parse(&Store::default(), b"a,l=\xff\xfe 1 1\nb 1 1\n\xc3 2 2");
    assert_eq!(rows, [row("b", 1, 1.0)]);
    let found: Vec<_> = outcome.errors.iter().map(|e| (e.line, e.column, e.code)).collect();
    assert_eq!(found, [(1, 5, InvalidUtf8), (3, 1, InvalidUtf8)]);
}

#[test]
fn limits_have_names() {
    let limits = Limits {
        line_bytes_max: 100,
        labels_per_series_max: 2,
        label_name_bytes_max: 8,
        label_value_bytes_max: 8,
        series_key_bytes_max: 30,
        ..Limits::default()
    };
    let options = ParseOptions::new(NOW_MS, limits);
    for (line, setting) in [
        (format!("a,l={} 1", "x".repeat(100)), "line_bytes_max"),
        ("a,a=1,b=2,c=3 1".to_owned(), "labels_per_series_max"),
        ("a,abcdefghi=1 1".to_owned(), "label_name_bytes_max"),
        ("a,a=123456789 1".to_owned(), "label_value_bytes_max"),
        ("a123456,b1234=12345678,c1234=12345678 1".to_owned(), "series_key_bytes_max"),
    ] {
        let (_, outcome) = parse_with(&Store::default(), line.as_bytes(), &options).unwrap();
        assert_eq!(outcome.errors[0].code, LimitExceeded, "{line}");
        assert!(outcome.errors[0].message.contains(setting), "{:?}", outcome.errors);
    }
    let limits = Limits { samples_per_request_max: 3, ..Limits::default() };
    let options = ParseOptions::new(NOW_MS, limits);
    assert!(parse_with(&Store::default(), b"a 1\na 1\na 1", &options).is_ok());
    let error = parse_with(&Store::default(), b"a 1\na 1\na 1\na 1", &options).unwrap_err();
    assert!(error.to_string().contains("samples_per_request_max"), "{error}");
}

#[test]
fn a_refused_series_leaves_the_others() {
    let mut store = Store::default();
    store.registry.series_max = Some(1);
    let (rows, outcome) = parse(&store, b"a 1 1\nb 1 1\na 2 2");
    assert_eq!(rows, [row("a", 1, 1.0), row("a", 2, 2.0)]);
    assert_eq!(outcome.errors[0].code, SeriesRefused);
    assert!(outcome.errors[0].message.contains("series_max"));
}

#[test]
fn added_labels_replace_and_do_not_mix() {
    let store = Store::default();
    let with = |db: &str| {
        let mut options = options();
        options.extra_labels = vec![("db".to_owned(), db.to_owned())];
        parse_with(&store, b"a,x=1 1 1\na,db=z 1 1", &options).unwrap().0
    };
    for _ in 0..2 {
        assert_eq!(with("one")[0].0, r#"a{db="one", x="1"}"#);
        assert_eq!(with("one")[1].0, r#"a{db="one"}"#);
        assert_eq!(with("two")[0].0, r#"a{db="two", x="1"}"#);
        assert_eq!(parse(&store, b"a,x=1 1 1\na,db=z 1 1").0[1].0, r#"a{db="z"}"#);
    }
}

#[test]
fn influx_has_text_fields_and_precision() {
    let store = Store::default();
    let body = "weather,city=Oslo temp=3.5,note=\"cold, \\\"very\\\"\nindeed\",rain=true,n=2i 1699500000123456789\n\
                weather,city=Oslo temp=4,note=\"\",rain=F,n=3i 1699500001000000000\nw note=\"x\" 5\nw a=\"open 1\nlast 1\n";
    for _ in 0..2 {
        let (rows, outcome) = store
            .request(|resolver, batch| influx::parse(body.as_bytes(), &options(), resolver, batch))
            .unwrap();
        assert_eq!(
            rows,
            [
                row(r#"weather_temp{city="Oslo"}"#, 1699500000123, 3.5),
                row(r#"weather_n{city="Oslo"}"#, 1699500000123, 2.0),
                row(r#"weather_temp{city="Oslo"}"#, 1699500001000, 4.0),
                row(r#"weather_n{city="Oslo"}"#, 1699500001000, 3.0),
                row("last", NOW_MS, 1.0),
            ]
        );
        assert_eq!((outcome.skipped_fields, outcome.rejected), (5, 1));
        assert_eq!((outcome.errors[0].line, outcome.errors[0].column), (5, 5));
    }
    let mut options = options();
    options.precision = Precision::Seconds;
    let (rows, _) = store
        .request(|resolver, batch| {
            influx::parse(b"a value=1 1699500000", &options, resolver, batch)
        })
        .unwrap();
    assert_eq!(rows, [row("a", 1_699_500_000_000, 1.0)]);
}

#[test]
fn known_lines_are_predicted_in_any_order_they_repeat() {
    let store = Store::default();
    let mut random = Random::new("known_lines");
    let mut lines: Vec<String> =
        (0..200).map(|n| format!("m,host=h{n},dc={} {n} 1", n % 7)).collect();
    for round in 0..6 {
        // From the third round on the order stays, so prediction holds.
        if round < 3 {
            for index in (1..lines.len()).rev() {
                lines.swap(index, random.below(index + 1));
            }
        }
        let (rows, outcome) = parse(&store, lines.join("\n").as_bytes());
        assert_eq!(outcome.rejected, 0);
        for (line, (labels, _, value)) in lines.iter().zip(&rows) {
            let value = f64::from_bits(*value);
            assert!(line.starts_with(&format!("m,host=h{value},")), "{line} {labels}");
            assert!(labels.contains(&format!("host=\"h{value}\"")), "{line} {labels}");
        }
    }
    assert_eq!(store.registry.len(), 200);
    assert_eq!(store.telemetry.key_cache_misses.get(), 200);
    assert_eq!(store.telemetry.key_cache_hits.get(), 1000);
}

/// The protocol once more, one line after the other and as plainly as can be.
fn naive(body: &str) -> (Vec<Row>, usize) {
    let (mut rows, mut rejected) = (Vec::new(), 0);
    for line in body.split('\n') {
        let line = line.trim_start_matches([' ', '\t', '\r']);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match naive_line(line) {
            Some(samples) => rows.extend(samples),
            None => rejected += 1,
        }
    }
    (rows, rejected)
}

fn naive_split(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut before = None;
    for char in text.chars() {
        if char == separator && before != Some('\\') {
            parts.push(String::new());
        } else {
            parts.last_mut().unwrap().push(char);
        }
        before = Some(char);
    }
    parts
}

fn naive_unescape(text: &str) -> String {
    text.replace("\\,", ",").replace("\\=", "=").replace("\\ ", " ")
}

fn naive_number(text: &str) -> Option<f64> {
    if let Some(digits) = text.strip_suffix('i') {
        return digits.parse::<i64>().ok().map(|_| digits.parse().unwrap());
    }
    if let Some(digits) = text.strip_suffix('u') {
        return digits.parse::<u64>().ok().map(|_| digits.parse().unwrap());
    }
    text.parse().ok()
}

fn naive_line(line: &str) -> Option<Vec<Row>> {
    let tokens: Vec<String> =
        naive_split(line, ' ').into_iter().filter(|token| !token.is_empty()).collect();
    let timestamp = match &tokens[..] {
        [_, _] => NOW_MS,
        [_, _, timestamp] if !timestamp.starts_with('+') => timestamp.parse::<i64>().ok()?,
        _ => return None,
    };
    if timestamp > NOW_MS + 600_000 {
        return None;
    }
    let parts = naive_split(&tokens[0], ',');
    if parts[0].is_empty() {
        return None;
    }
    let mut tags = Vec::new();
    for part in &parts[1..] {
        let sides = naive_split(part, '=');
        if sides.len() < 2 || sides[0].is_empty() {
            return None;
        }
        tags.push((naive_unescape(&sides[0]), naive_unescape(&sides[1..].join("="))));
    }
    let mut fields = Vec::new();
    if let Some(value) = naive_number(&tokens[1]) {
        fields.push((String::new(), value));
    } else {
        for field in naive_split(&tokens[1], ',') {
            let sides = naive_split(&field, '=');
            if sides.len() != 2 || sides[0].is_empty() || sides[0].contains(['"', '\r']) {
                return None;
            }
            fields.push((naive_unescape(&sides[0]), naive_number(&sides[1])?));
        }
    }
    let measurement = naive_unescape(&parts[0]);
    fields
        .into_iter()
        .map(|(field, value)| {
            let metric = match &*field {
                "" | "value" => measurement.clone(),
                field => format!("{measurement}_{field}"),
            };
            let pairs = tags.iter().map(|(name, value)| (&**name, &**value));
            let pairs = pairs.chain([(METRIC_NAME, &*metric)]);
            let labels = Labels::from_pairs(pairs).ok()?;
            Some(row(&labels.to_string(), timestamp, value))
        })
        .collect()
}

#[test]
fn equals_the_naive_parser() {
    let pieces = [
        "cpu",
        "mem",
        ",host=a",
        ",dc=b",
        ",",
        "=",
        " ",
        " ",
        " ",
        "\\",
        "\\,",
        "\\=",
        "\\ ",
        "1",
        "45.2",
        "-3",
        "1e5",
        "7i",
        "8u",
        "value=",
        "x=",
        "y=2",
        "1699500000000",
        "9999999999999999",
        "\n",
        "\n",
        "\r\n",
        "#",
        "é",
        "\t",
        "inf",
        "t",
        "+",
        ".",
    ];
    let mut random = Random::new("equals_the_naive_parser");
    let store = Store::default();
    for case in 0..cases(4000) {
        let mut body = String::new();
        for _ in 0..random.below(40) {
            match random.below(4) {
                0 => body.push_str("cpu,host=a 1 5\n"),
                1 => body.push_str("cpu,host=a x=1,y=2 6\n"),
                _ => {
                    for _ in 0..random.below(8) {
                        body.push_str(random.pick::<&str>(&pieces));
                    }
                }
            }
        }
        let (expected, rejected) = naive(&body);
        for _ in 0..2 {
            let (rows, outcome) = parse(&store, body.as_bytes());
            assert_eq!(rows, expected, "case {case}: {body:?} {:?}", outcome.errors);
            assert_eq!(outcome.rejected, rejected as u64, "case {case}: {body:?}");
        }
    }
}

fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut text, char| {
        if matches!(char, ',' | '=' | ' ') {
            text.push('\\');
        }
        text.push(char);
        text
    })
}

prop_compose! {
    /// A line and the samples that it must give.
    fn line()(
        // A name that begins with `#` or ends with a backslash cannot be written.
        metric in "[a-z][a-z,= ü]{0,8}",
        tags in proptest::collection::btree_map("[a-z][a-z,= ]{0,5}", "[a-zA-Z0-9,= é\"]{1,6}", 0..5),
        fields in proptest::collection::vec(
            ("[a-z][a-z,= ]{0,5}", any::<f64>().prop_filter("NaN", |v| !v.is_nan())), 1..5),
        timestamp in proptest::option::of(-10_000_000_000_000i64..NOW_MS),
    ) -> (String, Vec<Row>) {
        let mut text = escape(&metric);
        for (name, value) in &tags {
            text.push_str(&format!(",{}={}", escape(name), escape(value)));
        }
        let written: Vec<_> =
            fields.iter().map(|(name, value)| format!("{}={value}", escape(name))).collect();
        text.push_str(&format!(" {}", written.join(",")));
        if let Some(timestamp) = timestamp {
            text.push_str(&format!(" {timestamp}"));
        }
        let rows = fields.iter().map(|(name, value)| {
            let metric = if name == "value" { metric.clone() } else { format!("{metric}_{name}") };
            let pairs = tags.iter().map(|(name, value)| (&**name, &**value));
            let labels = Labels::from_pairs(pairs.chain([(METRIC_NAME, &*metric)])).unwrap();
            row(&labels.to_string(), timestamp.unwrap_or(NOW_MS), *value)
        });
        (text, rows.collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(u32::try_from(cases(128)).unwrap()))]

    #[test]
    fn what_is_written_is_read(lines in proptest::collection::vec(line(), 1..60)) {
        let body = lines.iter().map(|(text, _)| &**text).collect::<Vec<_>>().join("\n");
        let expected: Vec<Row> = lines.into_iter().flat_map(|(_, rows)| rows).collect();
        let store = Store::default();
        for _ in 0..2 {
            let (rows, outcome) = parse(&store, body.as_bytes());
            prop_assert_eq!(&outcome.errors, &vec![]);
            prop_assert_eq!(&rows, &expected);
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(
        body in proptest::collection::vec(
            prop_oneof![any::<u8>(), proptest::sample::select(&b" ,=\\\"\n\r#1.a-"[..])], 0..200),
    ) {
        let store = Store::default();
        let known = [b"a,a=1 1 1\na,a=1 a=1 1\n", &body[..]].concat();
        for _ in 0..2 {
            parse(&store, &known);
            let _ = store.request(|r, batch| influx::parse(&known, &options(), r, batch)).unwrap();
        }
    }
}
