//! What is looked for in logs: a text or a regular expression, as ripgrep has them. Pure.

use std::sync::LazyLock;

use grep_matcher::Matcher;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};

/// The longest text that is looked for, in bytes.
const TEXT_BYTES_MAX: usize = 1000;
/// What an expression may come to, in bytes, and the same for what is remembered while it is looked for.
const COMPILED_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Groups in groups.
const NESTED_MAX: u32 = 50;

/// Words that tell how bad a line is: errors first, then warnings.
const LEVELS: [&str; 2] = [
    r"(?i)\b(?:errors?|err|fatal|crit(?:ical)?|alert|emerg(?:ency)?|panic|exception|failed|failure)\b",
    r"(?i)\bwarn(?:ing)?s?\b",
];

/// How a text is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// As it stands.
    Text,
    /// As a regular expression.
    Regex,
}

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Pattern {
    matcher: RegexMatcher,
}

impl Pattern {
    /// Makes one.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub fn new(text: &str, how: How, ignores_case: bool) -> Result<Pattern, String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("The text is too long: it may have {TEXT_BYTES_MAX} bytes."));
        }
        if text.contains('\n') {
            return Err("The text is looked for in single lines: it can have no line feed.".to_owned());
        }
        let mut builder = RegexMatcherBuilder::new();
        builder.case_insensitive(ignores_case).fixed_strings(how == How::Text).multi_line(true);
        builder.line_terminator(Some(b'\n')).nest_limit(NESTED_MAX);
        builder.size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX);
        let matcher = builder.build(text).map_err(|error| wrong(&error.to_string()))?;
        Ok(Pattern { matcher })
    }

    /// For the search itself.
    pub fn matcher(&self) -> &RegexMatcher {
        &self.matcher
    }

    /// Where it stands in a line, as beginnings and ends, at most so many.
    pub fn found_in(&self, line: &[u8], most: usize) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        let marking = self.matcher.find_iter(line, |one| {
            if !one.is_empty() {
                found.push((one.start(), one.end()));
            }
            found.len() < most
        });
        // The type of its error says that there is none.
        marking.map_or_else(|_| Vec::new(), |()| found)
    }
}

/// The words for errors, and those for warnings.
pub fn levels() -> &'static [Pattern] {
    static KNOWN: LazyLock<Vec<Pattern>> =
        LazyLock::new(|| LEVELS.iter().filter_map(|words| Pattern::new(words, How::Regex, false).ok()).collect());
    &KNOWN
}

/// What the parser says, in one sentence: it draws the place over several lines, and says last what is wrong there.
fn wrong(said: &str) -> String {
    let reason = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or(said).trim();
    let reason = reason.trim_start_matches("error: ").trim_end_matches('.');
    format!("This is no regular expression that can be looked for: {reason}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stands_for_itself_and_an_expression_for_more() {
        let found = |text: &str, how, ignores_case, line: &str| {
            Pattern::new(text, how, ignores_case).unwrap().found_in(line.as_bytes(), 10)
        };
        assert_eq!(found("a.b", How::Text, false, "axb a.b A.B"), [(4, 7)]);
        assert_eq!(found("a.b", How::Text, true, "axb a.b A.B"), [(4, 7), (8, 11)]);
        assert_eq!(found("a.b", How::Regex, false, "axb a.b A.B"), [(0, 3), (4, 7)]);
        assert_eq!(found("^x*", How::Regex, false, "yxx"), [], "nothing is nowhere");
        assert_eq!(found("ü", How::Text, true, "Ü"), [(0, 2)]);
    }

    #[test]
    fn what_cannot_be_looked_for_is_a_sentence() {
        let deep = "(".repeat(60) + "x" + &")".repeat(60);
        for wrong in ["(", "[a", "a{2,1}", "*", r"\q", "(?:a{1000}){1000}", r"a\nb", &deep, "a\nb", &"x".repeat(1001)] {
            let sentence = Pattern::new(wrong, How::Regex, false).unwrap_err();
            assert!(sentence.ends_with('.') && !sentence.contains('\n'), "{sentence}");
        }
    }

    #[test]
    fn words_of_errors_and_warnings_are_known() {
        let kinds =
            |line: &str| levels().iter().map(|level| level.found_in(line.as_bytes(), 9).len()).collect::<Vec<_>>();
        assert_eq!(kinds("ERROR: disk failed, warning: level=warn err=5"), [3, 2]);
        assert_eq!(kinds("terror forwarned inferred"), [0, 0]);
    }
}
