//! Tests of lexer, parser, checks and printer together.

use serde_json::Value;

use super::*;
use crate::promql::{describe, pretty};

fn tree(text: &str) -> Value {
    let expr = parse(text).unwrap_or_else(|error| panic!("{}", error.render()));
    let mut value = serde_json::to_value(describe(&expr)).unwrap();
    sort_matchers(&mut value);
    value
}

/// Their order has no meaning, and the printer sorts them.
fn sort_matchers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(sort_matchers),
        Value::Object(fields) => {
            if let Some(Value::Array(matchers)) = fields.get_mut("matchers") {
                matchers.sort_by_key(ToString::to_string);
            }
            fields.values_mut().for_each(sort_matchers);
        }
        _ => {}
    }
}

fn line(text: &str) -> String {
    parse(text).unwrap_or_else(|error| panic!("{}", error.render())).to_string()
}

/// `input` is a query, printed in one line as `expected`, and that again as itself.
fn check(input: &str, expected: &str) {
    assert_eq!(line(input), expected, "{input}");
    assert_eq!(tree(expected), tree(input), "{input}");
}

fn check_error(input: &str, expected: &str) {
    let error = parse(input).err().map(|error| error.to_string());
    assert_eq!(error.as_deref(), Some(expected), "{input}");
}

/// The query with parentheses around every operation.
fn grouped(text: &str) -> String {
    fn walk(expr: &Expr) -> String {
        match &expr.kind {
            crate::promql::ExprKind::Binary(binary) => {
                let op = binary.op.as_str();
                format!("({} {op} {})", walk(&binary.left), walk(&binary.right))
            }
            crate::promql::ExprKind::Unary(unary) => {
                format!("({}{})", unary.op.as_str(), walk(&unary.operand))
            }
            crate::promql::ExprKind::Paren(inner) => walk(inner),
            _ => expr.to_string(),
        }
    }
    walk(&parse(text).unwrap())
}

#[test]
fn operators_bind_as_in_prometheus() {
    for (input, expected) in [
        ("-1^2", "(-(1 ^ 2))"),
        ("-x^2", "(-(x ^ 2))"),
        ("-1*2", "(-1 * 2)"),
        ("2^3^2", "(2 ^ (3 ^ 2))"),
        ("2^-1*3", "((2 ^ -1) * 3)"),
        ("2^-x^2", "(2 ^ (-(x ^ 2)))"),
        ("1-2-3", "((1 - 2) - 3)"),
        ("1+2*3%4", "(1 + ((2 * 3) % 4))"),
        ("a atan2 b * c", "((a atan2 b) * c)"),
        ("a or b and c unless d", "(a or ((b and c) unless d))"),
        ("a == bool b + 1 > c", "((a == (b + 1)) > c)"),
        ("a </ b and c", "((a </ b) and c)"),
        ("-a offset 5m + b", "((-a offset 5m) + b)"),
        ("- -5", "5"),
        ("+a", "(+a)"),
        ("1 - -Inf", "(1 - -Inf)"),
    ] {
        assert_eq!(grouped(input), expected, "{input}");
    }
}

