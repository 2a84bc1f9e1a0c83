//! The same questions asked of a real Prometheus and of us, over the same real data.
//!
//! Prometheus scrapes itself (and node_exporter, when installed) and writes to us remotely; then
//! generated queries go to both. Debian ships Prometheus 2.42, whose windows are closed on the
//! left: instants are chosen so that no sample lies on a border, where 2.x and 3.x differ.
//!
//! Runs when a `prometheus` binary is there. Against servers that already run, with more queries:
//!
//! ```text
//! AETHER_DIFF_PROMETHEUS=http://127.0.0.1:9091 AETHER_DIFF_AETHER=http://127.0.0.1:9090 \
//! AETHER_DIFF_QUERIES=10000 cargo test --test it differential -- --nocapture
//! ```

mod changes;
mod compare;
mod engine;
mod generator;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::differential::changes::{Change, explain};
use crate::support::{Random, Server, form, free_port, setting};

const DIFFERENCES_SHOWN_MAX: u64 = 20;
/// Samples of the last seconds may still be on their way to us.
const UNDERWAY_S: f64 = 8.0;
/// Instants of the short run lie this close together, so that few windows reach back to the birth of
/// a counter: how far `rate` extrapolates to it has changed since 2.x ([`changes`]).
const ASKED_SPAN_S: f64 = 10.0;
/// How long a sample may be underway when the machine is busy.
const LATE_SAMPLES: Duration = Duration::from_secs(5);

/// A query API to ask.
struct Api {
    url: String,
    client: reqwest::Client,
}

impl Api {
    async fn post(&self, path: &str, pairs: &[(&str, &str)]) -> Value {
        let request = self
            .client
            .post(format!("{}/api/v1/{path}", self.url))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form(pairs));
        serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap()
    }
}

/// Processes to compare with, killed when dropped.
struct Peers(Vec<Child>);

impl Drop for Peers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn start_peers(dir: &Path, write_url: &str) -> Option<(Peers, u16, u16)> {
    let installed = |name: &str| {
        Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status()
    };
    installed("prometheus").ok()?;
    let (port, node_port) = (free_port(), free_port());
    let mut children = Vec::new();
    let mut targets = vec![format!("127.0.0.1:{port}")];
    if installed("prometheus-node-exporter").is_ok() {
        let node = Command::new("prometheus-node-exporter")
            .arg(format!("--web.listen-address=127.0.0.1:{node_port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        children.push(node.unwrap());
        targets.push(format!("127.0.0.1:{node_port}"));
    }
    let config = dir.join("prometheus.yml");
    let scrape = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: real\n  static_configs:\n  - \
         targets: {targets:?}\nremote_write:\n- url: {write_url}\n"
    );
    std::fs::write(&config, scrape).unwrap();
    let prometheus = Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--enable-feature=promql-at-modifier,promql-negative-offset")
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(dir.join("prometheus.log")).unwrap())
        .spawn();
    children.push(prometheus.unwrap());
    Some((Peers(children), port, node_port))
}

/// Milliseconds within the second that no sample has: an instant there has no sample on any border
/// of a window of whole seconds.
async fn quiet_millisecond(prometheus: &Api, now_s: f64) -> i64 {
    let time = now_s.to_string();
    let raw = prometheus.post("query", &[("query", "{job!=\"\"}[30m]"), ("time", &time)]).await;
    let mut used = BTreeSet::new();
    for series in raw["data"]["result"].as_array().unwrap() {
        for sample in series["values"].as_array().unwrap() {
            used.insert(((sample[0].as_f64().unwrap() * 1e3).round() as i64).rem_euclid(1_000));
        }
    }
    (0..1_000).map(|ms| (ms + 500) % 1_000).find(|ms| !used.contains(ms)).unwrap()
}

/// Metrics of which both have the same number of samples: remote write does not send what was
/// scraped before it had started.
async fn names_held_alike(prometheus: &Api, aether: &Api, at: f64) -> Vec<String> {
    let time = format!("{at:.3}");
    let pairs = [("query", "{job!=\"\"}[5m]"), ("time", time.as_str())];
    let counts = |answer: Value| -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for series in answer["data"]["result"].as_array().unwrap() {
            let name = series["metric"]["__name__"].as_str().unwrap().to_owned();
            *counts.entry(name).or_default() += series["values"].as_array().unwrap().len();
        }
        counts
    };
    let theirs = counts(prometheus.post("query", &pairs).await);
    let ours = counts(aether.post("query", &pairs).await);
    let alike: Vec<String> = theirs
        .iter()
        .filter(|(name, count)| ours.get(*name) == Some(count))
        .map(|(name, _)| name.clone())
        .collect();
    println!("{} of {} metrics have equally many samples in both", alike.len(), theirs.len());
    assert!(alike.len() * 10 > theirs.len() * 9, "too much is missing: {theirs:?} {ours:?}");
    alike
}

