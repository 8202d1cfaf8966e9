//! The command `tab86-relay`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use tab86_relay::config::{LogFormat, Options, Settings};
use tab86_relay::net::{SystemDialer, SystemResolver};
use tab86_relay::server;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> ExitCode {
    let settings = match Settings::load(Options::parse()) {
        Ok(settings) => settings,
        Err(error) => return fail(&error.to_string()),
    };
    let Ok(filter) = settings.log.parse::<Targets>() else {
        return fail(&format!("--log {:?} is not a level or TARGET=LEVEL,…", settings.log));
    };
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Text => registry.with(layer.with_ansi(false)).init(),
        LogFormat::Json => registry.with(layer.json()).init(),
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string()),
    };
    let code = runtime.block_on(run(settings));
    // Names that are still being looked up must not hold the process.
    runtime.shutdown_background();
    code
}

fn fail(message: &str) -> ExitCode {
    eprintln!("tab86-relay: {message}");
    ExitCode::from(2)
}

async fn run(settings: Settings) -> ExitCode {
    let resolver = SystemResolver::from_file(Path::new("/etc/resolv.conf"));
    match server::start(settings, Arc::new(SystemDialer), Arc::new(resolver)).await {
        Ok(running) => {
            stop_signal().await;
            tracing::info!("stopping");
            running.stop().await;
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error.to_string()),
    }
}

#[cfg(unix)]
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

#[cfg(not(unix))]
async fn stop_signal() {
    let _ = tokio::signal::ctrl_c().await;
}
