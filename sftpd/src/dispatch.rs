//! The protocol as a table: one row per request, with its name, what it does, and the function that serves it.
//!
//! Rights are decided on the row, before the function runs. Every request gets exactly one answer, unknown ones too.

use std::time::Instant;

use bytes::{BufMut, BytesMut};
use pair::wire::{self, Code, Reader, kind, open_flag};

use crate::fault::Fault;
use crate::recording::{self, Recorded};
use crate::requests::{attributes, checksums, closing, content, copying, extended, folders, machines, names};
use crate::sftp::{Later, Reply, Request, Sftp, Stop};

/// What a request does, as far as rights are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// It looks at names and attributes, or ends something.
    Looks,
    /// It reads content.
    Reads,
    /// It may add something. Whether it replaces what is there, its function asks.
    Adds,
    /// It changes or removes what is there.
    Changes,
    /// OPEN: as its flags say.
    AsFlagsSay,
}

type Serve = fn(&mut Sftp, &mut Request<'_>) -> Result<Reply, Stop>;

/// How a request is served.
struct Job {
    /// Name, in errors and metrics.
    name: &'static str,
    does: Does,
    serve: Serve,
    recorded: Recorded,
}

/// A row of the table.
struct Row {
    /// Packet type.
    kind: u8,
    job: Job,
}

const fn row(kind: u8, name: &'static str, does: Does, serve: Serve) -> Row {
    Row { kind, job: Job { name, does, serve, recorded: Recorded::Not } }
}

impl Row {
    /// The same row, written down in the activity log.
    const fn recorded(self, recorded: Recorded) -> Row {
        Row { job: Job { recorded, ..self.job }, ..self }
    }
}

/// All requests of version 3, draft section 6. CLOSE writes nothing that OPEN was not allowed to write.
static ROWS: [Row; 18] = [
    row(kind::OPEN, "open", Does::AsFlagsSay, content::open).recorded(Recorded::Open),
    row(kind::CLOSE, "close", Does::Looks, closing::close),
    row(kind::READ, "read", Does::Reads, content::read),
    row(kind::WRITE, "write", Does::Adds, content::write),
    row(kind::LSTAT, "lstat", Does::Looks, attributes::lstat),
    row(kind::FSTAT, "fstat", Does::Looks, attributes::fstat),
    row(kind::SETSTAT, "setstat", Does::Adds, attributes::setstat).recorded(Recorded::Attributes),
    row(kind::FSETSTAT, "fsetstat", Does::Adds, attributes::fsetstat),
    row(kind::OPENDIR, "opendir", Does::Looks, folders::opendir),
    row(kind::READDIR, "readdir", Does::Looks, folders::readdir),
    row(kind::REMOVE, "remove", Does::Adds, names::remove).recorded(Recorded::Path("Remove")),
    row(kind::MKDIR, "mkdir", Does::Adds, folders::mkdir).recorded(Recorded::Path("Mkdir")),
    row(kind::RMDIR, "rmdir", Does::Changes, folders::rmdir).recorded(Recorded::Path("Rmdir")),
    row(kind::REALPATH, "realpath", Does::Looks, names::realpath),
    row(kind::STAT, "stat", Does::Looks, attributes::stat),
    row(kind::RENAME, "rename", Does::Adds, names::rename).recorded(Recorded::Paths("Rename")),
    row(kind::READLINK, "readlink", Does::Looks, names::readlink),
    row(kind::SYMLINK, "symlink", Does::Changes, names::symlink).recorded(Recorded::Link),
];

/// A row of the extensions.
struct ExtensionRow {
    /// What VERSION announces; `None` for what only the other machine of the pair may use.
    announced: Option<&'static str>,
    job: Job,
}

const fn extension(name: &'static str, announced: &'static str, does: Does, serve: Serve) -> ExtensionRow {
    ExtensionRow { announced: Some(announced), job: Job { name, does, serve, recorded: Recorded::Not } }
}

const fn of_the_pair(name: &'static str, does: Does, serve: Serve) -> ExtensionRow {
    ExtensionRow { announced: None, job: Job { name, does, serve, recorded: Recorded::Not } }
}

impl ExtensionRow {
    const fn recorded(self, recorded: Recorded) -> ExtensionRow {
        ExtensionRow { job: Job { recorded, ..self.job }, ..self }
    }
}

/// OpenSSH's extensions (its PROTOCOL file, section 4), those of draft-ietf-secsh-filexfer-extensions-00, and the pair's
/// own.
static EXTENSIONS: &[ExtensionRow] = &[
    extension("posix-rename@openssh.com", "1", Does::Adds, names::posix_rename).recorded(Recorded::Paths("Rename")),
    extension("statvfs@openssh.com", "2", Does::Looks, extended::statvfs),
    extension("fstatvfs@openssh.com", "2", Does::Looks, extended::fstatvfs),
    extension("hardlink@openssh.com", "1", Does::Changes, names::hardlink).recorded(Recorded::Paths("Link")),
    extension("fsync@openssh.com", "1", Does::Adds, closing::fsync),
    extension("lsetstat@openssh.com", "1", Does::Adds, attributes::lsetstat).recorded(Recorded::Attributes),
    extension("limits@openssh.com", "1", Does::Looks, extended::limits),
    extension("expand-path@openssh.com", "1", Does::Looks, names::expand_path),
    extension("copy-data", "1", Does::Changes, copying::copy_data),
    extension("home-directory", "1", Does::Looks, extended::home_directory),
    extension("users-groups-by-id@openssh.com", "1", Does::Looks, extended::users_groups_by_id),
    extension("check-file", "1", Does::Reads, checksums::check_file),
    extension("check-file-handle", "1", Does::Reads, checksums::check_file_handle),
    extension("check-file-name", "1", Does::Reads, checksums::check_file_name),
    extension(pair::extension::WHOAMI, "1", Does::Looks, extended::whoami),
    of_the_pair(pair::extension::HELLO, Does::Looks, machines::hello),
    of_the_pair(pair::extension::REACHED, Does::Changes, machines::reached),
    of_the_pair(pair::extension::TAKE_OVER, Does::Looks, machines::take_over),
    of_the_pair(pair::extension::SWITCH_OVER, Does::Looks, machines::switch_over),
    of_the_pair(pair::extension::HOST_KEYS, Does::Changes, machines::host_keys),
    of_the_pair(pair::extension::ACCOUNTS, Does::Looks, extended::accounts),
    of_the_pair(pair::extension::DIGEST, Does::Looks, extended::digest),
    of_the_pair(pair::extension::ACTIVITY, Does::Looks, extended::activity),
    of_the_pair(pair::extension::PUT, Does::Adds, extended::put),
    #[cfg(test)]
    of_the_pair("panic@sftp-ha", Does::Looks, |_, _| panic!("a test asked for it")),
    #[cfg(test)]
    of_the_pair("panic-later@sftp-ha", Does::Looks, |sftp, _| {
        Ok(sftp.later(&[b"/"], async { panic!("a test asked for it") }))
    }),
];

/// How a request went.
pub enum Served {
    /// Its answer is in the output.
    Answered,
    /// Its answer comes when a change is durable.
    Later(u32, Later),
    /// It must be served again when the session's pending changes are done.
    Wait,
    /// It is served in part and must be served again, after others had their turn.
    Again,
}

/// Serves one packet (type and body), writing its answer to `out`.
pub fn serve(sftp: &mut Sftp, packet: &[u8], out: &mut BytesMut) -> Result<Served, wire::Malformed> {
    if sftp.pending.are_full() {
        return Ok(Served::Wait);
    }
    let mut fields = Reader(packet);
    let packet_kind = fields.u8()?;
    if packet_kind == kind::INIT || !sftp.is_greeted() {
        return greet(sftp, packet_kind, fields, out);
    }
    let id = fields.u32()?;
    let mut request = Request { id, fields, out };
    let reply = find(sftp, packet_kind, &mut request).and_then(|job| serve_job(sftp, job, &mut request));
    if !matches!(reply, Err(Stop::Wait | Stop::Again)) {
        // What it left for its next turn is nothing to the next request.
        sftp.ongoing = None;
    }
    Ok(match reply {
        Ok(Reply::Later(later)) => Served::Later(id, later),
        Ok(reply) => {
            put_reply(request.out, id, &reply);
            Served::Answered
        }
        Err(Stop::Fault(fault)) => {
            put_status(request.out, id, fault.code, &fault.text);
            Served::Answered
        }
        Err(Stop::Wait) => Served::Wait,
        Err(Stop::Again) => Served::Again,
    })
}

/// Serves a request, if the session may use it. Whatever comes of it is recorded.
fn serve_job(sftp: &mut Sftp, job: &Job, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let (fields, began) = (request.fields, Instant::now());
    let does = if job.does == Does::AsFlagsSay { open_does(fields) } else { job.does };
    let reply = match sftp.access().permit(does) {
        Ok(()) => (job.serve)(sftp, request),
        Err(fault) => Err(fault.into()),
    };
    if !matches!(reply, Err(Stop::Wait | Stop::Again)) {
        sftp.count(job.name);
    }
    match job.recorded {
        Recorded::Not => reply,
        recorded => recording::recorded(sftp, recorded, fields, began, reply),
    }
}

/// How a request is served.
fn find(sftp: &Sftp, packet_kind: u8, request: &mut Request<'_>) -> Result<&'static Job, Stop> {
    let unknown = |name: &str| Fault { code: Code::OpUnsupported, text: format!("{name} is not supported") };
    if packet_kind == kind::EXTENDED {
        let name = request.fields.bytes()?;
        let row = EXTENSIONS.iter().find(|row| row.job.name.as_bytes() == name);
        let row = row.filter(|row| row.announced.is_some() || sftp.is_peer());
        Ok(&row.ok_or_else(|| unknown(&format!("the extension {}", String::from_utf8_lossy(name))))?.job)
    } else {
        let row = ROWS.iter().find(|row| row.kind == packet_kind);
        Ok(&row.ok_or_else(|| unknown(&format!("request type {packet_kind}")))?.job)
    }
}

/// What OPEN's flags ask for. Those that cannot be read are refused by OPEN itself.
fn open_does(mut fields: Reader<'_>) -> Does {
    match fields.bytes().and_then(|_| fields.u32()) {
        Ok(flags) if flags & (open_flag::WRITE | open_flag::APPEND) != 0 => Does::Adds,
        _ => Does::Reads,
    }
}

fn greet(
    sftp: &mut Sftp,
    packet_kind: u8,
    mut fields: Reader<'_>,
    out: &mut BytesMut,
) -> Result<Served, wire::Malformed> {
    if packet_kind != kind::INIT || sftp.is_greeted() {
        return Err(wire::Malformed);
    }
    // Whatever the client's version is (lftp says 6), the answer is ours; what follows it is not for us.
    fields.u32()?;
    sftp.set_greeted();
    wire::put_packet(out, kind::VERSION, |out| {
        out.put_u32(wire::VERSION);
        for row in EXTENSIONS.iter() {
            let announced = row.announced.or_else(|| sftp.is_peer().then_some("1"));
            if let Some(announced) = announced {
                wire::put_bytes(out, row.job.name.as_bytes());
                wire::put_bytes(out, announced.as_bytes());
            }
        }
    });
    Ok(Served::Answered)
}

/// Writes an answer.
pub fn put_reply(out: &mut BytesMut, id: u32, reply: &Reply) {
    match reply {
        Reply::Done => put_status(out, id, Code::Ok, "OK"),
        Reply::Handle(handle) => wire::put_packet(out, kind::HANDLE, |out| {
            out.put_u32(id);
            wire::put_bytes(out, handle.as_bytes());
        }),
        Reply::Attributes(attrs) => wire::put_packet(out, kind::ATTRS, |out| {
            out.put_u32(id);
            attrs.put(out);
        }),
        Reply::Name(name) => wire::put_packet(out, kind::NAME, |out| {
            out.put_u32(id);
            out.put_u32(1);
            wire::put_bytes(out, name);
            wire::put_bytes(out, name);
            wire::Attrs::default().put(out);
        }),
        Reply::Extended(body) => wire::put_packet(out, kind::EXTENDED_REPLY, |out| {
            out.put_u32(id);
            out.put_slice(body);
        }),
        // The request wrote its answer itself, or it comes later.
        Reply::Written | Reply::Later(_) => {}
    }
}

/// Writes a status.
pub fn put_status(out: &mut BytesMut, id: u32, code: Code, text: &str) {
    wire::put_packet(out, kind::STATUS, |out| {
        out.put_u32(id);
        out.put_u32(code as u32);
        wire::put_bytes(out, text.as_bytes());
        wire::put_bytes(out, b"en");
    });
}
