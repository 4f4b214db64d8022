//! The orders there are, and what each of them means in words. Pure.

use pair::node::Role;
use web::figures;

use super::Form;
use crate::situation::Situation;
use crate::web::shown;

/// An order that can be given.
#[derive(Debug)]
pub struct Offer {
    /// Its name in the address.
    pub name: &'static str,
    /// What the page is headed with.
    pub title: &'static str,
    /// What the button says.
    pub button: &'static str,
    /// Whether it is a thing that one can regret.
    pub is_dangerous: bool,
    read: fn(&Form) -> Wish,
}

const OFFERS: [Offer; 7] = [
    Offer { name: "promote", title: "Promote", button: "Promote this machine", is_dangerous: true, read: promote },
    Offer { name: "switchover", title: "Switchover", button: "Switch over", is_dangerous: false, read: switchover },
    Offer { name: "drill", title: "Drill", button: "Begin the drill", is_dangerous: false, read: |_| Wish::Drill },
    Offer { name: "approve", title: "Let removals go", button: "Let them go", is_dangerous: true, read: approve },
    Offer { name: "unban", title: "Lift a ban", button: "Lift it", is_dangerous: false, read: unban },
    Offer { name: "kick", title: "End connections", button: "End them", is_dangerous: true, read: kick },
    Offer { name: "restore", title: "Restore", button: "Restore it", is_dangerous: false, read: restore },
];

/// What somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// This machine becomes the master; another is given up where it is named.
    Promote {
        /// The machine that is given up.
        given_up: String,
    },
    /// The master's place goes to the other machine.
    Switchover {
        /// To which; empty: the only one.
        to: String,
    },
    /// There and back.
    Drill,
    /// Removals that are held go.
    Approve {
        /// From which standby.
        standby: String,
        /// How many entries the person has seen.
        entries: String,
    },
    /// A ban is lifted.
    Unban {
        /// Whose.
        whom: String,
    },
    /// Connections are ended.
    Kick {
        /// Whose.
        whom: String,
    },
    /// One connection is ended.
    End {
        /// Its id, which no other one ever has.
        connection: String,
        /// Whose it is, and from where: for the person.
        whose: String,
    },
    /// A version comes back from a standby's trash.
    Restore {
        /// Whose trash.
        standby: String,
        /// Of what, as hexadecimal bytes.
        path: String,
        /// Which version.
        version: String,
    },
}

/// A field that is typed.
pub struct Field {
    /// Its name in the form.
    pub name: &'static str,
    /// Its name for people.
    pub label: &'static str,
    /// What to type.
    pub hint: String,
    /// What was typed.
    pub value: String,
}

fn promote(form: &Form) -> Wish {
    Wish::Promote { given_up: form.text("given_up") }
}

fn switchover(form: &Form) -> Wish {
    Wish::Switchover { to: form.text("to") }
}

fn approve(form: &Form) -> Wish {
    Wish::Approve { standby: form.text("standby"), entries: form.text("entries") }
}

fn unban(form: &Form) -> Wish {
    Wish::Unban { whom: form.text("whom") }
}

fn kick(form: &Form) -> Wish {
    match form.text("connection") {
        connection if connection.is_empty() => Wish::Kick { whom: form.text("whom") },
        connection => Wish::End { connection, whose: form.text("whose") },
    }
}

fn restore(form: &Form) -> Wish {
    Wish::Restore { standby: form.text("standby"), path: form.text("path"), version: form.text("version") }
}

/// Bytes that were written as hexadecimal digits.
pub fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes();
    let is_hex = digits.len().is_multiple_of(2) && digits.iter().all(u8::is_ascii_hexdigit);
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if is_hex { digits.chunks(2).map(pair).collect() } else { None }
}

impl Wish {
    /// The order of a name, with what a form says.
    pub fn of(name: &str, form: &Form) -> Option<Wish> {
        OFFERS.iter().find(|offer| offer.name == name).map(|offer| (offer.read)(form))
    }

