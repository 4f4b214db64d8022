//! The program: arguments in, exit code out.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use stresstest::cli::{Arguments, run};
use tokio_util::sync::CancellationToken;

/// How long what is under way may hold up the end.
const SHUTDOWN_MAX: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return pair::exit::report("stresstest", &error.into()),
    };
    let outcome = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        tokio::spawn(pair::shutdown::on_signal(shutdown.clone()));
        run(arguments, shutdown).await
    });
    runtime.shutdown_timeout(SHUTDOWN_MAX);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => pair::exit::report("stresstest", &error),
    }
}
