//! What a server's processes cost: work and memory, with all their children, by what the kernel says of them.

use std::fs::read_to_string;

/// The kernel counts in these (`getconf CLK_TCK` is 100 on all Linux systems).
const TICKS_PER_S: f64 = 100.0;

/// The processes that a process has started, and theirs, and itself.
pub fn family(process: u32) -> Vec<u32> {
    // Each stands with the thread that has started it.
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let started = threads.filter_map(|thread| read_to_string(thread.path().join("children")).ok());
    let ids = |text: String| text.split(' ').filter_map(|id| id.parse().ok()).collect::<Vec<u32>>();
    [process].into_iter().chain(started.flat_map(ids).flat_map(family)).collect()
}

/// How long a process and its family have worked, those that have ended among it, in seconds of one core.
pub fn cpu_s(process: u32) -> f64 {
    let ticks = |process: &u32| {
        let text = read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // After the name in brackets, which may hold anything: the state is the third field, utime the 14th, cstime the 17th.
        let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(11).take(4);
        fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>()
    };
    family(process).iter().map(ticks).sum::<u64>() as f64 / TICKS_PER_S
}

/// How much memory a process and its family hold, what they share counted once among them (PSS), in KiB.
pub fn memory_kib(process: u32) -> u64 {
    let pss = |process: u32| {
        let text = read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default().to_owned();
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0)
    };
    family(process).into_iter().map(pss).sum()
}

/// The most memory that a process has held since [`forget_peak`], without its family, in bytes.
pub fn peak_bytes(process: u32) -> u64 {
    let status = read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
}

/// Has the kernel count from now on.
pub fn forget_peak(process: u32) {
    std::fs::write(format!("/proc/{process}/clear_refs"), "5").expect("the kernel lets us");
}