    /// Which of the orders it is.
    pub fn offer(&self) -> &'static Offer {
        let [promote, switchover, drill, approve, unban, kick, restore] = &OFFERS;
        match self {
            Wish::Promote { .. } => promote,
            Wish::Switchover { .. } => switchover,
            Wish::Drill => drill,
            Wish::Approve { .. } => approve,
            Wish::Unban { .. } => unban,
            Wish::Kick { .. } | Wish::End { .. } => kick,
            Wish::Restore { .. } => restore,
        }
    }

    /// For the log.
    pub fn in_the_log(&self) -> String {
        let fields = self.hidden().into_iter().chain(self.typed()).filter(|(_, value)| !value.is_empty());
        let fields: Vec<String> = fields.map(|(name, value)| format!(" {name}={value}")).collect();
        format!("{}{}", self.offer().name, fields.concat())
    }

    /// What the form carries that nobody types.
    pub fn hidden(&self) -> Vec<(&'static str, String)> {
        match self {
            Wish::Approve { standby, entries } => vec![("standby", standby.clone()), ("entries", entries.clone())],
            Wish::Unban { whom } => vec![("whom", whom.clone())],
            Wish::End { connection, whose } => vec![("connection", connection.clone()), ("whose", whose.clone())],
            Wish::Restore { standby, path, version } => {
                vec![("standby", standby.clone()), ("path", path.clone()), ("version", version.clone())]
            }
            _ => Vec::new(),
        }
    }

    fn typed(&self) -> Option<(&'static str, String)> {
        match self {
            Wish::Promote { given_up } => Some(("given_up", given_up.clone())),
            Wish::Switchover { to } => Some(("to", to.clone())),
            Wish::Kick { whom } => Some(("whom", whom.clone())),
            _ => None,
        }
    }

    /// What somebody has to type, beside the password.
    pub fn fields(&self, situation: &Situation) -> Vec<Field> {
        let Some((name, value)) = self.typed() else { return Vec::new() };
        let names = shown(&peers(situation).join(", "));
        let several = peers(situation).len() > 1;
        let (label, hint) = match self {
            Wish::Promote { .. } => (
                "The machine that is given up (only where promoting is refused without it)",
                format!(
                    "Leave it empty first. Who types the other machine's name here gives up what only that one has: {names}"
                ),
            ),
            Wish::Switchover { .. } if several => ("To which machine", format!("One of: {names}")),
            Wish::Switchover { .. } => return Vec::new(),
            _ => ("Whose connections", "An account, an address, or a connection's id as sftpd who shows it".to_owned()),
        };
        vec![Field { name, label, hint, value }]
    }

    /// What will happen, in words.
    pub fn words(&self, situation: &Situation) -> Vec<String> {
        let is_standby = situation.status.as_ref().is_some_and(|status| status.role == Role::Standby);
        match self {
            Wish::Promote { .. } => owned(&[
                "This machine becomes the master now and takes changes from then on.",
                "It is for the case that the master is lost. While the master answers, a switchover does the same without losing anything, and promoting is refused.",
                "What only the old master has is set aside there when it comes back, and offered to this machine.",
            ]),
            Wish::Switchover { .. } if is_standby => owned(&[
                "The master hands its place over to this machine. Nothing that was acknowledged is lost.",
                "Changes wait for a moment, mostly less than a second, until this machine has everything. Where that fails the master stays the master.",
            ]),
            Wish::Switchover { .. } => owned(&[
                "This machine hands its place over and is the standby then. Nothing that was acknowledged is lost.",
                "Changes wait for a moment, mostly less than a second, until the other machine has everything. Where that fails this machine stays the master.",
            ]),
            Wish::Drill => owned(&[
                "The master's place goes to the other machine and comes back: two switchovers, timed, with a report that is kept.",
                "Changes wait twice for a moment. It takes some seconds; where this machine has much to catch up with, minutes.",
            ]),
            Wish::Approve { standby, entries } => vec![
                format!("{} that are gone on this machine are removed from {} too.", entries_in_words(entries), shown(standby)),
                "They go to the standby's trash with the next comparison and are kept there for some days.".to_owned(),
                "They were held because so many at once look like a lost disk or a wrong script. Look whether the files should be gone.".to_owned(),
            ],
            Wish::Unban { whom } => vec![format!("The ban of {} ends now. Who goes on guessing is banned again.", shown(whom))],
            Wish::End { connection, whose } => vec![
                format!("The connection {} of {} is ended at once; uploads that are under way can be resumed.", shown(connection), shown(whose)),
                "Other connections of that account stay. Who is to stay out needs disabled: true in users.yaml: else they connect again.".to_owned(),
            ],
            Wish::Kick { .. } => owned(&[
                "The connections are ended at once; uploads that are under way can be resumed.",
                "Who is to stay out needs disabled: true in users.yaml: else they connect again.",
            ]),
            Wish::Restore { standby, path, version } => vec![
                format!("{} as of {} comes back from the trash of {}.", shown_path(path), shown(version), shown(standby)),
                "It is put into a folder of its own in the console's state folder on this machine, not over what is there now: upload it where it belongs.".to_owned(),
            ],
        }
    }

    /// What is wrong with it, before the password is looked at.
    pub fn mistake(&self, situation: &Situation) -> Option<String> {
        let is_mirror = |name: &str| situation.mirrors.iter().any(|mirror| mirror.name == name);
        match self {
            Wish::Promote { given_up: name } | Wish::Switchover { to: name } => {
                let is_known = name.is_empty() || peers(situation).iter().any(|peer| peer == name);
                let known = shown(&peers(situation).join(", "));
                (!is_known).then(|| format!("No other machine is called {}. There is: {known}", shown(name)))
            }
            Wish::Kick { whom } if whom.is_empty() => Some("Say whose connections are to end.".to_owned()),
            Wish::Unban { whom } if whom.is_empty() => Some("It was not said whose ban is to end.".to_owned()),
            Wish::Approve { standby, .. } | Wish::Restore { standby, .. } if !is_mirror(standby) => {
                Some("There is no such standby.".to_owned())
            }
            Wish::Restore { path, .. } => {
                let is_path = bytes_of(path).is_some_and(|path| filesync::restore::is_inside(&path));
                (!is_path).then(|| "This is no path in the data folder.".to_owned())
            }
            _ => None,
        }
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|sentence| (*sentence).to_owned()).collect()
}

