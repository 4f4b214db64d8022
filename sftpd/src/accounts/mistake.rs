//! A mistake in a users.yaml, for people: where, what, and what to do. Values are never repeated.

use std::fmt;

use super::positions::Position;

/// One mistake in a users.yaml.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub position: Position,
    /// What, and what to do.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.at("users.yaml"))
    }
}

impl Mistake {
    /// The mistake as a line for people, in the file of this name.
    pub fn at(&self, file: &str) -> String {
        format!("{file}:{}:{}: {}", self.position.line, self.position.column, self.text)
    }

    /// The mistake that serde_yaml found.
    pub fn of_yaml(error: &serde_yaml::Error) -> Mistake {
        let position = error.location().map_or(Position { line: 1, column: 1 }, |location| Position {
            line: location.line(),
            column: location.column(),
        });
        let text = error.to_string();
        let text = text.split_once(" at line ").map_or(text.as_str(), |(text, _)| text);
        Mistake { position, text: with_hint(without_value(text)) }
    }
}

/// What to do about what the parser says in words of its own.
const HINTS: [(&str, &str); 7] = [
    (
        "character that cannot start any token",
        "indent with spaces and not with tabs, and put a value that begins with @, ` or % in quotes",
    ),
    ("end of stream", "a quote or a bracket is opened and not closed"),
    ("did not find expected", "look at the indentation and the quotes of this line and the one above"),
    (
        "mapping values are not allowed",
        "put a value with a colon in quotes; fields of one user stand at the same depth",
    ),
    ("unknown escape character", "in double quotes a backslash is written twice; single quotes take it as it is"),
    ("tab character", "indent with spaces and not with tabs"),
    ("missing field `users`", "the file begins with `users:`"),
];

fn with_hint(text: String) -> String {
    match HINTS.iter().find(|(words, _)| text.contains(words)) {
        Some((_, hint)) => format!("{text}: {hint}"),
        None => text,
    }
}

/// An error of serde's without the value that it quotes: that may be a password in the wrong place, and mistakes are
/// written into files and logs.
fn without_value(text: &str) -> String {
    let wrong = ["invalid type: ", "invalid value: ", "invalid length "].iter().find_map(|wrong| text.find(wrong));
    match (wrong, text.rfind(", expected ")) {
        (Some(wrong), Some(expected)) if wrong < expected => {
            let (place, expected) =
                (text.get(..wrong).unwrap_or_default(), text.get(expected + 2..).unwrap_or_default());
            format!("{}something else stands here, {}", with_place(place), in_plain_words(expected))
        }
        (Some(wrong), _) => format!("{}something else belongs here", with_place(text.get(..wrong).unwrap_or_default())),
        // `password:secret` without a space is a field of that name.
        (None, _) => match (text.find("unknown field `"), text.find("`, expected ")) {
            (Some(start), Some(end)) if start < end => {
                let (place, name, known) = (text.get(..start), text.get(start + 15..end), text.get(end + 1..));
                let (place, known) = (place.unwrap_or_default(), known.unwrap_or_default());
                format!("{}unknown field{}", with_place(place), suggestion(name.unwrap_or_default(), known))
            }
            _ => match text.split_once(": ") {
                Some((place, rest)) if place.starts_with("users.") || place.starts_with("agents.") => {
                    format!("{}{rest}", with_place(&format!("{place}: ")))
                }
                _ => text.to_owned(),
            },
        },
    }
}

/// Where serde was (`users.1.read_only: `) in the words of who writes the file.
fn with_place(place: &str) -> String {
    let path = place.trim_end_matches([':', ' ']);
    let sections = [("users.", "user"), ("agents.", "agent")];
    let found = sections.iter().find_map(|(prefix, what)| Some((what, path.strip_prefix(prefix)?)));
    match found.map(|(what, path)| (what, path.split_once('.').unwrap_or((path, "")))) {
        Some((what, (label, ""))) => format!("{what} {label}: "),
        Some((what, (label, field))) => format!("{what} {label}, `{field}`: "),
        None => place.to_owned(),
    }
}

/// What serde expects, as a person would say it.
fn in_plain_words(expected: &str) -> String {
    let words = [
        ("expected a boolean", "`true` or `false` belongs here"),
        ("expected a sequence", "a list belongs here, also of one: [a, b]"),
        ("expected a YAML mapping", "fields belong here: {name: value}"),
        ("expected a string", "a text belongs here, in quotes"),
    ];
    words.iter().find(|(serde, _)| *serde == expected).map_or(expected, |(_, plain)| plain).to_owned()
}

/// How alike a field's name must be to be the one that was meant, from 0 to 1.
const LIKENESS_MIN: f64 = 0.85;

/// The field that was meant, or all there are. The unknown name itself is not repeated.
fn suggestion(name: &str, known: &str) -> String {
    let names: Vec<_> = known.split('`').skip(1).step_by(2).collect();
    let likeness = |known: &&&str| (strsim::jaro_winkler(name, known) * 1000.0) as u32;
    match names.iter().max_by_key(likeness) {
        Some(meant) if strsim::jaro_winkler(name, meant) >= LIKENESS_MIN => format!(": did you mean `{meant}`?"),
        _ => format!(": there are {}", names.join(", ")),
    }
}
