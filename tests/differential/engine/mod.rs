//! Random questions of nearly the whole language asked of the real engine of Prometheus 3.14 and of
//! us, over the same series: labels, values, order, remarks and the texts of errors must agree.
//!
//! The engine is a small server around Prometheus' own sources, `engine.go`, whose head says how to
//! build it. What is known to differ is named, counted and printed ([`known::Known`]); anything else
//! fails the test.
//!
//! ```text
//! AETHER_DIFF_ENGINE=/path/to/engine AETHER_DIFF_QUERIES=10000 AETHER_DIFF_SEED=1 \
//! cargo test --test it differential::engine -- --nocapture
//! ```

mod calls;
mod data;
mod judge;
mod known;
mod mangle;
mod queries;
mod selectors;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{Api, DIFFERENCES_SHOWN_MAX, Peers, compare};
use crate::differential::engine::judge::{Agreement, judge_remarks, judge_values};
use crate::differential::engine::known::{Known, cause_in_query};
use crate::support::{Random, Server, free_port, setting};

/// One of so many queries is mangled.
const MANGLED_ONE_OF: u64 = 6;
/// How often the engine is asked again before its answer counts as always the same.
const ASKED_AGAIN_MAX: usize = 20;
const READY_TRIES_MAX: usize = 500;

/// A question to a query API.
#[derive(Debug)]
struct Question {
    path: &'static str,
    pairs: Vec<(&'static str, String)>,
}

impl Question {
    /// About an instant or about a range, that has to do with the data's times.
    fn new(random: &mut Random, query: String) -> Self {
        let seconds = |ms: i64| format!("{:.3}", ms as f64 / 1e3);
        let span_ms = data::SAMPLES as i64 * data::STEP_MS;
        let within = |random: &mut Random, bound: i64| random.below(bound as u64) as i64;
        let offset_ms = match random.below(4) {
            0 => within(random, span_ms / 1_000) * 1_000,
            1 => within(random, span_ms / data::STEP_MS) * data::STEP_MS,
            // Beside a sample.
            2 => within(random, span_ms / data::STEP_MS) * data::STEP_MS + within(random, 3) - 1,
            _ => within(random, span_ms + 600_000) - 300_000,
        };
        let start_ms = data::START_MS + offset_ms;
        if random.below(2) == 0 {
            return Self {
                path: "query",
                pairs: vec![("query", query), ("time", seconds(start_ms))],
            };
        }
        let step_ms = [15_000, 30_000, 60_000, 7_000, 120_000, 61_000, 300_000, 14_999]
            [random.below(8) as usize];
        // A query of one step whose end is another time sorts in vain for Prometheus alone.
        let steps = within(random, 40);
        let end_ms = start_ms + step_ms * steps + within(random, 2).min(steps);
        Self {
            path: "query_range",
            pairs: vec![
                ("query", query),
                ("start", seconds(start_ms)),
                ("end", seconds(end_ms)),
                ("step", (step_ms as f64 / 1e3).to_string()),
            ],
        }
    }

    async fn ask(&self, api: &Api) -> Value {
        let pairs: Vec<(&str, &str)> =
            self.pairs.iter().map(|(name, text)| (*name, text.as_str())).collect();
        api.post(self.path, &pairs).await
    }
}

/// The engine in both modes, and us.
struct Asked {
    delayed: Api,
    default: Api,
    ours: Api,
}

impl Asked {
    /// Values and remarks must be those of the engine that removes names when the query ends;
    /// where only the other one agrees, that is known.
    async fn judge(
        &self,
        question: &Question,
    ) -> Result<(compare::Agreement, BTreeSet<Known>), String> {
        let (delayed, default, ours) = tokio::join!(
            question.ask(&self.delayed),
            question.ask(&self.default),
            question.ask(&self.ours)
        );
        let kind = match ours["data"]["result"].as_array() {
            None => compare::Agreement::Refused,
            Some(list) if list.is_empty() => compare::Agreement::Empty,
            Some(_) => compare::Agreement::Data,
        };
        let query = &question.pairs[0].1;
        let values = |theirs: &Value| judge_values(query, theirs, &ours);
        let panics = |answer: &Value| {
            answer["error"].as_str().is_some_and(|text| text.contains("runtime error"))
        };
        if panics(&default) {
            return Ok((kind, [Known::Panic].into()));
        }
        let agreement = either(values(&delayed), values(&default)).and_then(|known| {
            let remarks = match panics(&delayed) {
                true => Ok([Known::Panic].into()),
                false => either(judge_remarks(&delayed, &ours), judge_remarks(&default, &ours)),
            };
            remarks.map(|more| &known | &more)
        });
        let text = match agreement {
            Ok(known) => return Ok((kind, known)),
            Err(text) => text,
        };
        let known = match self.contradicts_itself(question, &delayed).await {
            true => Some(Known::OrderOfMap),
            false => cause_in_query(query),
        };
        match known {
            Some(known) => Ok((kind, [known].into())),
            None => {
                let short = |answer: &Value| answer.to_string().chars().take(600).collect();
                let (theirs, ours): (String, String) = (short(&delayed), short(&ours));
                Err(format!("{text}\n  theirs {theirs}\n  ours   {ours}"))
            }
        }
    }

