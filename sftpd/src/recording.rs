//! Which requests are written down, and how: changes when their answer is known, and what was refused.
//!
//! Transfers are recorded where they end ([`crate::transfer`]); of an OPEN only its refusal is, because there will be no
//! transfer. That something is not there, or is there already, is what clients find out by asking: no failure.

use std::time::Instant;

use pair::activity::{Activity, Outcome, sender};
use pair::wire::{Attrs, Code, Reader, open_flag};
use rustix::io::Errno;

use crate::activity::{Actor, failed};
use crate::fault::Fault;
use crate::pending::plain;
use crate::sftp::{Reply, Sftp, Stop};
use crate::transfer::when_answered;

/// How a request is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// Not at all.
    Not,
    /// An OPEN: its refusal.
    Open,
    /// A change of what a path names.
    Path(&'static str),
    /// A change with an old and a new path.
    Paths(&'static str),
    /// SYMLINK: what the link says, then its path.
    Link,
    /// SETSTAT and its kin, under the name of what is set.
    Attributes,
}

/// Records a request, if it is one that is recorded, when its answer is known. `fields` are the request's, behind its number
/// or its name.
pub fn recorded(
    sftp: &Sftp,
    how: Recorded,
    fields: Reader<'_>,
    began: Instant,
    reply: Result<Reply, Stop>,
) -> Result<Reply, Stop> {
    let is_over = !matches!(reply, Err(Stop::Wait | Stop::Again));
    let is_wanted = match how {
        Recorded::Not => false,
        Recorded::Open => !matches!(reply, Ok(Reply::Handle(_))),
        _ => true,
    };
    let (true, true, Some(actor)) = (is_over, is_wanted, sftp.actor.clone()) else { return reply };
    let Some(activity) = of_request(&actor, how, fields) else { return reply };
    when_answered(reply, move |result| {
        let activity = Activity { elapsed_ms: Some(began.elapsed().as_millis() as u64), ..activity };
        match result {
            Ok(()) if how == Recorded::Open => {}
            Ok(()) => actor.put(Activity { outcome: Some(Outcome::Complete), ..activity }),
            Err(fault) if is_a_finding(fault) => {}
            Err(fault) => actor.put(failed(activity, Outcome::Refused, &fault.text)),
        }
    })
}

/// Records attributes that were set by a handle on a complete file.
pub fn recorded_by_handle(sftp: &Sftp, path: &[u8], asked: &Attrs, reply: Result<Reply, Stop>) -> Result<Reply, Stop> {
    let (Some(actor), Some(name)) = (sftp.actor.clone(), name_of(asked)) else { return reply };
    let mut activity = actor.activity(name);
    activity.set_path(path);
    when_answered(reply, move |result| match result {
        Ok(()) => actor.put(Activity { outcome: Some(Outcome::Complete), ..activity }),
        Err(fault) => actor.put(failed(activity, Outcome::Refused, &fault.text)),
    })
}

/// Whether a client has only found out by it what is there.
fn is_a_finding(fault: &Fault) -> bool {
    fault.code == Code::NoSuchFile || fault.text == Fault::from(Errno::EXIST).text
}

fn of_request(actor: &Actor, how: Recorded, mut fields: Reader<'_>) -> Option<Activity> {
    let first = fields.bytes().ok()?;
    let text = |bytes: &[u8]| Some(String::from_utf8_lossy(bytes).into_owned());
    let (name, path, target_path) = match how {
        Recorded::Not => return None,
        Recorded::Open => (sender_of_open(fields.u32().ok()?), first, None),
        Recorded::Path(name) => (name, first, None),
        Recorded::Paths(name) => (name, first, text(&plain(fields.bytes().ok()?))),
        Recorded::Link => ("Symlink", fields.bytes().ok()?, text(first)),
        Recorded::Attributes => (name_of(&fields.attrs().ok()?)?, first, None),
    };
    let mut activity = Activity { target_path, ..actor.activity(name) };
    activity.set_path(&plain(path));
    Some(activity)
}

fn sender_of_open(flags: u32) -> &'static str {
    match flags & (open_flag::WRITE | open_flag::APPEND) {
        0 => sender::DOWNLOAD,
        _ => sender::UPLOAD,
    }
}

/// The name of the most that a request sets.
fn name_of(attrs: &Attrs) -> Option<&'static str> {
    let names = [
        (attrs.size.is_some(), "Truncate"),
        (attrs.owner.is_some(), "Chown"),
        (attrs.mode.is_some(), "Chmod"),
        (attrs.times.is_some(), "Chtimes"),
    ];
    names.into_iter().find_map(|(is_set, name)| is_set.then_some(name))
}
