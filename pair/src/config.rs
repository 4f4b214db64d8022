//! Loads a program's settings: command line over environment over file over default.
//!
//! Every key of a file has an environment name: the program's name, `_`, the key in capitals, `__` between levels.
//! A mistake is refused with the place it was made in: file and line, variable, or option. Nothing is guessed. An empty
//! variable counts as not set.

use std::path::Path;
use std::time::Duration;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_yaml::{Mapping, Value};

use crate::exit::usage;

/// Variables that belong to all programs, or to none of their files.
const SHARED_VARIABLES: [&str; 4] = ["PAIR_SECRET", "PAIR_SECRET_FILE", "LOG_LEVEL", "LOG_FORMAT"];

/// Loads the settings of `program`. `flags` are keys (levels joined by `.`) and values of the command line.
///
/// `T` needs a default for every key and must refuse unknown ones (`#[serde(default, deny_unknown_fields)]`).
pub fn load<T: DeserializeOwned>(program: &str, file: Option<&Path>, flags: &[(&str, String)]) -> anyhow::Result<T> {
    let environment = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let mut variables = Vec::new();
    for (name, value) in environment {
        let value = value.into_string().map_err(|_| usage(format!("the variable {name} is not UTF-8")))?;
        variables.push((name, value));
    }
    variables.sort();
    let text = match file {
        Some(path) => Some((path, read(path)?)),
        None => None,
    };
    load_from(program, text.as_ref().map(|(path, text)| (*path, text.as_str())), &variables, flags)
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).map_err(|error| usage(format!("cannot read {}: {error}", path.display())))
}

fn load_from<T: DeserializeOwned>(
    program: &str,
    file: Option<(&Path, &str)>,
    variables: &[(String, String)],
    flags: &[(&str, String)],
) -> anyhow::Result<T> {
    let mut settings = Value::Mapping(Mapping::new());
    if let Some((path, text)) = file.filter(|(_, text)| !is_blank(text)) {
        let refused = |error: serde_yaml::Error| usage(format!("{}: {error}", path.display()));
        // Read as the settings first: only this way does the error carry its line.
        serde_yaml::from_str::<T>(text).map_err(refused)?;
        settings = serde_yaml::from_str(text).map_err(refused)?;
    }
    let prefix = format!("{}_", program.to_uppercase());
    for (name, value) in variables {
        let Some(key) = name.strip_prefix(&prefix).filter(|_| !SHARED_VARIABLES.contains(&name.as_str())) else {
            continue;
        };
        // Compose files hand on variables that nobody has set as empty ones.
        if value.is_empty() {
            continue;
        }
        let levels: Vec<String> = key.split("__").map(str::to_lowercase).collect();
        settings = overlay::<T>(settings, &levels, value).map_err(|error| usage(format!("{name}: {error}")))?;
    }
    for (key, value) in flags {
        let levels: Vec<String> = key.split('.').map(str::to_owned).collect();
        let option = key.replace('_', "-");
        settings = overlay::<T>(settings, &levels, value).map_err(|error| usage(format!("--{option}: {error}")))?;
    }
    serde_yaml::from_value(settings).map_err(|error| usage(error.to_string()))
}

fn is_blank(text: &str) -> bool {
    text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
}

/// The settings with one value set, checked. A value is taken as text first, as YAML (numbers, yes and no) second.
fn overlay<T: DeserializeOwned>(settings: Value, levels: &[String], value: &str) -> Result<Value, serde_yaml::Error> {
    let as_text = set(settings.clone(), levels, Value::String(value.to_owned()));
    let Err(text_error) = serde_yaml::from_value::<T>(as_text.clone()) else {
        return Ok(as_text);
    };
    let as_yaml = set(settings, levels, serde_yaml::from_str(value).unwrap_or(Value::Null));
    match serde_yaml::from_value::<T>(as_yaml.clone()) {
        Ok(_) => Ok(as_yaml),
        Err(_) => Err(text_error),
    }
}

fn set(settings: Value, levels: &[String], value: Value) -> Value {
    let Some((first, rest)) = levels.split_first() else {
        return value;
    };
    let mut mapping = match settings {
        Value::Mapping(mapping) => mapping,
        _ => Mapping::new(),
    };
    let inner = mapping.remove(first.as_str()).unwrap_or(Value::Null);
    mapping.insert(Value::String(first.clone()), set(inner, rest, value));
    Value::Mapping(mapping)
}

/// A span of time in a file: `100s`, `5m`, `2h`, `250ms`, or a plain number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval(pub Duration);

