//! Exit codes of all programs: 0 done, 1 failed, 2 wrong use or configuration.

/// Done.
pub const DONE: u8 = 0;
/// Failed: the same call may work later.
pub const FAILED: u8 = 1;
/// Wrong use or configuration: a person must change something first.
pub const USAGE: u8 = 2;

/// A mistake that only a person can mend. Its text names the file, line or address, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// The exit code for an error: [`USAGE`] where a [`Usage`] is anywhere in its chain, else [`FAILED`].
pub fn code(error: &anyhow::Error) -> u8 {
    if error.chain().any(|cause| cause.is::<Usage>()) { USAGE } else { FAILED }
}

/// Shorthand for an error that a person must mend.
pub fn usage(text: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Usage(text.into()))
}

/// Writes an error on one line, outermost context first, and returns its exit code.
#[allow(clippy::print_stderr, reason = "the last words of a program belong to the person who started it")]
pub fn report(program: &str, error: &anyhow::Error) -> std::process::ExitCode {
    eprintln!("{program}: {error:#}");
    code(error).into()
}
