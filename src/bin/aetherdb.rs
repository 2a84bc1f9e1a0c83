//! The server's process: arguments, logging, threads, exit code.
//!
//! Exit codes: 0 after a signal, 1 a failure at run time, 2 wrong usage, 3 the data directory is
//! damaged or in use.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use aetherdb::config::Config;
use aetherdb::server;
use clap::Parser;
use tracing_subscriber::EnvFilter;

/// Measured against the system's allocator with parallel writes: buffers of a request are freed
/// on another thread than the one that made them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: u8 = 2;
/// hyper warns of every idle connection that it closes.
const LIBRARIES: &str = "hyper=error,hyper_util=error,datafusion=warn,object_store=warn";

fn main() -> ExitCode {
    let config = Config::parse();
    if let Err(error) = config.check() {
        eprintln!("error: {error}");
        return ExitCode::from(USAGE);
    }
    if config.print_config {
        // A reader that has gone away, as `head` does, is no failure.
        let _ = std::io::stdout().write_all(config.print().as_bytes());
        return ExitCode::SUCCESS;
    }
    let filter = match EnvFilter::try_new(format!("{LIBRARIES},{}", config.log)) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("error: invalid value '{}' for '--log': {error}", config.log);
            return ExitCode::from(USAGE);
        }
    };
    // Colours are for eyes: not in files and journals, and not against https://no-color.org.
    let colours = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr);
    if config.log_json {
        logs.json().init()
    } else {
        logs.init()
    }

    let threads = match tokio::runtime::Builder::new_multi_thread()
        .thread_name("http")
        .enable_all()
        .build()
    {
        Ok(threads) => threads,
        Err(error) => {
            tracing::error!(%error, "threads cannot be started");
            return ExitCode::FAILURE;
        }
    };
    let ended = threads.block_on(server::run(&config));
    threads.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "stopped");
            ExitCode::from(error.exit_code())
        }
    }
}
