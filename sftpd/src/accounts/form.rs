//! The form of a users.yaml, as serde reads it. What the values mean is [`super::users_file`]'s business.

use std::fmt;

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
    pub users: RawUsers,
    /// Public keys of certificate authorities.
    #[serde(default)]
    pub trusted_ca: Vec<String>,
}

/// One user, as written.
#[derive(Deserialize)]
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

/// Users under their labels, in order. Unlike a map, it refuses a label that comes twice.
pub struct RawUsers(pub Vec<(String, RawUser)>);

impl<'de> Deserialize<'de> for RawUsers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawUsers, D::Error> {
        struct Users;
        impl<'de> Visitor<'de> for Users {
            type Value = RawUsers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("users under labels, each with at least a `name`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawUsers, A::Error> {
                let mut users: Vec<(String, RawUser)> = Vec::new();
                let mut labels = std::collections::HashSet::new();
                while let Some(label) = map.next_key::<Scalar>()? {
                    if !labels.insert(label.text.clone()) {
                        return Err(A::Error::custom(REPEATED_LABEL));
                    }
                    users.push((label.text, map.next_value()?));
                }
                Ok(RawUsers(users))
            }
        }
        deserializer.deserialize_map(Users)
    }
}

/// A scalar of any type, taken as text.
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