#[test]
fn one_line_is_canonical() {
    for (input, expected) in [
        ("SUM BY(a,\"b c\",)(x)", "sum by (a, \"b c\") (x)"),
        ("sum(x)by()", "sum(x)"),
        ("sum(x) without()", "sum without () (x)"),
        ("topk(5,x)by(sum,by)", "topk by (sum, by) (5, x)"),
        ("{__name__=\"x\"}", "{__name__=\"x\"}"),
        ("{'a.b', c='d',}", "{__name__=\"a.b\",c=\"d\"}"),
        ("x{b!='1',a=~\"2|3\",\"c d\"!~`.`}", "x{\"c d\"!~\".\",a=~\"2|3\",b!=\"1\"}"),
        ("x{}", "x"),
        ("sum", "sum"),
        ("by{start='end'} or or", "by{start=\"end\"} or or"),
        ("x[300]", "x[5m]"),
        ("x[1.5]@1.5 offset -3", "x[1s500ms] @ 1.500 offset -3s"),
        ("x offset 1h @ start()", "x @ start() offset 1h"),
        ("x @ -0.5", "x @ -0.500"),
        ("x[5m] smoothed offset 1m", "x[5m] smoothed offset 1m"),
        ("x anchored", "x anchored"),
        ("x[1h:]", "x[1h:]"),
        ("(a+b)[1h:1m]@end() offset 1d", "(a + b)[1h:1m] @ end() offset 1d"),
        ("x[ 5m*2 ]", "x[5m * 2]"),
        ("x[step()+1:min_of(step(),2*range())]", "x[step() + 1:min_of(step(), 2 * range())]"),
        ("x offset -(5m+step())", "x offset -(5m + step())"),
        ("x offset (1m)*2", "x offset (1m) * 2"),
        ("x offset 1m*2", "x offset 1m * 2"),
        ("x offset -2^2", "x offset -2s ^ 2"),
        ("x offset 0s offset 5m", "x offset 5m"),
        ("5m + 0x1F + 1_000 + 1e3 + .5", "5m + 31 + 1000 + 1000 + 0.5"),
        ("nan == bool -inf", "NaN == bool -Inf"),
        ("a + on() group_left b", "a + on () group_left () b"),
        ("a*ignoring(x)group_right(y)b", "a * ignoring (x) group_right (y) b"),
        ("a + fill(1) b", "a + fill (1) b"),
        (
            "a + on(x) fill_right(-1) fill_left(inf) b",
            "a + on (x) fill_left (+Inf) fill_right (-1) b",
        ),
        ("fill + fill", "fill + fill"),
        ("1 + ignoring() 2", "1 + 2"),
        ("start() - end()/step()*range()", "start() - end() / step() * range()"),
        ("max_of(1, 2) + start", "max_of(1, 2) + start"),
        (
            "label_replace(x,'a',\"\\u00e9\",`\\d`,'')",
            "label_replace(x, \"a\", \"é\", \"\\\\d\", \"\")",
        ),
        ("avg by (host) (cpu_usage[5m])", "avg by (host) (cpu_usage[5m])"),
        ("quantile(0.5, x[1h:1m])", "quantile(0.5, x[1h:1m])"),
        ("x # comment\n + # more\n y{#\na='#'}", "x + y{a=\"#\"}"),
        ("info(x, {})", "info(x, {})"),
        ("info(x, {a='b'})", "info(x, {a=\"b\"})"),
        ("a:b:c{d='e'}", "a:b:c{d=\"e\"}"),
        ("-(-x)", "-(-x)"),
    ] {
        check(input, expected);
    }
}

