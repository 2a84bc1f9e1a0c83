use proptest::prelude::*;

use crate::ingest::LineErrorCode::{self, *};
use crate::ingest::tests::{NOW_MS, Row, Store, cases, options, row};
use crate::ingest::{IngestOutcome, ParseOptions, exposition};
use crate::model::{Labels, METRIC_NAME, Metadata, MetricType};

fn parse(store: &Store, body: &[u8], options: &ParseOptions) -> (Vec<Row>, IngestOutcome) {
    store.request(|resolver, batch| exposition::parse(body, options, resolver, batch)).unwrap()
}

/// Reads the body twice, unknown and known, and expects the same both times.
fn check(body: &str, samples: &[(&str, i64, f64)], errors: &[(usize, usize, LineErrorCode)]) {
    let store = Store::default();
    let samples: Vec<Row> = samples.iter().map(|(l, t, v)| row(l, *t, *v)).collect();
    for round in ["unknown", "known"] {
        let (rows, outcome) = parse(&store, body.as_bytes(), &options());
        assert_eq!(rows, samples, "{round}: {body:?} {:?}", outcome.errors);
        let found: Vec<_> =
            outcome.errors.iter().map(|error| (error.line, error.column, error.code)).collect();
        assert_eq!(found, errors, "{round}: {body:?} {:?}", outcome.errors);
    }
}

