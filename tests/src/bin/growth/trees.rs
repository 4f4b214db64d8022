//! Trees that are the same on both sides: how long filesync's pass takes to find that out, and how much memory.

use tests::bench::growth::{Curve, Point, Unit, Wanted};
use tests::measure::{folder_on_disk, make_equal_trees, timed_pass};
use tests::{Machine, Mirror, new_secret};

use super::ROUNDS;
use super::page::Section;

const FILES: [usize; 4] = [10, 1000, 100_000, 1_000_000];
const FILES_PER_FOLDER: usize = 1000;
/// From one look at filesync's metrics to the next, and of memory by the kernel.
const GRAIN_S: f64 = 0.02;
const GRAIN_BYTES: f64 = 4096.0;

/// Seconds and the most memory of some passes.
type Passes = (Vec<f64>, Vec<f64>);

pub fn run() {
    let names = ["nothing has changed", "the first pass over a copied disk: all by hash"];
    let mut times = names.map(|name| Curve::new(name, Unit::Seconds, Wanted::Linear));
    let mut memory = names.map(|name| Curve::new(name, Unit::Bytes, Wanted::Flat));
    for files in FILES {
        for (at, (seconds, peaks)) in measure(files).into_iter().enumerate() {
            times[at].points.push(Point::of(files as f64, &seconds, GRAIN_S));
            memory[at].points.push(Point::of(files as f64, &peaks, GRAIN_BYTES));
        }
    }
    let remark = "Both machines of the pair on one disk, 1,000 files in a folder; from the start of filesync to the end of its pass, medians of 3 \
                  rounds (of the first pass: one). Memory is the most that filesync held (`VmHWM`).";
    let mut section = Section::new("trees", ("files on each side", Unit::Count), remark);
    section.add("time", "A pass of filesync", times.into());
    section.add("memory", "Memory of filesync at the peak of a pass", memory.into());
    section.write();
}

/// Of passes in which nothing has changed, and of the first one.
fn measure(files: usize) -> [Passes; 2] {
    let folder = folder_on_disk("growth-");
    let (here, there, secret) = (folder.path().join("master"), folder.path().join("standby"), new_secret());
    make_equal_trees(&[here.join("bench"), there.join("bench")], files, FILES_PER_FOLDER);
    let master = Machine::master().secret(&secret).data(&here).quiet().start();
    let standby = Machine::master().secret(&secret).standby().data(&there).quiet().start();
    let mut mirror = Mirror::of(&master, &secret, &standby.address().to_string());
    let first = timed_pass(&mut mirror);
    let unchanged = (0..ROUNDS).map(|_| timed_pass(&mut mirror)).unzip();
    [unchanged, (vec![first.0], vec![first.1])]
}
