//! Messages are built with `prost` from the published definitions, so that our reader is checked
//! against another implementation of the wire format.

use proptest::prelude::*;
use prost::Message;

use crate::ingest::LineErrorCode::{self, *};
use crate::ingest::tests::{NOW_MS, Row, Store, cases, options, row};
use crate::ingest::{IngestError, IngestOutcome, remote_write};
use crate::model::start_timestamps::companion_name;
use crate::model::{Labels, Metadata, MetricType, STALE_NAN_BITS};

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<MetricMetadata>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    exemplars: Vec<Exemplar>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(double, tag = "2")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(double, tag = "3")]
    sum: f64,
}

#[derive(Clone, PartialEq, Message)]
struct MetricMetadata {
    #[prost(int32, tag = "1")]
    metric_type: i32,
    #[prost(string, tag = "2")]
    metric_family_name: String,
    #[prost(string, tag = "4")]
    help: String,
    #[prost(string, tag = "5")]
    unit: String,
}

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<TimeSeriesV2>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeriesV2 {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<SampleV2>,
    #[prost(message, repeated, tag = "3")]
    histograms: Vec<Histogram>,
    #[prost(message, repeated, tag = "4")]
    exemplars: Vec<Exemplar>,
    #[prost(message, optional, tag = "5")]
    metadata: Option<MetadataV2>,
}

