//! The filter of a page as a person has typed it: what it means, what is wrong with it, and how it stands in addresses. Pure.

use jiff::ToSpan;
use jiff::civil::Date;

use crate::questions::Filter;

/// What can be chosen under `what`.
pub const WHATS: [(&str, &str); 8] = [
    ("", "Everything"),
    ("transfers", "Uploads and downloads"),
    ("upload", "Uploads"),
    ("download", "Downloads"),
    ("changes", "Other changes"),
    ("rename", "Renames"),
    ("remove", "Removals"),
    ("logins", "Logins"),
];

/// What can be chosen under `came`.
pub const CAMES: [(&str, &str); 5] =
    [("", "Any outcome"), ("done", "Done"), ("failed", "Failed"), ("aborted", "Aborted"), ("refused", "Refused")];

/// A filter as it was typed.
#[derive(Clone, Debug, Default)]
pub struct Typed {
    /// The first date.
    pub from: String,
    /// The last date.
    pub to: String,
    /// The account.
    pub account: String,
    /// The folder.
    pub folder: String,
    /// Operations.
    pub what: String,
    /// Outcomes.
    pub came: String,
    /// Whether axes are logarithmic.
    pub is_log: bool,
    /// What is looked for in paths.
    pub text: String,
    /// How it is looked for.
    pub how: String,
}

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// What it means; everything where it is wrong.
    pub filter: Filter,
    /// As it was typed.
    pub typed: Typed,
    /// What is wrong with it: the field's key, and a sentence.
    pub mistake: Option<(String, String)>,
}

/// A link to the same question of other dates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quick {
    /// What it is called.
    pub name: &'static str,
    /// What stands behind `?`.
    pub query: String,
    /// Whether it is what is shown.
    pub is_here: bool,
}

impl Asked {
    /// What stands in an address behind `?`.
    pub fn of(query: &str) -> Asked {
        let mut typed = Typed::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            match key.as_ref() {
                "from" => typed.from = value,
                "to" => typed.to = value,
                "account" => typed.account = value,
                "folder" => typed.folder = value,
                "what" => typed.what = value,
                "came" => typed.came = value,
                "axis" => typed.is_log = value == "log",
                "text" => typed.text = value,
                "how" => typed.how = value,
                _ => {}
            }
        }
        let found = Filter::from_query(query).and_then(in_order);
        match found {
            Ok(filter) => Asked { filter, typed, mistake: None },
            Err(sentence) => Asked { filter: Filter::default(), typed, mistake: Some(split(&sentence)) },
        }
    }

    /// The filter as it stands in an address, with more behind it.
    pub fn query_with(&self, more: &[(&str, &str)]) -> String {
        let mut query = form_urlencoded::Serializer::new(self.filter.to_query());
        for (key, value) in more.iter().filter(|(_, value)| !value.is_empty()) {
            query.append_pair(key, value);
        }
        query.finish()
    }

    /// The axis as it stands in an address.
    pub fn axis(&self) -> &'static str {
        if self.typed.is_log { "log" } else { "" }
    }

    /// Whether this field is wrong.
    pub fn is_wrong(&self, key: &str) -> bool {
        self.mistake.as_ref().is_some_and(|(field, _)| field == key)
    }

    /// What is wrong; empty where nothing is.
    pub fn sentence(&self) -> &str {
        self.mistake.as_ref().map_or("", |(_, sentence)| sentence)
    }

    /// Links to dates that are often asked for.
    pub fn quick(&self, today: Date) -> Vec<Quick> {
        let back = |days: i64| today.checked_sub(days.days()).ok();
        let spans = [
            ("Today", Some(today), Some(today)),
            ("Yesterday", back(1), back(1)),
            ("Last 7 days", back(6), Some(today)),
            ("Last 30 days", back(29), Some(today)),
            ("All", None, None),
        ];
        let link = |(name, from, to)| {
            let filter = Filter { from, to, ..self.filter.clone() };
            let is_here = self.mistake.is_none() && filter == self.filter;
            let asked = Asked { filter, ..Asked::default() };
            let typed = &self.typed;
            let query = asked.query_with(&[("axis", self.axis()), ("text", &typed.text), ("how", &typed.how)]);
            Quick { name, query, is_here }
        };
        spans.into_iter().map(link).collect()
    }
}

fn in_order(filter: Filter) -> Result<Filter, String> {
    match (filter.from, filter.to) {
        (Some(from), Some(to)) if to < from => Err(format!("to: {to} is before the first date, {from}")),
        _ => Ok(filter),
    }
}

/// A sentence that begins with its key.
fn split(sentence: &str) -> (String, String) {
    let (key, rest) = sentence.split_once(": ").unwrap_or(("", sentence));
    (key.to_owned(), crate::web::shown(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_stands_with_its_field_and_what_was_typed_stays() {
        for (query, key) in [
            ("from=soon&account=x", "from"),
            ("to=2026-13-01&account=x", "to"),
            ("from=2026-11-22&to=2026-11-21&account=x", "to"),
            ("what=nothing&account=x", "what"),
            ("came=%FF%FE&account=x", "came"),
        ] {
            let asked = Asked::of(query);
            assert!(asked.is_wrong(key) && !asked.sentence().is_empty(), "{query}: {asked:?}");
            assert_eq!((asked.typed.account.as_str(), asked.filter.account.as_deref()), ("x", None));
        }
    }

    #[test]
    fn quick_links_keep_all_but_the_dates() {
        let today = Date::constant(2026, 11, 22);
        let asked = Asked::of("from=2026-11-21&to=2026-11-21&account=EP+user&axis=log");
        let quick = asked.quick(today);
        assert_eq!(quick.iter().filter(|link| link.is_here).map(|link| link.name).collect::<Vec<_>>(), ["Yesterday"]);
        assert_eq!(quick[2].query, "from=2026-11-16&to=2026-11-22&account=EP+user&axis=log");
        assert_eq!(quick[4].query, "account=EP+user&axis=log");
    }
}
