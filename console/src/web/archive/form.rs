//! What is asked of the archive, as it stands in an address: where, which names, which days, and which text. Pure.

use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::archive::{By, How, Pattern, Place, Sieve};

/// How a text can be looked for.
pub const HOWS: [(&str, &str); 4] = [
    ("text", "Text, capitals or not"),
    ("exact", "Text, exactly so"),
    ("regex", "Regular expression, capitals or not"),
    ("regex-exact", "Regular expression, exactly so"),
];

/// How many lines can be shown around a hit.
pub const CONTEXTS: [(&str, &str); 4] =
    [("0", "none"), ("2", "2 before and after"), ("5", "5 before and after"), ("10", "10 before and after")];

/// Which hits can be shown.
pub const SHOWS: [(&str, &str); 2] = [("all", "all of them"), ("last", "the last 20 of each file")];
/// As many hits of each file as are its last ones.
const LAST: usize = 20;

/// What was typed, to be shown again.
#[derive(Clone, Debug, Default)]
pub struct Typed {
    /// Where: a place's text; empty for all agents.
    pub place: String,
    /// Names of files.
    pub name: String,
    /// The first day.
    pub from: String,
    /// The last day.
    pub to: String,
    /// What is looked for in them.
    pub text: String,
    /// How.
    pub how: String,
    /// Lines around a hit.
    pub context: String,
    /// Which hits.
    pub show: String,
    /// By what files are sorted.
    pub by: String,
    /// `up` or `down`.
    pub order: String,
}

/// A question to the archive.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// As it was typed.
    pub typed: Typed,
    /// Where; none: everywhere.
    pub place: Option<Place>,
    /// Which files.
    pub sieve: Sieve,
    /// What is looked for in them; none: nothing, they are listed.
    pub pattern: Option<Pattern>,
    /// Lines around a hit.
    pub context: usize,
    /// Only so many hits of each file, its last ones; none: all.
    pub last: Option<usize>,
    /// By what files are sorted.
    pub by: By,
    /// Whether the largest, newest or last name comes first.
    pub is_descending: bool,
    /// Which page of them, from 0 on.
    pub page: usize,
    /// The field that is wrong, and why.
    pub mistake: Option<(&'static str, String)>,
}

/// A link to a question that is asked often.
pub struct Quick {
    /// What it is called.
    pub name: &'static str,
    /// The address behind the `?`.
    pub query: String,
    /// Whether it is the question that was asked.
    pub is_here: bool,
}

/// A field of an address or a form.
pub fn field(query: &str, name: &str) -> String {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find_map(|(key, value)| (key == name).then(|| value.into_owned())).unwrap_or_default()
}

/// An address's part behind the `?`, without fields that are empty.
pub fn query(fields: &[(&str, &str)]) -> String {
    let given = fields.iter().filter(|(_, value)| !value.is_empty());
    form_urlencoded::Serializer::new(String::new()).extend_pairs(given).finish()
}

/// What a text and the way to look for it come to.
pub fn pattern_of(text: &str, how: &str) -> Result<Option<Pattern>, (&'static str, String)> {
    let (how, ignores_case) = match how {
        "" | "text" => (How::Text, true),
        "exact" => (How::Text, false),
        "regex" => (How::Regex, true),
        "regex-exact" => (How::Regex, false),
        _ => return Err(("how", "A text is looked for as it is or as a regular expression.".into())),
    };
    if text.is_empty() {
        return Ok(None);
    }
    Pattern::new(text, how, ignores_case).map(Some).map_err(|sentence| ("text", sentence))
}

impl Asked {
    /// What an address asks.
    pub fn of(query: &str, zone: &TimeZone) -> Asked {
        let get = |name: &str| field(query, name);
        let typed = Typed {
            place: get("in"),
            name: get("name").trim().to_owned(),
            from: get("from").trim().to_owned(),
            to: get("to").trim().to_owned(),
            text: get("text"),
            how: get("how"),
            context: get("context"),
            show: get("show"),
            by: get("by"),
            order: get("order"),
        };
        let mut asked = Asked { page: get("page").parse().unwrap_or(0), ..Asked::default() };
        if let Err(mistake) = asked.understand(&typed, zone) {
            asked.mistake = Some(mistake);
        }
        asked.typed = typed;
        asked
    }

