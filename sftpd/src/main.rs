//! The program. Everything it does is in the library.

use clap::Parser;

fn main() -> std::process::ExitCode {
    match sftpd::cli::Cli::parse().run() {
        Ok(()) => pair::exit::DONE.into(),
        Err(error) => pair::exit::report("sftpd", &error),
    }
}
