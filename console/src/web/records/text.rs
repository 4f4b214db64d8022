//! Text from logs as it is shown in pages and written into CSV. Pure.
//!
//! Always holds: what is shown has no letter that is not seen or that turns others around, and no cell of a CSV is taken for a formula.
//! HTML is escaped by the templates, not here.

/// Letters that are not seen, or turn the order of others: zero width, bidi marks and overrides, line and paragraph separators, tags.
const UNSEEN: [(char, char); 9] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{fff9}', '\u{fffb}'),
    ('\u{e0000}', '\u{e007f}'),
];

/// With what a spreadsheet begins a formula.
const FORMULA_BEGINS: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// A text with what is not seen written out: a line feed as `\n`, an override as `\u{202e}`.
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        let is_unseen = UNSEEN.iter().any(|(first, last)| (*first..=*last).contains(&letter));
        if letter == '\0' {
            out.push_str("\\0");
        } else if letter.is_control() || is_unseen {
            out.extend(letter.escape_default());
        } else {
            out.push(letter);
        }
    }
    out
}

/// A text in a cell of a CSV.
pub fn cell(text: &str) -> String {
    let mark = if text.starts_with(FORMULA_BEGINS) { "'" } else { "" };
    let text = shown(text);
    if text.contains(['"', ',', '\'', ';', '\\']) || text.trim() != text {
        format!("\"{mark}{}\"", text.replace('"', "\"\""))
    } else {
        format!("{mark}{text}")
    }
}

/// A line of a CSV, with its end.
pub fn line(cells: impl IntoIterator<Item = String>) -> String {
    let mut line = cells.into_iter().collect::<Vec<_>>().join(",");
    line.push_str("\r\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_written_out_and_everything_else_stays() {
        assert_eq!(shown("Übung <b> 日本 'x'"), "Übung <b> 日本 'x'");
        assert_eq!(shown("a\nb\0c\u{1b}[2J"), "a\\nb\\0c\\u{1b}[2J");
        assert_eq!(shown("gpj.\u{202e}exe\u{200b}\u{2066}"), "gpj.\\u{202e}exe\\u{200b}\\u{2066}");
    }

    #[test]
    fn no_cell_is_a_formula_or_breaks_its_line() {
        let cases = [
            ("plain", "plain"),
            ("=cmd|' /C calc'!A0", "\"'=cmd|' /C calc'!A0\""),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@x", "'@x"),
            ("\tx", "\"'\\tx\""),
            ("\rx", "\"'\\rx\""),
            ("a,\"b\"", "\"a,\"\"b\"\"\""),
            ("a\r\n=1", "\"a\\r\\n=1\""),
        ];
        for (text, expected) in cases {
            assert_eq!(cell(text), expected);
        }
        assert_eq!(line(["a".to_owned(), "b".to_owned()]), "a,b\r\n");
    }
}
