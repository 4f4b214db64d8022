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
        Mistake { position, text: without_value(text) }
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
            format!("{place}something else stands here, {expected}")
        }
        (Some(wrong), _) => format!("{}something else belongs here", text.get(..wrong).unwrap_or_default()),
        // `password:secret` without a space is a field of that name.
        (None, _) => match (text.find("unknown field `"), text.find("`, expected ")) {
            (Some(start), Some(end)) if start < end => {
                let (place, expected) =
                    (text.get(..start).unwrap_or_default(), text.get(end + 1..).unwrap_or_default());
                format!("{place}unknown field{expected}")
            }
            _ => text.to_owned(),
        },
    }
}