impl Interval {
    /// The span.
    pub fn get(self) -> Duration {
        self.0
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Interval, D::Error> {
        let text = match Value::deserialize(deserializer)? {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text,
            _ => return Err(D::Error::custom(INTERVAL_FORM)),
        };
        text.parse().map_err(D::Error::custom)
    }
}

impl std::str::FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Interval, String> {
        parse_interval(text).map(Interval).ok_or_else(|| format!("\"{text}\": {INTERVAL_FORM}"))
    }
}

const INTERVAL_FORM: &str = "a span of time is written as 100s, 5m, 2h or 250ms, and is not 0";

fn parse_interval(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit.trim() {
        "" | "s" => 1000,
        "ms" => 1,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let span_ms = number.parse::<u64>().ok()?.checked_mul(unit_ms)?;
    (span_ms > 0).then(|| Duration::from_millis(span_ms))
}

/// For a key that takes several texts: a YAML list, or one text with commas.
pub fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => {
            Ok(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect())
        }
        other => Vec::<String>::deserialize(other).map_err(D::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Sample {
        listen: String,
        interval: Interval,
        #[serde(deserialize_with = "list")]
        standbys: Vec<String>,
        limits: Limits,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Limits {
        handles: u32,
    }

    impl Default for Limits {
        fn default() -> Self {
            Limits { handles: 256 }
        }
    }

    impl Default for Sample {
        fn default() -> Self {
            Sample {
                listen: "default".into(),
                interval: Interval(Duration::from_secs(100)),
                standbys: Vec::new(),
                limits: Limits::default(),
            }
        }
    }

    fn sample(file: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Sample, String> {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let flags: Vec<_> = flags.iter().map(|(key, value)| (*key, value.to_string())).collect();
        load_from("sample", Some((Path::new("sample.yaml"), file)), &variables, &flags)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        let empty = [("SAMPLE_LISTEN", ""), ("SAMPLE_INTERVAL", ""), ("SAMPLE_LIMITS__HANDLES", "")];
        assert_eq!(
            sample("listen: here\n", &empty, &[]).unwrap(),
            Sample { listen: "here".into(), ..Sample::default() }
        );
    }

    #[test]
    fn the_command_line_beats_the_environment_which_beats_the_file() {
        let file = "listen: file\ninterval: 5m\nlimits:\n  handles: 1\n";
        let loaded = sample(file, &[("SAMPLE_LISTEN", "variable"), ("SAMPLE_LIMITS__HANDLES", "2")], &[]).unwrap();
        assert_eq!((loaded.listen.as_str(), loaded.limits.handles), ("variable", 2));
        assert_eq!(loaded.interval.get(), Duration::from_secs(300));
        let loaded = sample(file, &[("SAMPLE_LISTEN", "variable")], &[("listen", "flag")]).unwrap();
        assert_eq!((loaded.listen.as_str(), loaded.limits.handles), ("flag", 1));
    }

    #[test]
    fn an_empty_file_or_one_of_comments_gives_the_defaults() {
        for file in ["", "\n", "# nothing\n\n   # here\n"] {
            assert_eq!(sample(file, &[], &[]).unwrap(), Sample::default());
        }
    }

    #[test]
    fn a_list_is_written_in_one_text_or_as_a_list() {
        for (file, variable) in [("standbys: [a:1, b:2]", ""), ("standbys: a:1, b:2", ""), ("", "a:1,b:2")] {
            let variables: &[_] = if variable.is_empty() { &[] } else { &[("SAMPLE_STANDBYS", variable)] };
            assert_eq!(sample(file, variables, &[]).unwrap().standbys, ["a:1", "b:2"], "{file}{variable}");
        }
    }

    #[test]
    fn mistakes_name_their_place() {
        let place = |file, variables: &[_], flags: &[_], expected: &str| {
            let error = sample(file, variables, flags).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        place("listen: x\nlissten: y\n", &[], &[], "sample.yaml");
        place("listen: x\nlissten: y\n", &[], &[], "line 2");
        place("listen: x\nlissten: y\n", &[], &[], "lissten");
        place("listen: [\n", &[], &[], "sample.yaml");
        place("interval: 0\n", &[], &[], "span of time");
        place("interval: -5s\n", &[], &[], "span of time");
        place("", &[("SAMPLE_LISSTEN", "x")], &[], "SAMPLE_LISSTEN: unknown field `lissten`");
        place("", &[("SAMPLE_LIMITS__HANDLES", "many")], &[], "SAMPLE_LIMITS__HANDLES");
        place("", &[], &[("interval", "soon")], "--interval");
    }
}
