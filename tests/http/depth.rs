//! Expressions as deep as machines write them, and deeper than anybody may.

use aetherdb::http::HttpOptions;
use aetherdb::query::QueryOptions;

use crate::http::Api;

/// So many levels are refused.
const HOSTILE: usize = 50_000;

/// Constructs around `x`, which is 2, and how many there may be: close to the bound of 5,000 levels,
/// or as many as are quick. All of them answer 2.
const SHAPES: &[(&str, &str, usize)] = &[
    ("(", ")", 4_990),
    ("-", "", 4_990),
    ("abs(", ")", 4_990),
    ("sum(", ")", 2_000),
    ("0 + (", ")", 1_000),
    ("", " + 0", 4_990),
    ("", " or x", 1_000),
    ("last_over_time(", "[1s:1s])", 2_490),
    ("label_replace(", ", \"a\", \"b\", \"c\", \"d\")", 1_000),
    ("topk(1, ", ")", 1_000),
];

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_levels_are_answered_and_more_are_refused() {
    let queries = QueryOptions { threads: 2, ..QueryOptions::default() };
    let api = Api::start_with(HttpOptions::default(), queries).await;
    api.write("x 2").await;
    for (open, close, levels) in SHAPES {
        let text = |levels| format!("{}x{}", open.repeat(levels), close.repeat(levels));
        let deep = text(*levels);
        // A subquery's samples lie on whole steps, and so does this time.
        let pairs = [("query", deep.as_str()), ("time", "1699500010")];
        let answer = api.post_form("/api/v1/query", &pairs).await;
        let got = &answer.json()["data"]["result"][0]["value"][1];
        assert_eq!(got, "2", "{open}x{close}: {:.300}", answer.text());
        let answer = api.post_form("/api/v1/parse_query", &pairs).await;
        assert_eq!(answer.status, 200, "{open}x{close}: {:.300}", answer.text());
        // Formatting looks at every level from each one above.
        let answer = api.post_form("/api/v1/format_query", &[("query", &text(300))]).await;
        assert_eq!(answer.status, 200, "{open}x{close}: {:.300}", answer.text());
        let hostile = text(HOSTILE);
        for path in ["/api/v1/query", "/api/v1/format_query", "/api/v1/parse_query"] {
            let answer = api.post_form(path, &[("query", &hostile)]).await;
            assert_eq!(answer.status, 400, "{path} {open}x{close}: {:.300}", answer.text());
            assert!(answer.text().contains("nested too deeply: at most 5000 levels"));
        }
    }
    let wrong = format!("{}rate(x){}", "(".repeat(3_000), ")".repeat(3_000));
    let answer = api.post_form("/api/v1/query", &[("query", &wrong)]).await;
    assert_eq!((answer.status, &answer.json()["errorType"]), (400, &"bad_data".into()));
}
