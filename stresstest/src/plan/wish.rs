//! What somebody has typed, and what is wrong with it: all mistakes at once, each with its field.

use std::time::Duration;

use pair::config::Interval;

use super::{Mix, Plan, Sizes, Target, Verify};
use crate::config::Config;

/// Files that one connection may have under way at a time.
const IN_FLIGHT_MAX: usize = 32;

/// A run as a form or a command line describes it. An empty text takes the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Name or address of a configured target.
    pub target: String,
    /// Names or addresses of configured standbys; none means all of them.
    pub standbys: Vec<String>,
    /// The login name.
    pub account: String,
    /// How many files.
    pub files: String,
    /// As [`Sizes`] are written.
    pub sizes: String,
    /// How many connections.
    pub clients: String,
    /// How many files at a time on each connection.
    pub in_flight: String,
    /// As a [`Mix`] is written.
    pub mix: String,
    /// As an [`Interval`] is written; empty means: until all files are there.
    pub duration: String,
    /// As an [`Interval`] is written, or 0.
    pub ramp: String,
    /// As [`Verify`] is written.
    pub verify: String,
    /// A number; empty means: any.
    pub seed: String,
    /// Whether the files stay.
    pub keep: bool,
}

impl Default for Wish {
    fn default() -> Wish {
        Wish {
            target: String::new(),
            standbys: Vec::new(),
            account: String::new(),
            files: "1000".into(),
            sizes: "4KiB..1MiB".into(),
            clients: "8".into(),
            in_flight: "1".into(),
            mix: Mix::default().to_string(),
            duration: String::new(),
            ramp: String::new(),
            verify: "target".into(),
            seed: String::new(),
            keep: false,
        }
    }
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The field of [`Wish`].
    pub field: &'static str,
    /// What is wrong, and what to do.
    pub sentence: String,
}

/// Gathers mistakes, so that all are told at once.
#[derive(Default)]
struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// The value, or its mistake noted.
    fn take<T>(&mut self, field: &'static str, value: Result<T, String>) -> Option<T> {
        value.map_err(|sentence| self.0.push(Mistake { field, sentence })).ok()
    }
}

impl Wish {
    /// The plan that is meant, or everything that is wrong with it.
    pub fn check(&self, config: &Config) -> Result<Plan, Vec<Mistake>> {
        let mut mistakes = Mistakes::default();
        let plan = self.read(config, &mut mistakes);
        if let Some(plan) = &plan {
            mistakes.take("files", within_bytes(plan, config.limits.bytes.0));
        }
        match plan {
            Some(plan) if mistakes.0.is_empty() => Ok(plan),
            _ => Err(mistakes.0),
        }
    }

    /// The plan; where there is none its mistakes were noted.
    fn read(&self, config: &Config, mistakes: &mut Mistakes) -> Option<Plan> {
        let (usual, limits) = (Wish::default(), &config.limits);
        let verify = mistakes.take("verify", or(&self.verify, &usual.verify).parse());
        let target = mistakes.take("target", self.target(config));
        let standbys = match verify {
            Some(Verify::Standby) => mistakes.take("standbys", self.standbys(config)),
            _ => Some(Vec::new()),
        };
        let account = match self.account.trim() {
            "" => Err("who logs in? Name an account of the pair".to_owned()),
            account => Ok(account.to_owned()),
        };
        let account = mistakes.take("account", account);
        let files = mistakes.take("files", number(or(&self.files, &usual.files), "files", limits.files));
        let sizes = mistakes.take("sizes", sizes(or(&self.sizes, &usual.sizes), limits.file_size.0));
        let clients = number(or(&self.clients, &usual.clients), "clients", limits.clients as u64);
        let clients = mistakes.take("clients", clients);
        let in_flight = number(or(&self.in_flight, &usual.in_flight), "files in flight", IN_FLIGHT_MAX as u64);
        let in_flight = mistakes.take("in_flight", in_flight);
        let mix = mistakes.take("mix", or(&self.mix, &usual.mix).parse::<Mix>());
        let duration = mistakes.take("duration", span(&self.duration, "the load", limits.duration));
        let ramp = mistakes.take("ramp", span(&self.ramp, "the ramp", limits.duration));
        let seed = mistakes.take("seed", seed(&self.seed));
        Some(Plan {
            target: target?,
            standbys: standbys?,
            account: account?,
            files: files?,
            sizes: sizes?,
            clients: clients? as usize,
            in_flight: in_flight? as usize,
            mix: mix?,
            duration: duration?,
            load_max: config.limits.duration.get(),
            ramp: ramp?.unwrap_or_default(),
            verify: verify?,
            seed: seed?,
            keep: self.keep,
        })
    }

