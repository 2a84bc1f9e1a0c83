//! How far long work of the server is, while its answer is waited for.

use std::io::{self, IsTerminal};
use std::pin::pin;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::client::Client;

/// How often the server is asked.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// Waits for `answer`, and shows meanwhile, on a terminal, what `describe` makes of the status.
pub(crate) async fn watch<T>(
    client: &Client,
    answer: impl Future<Output = T>,
    describe: fn(&Value, &ProgressBar),
) -> T {
    if !io::stderr().is_terminal() {
        return answer.await;
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) =
        ProgressStyle::with_template("{spinner} {msg} {wide_bar} {percent}% {elapsed}")
    {
        bar.set_style(style);
    }
    let mut answer = pin!(answer);
    loop {
        tokio::select! {
            answer = &mut answer => {
                bar.finish_and_clear();
                return answer;
            }
            () = tokio::time::sleep(ASK_EVERY) => {
                // What cannot be shown is no reason to stop waiting.
                if let Ok(status) = client.get("/api/v1/status", &[]).await {
                    describe(&status["data"], &bar);
                }
                bar.tick();
            }
        }
    }
}
