//! Comments, which are stored as they are: no password may stand in one.

use super::{Check, MASK, Password, Position, User};

/// From how many bytes on a password is looked for in comments: shorter ones stand in words by chance.
const REPEATED_BYTES_MIN: usize = 6;

impl Check<'_> {
    /// Comments are stored as they are, so a user that was commented out must not have a password in them.
    pub(super) fn comments(&mut self) {
        for (number, line) in self.text.lines().enumerate() {
            let Some((_, value)) = comment(line).and_then(|comment| comment.split_once("password:")) else {
                continue;
            };
            let value = value.trim_matches(|letter: char| letter.is_whitespace() || "\"'{},".contains(letter));
            let is_harmless = value.chars().all(|letter| letter == MASK) || value.starts_with("generate");
            if !is_harmless {
                let position = Position { line: number + 1, column: 1 };
                let text =
                    format!("a comment holds a password, which would stay readable: write {MASK}{MASK}{MASK} there");
                self.mistake(position, text);
            }
        }
    }

    /// Nor may a comment repeat a password that stands where it belongs.
    pub(super) fn repeated_passwords(&mut self, users: &[User]) {
        let at = |number: usize| Position { line: number + 1, column: 1 };
        let lines = self.text.lines().enumerate();
        let mut notes: Vec<_> = lines.filter_map(|(number, line)| Some((at(number), comment(line)?))).collect();
        for user in users {
            let position = self.positions.field(&user.account.label, "comment");
            notes.extend(user.account.comment.as_deref().map(|text| (position, text)));
        }
        let (owners, passwords): (Vec<&str>, Vec<&str>) = users
            .iter()
            .filter_map(|user| match &user.password {
                Password::Plain(password) if password.len() >= REPEATED_BYTES_MIN => {
                    Some((user.account.name.as_str(), password.as_str()))
                }
                _ => None,
            })
            .unzip();
        // All at once: ten thousand passwords in a megabyte of comments.
        let Ok(search) = aho_corasick::AhoCorasick::new(passwords) else { return };
        let found = |text: &str| search.find(text).and_then(|found| owners.get(found.pattern().as_usize()).copied());
        let repeated: Vec<_> = notes
            .iter()
            .filter_map(|(position, text)| {
                let text = format!("a comment repeats the password of {}, which would stay readable", found(text)?);
                Some((*position, text))
            })
            .collect();
        for (position, text) in repeated {
            self.mistake(position, text);
        }
    }
}

/// What may be a comment in a line: a `#` in quotes looks the same.
fn comment(line: &str) -> Option<&str> {
    let is_comment =
        |at: &usize| line.get(..*at).is_some_and(|before| before.is_empty() || before.ends_with([' ', '\t']));
    line.match_indices('#').map(|(at, _)| at).find(is_comment).and_then(|at| line.get(at..))
}