#[test]
fn errors_say_what_prometheus_says() {
    for (input, expected) in [
        ("", "unknown position: parse error: no expression found in input"),
        ("# comment", "1:1: parse error: no expression found in input"),
        ("1 +", "1:4: parse error: unexpected end of input"),
        ("a\n+ ) b", "2:4: parse error: unexpected right parenthesis ')'"),
        ("(a", "1:3: parse error: unclosed left parenthesis"),
        ("a b", "1:3: parse error: unexpected identifier \"b\""),
        ("a @", "1:4: parse error: unexpected end of input in @, expected timestamp"),
        ("foo @ +Inf", "1:1: parse error: timestamp out of bounds for @ modifier: +Inf"),
        ("1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier"),
        (
            "1 and 1",
            "1:1: parse error: set operator \"and\" not allowed in binary scalar expression",
        ),
        ("a + bool b", "1:3: parse error: bool modifier can only be used on comparison operators"),
        ("a - on(b) ignoring(c) d", "1:11: parse error: unexpected <ignoring>"),
        ("a + group_left(b) c", "1:5: parse error: unexpected <group_left>"),
        (
            "a and on(b) group_left(c) d",
            "1:1: parse error: no grouping allowed for \"and\" operation",
        ),
        (
            "a + on(b) group_left(b) c",
            "1:3: parse error: label \"b\" must not occur in ON and GROUP clause at once",
        ),
        ("a + on(b) 1", "1:1: parse error: vector matching only allowed between instant vectors"),
        (
            "a + fill(1) 1",
            "1:1: parse error: filling in missing series only allowed between instant vectors",
        ),
        (
            "a or fill(1) b",
            "1:1: parse error: filling in missing series not allowed for set operators",
        ),
        ("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        (
            "{x!=\"a\"}",
            "1:1: parse error: vector selector must contain at least one non-empty matcher",
        ),
        (
            "foo{__name__=\"bar\"}",
            "1:1: parse error: metric name must not be set twice: \"foo\" or \"bar\"",
        ),
        (
            "foo{a}",
            "1:6: parse error: unexpected \"}\" in label matching, expected label matching operator",
        ),
        (
            "foo{a=b}",
            "1:7: parse error: unexpected identifier \"b\" in label matching, expected string",
        ),
        (
            "foo{,}",
            "1:5: parse error: unexpected \",\" in label matching, expected identifier or \"}\"",
        ),
        ("foo{", "1:5: parse error: unexpected end of input inside braces"),
        (
            "foo[]",
            "1:5: parse error: unexpected \"]\" in subquery or range selector, expected number, \
             duration, step(), or range()",
        ),
        ("foo[0m]", "1:5: parse error: duration must be greater than 0"),
        ("foo[5s/0]", "1:7: parse error: division by zero"),
        ("foo[9e10:1]", "1:5: parse error: duration out of range"),
        ("foo \u{0}", "1:5: parse error: unexpected character: '\\x00'"),
        ("foo[5m1h]", "1:5: parse error: not a valid duration string: \"5m1h\""),
        ("foo offset 1m[5m]", "1:14: parse error: no offset modifiers allowed before range"),
        ("foo @ 1 [5m]", "1:9: parse error: no @ modifiers allowed before range"),
        ("(foo)[5m]", "1:6: parse error: ranges only allowed for vector selectors"),
        ("foo offset 1s offset 2s", "1:1: parse error: offset may not be set multiple times"),
        ("foo @ 1 @ 2", "1:1: parse error: @ <timestamp> may not be set multiple times"),
        (
            "foo anchored smoothed",
            "1:1: parse error: anchored and smoothed modifiers cannot be used together",
        ),
        (
            "foo[5m:] anchored",
            "1:1: parse error: anchored modifier is not supported for subqueries",
        ),
        (
            "1 offset 1d",
            "1:1: parse error: offset modifier must be preceded by an instant vector selector or \
             range vector selector or a subquery",
        ),
        (
            "x[5m][5m:]",
            "1:1: parse error: subquery is only allowed on instant vector, got matrix instead",
        ),
        (
            "sum without(a,,)(x)",
            "1:15: parse error: unexpected \",\" in grouping opts, expected label",
        ),
        (
            "sum(x) by a",
            "1:11: parse error: unexpected identifier \"a\" in grouping opts, expected \"(\"",
        ),
        ("sum by (\"\") (x)", "1:9: parse error: invalid label name for grouping: \"\""),
        ("sum()", "1:1: parse error: no arguments for aggregate expression provided"),
        (
            "topk(x)",
            "1:1: parse error: wrong number of arguments for aggregate expression provided, \
             expected 2, got 1",
        ),
        ("sum(x,)", "1:6: parse error: trailing commas not allowed in function call args"),
        (
            "topk(x, y)",
            "1:6: parse error: expected type scalar in aggregation parameter, got instant vector",
        ),
        ("nope(x)", "1:1: parse error: unknown function with name \"nope\""),
        ("floor()", "1:1: parse error: expected 1 argument(s) in call to \"floor\", got 0"),
        (
            "hour(x, x)",
            "1:1: parse error: expected at most 1 argument(s) in call to \"hour\", got 2",
        ),
        (
            "label_join(x, 'a')",
            "1:1: parse error: expected at least 3 argument(s) in call to \"label_join\", got 2",
        ),
        (
            "rate(x)",
            "1:6: parse error: expected type range vector in call to function \"rate\", got instant \
             vector",
        ),
        (
            "-'a'",
            "1:1: parse error: unary expression only allowed on expressions of type scalar or \
             instant vector, got \"string\"",
        ),
        (
            "info(x, y)",
            "1:9: parse error: expected label selectors only, got vector selector instead",
        ),
        ("info(x, {a='b'} == 1)", "1:9: parse error: expected label selectors only"),
    ] {
        check_error(input, expected);
    }
}

