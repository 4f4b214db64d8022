//! The table that `make bench` prints: figures of each server, ratios to the peers, and whether they are what is wanted.

use super::Sample;
use super::server::Server;

/// What our figure is to be, divided by a peer's.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// It is shown.
    None,
}

impl Goal {
    /// Our figure by theirs, and the goal; bold where it is missed.
    pub fn shown(self, ours: f64, theirs: Option<f64>) -> String {
        let Some(theirs) = theirs.filter(|theirs| *theirs > 0.0) else { return "–".into() };
        let ratio = ours / theirs;
        let (is_met, wanted) = match self {
            Goal::AtMost(most) => (ratio <= most, format!(" (≤ {most:.2})")),
            Goal::AtLeast(least) => (ratio >= least, format!(" (≥ {least:.1})")),
            Goal::None => (true, String::new()),
        };
        if is_met { format!("{ratio:.2}{wanted}") } else { format!("**{ratio:.2}**{wanted}") }
    }
}

/// Prints the head.
pub fn begin() {
    println!(
        "| workload | sftpd | OpenSSH | rclone | ProFTPD | to OpenSSH | to rclone |\n|---|---|---|---|---|---|---|"
    );
}

/// Prints a line. `figures` are of servers by their names; the first is ours, whatever it is called.
pub fn line(what: &str, figures: &[(&str, f64)], openssh: Goal, rclone: Goal) {
    let of = |name: &str| figures.iter().find(|(known, _)| *known == name).map(|(_, figure)| *figure);
    let shown = |figure: Option<f64>| figure.map_or("–".into(), rounded);
    let ours = figures.first().map_or(f64::NAN, |(_, figure)| *figure);
    let peers = ["OpenSSH", "rclone", "ProFTPD"].map(|name| shown(of(name)));
    let ratios = [openssh.shown(ours, of("OpenSSH")), rclone.shown(ours, of("rclone"))];
    println!("| {what} | {} | {} | {} |", rounded(ours), peers.join(" | "), ratios.join(" | "));
}

/// Prints a line for the time and one for the work of a workload.
pub fn lines(what: &str, servers: &[&Server], samples: &[Sample], wall: [Goal; 2], cpu: [Goal; 2]) {
    let figures = |figure: fn(&Sample) -> f64| -> Vec<(&str, f64)> {
        servers.iter().zip(samples).map(|(server, sample)| (server.name, figure(sample))).collect()
    };
    line(&format!("{what}, s"), &figures(|sample| sample.wall_s), wall[0], wall[1]);
    line("… server CPU, s", &figures(|sample| sample.cpu_s), cpu[0], cpu[1]);
}

fn rounded(figure: f64) -> String {
    match figure {
        figure if figure >= 100.0 => format!("{figure:.0}"),
        figure if figure >= 10.0 => format!("{figure:.1}"),
        figure if figure >= 0.1 => format!("{figure:.2}"),
        figure => format!("{figure:.4}"),
    }
}