/// Asks both the same at the same time.
async fn ask(
    prometheus: &Api,
    aether: &Api,
    path: &str,
    pairs: &[(&str, &str)],
) -> Result<compare::Agreement, compare::Difference> {
    let (theirs, ours) = tokio::join!(prometheus.post(path, pairs), aether.post(path, pairs));
    let query = pairs.iter().find(|(name, _)| *name == "query").map_or("", |(_, query)| query);
    compare::compare(query, &theirs, &ours)
}

/// Returns how many answers differ without a known change of 3.x to explain it.
async fn ask_both(prometheus: &Api, aether: &Api, queries: u64, seed: u64, span_s: f64) -> u64 {
    // Stored data of the last hours will do.
    let newest = "max(max_over_time(timestamp(up)[12h:10s]))";
    let newest = prometheus.post("query", &[("query", newest)]).await;
    let newest = newest["data"]["result"][0]["value"][1].as_str().unwrap().parse::<f64>().unwrap();
    let quiet_ms = quiet_millisecond(prometheus, newest).await;
    let settled = (newest - UNDERWAY_S).floor() + quiet_ms as f64 / 1e3;
    let names = names_held_alike(prometheus, aether, settled).await;
    let mut random = Random(seed);
    let mut differences: u64 = 0;
    let mut explained: BTreeMap<Change, u64> = BTreeMap::new();
    let mut kinds = [0u64; 3];
    for number in 0..queries {
        let query = generator::expression(&mut random, &names);
        let back_s = UNDERWAY_S + random.below(span_s.max(1.0) as u64) as f64;
        let end = (newest - back_s).floor() + quiet_ms as f64 / 1e3;
        let (end_text, mut pairs) = (format!("{end:.3}"), vec![("query", query.as_str())]);
        let range_s = 1 + random.below((span_s / 2.0).max(2.0) as u64);
        let start_text = format!("{:.3}", end - range_s as f64);
        let step = (1 + random.below(15)).to_string();
        let path = if random.below(2) == 0 {
            pairs.push(("time", &end_text));
            "query"
        } else {
            pairs.extend([("start", &*start_text), ("end", &*end_text), ("step", &*step)]);
            "query_range"
        };
        let mut agreement = ask(prometheus, aether, path, &pairs).await;
        if agreement.is_err() {
            // On a busy machine a sample may still be underway; it may not stay so.
            tokio::time::sleep(LATE_SAMPLES).await;
            agreement = ask(prometheus, aether, path, &pairs).await;
        }
        match agreement {
            Ok(kind) => kinds[kind as usize] += 1,
            Err(difference) => {
                match explain(prometheus, aether, &query, difference.at_ms).await {
                    Some(change) => *explained.entry(change).or_default() += 1,
                    None => differences += 1,
                }
                if differences <= DIFFERENCES_SHOWN_MAX {
                    println!("#{number} {path} {pairs:?}\n    {}", difference.text);
                }
            }
        }
    }
    println!(
        "{queries} queries: {} equal with data, {} equal and empty, {} refused by both, \
         {differences} differ",
        kinds[0], kinds[1], kinds[2]
    );
    for (change, count) in explained {
        println!("explained: {count} by {}", change.name());
    }
    assert!(kinds[0] * 3 > queries, "most answers should hold data");
    differences
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_equal_those_of_prometheus() {
    let client = reqwest::Client::new();
    let seed = setting("AETHER_DIFF_SEED", 1);
    let api = |url: &str| Api { url: url.to_owned(), client: client.clone() };
    if let (Ok(prometheus), Ok(aether)) =
        (std::env::var("AETHER_DIFF_PROMETHEUS"), std::env::var("AETHER_DIFF_AETHER"))
    {
        let span_s = setting("AETHER_DIFF_SPAN_SECONDS", 600) as f64;
        let queries = setting("AETHER_DIFF_QUERIES", 10_000);
        let differences = ask_both(&api(&prometheus), &api(&aether), queries, seed, span_s).await;
        assert_eq!(differences, 0, "differences from Prometheus, see above");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("aether"), &[]).await;
    let write_url = format!("{}/api/v1/write", server.url);
    let Some((_peers, port, _)) = start_peers(dir.path(), &write_url) else {
        println!("skipped: no `prometheus` on this machine");
        return;
    };
    let scraped_s = setting("AETHER_DIFF_SCRAPE_SECONDS", 100);
    tokio::time::sleep(Duration::from_secs(scraped_s)).await;
    let queries = setting("AETHER_DIFF_QUERIES", 400);
    let prometheus = api(&format!("http://127.0.0.1:{port}"));
    let differences = ask_both(&prometheus, &api(&server.url), queries, seed, ASKED_SPAN_S).await;
    assert_eq!(differences, 0, "differences from Prometheus, see above");
    let log = std::fs::read_to_string(dir.path().join("prometheus.log")).unwrap();
    let complaints: Vec<_> = log.lines().filter(|line| line.contains("level=error")).collect();
    assert!(complaints.is_empty(), "Prometheus complained of our remote write: {complaints:#?}");
}