/// Aggregations fold the samples of a range; where nothing does, the error says what to write.
#[test]
fn ranges_are_refused_with_advice() {
    for op in ["sum", "avg", "count", "min", "max", "group", "stddev", "stdvar"] {
        line(&format!("{op} by (host) (x[5m] offset 1m)"));
    }
    for (input, expected) in [
        (
            "topk(2, x[5m])",
            "1:9: parse error: expected type instant vector in aggregation expression, got range \
             vector; topk takes one value per series, for example topk(…, avg_over_time(x[5m]))",
        ),
        (
            "abs(x[5m])",
            "1:5: parse error: expected type instant vector in call to function \"abs\", got range \
             vector; abs takes one value per series, for example avg_over_time(x[5m])",
        ),
        (
            "1 + x[5m]",
            "1:5: parse error: binary expression must contain only scalar and instant vector types; \
             make one value per series of the range first, for example avg_over_time(x[5m])",
        ),
    ] {
        check_error(input, expected);
    }
}

#[test]
fn spans_cover_what_was_written() {
    let text = " sum by (a) ( rate(x{b='é'}[5m] offset 1m) ) / (2) ";
    let expr = parse(text).unwrap();
    let mut spans = Vec::new();
    fn walk<'a>(expr: &Expr, text: &'a str, spans: &mut Vec<&'a str>) {
        spans.push(&text[expr.span.start..expr.span.end]);
        for child in expr.children() {
            walk(child, text, spans);
        }
    }
    walk(&expr, text, &mut spans);
    assert_eq!(
        spans,
        [
            "sum by (a) ( rate(x{b='é'}[5m] offset 1m) ) / (2)",
            "sum by (a) ( rate(x{b='é'}[5m] offset 1m) )",
            "rate(x{b='é'}[5m] offset 1m)",
            "x{b='é'}[5m] offset 1m",
            "(2)",
            "2",
        ]
    );
}

#[test]
fn depth_is_bounded_in_every_direction() {
    for (open, close) in [
        ("(", ")"),
        ("-", ""),
        ("abs(", ")"),
        ("sum(", ")"),
        ("1 + ", ""),
        ("1 ^ ", ""),
        ("", " + 1"),
        ("", "[1m:]"),
        ("x[", "]"),
        ("x offset (", ")"),
    ] {
        let text = |levels| format!("{}x{}", open.repeat(levels), close.repeat(levels));
        // Far below the bound everything is read, far above nothing overflows the stack.
        let deep = parse(&text(20_000)).unwrap_err().to_string();
        assert!(deep.contains("parse error"), "{deep}");
    }
    for text in [
        format!("{}1{}", "(".repeat(100), ")".repeat(100)),
        format!("1{}", " + 1".repeat(100)),
        format!("{}1", "- -1 ^ ".repeat(30)),
        format!("x[1{}]", " + 1".repeat(100)),
    ] {
        assert_eq!(line(&text), line(&line(&text)));
    }
    let error = parse(&"(".repeat(100_000)).unwrap_err().to_string();
    assert!(error.contains("nested too deeply: at most 128 levels"), "{error}");
    let chain = format!("1{}", " + 1".repeat(100_000));
    assert!(parse(&chain).unwrap_err().to_string().contains("nested too deeply"));
    let chain = format!("x[1{}]", " + 1".repeat(100_000));
    assert!(parse(&chain).unwrap_err().to_string().contains("nested too deeply"));
}

#[test]
fn deep_text_is_for_threads_with_a_large_stack() {
    let deep = format!("1{}", " + 1".repeat(DEEP_MAX - 2));
    assert!(parse(&deep).unwrap_err().is_too_deep());
    assert!(!parse("1 +").unwrap_err().is_too_deep());
    let read = move || parse_deep(&deep).map(|expr| expr.to_string() == deep);
    let thread = std::thread::Builder::new().stack_size(256 << 20).spawn(read).unwrap();
    assert_eq!(thread.join().unwrap(), Ok(true));
}

