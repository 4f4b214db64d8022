//! A rule as it stands in the settings: `EPuser /in/daily-*.csv by 06:00 on mon-fri`. Pure.

use jiff::civil::{Date, Time};
use pair::exit::usage;

const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const FORM: &str = "one is written as EPuser /in/daily-*.csv by 06:00, or with \"on mon-fri\" behind it";

/// What should be here by when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// As it was written.
    pub text: String,
    /// Whose file.
    pub account: String,
    /// By which time of the day.
    pub by: Time,
    folder: String,
    name: String,
    days: [bool; 7],
}

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    /// Where it is none; the sentence says what it lacks.
    pub fn parse(text: &str) -> anyhow::Result<Rule> {
        let wrong = |what: &str| usage(format!("expected: {text:?}: {what}; {FORM}"));
        let (account, rest) = text.trim().split_once(' ').ok_or_else(|| wrong("it has no path"))?;
        let (path, rest) = rest.rsplit_once(" by ").ok_or_else(|| wrong("it has no time behind \"by\""))?;
        let (time, days) = match rest.trim().split_once(" on ") {
            Some((time, days)) => (time, weekdays(days).ok_or_else(|| wrong("its days are none"))?),
            None => (rest.trim(), [true; 7]),
        };
        let by = time_of_day(time).ok_or_else(|| wrong("its time is none"))?;
        let path = path.trim();
        let (folder, name) = path.rsplit_once('/').ok_or_else(|| wrong("its path does not begin with /"))?;
        if !path.starts_with('/') {
            return Err(wrong("its path does not begin with /"));
        }
        if folder.contains(['*', '?']) {
            return Err(wrong("only the file's name may have * and ?"));
        }
        if name.is_empty() {
            return Err(wrong("its path ends with /, where a file's name should be"));
        }
        let (folder, name) = (folder.to_owned(), name.to_owned());
        Ok(Rule { text: text.trim().to_owned(), account: account.to_owned(), by, folder, name, days })
    }

    /// Whether it is about a day.
    pub fn is_of(&self, date: Date) -> bool {
        let weekday = usize::from(date.weekday().to_monday_zero_offset().unsigned_abs());
        self.days.get(weekday).copied().unwrap_or_default()
    }

    /// Whether a file with this path meets it.
    pub fn is_met_by(&self, path: &str) -> bool {
        path.rsplit_once('/').is_some_and(|(folder, name)| folder == self.folder && matches(&self.name, name))
    }

    /// With what every path begins that meets it.
    pub fn literal(&self) -> &str {
        let end = self.folder.len() + 1 + self.name.find(['*', '?']).unwrap_or(self.name.len());
        let path = self.text.get(self.account.len()..).unwrap_or_default().trim_start();
        path.get(..end).unwrap_or("/")
    }
}

fn time_of_day(text: &str) -> Option<Time> {
    let (hour, minute) = text.trim().split_once(':')?;
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

/// `mon-fri`, `sat,sun`, or both kinds.
fn weekdays(text: &str) -> Option<[bool; 7]> {
    let number = |name: &str| WEEKDAYS.iter().position(|known| known.eq_ignore_ascii_case(name.trim()));
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        let mut day = first;
        loop {
            *days.get_mut(day)? = true;
            if day == last {
                break;
            }
            day = (day + 1) % days.len();
        }
    }
    Some(days)
}

/// Whether a name is as a pattern says: `*` stands for any letters, `?` for one. In time of both lengths multiplied, at most.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut here, mut star) = (0, 0, None);
    while here < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, here));
                at += 1;
            }
            Some(letter) if *letter == '?' || name.get(here) == Some(letter) => {
                at += 1;
                here += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                (at, here) = (star_at + 1, taken + 1);
            }
        }
    }
    pattern.iter().skip(at).all(|letter| *letter == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_and_knows_its_files_and_days() {
        let rule = Rule::parse("EPuser /in/daily ?-*.csv by 06:30 on fri-mon, wed").unwrap();
        assert_eq!((rule.account.as_str(), rule.by.to_string().as_str()), ("EPuser", "06:30:00"));
        assert_eq!(rule.literal(), "/in/daily ");
        assert!(rule.is_met_by("/in/daily 1-.csv") && rule.is_met_by("/in/daily 1-a*b.csv"));
        for other in ["/in/daily -.csv", "/in/x/daily 1-.csv", "/daily 1-.csv", "/in/daily 1-.csv.part", "daily 1-.csv"]
        {
            assert!(!rule.is_met_by(other), "{other}");
        }
        let days = (16..23).map(|day| rule.is_of(Date::constant(2026, 11, day))).collect::<Vec<_>>();
        assert_eq!(days, [true, false, true, false, true, true, true]);
        assert_eq!(Rule::parse("a /x by 6:05").unwrap().literal(), "/x");
    }

    #[test]
    fn what_is_no_rule_is_said_with_its_key() {
        for (text, part) in [
            ("", "no path"),
            ("a", "no path"),
            ("a /in/x", "no time"),
            ("a in/x by 06:00", "does not begin with /"),
            ("a x by 06:00", "does not begin with /"),
            ("a /in/ by 06:00", "ends with /"),
            ("a /in*/x by 06:00", "only the file's name"),
            ("a /in/x by noon", "its time"),
            ("a /in/x by 24:10", "its time"),
            ("a /in/x by 06:00 on workdays", "its days"),
        ] {
            let error = Rule::parse(text).unwrap_err();
            let sentence = error.to_string();
            assert!(sentence.starts_with("expected: ") && sentence.contains(part), "{text}: {sentence}");
            assert_eq!(pair::exit::code(&error), 2);
        }
    }

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("a*b*c", "aXbYbc", true),
            ("a*b*c", "aXbYb", false),
            ("??", "é日", true),
            ("??", "a", false),
            ("", "a", false),
            ("*a", "aaab", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        assert!(!matches(&"*a".repeat(30), &"a".repeat(29)));
    }
}
