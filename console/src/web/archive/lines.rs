//! Lines of logs as HTML: a link to the line's place, its text, and marks on what was looked for and on words of errors and warnings.

use askama::Template;

use super::text;
use crate::archive::{LINE_BYTES_MAX, Pattern, levels};

/// Marks in a line.
const MARKS_MAX: usize = 50;
/// Bytes that are shown before a hit that stands far inside a line.
const BEFORE_HIT: usize = 500;

/// Lines, the same in pages, streams and events.
#[derive(Template)]
#[template(path = "archive_lines.html")]
pub struct Rows {
    /// In their order.
    pub rows: Vec<Row>,
}

/// A line.
pub struct Row {
    /// Its number; empty where it is not known.
    pub number: String,
    /// Where it is shown among others.
    pub link: String,
    /// Whether it is the one that was looked for.
    pub is_hit: bool,
    /// Whether it is the one to which an address leads.
    pub is_target: bool,
    /// Whether its end has not come yet.
    pub is_unended: bool,
    /// Its text.
    pub pieces: Vec<Piece>,
    /// What is not shown of it; empty where all is.
    pub more: String,
}

/// A piece of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// How it is marked; empty for not at all.
    pub class: &'static str,
    /// Its text.
    pub text: String,
}

/// A line's text with marks, and what is not shown of it. `length` is what it has in all.
pub fn pieces(bytes: &[u8], length: u64, pattern: Option<&Pattern>) -> (Vec<Piece>, String) {
    let hit = pattern
        .filter(|_| bytes.len() > LINE_BYTES_MAX)
        .and_then(|pattern| pattern.found_in(bytes, 1).first().copied());
    let from = hit.map_or(0, |(start, _)| start.saturating_sub(BEFORE_HIT));
    let part = bytes.get(from..).unwrap_or_default();
    let part = part.get(..LINE_BYTES_MAX).unwrap_or(part);
    let left = length.saturating_sub(part.len() as u64);
    let more = match left {
        0 => String::new(),
        left => format!("{} more", web::figures::of(left, "byte", "bytes")),
    };
    (marked(part, pattern), more)
}

fn marked(part: &[u8], pattern: Option<&Pattern>) -> Vec<Piece> {
    let mut classes = vec![""; part.len()];
    // The later ones stand over the earlier.
    let [errors, warnings] = ["error", "warning"];
    let known = levels().iter().zip([errors, warnings]).rev();
    for (pattern, class) in known.chain(pattern.map(|pattern| (pattern, "found"))) {
        for (start, end) in pattern.found_in(part, MARKS_MAX) {
            classes.get_mut(start..end).into_iter().for_each(|range| range.fill(class));
        }
    }
    let runs = classes.chunk_by(|one, other| one == other);
    let mut at = 0;
    let pieces = runs.map(|run| {
        let bytes = part.get(at..at + run.len()).unwrap_or_default();
        at += run.len();
        Piece { class: run.first().copied().unwrap_or_default(), text: text::line(bytes) }
    });
    pieces.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::How;

    #[test]
    fn what_is_looked_for_is_marked_over_words_of_errors() {
        let pattern = Pattern::new("error 5", How::Text, true).unwrap();
        let (found, more) = pieces(b"warn: ERROR 5, error 6", 22, Some(&pattern));
        let marks: Vec<(&str, &str)> = found.iter().map(|piece| (piece.class, piece.text.as_str())).collect();
        assert_eq!(
            marks,
            [("warning", "warn"), ("", ": "), ("found", "ERROR 5"), ("", ", "), ("error", "error"), ("", " 6")]
        );
        assert_eq!(more, "");
    }

    #[test]
    fn a_hit_far_inside_a_long_line_is_shown_with_what_is_around_it() {
        let line = [vec![b'x'; 100_000], b"needle".to_vec(), vec![b'y'; 100_000]].concat();
        let pattern = Pattern::new("needle", How::Text, false).unwrap();
        let (found, more) = pieces(&line, line.len() as u64, Some(&pattern));
        assert!(found.iter().any(|piece| piece.class == "found" && piece.text == "needle"));
        assert!(found.iter().map(|piece| piece.text.len()).sum::<usize>() <= LINE_BYTES_MAX);
        assert_eq!(more, "195,910 bytes more");
    }
}
