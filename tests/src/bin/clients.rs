//! `make clients`: tries every client against a server of its own and writes the matrix into `docs/clients.md`.
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a tool of this workshop")]

use std::process::ExitCode;

use tests::matrix::{ABILITIES, CLIENTS, Cell, Sizes, try_out};

const BEGIN: &str = "<!-- The table is written by `make clients`. -->";
const END: &str = "<!-- End of what `make clients` writes. -->";

const SIZES: Sizes = Sizes { large_bytes: 1 << 30, small_files: 2000 };

fn main() -> ExitCode {
    let only = std::env::args().nth(1);
    let mut table = format!("| client | version | {} |\n", ABILITIES.map(|(name, _)| name).join(" | "));
    table.push_str(&format!("|{}\n", "---|".repeat(ABILITIES.len() + 2)));
    let (mut mistakes, mut missing) = (Vec::new(), Vec::new());
    for client in CLIENTS.iter().filter(|client| only.as_ref().is_none_or(|only| client.name.contains(only.as_str()))) {
        if !client.is_there() {
            missing.push(client.name);
            continue;
        }
        println!("{} {}", client.name, client.version());
        let cells = try_out(client, SIZES);
        for (cell, (ability, _)) in cells.iter().zip(ABILITIES) {
            if let Cell::Bad(reason) = cell {
                mistakes.push(format!("{}, {ability}: {reason}", client.name));
            }
            println!("  {ability}: {}", shown(cell));
        }
        let cells: Vec<_> = cells.iter().map(shown).collect();
        table.push_str(&format!("| {} | {} | {} |\n", client.name, client.version(), cells.join(" | ")));
    }
    for mistake in &mistakes {
        println!("WRONG: {mistake}");
    }
    if only.is_none() && missing.is_empty() && mistakes.is_empty() {
        write(&table);
        return ExitCode::SUCCESS;
    }
    println!("docs/clients.md stays as it is: not installed {missing:?}, {} mistakes", mistakes.len());
    ExitCode::FAILURE
}

fn shown(cell: &Cell) -> String {
    match cell {
        Cell::Good("") => "✓".into(),
        Cell::Good(remark) => format!("✓ {remark}"),
        Cell::Lacking => "–".into(),
        Cell::Bad(_) => "✗".into(),
    }
}

/// Puts the table between its marks.
fn write(table: &str) {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/clients.md");
    let text = std::fs::read_to_string(page).expect("the page");
    let (head, rest) = text.split_once(BEGIN).expect("the page has the first mark");
    let (_, tail) = rest.split_once(END).expect("the page has the second mark");
    let day = today();
    let text = format!("{head}{BEGIN}\n\n{table}\nTried on {day}.\n\n{END}{tail}");
    std::fs::write(page, text).expect("the page can be written");
}

/// The day, from the system: this tool needs no calendar of its own.
fn today() -> String {
    let (_, day) = tests::run(std::process::Command::new("date").args(["-u", "+%Y-%m-%d"]));
    day.trim().to_owned()
}
