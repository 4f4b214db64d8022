//! Who decides whether somebody may come in. A program chooses one; [`crate::SftpDoorkeeper`] asks an SFTP server.

use futures::future::BoxFuture;
use zeroize::Zeroizing;

/// A password, wiped from memory when it is dropped.
pub type Password = Zeroizing<String>;

/// Whom a doorkeeper let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The account, as the server names it.
    pub account: String,
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The name or the password is wrong; which of them is nobody's business.
    Wrong,
    /// The login is right, but the account administers nothing.
    NoAdmin,
    /// It could not be found out. The sentence is for the person who tries.
    Unknown(String),
}

/// Decides about a name and a password.
pub trait Doorkeeper: Send + Sync + 'static {
    /// Lets somebody in, or says why not. It bounds its own time.
    fn admit<'a>(&'a self, name: &'a str, password: &'a Password) -> BoxFuture<'a, Result<Admission, Refusal>>;
}