fn entries_in_words(entries: &str) -> String {
    entries.parse().map_or("Entries".to_owned(), |count| figures::of(count, "entry", "entries"))
}

fn shown_path(hex: &str) -> String {
    bytes_of(hex).map_or("This".to_owned(), |path| shown(&filesync::tree::shown(&path)))
}

/// By which names the other machines may be called: their addresses and their ids.
fn peers(situation: &Situation) -> Vec<String> {
    let Some(status) = situation.status.as_deref() else { return Vec::new() };
    let ids = status.peers.iter().filter_map(|peer| Some(peer.hello.as_ref()?.node.clone()));
    status.peers.iter().map(|peer| peer.name.clone()).chain(ids).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_is_found_by_its_name_and_nothing_else_is() {
        let form = Form::of(b"whom=+x+&path=612f62");
        for offer in &OFFERS {
            assert_eq!(Wish::of(offer.name, &form).unwrap().offer().name, offer.name);
        }
        assert_eq!(Wish::of("kick", &form), Some(Wish::Kick { whom: "x".into() }));
        let one = Wish::of("kick", &Form::of(b"connection=1a-7&whose=<b>&whom=x")).unwrap();
        assert_eq!(one.in_the_log(), "kick connection=1a-7 whose=<b>");
        for name in ["", "Promote", "../promote", "apply_users"] {
            assert!(Wish::of(name, &form).is_none(), "{name}");
        }
    }

    #[test]
    fn bytes_are_read_back_from_digits_and_from_nothing_else() {
        assert_eq!(bytes_of("612fff"), Some(b"a/\xff".to_vec()));
        for wrong in ["6", "6x", "+1", "61 2f"] {
            assert_eq!(bytes_of(wrong), None, "{wrong}");
        }
    }
}
