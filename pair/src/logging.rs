//! The programs' own log on standard error: `LOG_LEVEL` (error, warn, info, debug, trace) and `LOG_FORMAT` (text, json).
//!
//! Who transferred what is not written here but to the activity log.

use crate::exit::usage;

/// Starts the log. A second call in one process keeps the first.
pub fn init() -> anyhow::Result<()> {
    let level = setting("LOG_LEVEL", "info");
    if level.parse::<tracing::Level>().is_err() {
        return Err(usage(format!("LOG_LEVEL is \"{level}\"; it takes error, warn, info, debug or trace")));
    }
    // russh reports every refused connection at its own levels; what matters of them our programs say themselves.
    let filter = tracing_subscriber::EnvFilter::new(format!("{level},russh=error"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // Without this a log that nobody reads any more (a closed pipe) makes every line of it a panic.
    let log = log.log_internal_errors(false);
    let _already_started = match setting("LOG_FORMAT", "text").as_str() {
        "text" => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        "json" => log.json().flatten_event(true).try_init(),
        other => return Err(usage(format!("LOG_FORMAT is \"{other}\"; it takes text or json"))),
    };
    Ok(())
}

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
}
