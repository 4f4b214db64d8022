//! The program: arguments in, exit code out.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use console::cli::{Arguments, run};

/// How long what is under way may hold up the end.
const SHUTDOWN_MAX: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    pair::program::run("console", SHUTDOWN_MAX, |shutdown| run(arguments, shutdown))
}
