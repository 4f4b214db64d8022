//! Passwords overwritten by their mask, in a file that otherwise stays as it is.
//!
//! Always holds: the masked file is read again before anything is done with it, and says the same of everybody.

use super::{MASK, Password, User, parse};
use crate::accounts::mistake::Mistake;
use crate::accounts::positions::{Position, Positions, Style};
use crate::accounts::{Account, Accounts};

/// Why a password cannot be reset.
const NOT_MASKABLE: &str = "its password stands in users.yaml in a form that cannot be masked: write it on one line, in quotes, without anchors";

/// The file with every plain password overwritten by its mask; `users` are what it was read as. Refused where that
/// cannot be done safely.
pub fn masked(text: &str, users: &[User]) -> Result<String, Vec<Mistake>> {
    let marked = text.strip_prefix('\u{feff}').unwrap_or(text);
    let positions = Positions::of(marked);
    let mut bytes = marked.as_bytes().to_vec();
    for user in users.iter().filter(|user| matches!(user.password, Password::Plain(_) | Password::Generate)) {
        let scalar = positions.scalar(&user.account.label, "password");
        let Some(scalar) = scalar.filter(|scalar| scalar.style != Style::Block && !scalar.bytes.is_empty()) else {
            return Err(vec![unmaskable(&positions, user)]);
        };
        if let Some(written) = bytes.get_mut(scalar.bytes.clone()) {
            written.fill(MASK as u8);
        }
    }
    let masked = String::from_utf8(bytes).unwrap_or_default();
    // Read again, with everybody's password known: each masked one must read as unchanged, and all else as before.
    let everybody = Accounts::new(0, users.iter().map(|user| with_any_hash(&user.account)));
    let again = parse(&masked, &everybody)?.users;
    for (user, again) in users.iter().zip(&again) {
        let expected = match &user.password {
            Password::Plain(_) | Password::Generate => &Password::Unchanged,
            other => other,
        };
        if user.account != again.account || *expected != again.password {
            return Err(vec![unmaskable(&positions, user)]);
        }
    }
    let mark = &text[..text.len() - marked.len()];
    Ok(format!("{mark}{masked}"))
}

/// The file with the password of one account masked, whatever stands there now: it is kept elsewhere from then on. `before`
/// are the accounts that the file has given.
pub fn with_password_masked(text: &str, before: &Accounts, name: &str) -> Result<String, Mistake> {
    let marked = text.strip_prefix('\u{feff}').unwrap_or(text);
    let positions = Positions::of(marked);
    let unsuitable = |text: &str| Mistake { position: Position { line: 1, column: 1 }, text: text.into() };
    let label = &before.get(name).ok_or_else(|| unsuitable("there is no such account"))?.label;
    let scalar = positions.scalar(label, "password").filter(|scalar| scalar.style != Style::Block);
    let scalar = scalar.ok_or_else(|| unsuitable(NOT_MASKABLE))?;
    let mut bytes = marked.as_bytes().to_vec();
    bytes.get_mut(scalar.bytes.clone()).into_iter().for_each(|written| written.fill(MASK as u8));
    let masked = String::from_utf8(bytes).unwrap_or_default();
    // Read again: everybody must be who he was.
    let again = parse(&masked, before).map_err(|_| unsuitable(NOT_MASKABLE))?;
    let is_as_before =
        |user: &User| before.get(&user.account.name).is_some_and(|account| account.label == user.account.label);
    let is_masked = |user: &User| user.account.name != name || user.password == Password::Unchanged;
    if !again.users.iter().all(|user| is_as_before(user) && is_masked(user)) {
        return Err(unsuitable(NOT_MASKABLE));
    }
    Ok(format!("{}{masked}", &text[..text.len() - marked.len()]))
}

fn unmaskable(positions: &Positions, user: &User) -> Mistake {
    let Account { label, name, .. } = &user.account;
    let text = match positions.scalar(label, "name") {
        Some(_) => {
            format!("write the password of {name} on one line, in quotes, without anchors: it could not be masked")
        }
        None => format!("write the label of {name} in quotes: it can be read in two ways"),
    };
    Mistake { position: positions.field(label, "password"), text }
}

fn with_any_hash(account: &Account) -> Account {
    Account { password_hash: Some("$".into()), ..account.clone() }
}
