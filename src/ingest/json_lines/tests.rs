use crate::ingest::json_lines::parse;
use crate::ingest::tests::{NOW_MS, Random, Row, Store, cases, options, row};
use crate::ingest::{IngestOutcome, LineErrorCode};
use crate::model::{NORMAL_NAN_BITS, STALE_NAN_BITS};

fn read(store: &Store, body: &str) -> (Vec<Row>, IngestOutcome) {
    let options = options();
    store.request(|resolver, batch| parse(body.as_bytes(), &options, resolver, batch)).unwrap()
}

/// The one error of a body.
fn fault(body: &str) -> (usize, usize, LineErrorCode, u64) {
    let (rows, outcome) = read(&Store::default(), body);
    assert!(rows.is_empty(), "{body}: {rows:?}");
    assert_eq!(outcome.errors.len(), 1, "{body}");
    let error = &outcome.errors[0];
    (error.line, error.column, error.code, outcome.rejected)
}

#[test]
fn lines_become_samples_in_any_order_of_fields() {
    let store = Store::default();
    let body = concat!(
        r#"{"metric":{"__name__":"up","job":"a\"\u00e9"},"values":[1,-0.5e1],"timestamps":[1,-2]}"#,
        "\r\n\n  ",
        r#"{ "timestamps" : [ 7 ] , "other" : [{"x":"]"},null,true,-1.5e3], "values" : [3.5],"#,
        r#""metric":{"__name__":"down"} } "#,
        "\n",
        r#"{"metric":{"__name__":"up","job":"a\"\u00e9"},"values":[],"timestamps":[]}"#,
    );
    for _ in 0..2 {
        let (rows, outcome) = read(&store, body);
        assert_eq!(outcome.errors, []);
        let up = r#"up{job="a\"é"}"#;
        assert_eq!(rows, [row(up, 1, 1.0), row(up, -2, -5.0), row("down", 7, 3.5)]);
    }
    assert_eq!(store.registry.len(), 2);
}

#[test]
fn values_without_json_numbers_are_spelled() {
    let body = concat!(
        r#"{"metric":{"__name__":"m"},"values":[null,"null","StaleNaN","NaN","Infinity","-Infinity","#,
        r#""Inf","-inf","NaN(0xfff8000000000000)",-0,"1.5"],"timestamps":[1,2,3,4,5,6,7,8,9,10,11]}"#,
    );
    let (rows, outcome) = read(&Store::default(), body);
    assert_eq!(outcome.errors, []);
    let infinity = f64::INFINITY.to_bits();
    let bits: Vec<u64> = rows.iter().map(|(_, _, bits)| *bits).collect();
    let negative = f64::NEG_INFINITY.to_bits();
    let stale = [STALE_NAN_BITS; 3];
    let others = [NORMAL_NAN_BITS, infinity, negative, infinity, negative, 0xfff8_0000_0000_0000];
    assert_eq!(bits[..3], stale);
    assert_eq!(bits[3..9], others);
    assert_eq!(bits[9..], [(-0.0f64).to_bits(), 1.5f64.to_bits()]);
}

#[test]
fn a_bad_line_is_named_and_leaves_the_others() {
    use LineErrorCode::{BadLabels, BadTimestamp, BadValue, FutureTimestamp, Syntax};
    let good = r#"{"metric":{"__name__":"m"},"values":[1],"timestamps":[1]}"#;
    let (rows, outcome) = read(&Store::default(), &format!("{good}\n{{\"metric\":1}}\n{good}\n"));
    assert_eq!((rows.len(), outcome.accepted, outcome.rejected), (2, 2, 1));
    assert_eq!((outcome.errors[0].line, outcome.errors[0].column), (2, 11));

    for (body, column, code, rejected) in [
        ("[1]", 1, Syntax, 1),
        ("{}", 1, Syntax, 1),
        (r#"{"metric":{"__name__":"m"},"values":[1]}"#, 1, Syntax, 1),
        (r#"{"metric":{"__name__":"m"},"values":[1],"timestamps":[1,2]}"#, 1, Syntax, 1),
        (r#"{"metric":{"__name__":"m"},"values":[1],"timestamps":[1]} x"#, 59, Syntax, 1),
        (r#"{"metric":{"__name__":"m"},"metric":{"__name__":"m"}}"#, 28, Syntax, 1),
        (r#"{"metric":{"__name__":"m"},"values":[x],"timestamps":[1]}"#, 38, BadValue, 1),
        (r#"{"metric":{"__name__":"m"},"values":["1x"],"timestamps":[1]}"#, 38, BadValue, 1),
        (r#"{"metric":{"__name__":"m"},"values":[1],"timestamps":["1"]}"#, 55, BadTimestamp, 1),
        (r#"{"metric":{"__name__":"m"},"values":[1],"timestamps":[1.5]}"#, 56, Syntax, 1),
        (r#"{"metric":{"__name__":"m"#, 23, Syntax, 1),
        (
            r#"{"metric":{"__name__":"m","a":1},"values":[1,2],"timestamps":[1,2]}"#,
            11,
            BadLabels,
            2,
        ),
        (r#"{"metric":{"a":"1"},"values":[1,2],"timestamps":[1,2]}"#, 11, BadLabels, 2),
    ] {
        assert_eq!(fault(body), (1, column, code, rejected), "{body}");
    }
    let late = NOW_MS + 3_600_000;
    let body =
        format!(r#"{{"metric":{{"__name__":"m"}},"values":[1,2],"timestamps":[{late},{late}]}}"#);
    assert_eq!(fault(&body), (1, 1, FutureTimestamp, 2));
    let deep = format!(r#"{{"x":{}}}"#, "[".repeat(1000));
    assert_eq!(fault(&deep).2, Syntax);
}

#[test]
fn cut_and_changed_bodies_never_panic() {
    let store = Store::default();
    let whole = r#"{"metric":{"__name__":"m","é":"\u00e9\\"},"values":[1,null,"NaN"],"timestamps":[1,2,3]}"#;
    let mut random = Random::new("json_lines");
    for _ in 0..cases(20_000) {
        let mut body = whole.as_bytes().to_vec();
        body.truncate(random.below(body.len() + 1));
        for _ in 0..random.below(4) {
            if let Some(at) = body.len().checked_sub(1).map(|len| random.below(len + 1)) {
                body[at] = *random.pick(b"{}[]\",:\\nul0x\n\xff ");
            }
        }
        let options = options();
        let read = store.request(|resolver, batch| parse(&body, &options, resolver, batch));
        let (_, outcome) = read.unwrap();
        assert!(outcome.errors.iter().all(|error| error.line >= 1));
    }
}
