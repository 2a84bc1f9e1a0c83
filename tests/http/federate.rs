//! `/federate`: what another Prometheus scrapes from us.

use crate::http::{Api, NOW_MS};
use crate::remote_write::{V1_HEADERS, v1};

const UTF8: &[(&str, &str)] = &[("accept", "text/plain;version=1.0.0;escaping=allow-utf-8")];

async fn federate(api: &Api, selectors: &[&str], headers: &[(&str, &str)]) -> (u16, String) {
    let pairs: Vec<(&str, &str)> = selectors.iter().map(|one| ("match[]", *one)).collect();
    let request = api.client.get(format!("{}/federate?{}", api.url, crate::support::form(&pairs)));
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let answer = api.send(request).await;
    (answer.status, answer.text().to_owned())
}

async fn start() -> Api {
    let api = Api::start().await;
    let exposition = format!(
        "# TYPE requests_total counter\n\
         requests_total{{code=\"200\",instance=\"a\"}} 17 {}\n\
         requests_total{{code=\"500\"}} 1e6 {NOW_MS}\n\
         # TYPE temperature gauge\n\
         temperature{{at=\"say \\\"hi\\\"\"}} -0.5 {}\n\
         too_old 1 {}\n\
         infinite +Inf {NOW_MS}\n",
        NOW_MS - 1_000,
        NOW_MS - 200_000,
        NOW_MS - 301_000,
    );
    let answer = api.post("/api/v1/import/prometheus", &[], exposition).await;
    assert!(answer.status < 300, "{}", answer.text());
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let written = v1([
        (vec![("__name__", "ended")], vec![(NOW_MS - 60_000, 1.0), (NOW_MS - 30_000, stale)]),
        (vec![("__name__", "http.status"), ("ver.sion", "é")], vec![(NOW_MS, 3.0)]),
    ]);
    assert_eq!(api.post("/api/v1/write", V1_HEADERS, written).await.status, 204);
    api
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_samples_are_shown_by_name_with_type_and_time() {
    let api = start().await;
    let (status, text) = federate(&api, &["{__name__=~\".+\"}", "temperature"], UTF8).await;
    let earlier = NOW_MS - 1_000;
    let cold = NOW_MS - 200_000;
    let expected = format!(
        "# TYPE \"http.status\" untyped\n\
         {{\"http.status\",\"ver.sion\"=\"é\",instance=\"\"}} 3 {NOW_MS}\n\
         # TYPE infinite untyped\n\
         infinite{{instance=\"\"}} +Inf {NOW_MS}\n\
         # TYPE requests_total counter\n\
         requests_total{{code=\"200\",instance=\"a\"}} 17 {earlier}\n\
         requests_total{{code=\"500\",instance=\"\"}} 1e+06 {NOW_MS}\n\
         # TYPE temperature gauge\n\
         temperature{{at=\"say \\\"hi\\\"\",instance=\"\"}} -0.5 {cold}\n"
    );
    assert_eq!((status, text), (200, expected));
    // A client that asks for nothing gets names that every version reads.
    let (_, text) = federate(&api, &["http.status", "{\"http.status\"}"], &[]).await;
    assert!(text.contains("1:5: parse error"), "{text}");
    let (_, text) = federate(&api, &["{\"http.status\"}"], &[]).await;
    let expected = format!(
        "# TYPE http_status untyped\nhttp_status{{ver_sion=\"é\",instance=\"\"}} 3 {NOW_MS}\n"
    );
    assert_eq!(text, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_federated_reads_back() {
    let (one, two) = (start().await, Api::start().await);
    let (_, text) = federate(&one, &["{__name__=~\".+\"}"], UTF8).await;
    let answer = two.post("/api/v1/import/prometheus", &[], text.clone()).await;
    assert!(answer.status < 300, "{}", answer.text());
    let (_, again) = federate(&two, &["{__name__=~\".+\"}"], UTF8).await;
    assert_eq!(again, text);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_selectors_are_told_in_plain_words() {
    let api = start().await;
    assert_eq!(federate(&api, &[], &[]).await, (200, String::new()));
    assert_eq!(federate(&api, &["nothing"], &[]).await, (200, String::new()));
    let (status, text) = federate(&api, &["up", "a{"], &[]).await;
    assert_eq!(status, 400);
    assert!(text.starts_with("1:3: parse error: ") && text.ends_with('\n'), "{text}");
    // Everything is a selector like others here.
    let everything = federate(&api, &["{}"], &[]).await;
    assert_eq!(everything, federate(&api, &["{__name__!=\"\"}"], &[]).await);
    assert!(everything.1.contains("temperature"), "{}", everything.1);
}
