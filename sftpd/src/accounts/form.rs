//! The form of a users.yaml, as serde reads it. What the values mean is [`super::users_file`]'s business.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_yaml::{Mapping, Value};

/// What is said of a label that comes twice.
pub const REPEATED_LABEL: &str = "this label comes twice";

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "`users:` with the users below it")]
pub struct RawFile {
    /// Users under their labels.
    pub users: Labelled<RawUser>,
    /// Agents under their labels.
    #[serde(default)]
    pub agents: Labelled<RawAgent>,
    /// Public keys of certificate authorities.
    #[serde(default)]
    pub trusted_ca: Vec<String>,
}

/// One user, as written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a user: `name`, `password` and so on below the label")]
pub struct RawUser {
    /// The login name.
    pub name: Scalar,
    /// The password in any of its forms.
    pub password: Option<Scalar>,
    /// Lines of `.pub` files.
    #[serde(default)]
    pub public_keys: Vec<String>,
    /// The folder.
    pub home: Option<String>,
    /// Whether it may change users.yaml.
    #[serde(default)]
    pub admin: bool,
    /// Whether it may only read.
    #[serde(default)]
    pub read_only: bool,
    /// Whether it may add and do nothing else.
    #[serde(default)]
    pub upload_only: bool,
    /// What it may do in which of its folders.
    #[serde(default)]
    pub permissions: Mapping,
    /// Whether it is kept out.
    #[serde(default)]
    pub disabled: bool,
    /// How uploads are written.
    pub upload: Option<Scalar>,
    /// How many machines have an upload before it is answered.
    pub acknowledge: Option<Scalar>,
    /// How much the folder may hold.
    pub quota: Option<Scalar>,
    /// How fast it may send.
    pub upload_limit: Option<Scalar>,
    /// How fast it may receive.
    pub download_limit: Option<Scalar>,
    /// How many sessions it may have at once.
    pub max_sessions: Option<Scalar>,
    /// From where it may log in.
    #[serde(default)]
    pub allow_from: Vec<String>,
    /// When it ends.
    pub expires: Option<Scalar>,
    /// Old algorithms that its client may use.
    #[serde(default)]
    pub legacy_algorithms: Vec<String>,
    /// From when on it may not.
    pub legacy_until: Option<Scalar>,
    /// For people.
    pub comment: Option<String>,
}

/// An agent, as written: its password alone, or fields.
pub enum RawAgent {
    /// The password in any of its forms.
    Password(Scalar),
    /// More than that.
    Fields(Box<RawAgentFields>),
}

/// What an agent can have. The rest follows from its label.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an agent: its password, or `password`, `public_keys` and so on")]
pub struct RawAgentFields {
    /// The password in any of its forms.
    pub password: Option<Scalar>,
    /// Lines of `.pub` files.
    #[serde(default)]
    pub public_keys: Vec<String>,
    /// How long a file is kept.
    pub keep: Option<Scalar>,
    /// How much the folder holds before the oldest files go.
    pub keep_size: Option<Scalar>,
    /// How much the folder may hold.
    pub quota: Option<Scalar>,
    /// How fast it may send.
    pub upload_limit: Option<Scalar>,
    /// How many sessions it may have at once.
    pub max_sessions: Option<Scalar>,
    /// From where it may log in.
    #[serde(default)]
    pub allow_from: Vec<String>,
    /// When it ends.
    pub expires: Option<Scalar>,
    /// Whether it is kept out.
    #[serde(default)]
    pub disabled: bool,
    /// For people.
    pub comment: Option<String>,
}

impl<'de> Deserialize<'de> for RawAgent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawAgent, D::Error> {
        struct Agent;
        impl Agent {
            fn plain<E>(text: impl ToString) -> Result<RawAgent, E> {
                Ok(RawAgent::Password(Scalar { text: text.to_string(), is_text: false }))
            }
        }
        impl<'de> Visitor<'de> for Agent {
            type Value = RawAgent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a password, or fields below the agent's name")
            }

            fn visit_str<E>(self, text: &str) -> Result<RawAgent, E> {
                Ok(RawAgent::Password(Scalar { text: text.to_owned(), is_text: true }))
            }

            fn visit_bool<E>(self, value: bool) -> Result<RawAgent, E> {
                Agent::plain(value)
            }

            fn visit_u64<E>(self, value: u64) -> Result<RawAgent, E> {
                Agent::plain(value)
            }

            fn visit_i64<E>(self, value: i64) -> Result<RawAgent, E> {
                Agent::plain(value)
            }

            fn visit_f64<E>(self, value: f64) -> Result<RawAgent, E> {
                Agent::plain(value)
            }

            fn visit_unit<E>(self) -> Result<RawAgent, E> {
                Agent::plain("")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawAgent, A::Error> {
                let fields = RawAgentFields::deserialize(MapAccessDeserializer::new(map))?;
                Ok(RawAgent::Fields(Box::new(fields)))
            }
        }
        deserializer.deserialize_any(Agent)
    }
}

/// Entries under their labels, in order. Unlike a map, it refuses a label that comes twice.
pub struct Labelled<T>(pub Vec<(String, T)>);

impl<T> Default for Labelled<T> {
    fn default() -> Labelled<T> {
        Labelled(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Labelled<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Labelled<T>, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Labelled<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("entries under labels, a line each: what belongs to one stands deeper than its label")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labelled<T>, A::Error> {
                let mut entries: Vec<(String, T)> = Vec::new();
                let mut labels = std::collections::HashSet::new();
                while let Some(label) = map.next_key::<Scalar>()? {
                    if !labels.insert(label.text.clone()) {
                        return Err(A::Error::custom(REPEATED_LABEL));
                    }
                    entries.push((label.text, map.next_value()?));
                }
                Ok(Labelled(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// A scalar of any type, taken as text.
#[derive(Default)]
pub struct Scalar {
    /// What it says.
    pub text: String,
    /// Whether YAML takes it for a text, and not for a number or a word of its own.
    pub is_text: bool,
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Scalar, D::Error> {
        let plain = |text: String| Ok(Scalar { text, is_text: false });
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Scalar { text, is_text: true }),
            Value::Number(number) => plain(number.to_string()),
            Value::Bool(bool) => plain(bool.to_string()),
            Value::Null => plain(String::new()),
            _ => Err(D::Error::custom("a text or a number belongs here")),
        }
    }
}