#[test]
fn long_lines_are_split() {
    let long = "a_rather_long_metric_name{with=\"a label value\"}";
    for (input, expected) in [
        ("sum(x)".to_owned(), "sum(x)".to_owned()),
        (
            format!("sum by (job) (rate({long}[5m])) / on(job) group_left() (count({long}))"),
            format!(
                "  sum by (job) (rate({long}[5m]))\n/ on (job) group_left ()\n  (count({long}))"
            ),
        ),
        (
            format!("topk(5, {long} + {long} + {long})"),
            format!("topk(\n  5,\n    {long} + {long}\n  +\n    {long}\n)"),
        ),
        (
            format!("label_replace({long}, 'a_label', \"$1 and more\", 'another_label', '(.*)')"),
            format!(
                "label_replace(\n  {long},\n  \"a_label\",\n  \"$1 and more\",\n  \
                 \"another_label\",\n  \"(.*)\"\n)"
            ),
        ),
        (
            format!("max_over_time((-({long} - ({long}) - {long}))[1h:])"),
            format!(
                "max_over_time(\n  (\n    -(\n        {long} - ({long})\n      -\n        \
                 {long}\n    )\n  )[1h:]\n)"
            ),
        ),
    ] {
        let expr = parse(&input).unwrap();
        assert_eq!(pretty(&expr), expected);
        assert_eq!(tree(&pretty(&expr)), tree(&input));
    }
}

#[test]
fn durations_have_values() {
    use crate::promql::ast::DurationSign::{Any, Positive};
    let millis = |text: &str, sign| {
        let expr = parse(&format!("x[{text}]")).unwrap();
        let crate::promql::ExprKind::MatrixSelector(matrix) = &expr.kind else { panic!("{text}") };
        matrix.range.millis(15_000, 3_600_000, sign).map_err(|error| error.to_string())
    };
    for (text, expected) in [
        ("5m", 300_000),
        ("1.5", 1_500),
        ("0.0019", 1),
        ("5m * 2 + 1", 601_000),
        ("step() * 4", 60_000),
        ("range() / 2 - -1s", 1_801_000),
        ("max_of(step(), 1m) ^ 1", 60_000),
        ("min_of(step(), 1m) % 4", 3_000),
        ("(2 + 3) * 1m", 300_000),
    ] {
        assert_eq!(millis(text, Positive), Ok(expected), "{text}");
    }
    assert_eq!(millis("1 - 2", Any), Ok(-1_000));
    assert_eq!(millis("1 - 2", Positive), Err("2:7: duration must be greater than 0".to_owned()));
    assert_eq!(millis("1 / (1 - 1)", Any), Err("2:12: division by zero".to_owned()));
    assert_eq!(millis("10 ^ 300", Any), Err("2:10: duration is out of range".to_owned()));
}

#[test]
fn selectors_stand_alone() {
    let matchers = parse_selector("up{job=~\"a.*\"}").unwrap();
    let text: Vec<String> = matchers.iter().map(ToString::to_string).collect();
    assert_eq!(text, ["job=~\"a.*\"", "__name__=\"up\""]);
    assert!(parse_selector("up offset 5m").is_err());
    assert!(parse_selector("rate(up[5m])").is_err());
    assert_eq!(parse_selector("{}"), Ok(Vec::new()));
}