#[derive(Clone, PartialEq, Message)]
struct SampleV2 {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
    #[prost(int64, tag = "3")]
    start_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct MetadataV2 {
    #[prost(int32, tag = "1")]
    metric_type: i32,
    #[prost(uint32, tag = "3")]
    help_ref: u32,
    #[prost(uint32, tag = "4")]
    unit_ref: u32,
}

/// A series as tests write it.
type Written<'a> = (&'a [(&'a str, &'a str)], &'a [(i64, f64)]);

fn series((labels, samples): Written<'_>) -> TimeSeries {
    TimeSeries {
        labels: labels
            .iter()
            .map(|(name, value)| Label { name: (*name).to_owned(), value: (*value).to_owned() })
            .collect(),
        samples: samples
            .iter()
            .map(|(timestamp, value)| Sample { value: *value, timestamp: *timestamp })
            .collect(),
        ..TimeSeries::default()
    }
}

fn v1(series_list: &[Written<'_>]) -> WriteRequest {
    let timeseries = series_list.iter().copied().map(series).collect();
    WriteRequest { timeseries, metadata: Vec::new() }
}

fn symbol(symbols: &mut Vec<String>, text: &str) -> u32 {
    let at = symbols.iter().position(|known| known == text).unwrap_or_else(|| {
        symbols.push(text.to_owned());
        symbols.len() - 1
    });
    u32::try_from(at).unwrap()
}

/// The same series as a 2.0 request.
fn v2(request: &WriteRequest) -> Request {
    let mut symbols = vec![String::new()];
    let timeseries = request
        .timeseries
        .iter()
        .map(|series| TimeSeriesV2 {
            labels_refs: series
                .labels
                .iter()
                .flat_map(|label| [&label.name, &label.value])
                .map(|text| symbol(&mut symbols, text))
                .collect(),
            samples: series
                .samples
                .iter()
                .map(|sample| SampleV2 {
                    value: sample.value,
                    timestamp: sample.timestamp,
                    start_timestamp: 0,
                })
                .collect(),
            histograms: series.histograms.clone(),
            exemplars: series.exemplars.clone(),
            metadata: None,
        })
        .collect();
    Request { symbols, timeseries }
}

fn read_v1(store: &Store, body: &[u8]) -> Result<(Vec<Row>, IngestOutcome), IngestError> {
    store.request(|resolver, batch| remote_write::parse_v1(body, &options(), resolver, batch))
}

fn read_v2(store: &Store, body: &[u8]) -> Result<(Vec<Row>, IngestOutcome), IngestError> {
    store.request(|resolver, batch| remote_write::parse_v2(body, &options(), resolver, batch))
}

/// Sends the request as 1.0 and as 2.0, each twice, and expects the same all four times.
fn check(request: &WriteRequest, samples: &[Row], errors: &[(usize, LineErrorCode)]) {
    let (first, second) = (request.encode_to_vec(), v2(request).encode_to_vec());
    let store = Store::default();
    for version in ["1.0", "1.0", "2.0", "2.0"] {
        let (rows, outcome) = match version {
            "1.0" => read_v1(&store, &first).unwrap(),
            _ => read_v2(&store, &second).unwrap(),
        };
        assert_eq!(rows, samples, "{version}");
        let found: Vec<_> = outcome.errors.iter().map(|error| (error.line, error.code)).collect();
        assert_eq!(found, errors, "{version}: {:?}", outcome.errors);
    }
}

#[test]
fn samples_of_both_versions() {
    check(
        &v1(&[
            (&[("__name__", "up"), ("job", "node")], &[(1000, 1.0), (2000, 0.0)]),
            (&[("__name__", "go"), ("dc", "ü, \n\"x\"")], &[(NOW_MS, 2.5)]),
            (&[("__name__", "my.metric"), ("a b", "c")], &[(-5, f64::INFINITY)]),
        ]),
        &[
            row(r#"up{job="node"}"#, 1000, 1.0),
            row(r#"up{job="node"}"#, 2000, 0.0),
            row(r#"go{dc="ü, \n\"x\""}"#, NOW_MS, 2.5),
            row(r#"{"my.metric", "a b"="c"}"#, -5, f64::INFINITY),
        ],
        &[],
    );
    check(&v1(&[]), &[], &[]);
}

#[test]
fn every_bit_of_a_nan_arrives() {
    for bits in [STALE_NAN_BITS, f64::NAN.to_bits(), 0xfff8_1234_5678_9abc, 0x7ff0_0000_0000_0001] {
        let value = f64::from_bits(bits);
        check(&v1(&[(&[("__name__", "a")], &[(1, value)])]), &[row("a", 1, value)], &[]);
    }
}

#[test]
fn a_negative_zero_and_default_fields() {
    // prost, as most writers, leaves out what equals zero, so this is written by hand.
    let label = [&[0x0a, 13, 0x0a, 8][..], b"__name__", &[0x12, 1], b"a"].concat();
    let value = (-0.0f64).to_le_bytes();
    let negative_zero = [&[0x12, 9, 0x09][..], &value].concat();
    let message = [&label[..], &negative_zero, &[0x12, 0], &[0x12, 2, 0x10, 5]].concat();
    let body = [&[0x0a, u8::try_from(message.len()).unwrap()][..], &message].concat();
    let store = Store::default();
    for _ in 0..2 {
        let (rows, _) = read_v1(&store, &body).unwrap();
        assert_eq!(rows, [row("a", 0, -0.0), row("a", 0, 0.0), row("a", 5, 0.0)]);
    }
}

#[test]
fn bad_series_do_not_hide_good_ones() {
    let late = NOW_MS + 600_001;
    check(
        &v1(&[
            (&[("__name__", "a")], &[(1, 1.0)]),
            (&[("job", "nameless")], &[(1, 1.0)]),
            (&[("__name__", "b"), ("x", "1"), ("x", "2")], &[(1, 1.0)]),
            (&[("__name__", "c"), ("", "1")], &[(1, 1.0)]),
            (&[("__name__", "d")], &[(1, 1.0), (late, 2.0), (2, 3.0)]),
            // Out of order, and an empty value that means no label.
            (&[("z", "1"), ("__name__", "e"), ("a", "2"), ("n", "")], &[(1, 1.0)]),
        ]),
        &[row("a", 1, 1.0), row("d", 1, 1.0), row("d", 2, 3.0), row(r#"e{a="2", z="1"}"#, 1, 1.0)],
        &[(2, BadLabels), (3, BadLabels), (4, BadLabels), (5, FutureTimestamp)],
    );
    let body = v1(&[(&[("job", "nameless")], &[(1, 1.0), (2, 2.0)])]).encode_to_vec();
    let (_, outcome) = read_v1(&Store::default(), &body).unwrap();
    assert_eq!(outcome.rejected, 2);
    assert_eq!(outcome.errors[0].text, r#"{job="nameless"}"#);
}

#[test]
fn histograms_are_refused_and_exemplars_ignored() {
    let mut request = v1(&[
        (&[("__name__", "h")], &[]),
        (&[("__name__", "c")], &[(1, 1.0)]),
        (&[("__name__", "both")], &[(2, 2.0)]),
    ]);
    request.timeseries[0].histograms = vec![Histogram { sum: 1.0 }, Histogram { sum: 2.0 }];
    request.timeseries[1].exemplars = vec![Exemplar { value: 1.0 }];
    request.timeseries[2].histograms = vec![Histogram { sum: 1.0 }];
    check(
        &request,
        &[row("c", 1, 1.0), row("both", 2, 2.0)],
        &[(1, NativeHistogram), (3, NativeHistogram)],
    );
    let store = Store::default();
    let (_, outcome) = read_v2(&store, &v2(&request).encode_to_vec()).unwrap();
    assert_eq!((outcome.accepted, outcome.rejected, outcome.exemplars_ignored), (2, 3, 1));
    assert!(outcome.errors[0].message.contains("native histograms"));
    assert_eq!(store.registry.len(), 2, "a series without samples is not registered");
}

#[test]
fn labels_may_be_scattered_in_the_message() {
    let whole = series((&[("__name__", "a"), ("x", "1")], &[(1, 1.0)]));
    let label = |index: usize| {
        let labels = vec![whole.labels[index].clone()];
        TimeSeries { labels, ..TimeSeries::default() }.encode_to_vec()
    };
    let samples = |timestamp: i64| series((&[], &[(timestamp, 1.0)])).encode_to_vec();
    let store = Store::default();
    for _ in 0..2 {
        for (message, labels) in [
            ([label(0), samples(1)].concat(), "a"),
            // As far as the first sample this is the series above.
            ([label(0), samples(2), label(1)].concat(), r#"a{x="1"}"#),
            ([samples(3), label(1), label(0)].concat(), r#"a{x="1"}"#),
            ([label(0), label(1), samples(4)].concat(), r#"a{x="1"}"#),
        ] {
            let mut body = vec![0x0a, u8::try_from(message.len()).unwrap()];
            body.extend_from_slice(&message);
            let (rows, _) = read_v1(&store, &[&body[..], &body[..]].concat()).unwrap();
            assert_eq!(rows.len(), 2);
            assert!(rows.iter().all(|row| row.0 == labels), "{rows:?} {labels}");
        }
    }
}

#[test]
fn metadata_of_both_versions() {
    let mut request = v1(&[(&[("__name__", "m")], &[(1, 1.0)])]);
    request.metadata = vec![MetricMetadata {
        metric_type: 1,
        metric_family_name: "requests_total".to_owned(),
        help: "Requests.".to_owned(),
        unit: "requests".to_owned(),
    }];
    let (_, outcome) = read_v1(&Store::default(), &request.encode_to_vec()).unwrap();
    let metadata = Metadata {
        metric_type: MetricType::Counter,
        help: "Requests.".to_owned(),
        unit: "requests".to_owned(),
    };
    assert_eq!(outcome.metadata, [("requests_total".to_owned(), metadata)]);

    let mut request = v2(&v1(&[
        (&[("__name__", "latency_bucket"), ("le", "1")], &[(1, 1.0)]),
        (&[("__name__", "plain")], &[(1, 1.0)]),
    ]));
    let help_ref = symbol(&mut request.symbols, "How long.");
    let unit_ref = symbol(&mut request.symbols, "seconds");
    request.timeseries[0].metadata = Some(MetadataV2 { metric_type: 3, help_ref, unit_ref });
    let store = Store::default();
    let (_, outcome) = read_v2(&store, &request.encode_to_vec()).unwrap();
    let metadata = Metadata {
        metric_type: MetricType::Histogram,
        help: "How long.".to_owned(),
        unit: "seconds".to_owned(),
    };
    assert_eq!(outcome.metadata, [("latency".to_owned(), metadata)]);
    // What is known is not reported again, what changed is.
    let (_, outcome) = read_v2(&store, &request.encode_to_vec()).unwrap();
    assert_eq!(outcome.metadata, []);
    request.timeseries[0].metadata = Some(MetadataV2 { metric_type: 3, help_ref: 0, unit_ref });
    let (rows, outcome) = read_v2(&store, &request.encode_to_vec()).unwrap();
    assert_eq!(outcome.metadata.len(), 1);
    assert_eq!(rows[0].0, r#"latency_bucket{le="1"}"#);
    assert_eq!(store.registry.len(), 2);
}

#[test]
fn start_timestamps_go_to_a_series_beside() {
    let written: Written<'_> =
        (&[("__name__", "m"), ("host", "a")], &[(10, 1.0), (20, 2.0), (i64::MAX, 3.0)]);
    let mut request = v2(&v1(&[written]));
    let companion = series(written).labels;
    let companion = companion.iter().map(|label| (label.name.as_str(), label.value.as_str()));
    let companion = Labels::from_pairs(companion).unwrap().companion().to_string();
    let store = Store::default();
    let own = [row("m{host=\"a\"}", 10, 1.0), row("m{host=\"a\"}", 20, 2.0)];
    for starts in [[0, 0, 0], [7, 0, 8], [-5, 0, 0], [0, 0, 0], [7, 0, 0]] {
        for (sample, start) in request.timeseries[0].samples.iter_mut().zip(starts) {
            sample.start_timestamp = start;
        }
        let (rows, outcome) = read_v2(&store, &request.encode_to_vec()).unwrap();
        let (of_companion, of_series): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|(labels, ..)| *labels == companion);
        assert_eq!(of_series, own);
        // A sample that is refused brings no start timestamp either.
        let expected: Vec<Row> = match starts[0] {
            0 => Vec::new(),
            start => vec![row(&companion, 10, start as f64)],
        };
        assert_eq!(of_companion, expected, "{starts:?}");
        assert_eq!((outcome.accepted, outcome.rejected), (2, 1));
    }
    assert_eq!(store.registry.len(), 2);
    // Nobody can write to it in another way.
    let name = companion_name("m");
    let (rows, outcome) =
        read_v1(&store, &v1(&[(&[("__name__", &name)], &[(10, 1.0)])]).encode_to_vec()).unwrap();
    assert_eq!((rows, outcome.errors[0].code), (Vec::new(), BadLabels));
}

#[test]
fn references_of_each_request_are_its_own() {
    let store = Store::default();
    let request = |symbols: &[&str]| Request {
        symbols: symbols.iter().map(|text| (*text).to_owned()).collect(),
        timeseries: vec![TimeSeriesV2 {
            labels_refs: vec![1, 2, 3, 4],
            samples: vec![SampleV2 { value: 1.0, timestamp: 1, start_timestamp: 0 }],
            ..TimeSeriesV2::default()
        }],
    };
    for _ in 0..2 {
        for host in ["a", "b"] {
            let body = request(&["", "__name__", "m", "host", host]).encode_to_vec();
            let (rows, _) = read_v2(&store, &body).unwrap();
            assert_eq!(rows, [row(&format!("m{{host={host:?}}}"), 1, 1.0)]);
        }
    }
    for (symbols, labels_refs) in
        [(&["", "__name__", "m", "x"][..], vec![1, 2, 3, 4]), (&["", "__name__", "m"], vec![1])]
    {
        let mut request = request(symbols);
        request.timeseries[0].labels_refs = labels_refs;
        let (rows, outcome) = read_v2(&store, &request.encode_to_vec()).unwrap();
        assert_eq!(rows, []);
        assert_eq!(outcome.errors[0].code, BadLabels);
    }
}

#[test]
fn symbols_may_follow_the_series_and_references_be_unpacked() {
    let request = v2(&v1(&[(&[("__name__", "a"), ("x", "1")], &[(1, 1.0)])]));
    let symbols = Request { timeseries: Vec::new(), ..request.clone() }.encode_to_vec();
    let series = Request { symbols: Vec::new(), ..request }.encode_to_vec();
    let expected = [row(r#"a{x="1"}"#, 1, 1.0)];
    let body = [series, symbols.clone()].concat();
    assert_eq!(read_v2(&Store::default(), &body).unwrap().0, expected);
    // labels_refs 1 2 3 4, one field each; a sample 1.0 at 1.
    let series = [
        &[0x08, 1, 0x08, 2, 0x08, 3, 0x08, 4, 0x12, 11, 0x09][..],
        &1.0f64.to_le_bytes(),
        &[0x10, 1],
    ]
    .concat();
    let body = [symbols, vec![0x2a, u8::try_from(series.len()).unwrap()], series].concat();
    assert_eq!(read_v2(&Store::default(), &body).unwrap().0, expected);
}

#[test]
fn without_room_in_the_cache_everything_still_arrives() {
    let store = Store::with_cache_bytes(0);
    let names: Vec<String> = (0..50).map(|n| format!("m{n}")).collect();
    let pairs: Vec<_> = names.iter().map(|name| [("__name__", &**name)]).collect();
    let series: Vec<Written<'_>> = pairs.iter().map(|pair| (&pair[..], &[(1, 1.0)][..])).collect();
    let request = v1(&series);
    let expected: Vec<Row> = names.iter().map(|name| row(name, 1, 1.0)).collect();
    for _ in 0..3 {
        assert_eq!(read_v1(&store, &request.encode_to_vec()).unwrap().0, expected);
        assert_eq!(read_v2(&store, &v2(&request).encode_to_vec()).unwrap().0, expected);
    }
    assert_eq!(store.cache.bytes(), 0);
}

#[test]
fn numbers_of_symbols_do_not_outlive_their_generation() {
    // Room for a few dozen keys, so that generations turn over all the time.
    let store = Store::with_cache_bytes(30_000);
    for round in 0..200u32 {
        let hosts: Vec<String> = (0..10)
            .map(|n| format!("h{}", round.wrapping_mul(7919).wrapping_add(n) % 97))
            .collect();
        let pairs: Vec<_> =
            hosts.iter().map(|host| [("__name__", "m"), ("host", &**host)]).collect();
        let series: Vec<Written<'_>> =
            pairs.iter().map(|pairs| (&pairs[..], &[(1, 1.0)][..])).collect();
        let body = v2(&v1(&series)).encode_to_vec();
        let expected: Vec<Row> =
            hosts.iter().map(|host| row(&format!("m{{host={host:?}}}"), 1, 1.0)).collect();
        assert_eq!(read_v2(&store, &body).unwrap().0, expected, "round {round}");
    }
}

#[test]
fn a_message_cut_short_is_refused_as_a_whole() {
    let request = v1(&[
        (&[("__name__", "up"), ("job", "node")], &[(1000, 1.0), (2000, 0.0)]),
        (&[("__name__", "go")], &[(NOW_MS, -0.0)]),
    ]);
    for body in [request.encode_to_vec(), v2(&request).encode_to_vec()] {
        let store = Store::default();
        for cut in 0..body.len() {
            for result in [read_v1(&store, &body[..cut]), read_v2(&store, &body[..cut])] {
                if let Err(error) = result {
                    assert!(matches!(error, IngestError::Malformed { .. }), "{error}");
                }
            }
        }
    }
    let bytes = request.encode_to_vec();
    assert!(read_v1(&Store::default(), &bytes[..bytes.len() - 1]).is_err());
}

#[test]
fn samples_per_request_are_limited() {
    let mut options = options();
    options.limits.samples_per_request_max = 2;
    let body = v1(&[(&[("__name__", "a")], &[(1, 1.0), (2, 1.0), (3, 1.0)])]).encode_to_vec();
    let result =
        Store::default().request(|r, batch| remote_write::parse_v1(&body, &options, r, batch));
    assert!(matches!(result, Err(IngestError::TooLarge { .. })));
}

prop_compose! {
    fn request()(
        series in proptest::collection::vec(
            (
                "[a-c]{1,2}",
                proptest::collection::btree_map("[d-f]{1,2}", "[a-zü]{1,4}", 0..4),
                proptest::collection::vec((-5000i64..NOW_MS, any::<u64>()), 1..4),
            ),
            0..40,
        ),
    ) -> WriteRequest {
        let timeseries = series.into_iter().map(|(metric, labels, samples)| {
            let label = |name: &str, value: &str| {
                Label { name: name.to_owned(), value: value.to_owned() }
            };
            TimeSeries {
                labels: std::iter::once(label("__name__", &metric))
                    .chain(labels.iter().map(|(name, value)| label(name, value)))
                    .collect(),
                samples: samples
                    .into_iter()
                    .map(|(timestamp, bits)| Sample { value: f64::from_bits(bits), timestamp })
                    .collect(),
                ..TimeSeries::default()
            }
        });
        WriteRequest { timeseries: timeseries.collect(), metadata: Vec::new() }
    }
}

fn rows_of(request: &WriteRequest) -> Vec<Row> {
    let mut rows = Vec::new();
    for series in &request.timeseries {
        let pairs = series.labels.iter().map(|label| (&*label.name, &*label.value));
        let labels = Labels::from_pairs(pairs).unwrap().to_string();
        rows.extend(
            series.samples.iter().map(|sample| row(&labels, sample.timestamp, sample.value)),
        );
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(u32::try_from(cases(128)).unwrap()))]

    #[test]
    fn what_prost_writes_is_read(requests in proptest::collection::vec(request(), 1..6)) {
        let store = Store::default();
        for request in &requests {
            let expected = rows_of(request);
            prop_assert_eq!(&read_v1(&store, &request.encode_to_vec()).unwrap().0, &expected);
            prop_assert_eq!(&read_v2(&store, &v2(request).encode_to_vec()).unwrap().0, &expected);
        }
    }

    #[test]
    fn damaged_messages_are_read_without_panic(
        request in request(),
        damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8),
    ) {
        let store = Store::default();
        for mut body in [request.encode_to_vec(), v2(&request).encode_to_vec()] {
            let _ = (read_v1(&store, &body), read_v2(&store, &body));
            for (at, byte) in &damage {
                let len = body.len().max(1);
                if let Some(place) = body.get_mut(at % len) {
                    *place = *byte;
                }
            }
            let first = read_v1(&store, &body);
            let second = read_v2(&store, &body);
            // What prost can read, so can we, but for groups.
            let fine = |result: &Result<_, IngestError>| match result {
                Ok(_) => true,
                Err(error) => error.to_string().contains("unknown wire type"),
            };
            prop_assert!(WriteRequest::decode(&body[..]).is_err() || fine(&first), "{:?}", first);
            prop_assert!(Request::decode(&body[..]).is_err() || fine(&second), "{:?}", second);
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let store = Store::default();
        let _ = (read_v1(&store, &body), read_v2(&store, &body));
    }
}