    async fn contradicts_itself(&self, question: &Question, answer: &Value) -> bool {
        for _ in 0..ASKED_AGAIN_MAX {
            let again = question.ask(&self.delayed).await;
            if judge_values(&question.pairs[0].1, answer, &again).is_err() {
                return true;
            }
        }
        false
    }
}

/// Agreement with one of the two engines.
fn either(delayed: Agreement, default: Agreement) -> Agreement {
    match (delayed, default) {
        (Ok(known), Ok(_)) => Ok(known),
        (Ok(known), Err(_)) => Ok(&known | &[Known::OnlyDelayed].into()),
        (Err(_), Ok(known)) => Ok(&known | &[Known::OnlyDefault].into()),
        (Err(difference), Err(_)) => Err(difference),
    }
}

/// Starts the engine over a file of series; it removes names at the end if `delayed` is 1.
async fn start_engine(binary: &str, file: &str, delayed: &str) -> (Peers, Api) {
    let address = format!("127.0.0.1:{}", free_port());
    let child = Command::new(binary)
        .args([file, &address])
        .env("DELAYED", delayed)
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{binary}: {error}"));
    let api = Api { url: format!("http://{address}"), client: reqwest::Client::new() };
    let peers = Peers(vec![child]);
    for _ in 0..READY_TRIES_MAX {
        if api.client.get(format!("{}/-/ready", api.url)).send().await.is_ok() {
            return (peers, api);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{binary} was not ready in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_equal_those_of_the_engine_of_3_14() {
    let Ok(binary) = std::env::var("AETHER_DIFF_ENGINE") else {
        println!("skipped: AETHER_DIFF_ENGINE names no binary of engine.go");
        return;
    };
    let queries = setting("AETHER_DIFF_QUERIES", 10_000);
    let mut random = Random(setting("AETHER_DIFF_SEED", 1));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("series.jsonl");
    let lines = data::json_lines(Random(random.next()));
    std::fs::write(&file, &lines).unwrap();
    let (_delayed, delayed) = start_engine(&binary, file.to_str().unwrap(), "1").await;
    let (_default, default) = start_engine(&binary, file.to_str().unwrap(), "0").await;
    let server =
        Server::start(&dir.path().join("aether"), &["--rollups=off", "--use-start-timestamps=on"])
            .await;
    server.post("/api/v1/import", lines).await;
    let ours = Api { url: server.url.clone(), client: reqwest::Client::new() };
    let asked = Asked { delayed, default, ours };

    let (mut kinds, mut differences) = ([0u64; 3], 0u64);
    let mut known: BTreeMap<Known, u64> = BTreeMap::new();
    for number in 0..queries {
        if number == queries / 2 {
            // The second half is answered from blocks.
            server.post("/api/v1/admin/flush", String::new()).await;
        }
        let mut query = queries::query(&mut random);
        if random.below(MANGLED_ONE_OF) == 0 {
            query = mangle::mangled(&mut random, &query);
        }
        let question = Question::new(&mut random, query);
        match asked.judge(&question).await {
            Ok((kind, found)) => {
                kinds[kind as usize] += 1;
                found.into_iter().for_each(|one| *known.entry(one).or_default() += 1);
            }
            Err(text) => {
                differences += 1;
                if differences <= DIFFERENCES_SHOWN_MAX {
                    println!("#{number} {question:?}\n  {text}");
                }
            }
        }
    }
    println!(
        "{queries} queries: {} alike with data, {} alike and empty, {} refused alike, \
         {differences} differ",
        kinds[0], kinds[1], kinds[2]
    );
    for (one, count) in known {
        println!("known: {count} {one:?}: {}", one.reason());
    }
    assert!(kinds[0] * 3 > queries, "most answers should hold data");
    assert_eq!(differences, 0, "differences from Prometheus 3.14, see above");
}