#[test]
fn trees_have_prometheus_shape() {
    let mut expected: Value = serde_json::from_str(
        r#"{
            "type": "binaryExpr", "op": "/", "bool": false,
            "matching": {
                "card": "many-to-one", "labels": ["a"], "on": true, "include": [],
                "fillValues": {"lhs": null, "rhs": 1.0}
            },
            "lhs": {
                "type": "aggregation", "op": "sum", "param": null, "grouping": ["b"],
                "without": true,
                "expr": {
                    "type": "call",
                    "func": {
                        "name": "rate", "argTypes": ["matrix"], "variadic": 0,
                        "returnType": "vector"
                    },
                    "args": [{
                        "type": "matrixSelector", "name": "x", "range": 300000,
                        "rangeExpr": null, "offset": -1000, "offsetExpr": null,
                        "matchers": [
                            {"name": "c", "type": "=", "value": "d"},
                            {"name": "__name__", "type": "=", "value": "x"}
                        ],
                        "timestamp": null, "startOrEnd": "start", "anchored": true,
                        "smoothed": false
                    }]
                }
            },
            "rhs": {
                "type": "call",
                "func": {
                    "name": "max_over_time", "argTypes": ["matrix"], "variadic": 0,
                    "returnType": "vector"
                },
                "args": [{
                "type": "subquery", "range": 0, "step": 60000, "stepExpr": null,
                "rangeExpr": {
                    "type": "durationExpr", "op": "*", "wrapped": false,
                    "lhs": {"type": "durationExpr", "op": "step", "lhs": null, "rhs": null, "wrapped": true},
                    "rhs": {"type": "numberLiteral", "val": "60", "duration": true}
                },
                "offset": 0, "offsetExpr": null, "timestamp": 1500, "startOrEnd": null,
                "expr": {
                    "type": "parenExpr",
                    "expr": {
                        "type": "unaryExpr", "op": "-",
                        "expr": {
                            "type": "vectorSelector", "name": "y", "offset": 0,
                            "offsetExpr": null, "timestamp": null, "startOrEnd": null,
                            "anchored": false, "smoothed": false,
                            "matchers": [{"name": "__name__", "type": "=", "value": "y"}]
                        }
                    }
                }
                }]
            }
        }"#,
    )
    .unwrap();
    let query = "sum without(b) (rate(x{c='d'}[5m] anchored @ start() offset -1s)) / on(a) \
                 group_left fill_right(1) max_over_time((-y)[(step()) * 1m:1m] @ 1.5)";
    sort_matchers(&mut expected);
    assert_eq!(tree(query), expected);
}

/// Random queries and rubbish. `AETHER_TEST_SEED` and `AETHER_TEST_CASES` change what is tried.
struct Random(u64);

impl Random {
    fn new() -> (Self, usize) {
        let number = |name: &str, or: u64| {
            std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(or)
        };
        let seed = number("AETHER_TEST_SEED", 0x5EED);
        println!("AETHER_TEST_SEED={seed}");
        let cases = number("AETHER_TEST_CASES", 3_000);
        (Self(seed.wrapping_mul(2).wrapping_add(1)), usize::try_from(cases).unwrap())
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % u64::try_from(bound).unwrap()).unwrap()
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn scalar(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 1 } else { 5 }) {
            0 => self
                .pick(&["1", "-0.5", "0x1F", "1e-9", "Inf", "NaN", "5m", "time()", "1_0", "-0"])
                .to_owned(),
            1 => format!("({})", self.scalar(depth - 1)),
            2 => format!("scalar({})", self.instant(depth - 1)),
            3 => format!("-{}", self.scalar(depth - 1)),
            _ => {
                let op = self.pick(&["+", "-", "*", "/", "%", "^", "atan2", "== bool", ">bool"]);
                format!("{} {op} {}", self.scalar(depth - 1), self.scalar(depth - 1))
            }
        }
    }

    fn duration(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 2 } else { 6 }) {
            0 => self.pick(&["5m", "1h30m", "1.5", "90", "1w", "1y2w"]).to_owned(),
            1 => self.pick(&["step()", "range()"]).to_owned(),
            2 => format!("({})", self.duration(depth - 1)),
            3 => format!("max_of({}, {})", self.duration(depth - 1), self.duration(depth - 1)),
            4 => format!("-({})", self.duration(depth - 1)),
            _ => {
                let op = self.pick(&["+", "-", "*", "^"]);
                format!("{} {op} {}", self.duration(depth - 1), self.duration(depth - 1))
            }
        }
    }

    fn shift(&mut self) -> String {
        let at = self.pick(&["", "", " @ 1.5", " @ start()", " @ -7", " @ end()"]);
        let offset = match self.below(5) {
            0 => " offset 5m".to_owned(),
            1 => " offset -1h".to_owned(),
            2 => format!(" offset ({})", self.duration(2)),
            _ => String::new(),
        };
        if self.below(2) == 0 { format!("{at}{offset}") } else { format!("{offset}{at}") }
    }

    fn selector(&mut self) -> String {
        self.pick(&[
            "x",
            "a:b",
            "sum",
            "by",
            "{__name__='y'}",
            "{'odd.name'}",
            "x{a='b',c!='d'}",
            "or",
            "x{\"e f\"=~'g|h',}",
            "start{i!~`\\d`}",
            "fill",
            "x{a=\"\\n\\\"é\"}",
        ])
        .to_owned()
    }

    fn range(&mut self, depth: usize) -> String {
        if depth == 0 || self.below(2) == 0 {
            let extension = self.pick(&["", "", " anchored", " smoothed"]);
            format!("{}[{}]{extension}{}", self.selector(), self.duration(depth), self.shift())
        } else {
            let step = if self.below(2) == 0 { String::new() } else { self.duration(1) };
            let range = self.duration(1);
            format!("({})[{range}:{step}]{}", self.instant(depth - 1), self.shift())
        }
    }

    fn instant(&mut self, depth: usize) -> String {
        if depth == 0 {
            return format!("{}{}", self.selector(), self.shift());
        }
        let depth = depth - 1;
        let grouping = self.pick(&["", " by (a)", " without ('b c', sum)", " by ()"]);
        match self.below(9) {
            0 => format!("{}({})", self.pick(&["rate", "max_over_time"]), self.range(depth)),
            1 => format!("abs({})", self.instant(depth)),
            2 => format!("clamp_max({}, {})", self.instant(depth), self.scalar(depth)),
            3 => format!("{}{grouping} ({})", self.pick(&["sum", "AVG"]), self.range(depth)),
            4 => format!("topk({}, {}){grouping}", self.scalar(depth), self.instant(depth)),
            5 => format!("-({})", self.instant(depth)),
            6 => format!("label_replace({}, 'a', '$1', \"b\", `(.*)`)", self.instant(depth)),
            7 => {
                let op = self.pick(&["and", "or on (a)", "unless ignoring (b, c)"]);
                format!("{} {op} {}", self.instant(depth), self.instant(depth))
            }
            _ => {
                let op = self.pick(&["+", "-", "*", "^", "== bool", "!=", ">=", "atan2", "</"]);
                let matching =
                    self.pick(&["", "on (a)", "ignoring () group_left", "on () group_right (z)"]);
                let fill = self.pick(&["", "", "fill (1)", "fill_left (-Inf) fill_right (2)"]);
                format!("{} {op} {matching} {fill} {}", self.instant(depth), self.instant(depth))
            }
        }
    }
}

