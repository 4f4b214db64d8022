//! The console beside a machine, as the compose files start it.

use std::process::Command;

use crate::{Machine, Program, binary};

/// Starts it; gives it and its address.
pub fn console(machine: &Machine) -> (Program, String) {
    let mut command = Command::new(binary("console"));
    command.env("CONSOLE_LISTEN", "127.0.0.1:0").env("CONSOLE_NODES", format!("here={}", machine.address()));
    command.env("CONSOLE_STATE", machine.state()).env("CONSOLE_LOGS", machine.logs()).env("TZ", "UTC");
    let mut program = Program::start(command.env("CONSOLE_DATA", machine.data()));
    let address = program.wait_for_line("listening on http://").trim().to_owned();
    (program, address)
}
