//! `aetherctl downsample`: asks for rollups of everything, and shows how far they are.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::Format;
use crate::client::{Client, Failure};
use crate::output;

/// How often the server is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(250);

pub(crate) async fn downsample(client: &Client, format: Format) -> Result<(), Failure> {
    let bar = ProgressBar::new(0);
    let style = "{bar:40} {pos}/{len} spans of two hours, {msg}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    let work = client.post("/api/v1/admin/downsample", &[]);
    tokio::pin!(work);
    let answer = loop {
        tokio::select! {
            answer = &mut work => break answer,
            () = tokio::time::sleep(ASK_EVERY) => show(client, &bar).await,
        }
    };
    bar.finish_and_clear();
    let answer = answer?;
    output::print(format, &answer["data"], || output::flattened(&answer["data"]));
    Ok(())
}

/// A status that does not come is no reason to stop waiting.
async fn show(client: &Client, bar: &ProgressBar) {
    let Ok(status) = client.get("/api/v1/status", &[]).await else { return };
    let running = &status["data"]["rollups"]["running"];
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    if running.is_object() {
        bar.set_length(number(&running["spans"]));
        bar.set_position(number(&running["spansDone"]));
        bar.set_message(format!("{} samples", number(&running["samples"])));
    }
}