#[test]
fn what_is_printed_parses_to_the_same_tree() {
    let (mut random, cases) = Random::new();
    for case in 0..cases {
        let depth = case % 5;
        let text = match random.below(3) {
            0 => random.scalar(depth),
            1 => random.range(depth),
            _ => random.instant(depth),
        };
        let expected = tree(&text);
        let expr = parse(&text).unwrap();
        for printed in [expr.to_string(), pretty(&expr)] {
            assert_eq!(tree(&printed), expected, "{text}\n{printed}");
        }
    }
}

#[test]
fn no_text_makes_the_parser_panic() {
    let (mut random, cases) = Random::new();
    let pieces = [
        "x",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        "sum",
        "by",
        "on",
        "offset",
        "@",
        "5m",
        "1",
        ".",
        "-",
        "+",
        "^",
        "=~",
        "!=",
        "'",
        "\"",
        "`",
        "\\",
        "\\x4",
        "\\u00",
        "é",
        "😀",
        "#",
        "\n",
        ",",
        ":",
        "_",
        "e",
        "0x",
        "rate",
        "bool",
        "and",
        "step",
        "start",
        "group_left",
        "fill",
        "anchored",
        " ",
        " ",
        " ",
    ];
    for _ in 0..cases {
        let len = 1 + random.below(24);
        let mut text: String = (0..len).map(|_| random.pick(&pieces)).collect();
        if random.below(2) == 0 {
            // A query with a hole or a scar.
            text = random.instant(3);
            let at = (0..=random.below(text.len())).rev().find(|at| text.is_char_boundary(*at));
            text.insert_str(at.unwrap(), random.pick(&pieces));
        }
        match parse(&text) {
            Ok(expr) => assert_eq!(tree(&expr.to_string()), tree(&text), "{text}"),
            Err(error) => {
                assert!(error.span.start <= error.span.end && error.span.end <= text.len());
                assert!(error.render().contains('^'), "{text}");
            }
        }
        let _ = parse_selector(&text);
    }
}
