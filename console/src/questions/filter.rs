//! What a question is about: dates, an account, a folder, operations, outcomes. It can stand in an address.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::record::{Kind, Operation, Outcome};

/// What is asked about. Nothing set means everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// The first date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Date>,
    /// The last date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Date>,
    /// The account's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// A folder, with all below it. What has no path (logins, …) is in none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what: Option<What>,
    /// Outcomes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub came: Option<Came>,
}

/// One operation, or a kind of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Cow<'_, str>", into = "String")]
pub enum What {
    /// Uploads and downloads.
    Transfers,
    /// Everything else that somebody did to files and folders.
    Changes,
    /// Logins, their ends, failures and bans.
    Logins,
    /// One of them.
    Only(Operation),
}

/// One outcome, or a kind of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Cow<'_, str>", into = "String")]
pub enum Came {
    /// Whatever did not fail.
    Done,
    /// Aborted and refused.
    Failed,
    /// One of them.
    Only(Outcome),
}

impl What {
    fn has(self, operation: Operation) -> bool {
        match self {
            What::Transfers => operation.is_transfer(),
            What::Changes => operation.is_change(),
            What::Logins => operation.is_login(),
            What::Only(only) => operation == only,
        }
    }
}

impl Came {
    fn has(self, outcome: Outcome) -> bool {
        match self {
            Came::Done => !outcome.is_failure(),
            Came::Failed => outcome.is_failure(),
            Came::Only(only) => outcome == only,
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            What::Transfers => "transfers",
            What::Changes => "changes",
            What::Logins => "logins",
            What::Only(operation) => operation.name(),
        })
    }
}

impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Came::Done => "done",
            Came::Failed => "failed",
            Came::Only(outcome) => outcome.name(),
        })
    }
}

impl FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<What, String> {
        match text {
            "transfers" => Ok(What::Transfers),
            "changes" => Ok(What::Changes),
            "logins" => Ok(What::Logins),
            name => Operation::of_name(name)
                .map(What::Only)
                .ok_or_else(|| "it takes transfers, changes, logins, or an operation such as upload".into()),
        }
    }
}

impl FromStr for Came {
    type Err = String;

    fn from_str(text: &str) -> Result<Came, String> {
        match text {
            "done" => Ok(Came::Done),
            "failed" => Ok(Came::Failed),
            name => Outcome::of_name(name)
                .map(Came::Only)
                .ok_or_else(|| "it takes done, failed, or an outcome such as aborted".into()),
        }
    }
}

impl TryFrom<Cow<'_, str>> for What {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<What, String> {
        text.parse()
    }
}

impl TryFrom<Cow<'_, str>> for Came {
    type Error = String;

    fn try_from(text: Cow<'_, str>) -> Result<Came, String> {
        text.parse()
    }
}

impl From<What> for String {
    fn from(what: What) -> String {
        what.to_string()
    }
}

impl From<Came> for String {
    fn from(came: Came) -> String {
        came.to_string()
    }
}

impl Filter {
    /// The filter that stands in the part of an address behind `?`. Empty values and other keys are left out; a wrong value is a
    /// sentence with its key.
    pub fn from_query(query: &str) -> Result<Filter, String> {
        let mut filter = Filter::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let text = value.trim();
            if text.is_empty() {
                continue;
            }
            match key.as_ref() {
                "from" => filter.from = Some(date("from", text)?),
                "to" => filter.to = Some(date("to", text)?),
                // Names and folders may begin or end with blanks.
                "account" => filter.account = Some(value.into_owned()),
                "folder" => filter.folder = Some(value.into_owned()),
                "what" => filter.what = Some(text.parse().map_err(|sentence| format!("what: {sentence}"))?),
                "came" => filter.came = Some(text.parse().map_err(|sentence| format!("came: {sentence}"))?),
                _ => {}
            }
        }
        Ok(filter)
    }

    /// The same as it stands in an address behind `?`; empty where nothing is set.
    pub fn to_query(&self) -> String {
        let pairs = [
            ("from", self.from.map(|date| date.to_string())),
            ("to", self.to.map(|date| date.to_string())),
            ("account", self.account.clone()),
            ("folder", self.folder.clone()),
            ("what", self.what.map(String::from)),
            ("came", self.came.map(String::from)),
        ];
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (key, value) in pairs {
            if let Some(value) = value {
                query.append_pair(key, &value);
            }
        }
        query.finish()
    }

    /// The kinds of records that are meant; none for all of them.
    pub(crate) fn kinds(&self) -> Option<Vec<Kind>> {
        if self.what.is_none() && self.came.is_none() {
            return None;
        }
        let is_meant = |kind: &Kind| {
            self.what.is_none_or(|what| what.has(kind.operation()))
                && self.came.is_none_or(|came| came.has(kind.outcome()))
        };
        Some(Kind::all().filter(is_meant).collect())
    }
}

fn date(key: &str, text: &str) -> Result<Date, String> {
    text.parse().map_err(|_| format!("{key}: {text:?} is no date; one is written as 2026-11-22"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_stands_in_an_address_and_in_json() {
        let query = "from=2026-11-01&to=2026-11-30&account=a%26b+c&folder=%2Fin&what=transfers&came=failed";
        let filter = Filter::from_query(query).unwrap();
        assert_eq!(filter.account.as_deref(), Some("a&b c"));
        assert_eq!(Filter::from_query(&filter.to_query()).unwrap(), filter);
        let json = serde_json::to_string(&filter).unwrap();
        assert_eq!(serde_json::from_str::<Filter>(&json).unwrap(), filter);
        assert_eq!(filter.kinds().unwrap().len(), 4);
        let nothing = Filter::from_query("from=&to=&account=&what=&page=7").unwrap();
        assert_eq!((nothing.to_query().as_str(), nothing.kinds()), ("", None));
    }

    #[test]
    fn a_wrong_value_is_said_with_its_key() {
        for (query, expected) in [
            ("from=yesterday", "from: \"yesterday\" is no date"),
            ("what=x", "what: it takes"),
            ("came=x", "came: it takes"),
        ] {
            let sentence = Filter::from_query(query).unwrap_err();
            assert!(sentence.starts_with(expected), "{sentence}");
        }
        assert!(serde_json::from_str::<Filter>(r#"{"what":"x"}"#).is_err());
    }
}