    fn understand(&mut self, typed: &Typed, zone: &TimeZone) -> Result<(), (&'static str, String)> {
        if !typed.place.is_empty() {
            let place =
                Place::parse(&typed.place).ok_or(("in", "There is no such place in the archive.".to_owned()))?;
            self.place = Some(place);
        }
        self.by = match typed.by.as_str() {
            "name" => By::Name,
            "size" => By::Size,
            _ => By::Time,
        };
        self.is_descending = match typed.order.as_str() {
            "up" => false,
            "down" => true,
            _ => self.by != By::Name,
        };
        self.context = typed.context.parse().ok().filter(|lines| *lines <= 10).unwrap_or(0);
        self.last = (typed.show == "last").then_some(LAST);
        self.sieve = Sieve::of_names(&typed.name).map_err(|sentence| ("name", sentence))?;
        self.sieve.from_s = day(&typed.from, "from", 0, zone)?;
        self.sieve.to_s = day(&typed.to, "to", 1, zone)?;
        self.pattern = pattern_of(&typed.text, &typed.how)?;
        Ok(())
    }

    /// Whether a field is wrong.
    pub fn is_wrong(&self, key: &str) -> bool {
        self.mistake.as_ref().is_some_and(|(wrong, _)| *wrong == key)
    }

    /// What is wrong; empty where nothing is.
    pub fn sentence(&self) -> &str {
        self.mistake.as_ref().map_or("", |(_, sentence)| sentence)
    }

    /// The same question, with some fields changed.
    pub fn query_with(&self, changed: &[(&str, &str)]) -> String {
        let typed = &self.typed;
        let fields = [
            ("in", typed.place.as_str()),
            ("name", &typed.name),
            ("from", &typed.from),
            ("to", &typed.to),
            ("text", &typed.text),
            ("how", &typed.how),
            ("context", &typed.context),
            ("show", &typed.show),
            ("by", &typed.by),
            ("order", &typed.order),
        ];
        let kept = fields.into_iter().filter(|(key, _)| !changed.iter().any(|(other, _)| other == key));
        query(&kept.chain(changed.iter().copied()).collect::<Vec<_>>())
    }

    /// Questions about days, with the rest as it is.
    pub fn quick(&self, today: Date) -> Vec<Quick> {
        let days_ago = |days: i64| today.checked_sub(days.days()).unwrap_or(today).to_string();
        let spans = [
            ("Today", days_ago(0), days_ago(0)),
            ("Yesterday", days_ago(1), days_ago(1)),
            ("Last 7 days", days_ago(6), days_ago(0)),
            ("Any day", String::new(), String::new()),
        ];
        let link = |(name, from, to): (&'static str, String, String)| Quick {
            name,
            query: self.query_with(&[("from", &from), ("to", &to)]),
            is_here: self.typed.from == from && self.typed.to == to,
        };
        spans.into_iter().map(link).collect()
    }
}

/// The second at which a day begins, or ends; none where none was typed.
fn day(text: &str, key: &'static str, days_later: i64, zone: &TimeZone) -> Result<Option<i64>, (&'static str, String)> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || (key, format!("{text:?} is no date: one is written as 2026-11-22."));
    let date: Date = text.parse().map_err(|_| wrong())?;
    let date = date.checked_add(days_later.days()).map_err(|_| wrong())?;
    let begin = date.to_zoned(zone.clone()).map_err(|_| wrong())?;
    Ok(Some(begin.timestamp().as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_from_its_address_and_written_back() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let asked =
            Asked::of("in=agent01%2Fvar&name=*.log&from=2026-11-21&to=2026-11-21&text=a+b&how=regex&context=2", &zone);
        assert_eq!(asked.mistake, None);
        assert_eq!(asked.place.as_ref().unwrap().path, b"var");
        let span = asked.sieve.to_s.unwrap() - asked.sieve.from_s.unwrap();
        assert_eq!((span, asked.sieve.from_s.unwrap() % 86_400), (86_400, 82_800), "a day of Berlin");
        assert!(asked.pattern.is_some() && asked.context == 2 && asked.is_descending);
        let other = asked.query_with(&[("text", ""), ("page", "3")]);
        assert_eq!(other, "in=agent01%2Fvar&name=*.log&from=2026-11-21&to=2026-11-21&how=regex&context=2&page=3");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_field() {
        let wrong = [
            ("in", "in=a%2F.."),
            ("name", "name=%5B"),
            ("from", "from=soon"),
            ("to", "to=9999-12-31"),
            ("text", "text=(&how=regex"),
            ("how", "how=x&text=y"),
        ];
        for (key, query) in wrong {
            let asked = Asked::of(query, &TimeZone::UTC);
            assert!(asked.is_wrong(key) && asked.sentence().ends_with('.'), "{query}: {:?}", asked.mistake);
        }
    }
}
