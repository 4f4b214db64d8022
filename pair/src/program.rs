//! How a program with a runtime runs: until its work is done, or a signal ends it within its limit.

use std::process::ExitCode;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Runs a program's work, which ends when it is done or `shutdown` is said, and gives its exit code. What blocks beyond that may hold up
/// the end for `held_up_max`.
pub fn run<W>(program: &str, held_up_max: Duration, work: impl FnOnce(CancellationToken) -> W) -> ExitCode
where
    W: Future<Output = anyhow::Result<()>>,
{
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return crate::exit::report(program, &error.into()),
    };
    let outcome = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        tokio::spawn(crate::shutdown::on_signal(shutdown.clone()));
        work(shutdown).await
    });
    runtime.shutdown_timeout(held_up_max);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => crate::exit::report(program, &error),
    }
}
