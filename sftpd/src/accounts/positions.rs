//! Where things stand in a users.yaml: line and column of every label and field, and the bytes of every plain scalar.
//!
//! serde_yaml tells what the file means; this tells where. Both read the same text, and whatever they could disagree on
//! is caught by reading the masked file again ([`super::users_file::masked`]).

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// A place in the file, both counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// A scalar value and where it stands.
#[derive(Clone, Debug)]
pub struct Scalar {
    /// Where it begins.
    pub position: Position,
    /// Its bytes in the file, quotes left out.
    pub bytes: Range<usize>,
    /// How it is written.
    pub style: Style,
}

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: what it says is its own text.
    Plain,
    /// In single or double quotes.
    Quoted,
    /// As a block (`|` or `>`).
    Block,
}

/// The keys of the file below which accounts stand under labels. All labels are of one kind: none comes twice.
const SECTIONS: [&str; 2] = ["users", "agents"];

/// The field of an agent that is written as its password alone.
const SHORT_FIELD: &str = "password";

/// Where everything in a users.yaml stands.
#[derive(Debug, Default)]
pub struct Positions {
    labels: HashMap<String, Position>,
    fields: HashMap<(String, String), Scalar>,
    /// Of a field that is a list or has fields of its own: where each of them begins.
    parts: HashMap<(String, String), Vec<Position>>,
    /// A label that comes twice: first and again.
    repeated: Option<(Position, Position)>,
}

impl Positions {
    /// Reads the positions. A text that is no YAML gives those up to its first mistake.
    pub fn of(text: &str) -> Positions {
        let bytes: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let mut walk = Walk { positions: Positions::default(), path: Vec::new(), bytes, text };
        for event in Parser::new_from_str(text) {
            match event {
                Ok((event, span)) => walk.event(&event, span),
                Err(_) => break,
            }
        }
        walk.positions
    }

    /// Where a user's label stands.
    pub fn label(&self, label: &str) -> Position {
        self.labels.get(label).copied().unwrap_or_default()
    }

    /// Where a user's field stands; where it has none, its label.
    pub fn field(&self, label: &str, field: &str) -> Position {
        self.scalar(label, field).map_or_else(|| self.label(label), |scalar| scalar.position)
    }

    /// Where an entry of a user's list, or of a field with fields of its own, stands.
    pub fn part(&self, label: &str, field: &str, number: usize) -> Position {
        let parts = self.parts.get(&(label.to_owned(), field.to_owned()));
        parts.and_then(|parts| parts.get(number)).copied().unwrap_or_else(|| self.field(label, field))
    }

    /// The first label that comes twice: where it stands, and where it stands again.
    pub fn repeated_label(&self) -> Option<(Position, Position)> {
        self.repeated
    }

    /// A user's scalar field.
    pub fn scalar(&self, label: &str, field: &str) -> Option<&Scalar> {
        self.fields.get(&(label.to_owned(), field.to_owned()))
    }
}

/// What the walk is inside of. A mapping remembers the key whose value comes next.
enum Level {
    Mapping { key: Option<String> },
    Sequence,
}

struct Walk<'a> {
    positions: Positions,
    path: Vec<Level>,
    bytes: Vec<usize>,
    text: &'a str,
}

impl Walk<'_> {
    fn event(&mut self, event: &Event<'_>, span: Span) {
        match event {
            Event::MappingStart(..) => self.path.push(Level::Mapping { key: None }),
            Event::SequenceStart(..) => self.path.push(Level::Sequence),
            Event::MappingEnd | Event::SequenceEnd => {
                self.path.pop();
                self.value_is_over();
            }
            Event::Alias(_) => self.value_is_over(),
            Event::Scalar(value, style, ..) => self.scalar(value, *style, span),
            _ => {}
        }
    }

    fn scalar(&mut self, value: &str, style: ScalarStyle, span: Span) {
        let position = Position { line: span.start.line(), column: span.start.col() + 1 };
        match self.path.as_mut_slice() {
            [Level::Mapping { key: Some(section) }, Level::Mapping { key: key @ None }] if is_section(section) => {
                if let Some(first) = self.positions.labels.insert(value.to_owned(), position) {
                    self.positions.repeated.get_or_insert((first, position));
                }
                *key = Some(value.to_owned());
            }
            [
                Level::Mapping { key: Some(section) },
                Level::Mapping { key: Some(label) },
                Level::Mapping { key: Some(field) },
                inner @ (Level::Sequence | Level::Mapping { key: None }),
            ] if is_section(section) => {
                self.positions.parts.entry((label.clone(), field.clone())).or_default().push(position);
                if let Level::Mapping { key } = inner {
                    *key = Some(value.to_owned());
                }
            }
            [Level::Mapping { key: Some(field) }, Level::Sequence] => {
                self.positions.parts.entry((String::new(), field.clone())).or_default().push(position);
            }
            [.., Level::Mapping { key: key @ None }] => *key = Some(value.to_owned()),
            [Level::Mapping { key: Some(section) }, Level::Mapping { key: Some(label) }, field @ ..]
                if is_section(section) && field.len() < 2 =>
            {
                let field = match field {
                    [Level::Mapping { key: Some(field) }] => field.as_str(),
                    // A list stands there, which is a mistake.
                    [_] => return,
                    _ => SHORT_FIELD,
                };
                let place = (label.clone(), field.to_owned());
                let scalar = scalar_at(&self.bytes, self.text, style, span, position);
                self.positions.fields.insert(place, scalar);
                self.value_is_over();
            }
            _ => self.value_is_over(),
        }
    }

    fn value_is_over(&mut self) {
        if let Some(Level::Mapping { key }) = self.path.last_mut() {
            *key = None;
        }
    }
}

