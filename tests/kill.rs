//! `kill -9` at random moments under load: what was acknowledged is there after the restart, with
//! the right values, and nothing else is.
//!
//! The page cache survives a killed process, so this tests recovery, not durability; that a
//! power cut loses nothing is shown on the simulated disk (`tests/engine`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::{Random, Server, setting};

const WRITERS: u64 = 4;
const SERIES_PER_WRITER: u64 = 25;
const ROUNDS_PER_REQUEST: u64 = 4;
const FIRST_MS: u64 = 1_700_000_000_000;
const STEP_MS: u64 = 1_000;

/// How far one writer has come: rounds below `acked` must be there, below `sent` may be.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    acked: u64,
    sent: u64,
}

/// The value is a function of series and round, so every sample can be checked.
fn value(writer: u64, series: u64, round: u64) -> u64 {
    (writer * 7 + series * 13) * 1_000 + round * 3 + (round * series) % 11
}

fn lines(writer: u64, rounds: std::ops::Range<u64>) -> String {
    let mut body = String::new();
    for round in rounds {
        for series in 0..SERIES_PER_WRITER {
            let (value, ms) = (value(writer, series, round), FIRST_MS + round * STEP_MS);
            body += &format!("kill,writer=w{writer},series=s{series} {value} {ms}\n");
        }
    }
    body
}

/// Posts until the server dies or `stop` is set; returns how far it came.
async fn write(
    client: reqwest::Client,
    url: String,
    writer: u64,
    mut progress: Progress,
    stop: Arc<AtomicBool>,
) -> Progress {
    while !stop.load(Ordering::Relaxed) {
        // What the last kill left in doubt is sent again: a retry must be a no-op.
        let rounds = progress.acked..progress.acked + ROUNDS_PER_REQUEST;
        progress.sent = progress.sent.max(rounds.end);
        let body = lines(writer, rounds.clone());
        match client.post(format!("{url}/api/v1/write")).body(body).send().await {
            Ok(answer) => {
                assert_eq!(answer.status(), 204, "writer {writer}");
                progress.acked = rounds.end;
            }
            Err(_) => break,
        }
    }
    progress
}

/// Reads back what `writer` wrote and holds it against the formula.
async fn verify(server: &Server, writer: u64, progress: Progress, from_round: u64) {
    if progress.sent == 0 {
        return;
    }
    let rounds = progress.sent - from_round;
    let end_s = (FIRST_MS + (progress.sent + 5) * STEP_MS) as f64 / 1e3;
    let query = format!("kill{{writer=\"w{writer}\"}}[{}s]", rounds + 6);
    let answer = server.query(&query, end_s).await;
    let mut found: BTreeMap<(u64, u64), String> = BTreeMap::new();
    for series in answer["data"]["result"].as_array().unwrap() {
        let name = series["metric"]["series"].as_str().unwrap();
        let number: u64 = name[1..].parse().unwrap();
        for sample in series["values"].as_array().unwrap() {
            let ms = (sample[0].as_f64().unwrap() * 1e3).round() as u64;
            let round = (ms - FIRST_MS) / STEP_MS;
            found.insert((number, round), sample[1].as_str().unwrap().to_owned());
        }
    }
    for ((series, round), text) in &found {
        assert!(*round < progress.sent, "w{writer} s{series}: round {round} was never sent");
        assert_eq!(
            *text,
            value(writer, *series, *round).to_string(),
            "w{writer} s{series} {round}"
        );
    }
    for series in 0..SERIES_PER_WRITER {
        for round in from_round..progress.acked {
            assert!(
                found.contains_key(&(series, round)),
                "lost: writer {writer} series {series} round {round} was acknowledged ({progress:?})"
            );
        }
        // One request is one record: after a crash it is there whole or not at all.
        for first in (progress.acked..progress.sent).step_by(ROUNDS_PER_REQUEST as usize) {
            let there = found.contains_key(&(0, first));
            for round in first..first + ROUNDS_PER_REQUEST {
                assert_eq!(found.contains_key(&(series, round)), there, "half a request survived");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_samples_survive_kill_9() {
    let cycles = setting("AETHER_KILL_CYCLES", 50);
    let mut random = Random(setting("AETHER_KILL_SEED", 42));
    let dir = tempfile::tempdir().unwrap();
    let mut progress = vec![Progress::default(); WRITERS as usize];
    let mut verified_to = vec![0; WRITERS as usize];
    for cycle in 0..cycles {
        // A small memtable, so that flushes happen by themselves now and then.
        let mut server = Server::start(dir.path(), &["--head-bytes-max=4MiB"]).await;
        for writer in 0..WRITERS {
            let at = writer as usize;
            verify(&server, writer, progress[at], verified_to[at]).await;
            verified_to[at] = progress[at].acked.saturating_sub(2 * ROUNDS_PER_REQUEST);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (client, url) = (server.client.clone(), server.url.clone());
                let before = progress[writer as usize];
                tokio::spawn(write(client, url, writer, before, Arc::clone(&stop)))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(20 + random.below(300))).await;
        if let Some(work) = [None, Some("flush"), Some("compact")][cycle as usize % 3] {
            // Kill in the middle of it.
            let work = server.client.post(format!("{}/api/v1/admin/{work}", server.url)).send();
            let work = tokio::spawn(work);
            tokio::time::sleep(Duration::from_millis(random.below(30))).await;
            server.kill();
            let _ = work.await.unwrap();
        } else {
            server.kill();
        }
        stop.store(true, Ordering::Relaxed);
        for (writer, task) in writers.into_iter().enumerate() {
            progress[writer] = task.await.unwrap();
        }
    }
    let server = Server::start(dir.path(), &[]).await;
    let mut samples = 0;
    for writer in 0..WRITERS {
        verify(&server, writer, progress[writer as usize], 0).await;
        samples += progress[writer as usize].acked * SERIES_PER_WRITER;
    }
    println!("{cycles} cycles, {samples} acknowledged samples, none lost, none wrong");
    assert!(samples > cycles * 100, "the load was too small to mean anything: {samples}");
}