    fn target(&self, config: &Config) -> Result<Target, String> {
        let known = config.targets().map_err(|error| error.to_string())?;
        let wanted = self.target.trim();
        match known.as_slice() {
            [] => Err("no target is configured: set targets in stresstest.yaml, or STRESSTEST_TARGETS".to_owned()),
            [only] if wanted.is_empty() => Ok(only.clone()),
            _ => find(&known, wanted),
        }
    }

    fn standbys(&self, config: &Config) -> Result<Vec<Target>, String> {
        let known = config.standbys().map_err(|error| error.to_string())?;
        let wanted: Vec<&str> = self.standbys.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).collect();
        match wanted.as_slice() {
            _ if known.is_empty() => {
                Err("no standby is configured: set standbys in stresstest.yaml, or STRESSTEST_STANDBYS".to_owned())
            }
            [] => Ok(known),
            wanted => wanted.iter().map(|name| find(&known, name)).collect(),
        }
    }
}

/// What was typed, or the default.
fn or<'a>(typed: &'a str, usual: &'a str) -> &'a str {
    if typed.trim().is_empty() { usual } else { typed.trim() }
}

fn find(known: &[Target], wanted: &str) -> Result<Target, String> {
    let found = known.iter().find(|target| target.name == wanted || target.address == wanted);
    found.cloned().ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|target| target.name.as_str()).collect();
        format!("\"{wanted}\" is not configured: choose one of {}", names.join(", "))
    })
}

fn number(text: &str, what: &str, most: u64) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("\"{text}\": the number of {what} is between 1 and {most}")),
    }
}

fn sizes(text: &str, most: u64) -> Result<Sizes, String> {
    let sizes: Sizes = text.parse()?;
    if sizes.largest() > most {
        return Err(format!("{sizes}: a file may have {} at most (limits.file_size)", Sizes::Fixed(most)));
    }
    Ok(sizes)
}

fn within_bytes(plan: &Plan, most: u64) -> Result<(), String> {
    let all = plan.bytes();
    if all <= most {
        return Ok(());
    }
    let (all, most) = (indicatif::BinaryBytes(all), indicatif::BinaryBytes(most));
    Err(format!(
        "{} files of these sizes are {all} together, and a run may upload {most} (limits.bytes): take fewer or smaller ones",
        plan.files
    ))
}

/// A span of time; none where nothing or 0 is typed.
fn span(text: &str, what: &str, most: Interval) -> Result<Option<Duration>, String> {
    let text = text.trim();
    if text.is_empty() || text.trim_end_matches(char::is_alphabetic).trim() == "0" {
        return Ok(None);
    }
    let Interval(span) = text.parse::<Interval>()?;
    if span > most.get() {
        return Err(format!("\"{text}\": {what} may last {} s at most (limits.duration)", most.get().as_secs()));
    }
    Ok(Some(span))
}

/// A drawn seed has 53 bits: as many as every reader of JSON takes whole.
fn seed(text: &str) -> Result<u64, String> {
    match text.trim() {
        "" => getrandom::u64().map(|seed| seed >> 11).map_err(|error| error.to_string()),
        text => text.parse().map_err(|_| format!("\"{text}\": a seed is a whole number")),
    }
}