fn is_section(key: &str) -> bool {
    SECTIONS.contains(&key)
}

fn scalar_at(bytes: &[usize], text: &str, style: ScalarStyle, span: Span, position: Position) -> Scalar {
    let at = |index: usize| bytes.get(index).copied().unwrap_or(text.len());
    let (mut start, mut end) = (at(span.start.index()), at(span.end.index()));
    let style = match style {
        ScalarStyle::Plain => Style::Plain,
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
        ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
    };
    // A plain scalar's span may reach to the comment or line end behind it.
    let written = text.get(start..end).unwrap_or_default();
    end = start + written.trim_end().len();
    if style == Style::Quoted && end > start + 1 {
        end = start + closing_quote(text.get(start..end).unwrap_or_default()).unwrap_or(end - start - 1);
        start += 1;
    }
    Scalar { position, bytes: start..end, style }
}

/// Where the quote stands that ends a text in quotes: the span of one may reach over a comment behind it.
fn closing_quote(written: &str) -> Option<usize> {
    let mut letters = written.char_indices();
    let (_, quote) = letters.next()?;
    while let Some((at, letter)) = letters.next() {
        let is_doubled = || quote == '\'' && written.get(at + 1..).is_some_and(|rest| rest.starts_with('\''));
        match letter {
            '\\' if quote == '"' => drop(letters.next()),
            _ if letter != quote => {}
            _ if is_doubled() => drop(letters.next()),
            _ => return Some(at),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_fields_are_found_with_line_column_and_bytes() {
        let text = "# é comment\nusers:\n  ADMIN:\n    name: \"admin\"\n    password: 0123  # secret\n  1: {name: 'a', password: 'it''s', \
                    public_keys: [x, y]}\n";
        let positions = Positions::of(text);
        assert_eq!(positions.label("ADMIN"), Position { line: 3, column: 3 });
        assert_eq!(positions.field("ADMIN", "name"), Position { line: 4, column: 11 });
        assert_eq!(positions.field("ADMIN", "missing"), Position { line: 3, column: 3 });
        let written = |label, field| {
            let scalar = positions.scalar(label, field).unwrap();
            (&text[scalar.bytes.clone()], scalar.style)
        };
        assert_eq!(written("ADMIN", "password"), ("0123", Style::Plain));
        assert_eq!(written("1", "password"), ("it''s", Style::Quoted));
        assert_eq!(written("ADMIN", "name"), ("admin", Style::Quoted));
        let quoted = "users:\n  1:\n    name: \"a\\\"b\" # c \"d\n    password: 'it''s' # 'c'\n";
        let behind = Positions::of(quoted);
        let written = ["name", "password"].map(|field| &quoted[behind.scalar("1", field).unwrap().bytes.clone()]);
        assert_eq!(written, ["a\\\"b", "it''s"], "a comment behind the quotes is not theirs");
        assert!(positions.scalar("1", "public_keys").is_none());
        assert_eq!(positions.part("1", "public_keys", 1), Position { line: 6, column: 54 });
        assert_eq!(positions.part("1", "public_keys", 2), positions.label("1"));
        let agents = "users: {}\nagents:\n  a1: secret # c\n  a2: {keep: 400d}\n  a1: 7\n";
        let found = Positions::of(agents);
        let short = found.scalar("a1", "password").unwrap();
        assert_eq!((&agents[short.bytes.clone()], short.position.line), ("7", 5));
        assert_eq!(found.field("a2", "keep"), Position { line: 4, column: 14 });
        assert!(found.repeated_label().is_some());
        let twice = Positions::of("users:\n  1: {permissions: {/: read, /a: full}}\n  2: {}\n  1: {}\n");
        assert_eq!(twice.part("1", "permissions", 1), Position { line: 2, column: 30 });
        let [first, again] = [2, 4].map(|line| Position { line, column: 3 });
        assert_eq!(twice.repeated_label(), Some((first, again)));
    }
}