#[test]
fn every_form_of_a_series() {
    check(
        "up 1\n\
         up{job=\"a\"} 1.5 1699500000000\n\
         up{} 2 5\n\
         up { job = \"b\" , dc=\"x\", } 3\t7 \r\n\
         up{job=\"}\\\"\\\\ \\n{\"} 4 5\n\
         {\"my.metric\",\"a b\"=\"c\",d=\"e\"} 5 5\n\
         upper 6 6",
        &[
            ("up", NOW_MS, 1.0),
            (r#"up{job="a"}"#, 1_699_500_000_000, 1.5),
            ("up", 5, 2.0),
            (r#"up{dc="x", job="b"}"#, 7, 3.0),
            (r#"up{job="}\"\\ \n{"}"#, 5, 4.0),
            (r#"{"my.metric", "a b"="c", d="e"}"#, 5, 5.0),
            ("upper", 6, 6.0),
        ],
        &[],
    );
}

#[test]
fn values_in_words_and_exemplars() {
    check(
        "a +Inf 1\na -Inf 1\na 1.7560473e+07 1\n\
         a_bucket{le=\"1\"} 3 # {trace_id=\"x\"} 0.5 1.0\n\
         a_total 3 5 # {trace_id=\"x\"} 0.5\n# EOF\n",
        &[
            ("a", 1, f64::INFINITY),
            ("a", 1, f64::NEG_INFINITY),
            ("a", 1, 1.7560473e+07),
            (r#"a_bucket{le="1"}"#, NOW_MS, 3.0),
            ("a_total", 5, 3.0),
        ],
        &[],
    );
    let (rows, _) = parse(&Store::default(), b"a NaN 1", &options());
    assert_eq!(rows[0].2, 0x7ff8_0000_0000_0001);
    let (_, outcome) = parse(&Store::default(), b"a 1 # {} 1\nb 1", &options());
    assert_eq!((outcome.exemplars_ignored, outcome.accepted), (1, 2));
}

#[test]
fn bad_lines_do_not_hide_good_ones() {
    check(
        "a 1 1\n\
         b\n\
         c x\n\
         d{l=\"1\" 1\n\
         e{l=1} 1\n\
         f{l} 1\n\
         g{l=\"1\"m=\"2\"} 1\n\
         0h 1\n\
         {l=\"1\"} 1\n\
         i{l=\"1\",l=\"2\"} 1\n\
         j 1 x\n\
         k 1 1 1\n\
         l 1x\n\
         m 1 1700000600001\n\
         n{l=\"1 1\n\
         z 2 2",
        &[("a", 1, 1.0), ("z", 2, 2.0)],
        &[
            (2, 2, BadValue),
            (3, 3, BadValue),
            (4, 10, Syntax),
            (5, 5, Syntax),
            (6, 4, Syntax),
            (7, 8, Syntax),
            (8, 1, BadLabels),
            (9, 1, BadLabels),
            (10, 1, BadLabels),
            (11, 5, BadTimestamp),
            (12, 7, Syntax),
            (13, 3, BadValue),
            (14, 5, FutureTimestamp),
            (15, 9, Syntax),
        ],
    );
}

#[test]
fn metadata_is_gathered_by_metric() {
    let body = "# HELP a_total A \\\\ and\\na line.\n# TYPE a_total counter\n\
                #TYPE b untyped\n# A comment.\n# UNIT b seconds\n# HELP \"c.d\" dots\n\
                # TYPE e summary\n# TYPE f nonsense\n# TYPE\n# HELP\n# EOF\n";
    let (_, outcome) = parse(&Store::default(), body.as_bytes(), &options());
    let metadata = |metric_type, help: &str, unit: &str| Metadata {
        metric_type,
        help: help.to_owned(),
        unit: unit.to_owned(),
    };
    assert_eq!(
        outcome.metadata,
        [
            ("a_total".to_owned(), metadata(MetricType::Counter, "A \\ and\na line.", "")),
            ("b".to_owned(), metadata(MetricType::Unknown, "", "seconds")),
            ("c.d".to_owned(), metadata(MetricType::Unknown, "dots", "")),
            ("e".to_owned(), metadata(MetricType::Summary, "", "")),
            ("f".to_owned(), metadata(MetricType::Unknown, "", "")),
        ]
    );
    assert_eq!(outcome.rejected, 0);
}

#[test]
fn open_metrics_counts_in_seconds() {
    let mut open_metrics = options();
    open_metrics.open_metrics = true;
    let body = b"a 1 1699500000\na 1 1699500000.123\na 1 -1\na 1 1.6995e9";
    let store = Store::default();
    for _ in 0..2 {
        let (rows, _) = parse(&store, body, &open_metrics);
        let timestamps: Vec<_> = rows.iter().map(|row| row.1).collect();
        assert_eq!(timestamps, [1_699_500_000_000, 1_699_500_000_123, -1000, 1_699_500_000_000]);
        let (rows, _) = parse(&store, body, &options());
        let timestamps: Vec<_> = rows.iter().map(|row| row.1).collect();
        assert_eq!(timestamps, [1_699_500_000, 1_699_500_000_123, -1, 1_699_500_000_000]);
    }
}

#[test]
fn added_labels_and_other_formats_do_not_mix() {
    let store = Store::default();
    let mut extra = options();
    extra.extra_labels = vec![("job".to_owned(), "mine".to_owned())];
    for _ in 0..2 {
        assert_eq!(parse(&store, b"up{job=\"x\"} 1 1", &extra).0[0].0, r#"up{job="mine"}"#);
        assert_eq!(parse(&store, b"up{job=\"x\"} 1 1", &options()).0[0].0, r#"up{job="x"}"#);
        // The same bytes are another series in line protocol.
        let body = b"up{job=\"x\"} 1 1";
        let (rows, _) = store
            .request(|r, batch| crate::ingest::line_protocol::parse(body, &options(), r, batch))
            .unwrap();
        assert_eq!(rows[0].0, r#"{"up{job=\"x\"}"}"#);
    }
}

#[test]
fn reads_what_telemetry_writes() {
    let store = Store::default();
    let mut text = String::new();
    store.telemetry.expose(&mut text);
    let (rows, outcome) = parse(&store, text.as_bytes(), &options());
    assert_eq!(outcome.errors, []);
    let samples = text.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(rows.len(), samples);
    assert!(outcome.metadata.iter().all(|(_, metadata)| !metadata.help.is_empty()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(u32::try_from(cases(128)).unwrap()))]

    /// Labels print as the format writes them, so what is printed must be read.
    #[test]
    fn what_is_written_is_read(
        series in proptest::collection::vec(
            (
                "[a-z.]{1,4}",
                proptest::collection::btree_map("[a-z ]{1,3}", "[a-z\"\\\\\n{}, ]{1,5}", 0..4),
                any::<f64>().prop_filter("NaN", |value| !value.is_nan()),
                proptest::option::of(-5i64..NOW_MS),
            ),
            1..30,
        ),
    ) {
        let mut body = String::new();
        let mut expected = Vec::new();
        for (metric, labels, value, timestamp) in &series {
            let pairs = labels.iter().map(|(name, value)| (&**name, &**value));
            let labels = Labels::from_pairs(pairs.chain([(METRIC_NAME, &**metric)])).unwrap();
            let timestamp_text = timestamp.map(|at| format!(" {at}")).unwrap_or_default();
            body.push_str(&format!("{labels} {value}{timestamp_text}\n"));
            expected.push(row(&labels.to_string(), timestamp.unwrap_or(NOW_MS), *value));
        }
        let store = Store::default();
        for _ in 0..2 {
            let (rows, outcome) = parse(&store, body.as_bytes(), &options());
            prop_assert_eq!(&outcome.errors, &vec![]);
            prop_assert_eq!(&rows, &expected);
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(
        body in proptest::collection::vec(
            prop_oneof![any::<u8>(), proptest::sample::select(&b" {}=\\\"\n\r#1.a,TYPEHL"[..])],
            0..200,
        ),
    ) {
        let store = Store::default();
        let known = [b"a{a=\"1\"} 1 1\na 1 1\n", &body[..]].concat();
        for _ in 0..2 {
            parse(&store, &known, &options());
        }
    }
}
