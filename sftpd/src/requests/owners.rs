//! The names under which clients see owners. What the server has made belongs to the account; what other hands on the
//! host have put there shows its number, for the host's names are none of the clients' business.

/// Whose name stands for the server's own user and group.
pub struct Owners {
    name: String,
    user: u32,
    group: u32,
}

impl Owners {
    /// As an account sees them.
    pub fn of(name: &str) -> Owners {
        let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Owners { name: name.to_owned(), user, group }
    }

    /// A user's name.
    pub fn user(&self, id: u32) -> Option<&str> {
        Some(self.name.as_str()).filter(|_| id == self.user)
    }

    /// A group's name.
    pub fn group(&self, id: u32) -> Option<&str> {
        Some(self.name.as_str()).filter(|_| id == self.group)
    }
}
