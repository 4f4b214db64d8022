//! What `make bench` and `make growth` measure with: our server and its peers, clients that keep many requests under way, what a server
//! costs, tables and charts.

pub mod chart;
pub mod cost;
pub mod delay;
pub mod growth;
pub mod server;
pub mod table;
pub mod work;

use std::time::Instant;

use cost::cpu_s;
use server::Server;

/// What one run of a workload took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// From its start to its end, in seconds.
    pub wall_s: f64,
    /// What the server's processes have worked for it, in seconds of one core.
    pub cpu_s: f64,
}

/// Runs a workload once that begins without a connection and ends its own. The connections are part of it.
pub fn sample(server: &Server, work: impl FnOnce()) -> Sample {
    server.settle();
    let (before_s, began) = (cpu_s(server.process), Instant::now());
    work();
    let wall_s = began.elapsed().as_secs_f64();
    server.settle();
    Sample { wall_s, cpu_s: cpu_s(server.process) - before_s }
}

/// Does work once over connections that were there before, and stay.
pub async fn sample_of(server: &Server, work: impl Future<Output = ()>) -> Sample {
    let (before_s, began) = (cpu_s(server.process), Instant::now());
    work.await;
    Sample { wall_s: began.elapsed().as_secs_f64(), cpu_s: cpu_s(server.process) - before_s }
}

/// Runs a workload on each server in turns; gives the medians of both figures for each.
pub fn in_turns(servers: &[&Server], rounds: usize, mut work: impl FnMut(&Server) -> Sample) -> Vec<Sample> {
    let mut samples = vec![Vec::new(); servers.len()];
    for _ in 0..rounds {
        for (server, samples) in servers.iter().zip(&mut samples) {
            samples.push(work(server));
        }
    }
    let middle = |samples: &Vec<Sample>, figure: fn(&Sample) -> f64| {
        crate::measure::median(samples.iter().map(figure).collect())
    };
    let medians = samples.iter().map(|samples| Sample {
        wall_s: middle(samples, |sample| sample.wall_s),
        cpu_s: middle(samples, |sample| sample.cpu_s),
    });
    medians.collect()
}
