//! The program: arguments in, exit code out.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use filesync::command::{Arguments, run};

/// How long disk work may hold up the end.
const SHUTDOWN_MAX: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    pair::program::run("filesync", SHUTDOWN_MAX, |shutdown| run(arguments, shutdown))
}
