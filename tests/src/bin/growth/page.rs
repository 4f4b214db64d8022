//! The page `docs/growth.md`: each part's tables and charts between marks of its own. What stands outside of them is a person's.

use std::path::Path;

use tests::bench::chart::draw;
use tests::bench::growth::{Curve, Unit, table};

/// A part's results.
pub struct Section {
    name: &'static str,
    /// What grows, and what it is counted in.
    work: (&'static str, Unit),
    remark: String,
    text: String,
    bad: Vec<String>,
}

impl Section {
    /// An empty one. The remark says how it was measured.
    pub fn new(name: &'static str, work: (&'static str, Unit), remark: &str) -> Section {
        Section { name, work, remark: remark.to_owned(), text: String::new(), bad: Vec::new() }
    }

    /// Adds a table of curves of one unit, and their chart.
    pub fn add(&mut self, chart: &str, title: &str, curves: Vec<Curve>) {
        let file = format!("{}-{chart}.svg", self.name);
        let folder = docs().join("growth");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(&file), draw(title, self.work, &curves.iter().collect::<Vec<_>>())).expect("a file");
        let table = table(&format!("{title}: {}", self.work.0), self.work.1, &curves);
        println!("{table}");
        self.text.push_str(&format!("![{title}](growth/{file})\n\n{table}\n"));
        self.bad.extend(curves.iter().flat_map(|curve| curve.bad_steps(self.work.1)));
    }

    /// Puts all between the part's marks.
    pub fn write(self) {
        let verdict = match self.bad.as_slice() {
            [] => "No step is worse than linear, and no memory grows with the work.".to_owned(),
            bad => format!("Worse than wanted: {}.", bad.join("; ")),
        };
        println!("{verdict}\n");
        let [begin, end] = ["written by", "end of what is written by"]
            .map(|what| format!("<!-- {what} make growth: {} -->", self.name));
        let page = docs().join("growth.md");
        let text = std::fs::read_to_string(&page).expect("the page");
        let (head, rest) = text.split_once(&begin).expect("the page has the part's first mark");
        let (_, tail) = rest.split_once(&end).expect("the page has the part's last mark");
        let remark = format!("{} {}", self.remark, machine());
        let text = format!("{head}{begin}\n\n{remark}\n\n{}{verdict}\n\n{end}{tail}", self.text);
        std::fs::write(page, text).expect("the page can be written");
    }
}

fn docs() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs"))
}

/// Where and when.
fn machine() -> String {
    let cores = std::thread::available_parallelism().expect("cores");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a kernel");
    let version: Vec<&str> = kernel.trim().split('.').take(2).collect();
    format!("{cores} cores, Linux {}, {}.", version.join("."), jiff::Timestamp::now().strftime("%Y-%m-%d"))
}
