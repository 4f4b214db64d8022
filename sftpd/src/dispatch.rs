//! The protocol as a table: one row per request, with its name, whether it writes, and the function that serves it.
//!
//! Rights are decided on the row, before the function runs. Every request gets exactly one answer, unknown ones too.

use bytes::{BufMut, BytesMut};
use pair::wire::{self, Code, Reader, kind, open_flag};

use crate::fault::Fault;
use crate::requests::{attributes, content, extended, folders, names};
use crate::sftp::{Access, Later, Reply, Request, Sftp, Stop};

/// Whether a request writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// OPEN: as its flags say.
    AsFlagsSay,
}

type Serve = fn(&mut Sftp, &mut Request<'_>) -> Result<Reply, Stop>;

/// A row of the table.
pub struct Row {
    /// Packet type.
    kind: u8,
    /// Name, in errors and metrics.
    name: &'static str,
    writes: Writes,
    serve: Serve,
}

const fn row(kind: u8, name: &'static str, writes: Writes, serve: Serve) -> Row {
    Row { kind, name, writes, serve }
}

/// All requests of version 3, draft section 6. CLOSE writes nothing that OPEN was not allowed to write.
const ROWS: [Row; 18] = [
    row(kind::OPEN, "open", Writes::AsFlagsSay, content::open),
    row(kind::CLOSE, "close", Writes::No, content::close),
    row(kind::READ, "read", Writes::No, content::read),
    row(kind::WRITE, "write", Writes::Yes, content::write),
    row(kind::LSTAT, "lstat", Writes::No, attributes::lstat),
    row(kind::FSTAT, "fstat", Writes::No, attributes::fstat),
    row(kind::SETSTAT, "setstat", Writes::Yes, attributes::setstat),
    row(kind::FSETSTAT, "fsetstat", Writes::Yes, attributes::fsetstat),
    row(kind::OPENDIR, "opendir", Writes::No, folders::opendir),
    row(kind::READDIR, "readdir", Writes::No, folders::readdir),
    row(kind::REMOVE, "remove", Writes::Yes, names::remove),
    row(kind::MKDIR, "mkdir", Writes::Yes, folders::mkdir),
    row(kind::RMDIR, "rmdir", Writes::Yes, folders::rmdir),
    row(kind::REALPATH, "realpath", Writes::No, names::realpath),
    row(kind::STAT, "stat", Writes::No, attributes::stat),
    row(kind::RENAME, "rename", Writes::Yes, names::rename),
    row(kind::READLINK, "readlink", Writes::No, names::readlink),
    row(kind::SYMLINK, "symlink", Writes::Yes, names::symlink),
];

/// A row of the extensions.
pub struct ExtensionRow {
    name: &'static str,
    /// What VERSION announces; `None` for what only the other machine of the pair may use.
    announced: Option<&'static str>,
    writes: Writes,
    serve: Serve,
}

const fn extension(name: &'static str, announced: &'static str, writes: Writes, serve: Serve) -> ExtensionRow {
    ExtensionRow { name, announced: Some(announced), writes, serve }
}

const fn of_the_pair(name: &'static str, serve: Serve) -> ExtensionRow {
    ExtensionRow { name, announced: None, writes: Writes::No, serve }
}

/// OpenSSH's extensions (its PROTOCOL file, section 4) and the pair's own.
const EXTENSIONS: &[ExtensionRow] = &[
    extension("posix-rename@openssh.com", "1", Writes::Yes, names::posix_rename),
    extension("statvfs@openssh.com", "2", Writes::No, extended::statvfs),
    extension("fstatvfs@openssh.com", "2", Writes::No, extended::fstatvfs),
    extension("hardlink@openssh.com", "1", Writes::Yes, names::hardlink),
    extension("fsync@openssh.com", "1", Writes::Yes, content::fsync),
    extension("lsetstat@openssh.com", "1", Writes::Yes, attributes::lsetstat),
    extension("limits@openssh.com", "1", Writes::No, extended::limits),
    extension("expand-path@openssh.com", "1", Writes::No, names::expand_path),
    of_the_pair(pair::extension::HELLO, extended::hello),
    of_the_pair(pair::extension::ACCOUNTS, extended::accounts),
    of_the_pair(pair::extension::DIGEST, extended::digest),
    #[cfg(test)]
    of_the_pair("panic@sftp-ha", |_, _| panic!("a test asked for it")),
    #[cfg(test)]
    of_the_pair("panic-later@sftp-ha", |sftp, _| Ok(sftp.later(&[b"/"], async { panic!("a test asked for it") }))),
];

/// How a request went.
pub enum Served {
    /// Its answer is in the output.
    Answered,
    /// Its answer comes when a change is durable.
    Later(u32, Later),
    /// It must be served again when the session's pending changes are done.
    Wait,
}

/// Serves one packet (type and body), writing its answer to `out`.
pub fn serve(sftp: &mut Sftp, packet: &[u8], out: &mut BytesMut) -> Result<Served, wire::Malformed> {
    if sftp.is_full() {
        return Ok(Served::Wait);
    }
    let mut fields = Reader(packet);
    let packet_kind = fields.u8()?;
    if packet_kind == kind::INIT || !sftp.is_greeted() {
        return greet(sftp, packet_kind, fields, out);
    }
    let id = fields.u32()?;
    let mut request = Request { id, fields, out };
    let reply = find(sftp, packet_kind, &mut request).and_then(|(name, serve)| {
        sftp.count(name);
        serve(sftp, &mut request)
    });
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
    })
}

/// The row of a request, if the session may use it.
fn find(sftp: &Sftp, packet_kind: u8, request: &mut Request<'_>) -> Result<(&'static str, Serve), Stop> {
    let unknown = |name: &str| Fault { code: Code::OpUnsupported, text: format!("{name} is not supported") };
    let (name, writes, serve) = if packet_kind == kind::EXTENDED {
        let name = request.fields.bytes()?;
        let row = EXTENSIONS.iter().find(|row| row.name.as_bytes() == name);
        let row = row.filter(|row| row.announced.is_some() || sftp.is_peer());
        let row = row.ok_or_else(|| unknown(&format!("the extension {}", String::from_utf8_lossy(name))))?;
        (row.name, row.writes, row.serve)
    } else {
        let row = ROWS.iter().find(|row| row.kind == packet_kind);
        let row = row.ok_or_else(|| unknown(&format!("request type {packet_kind}")))?;
        (row.name, row.writes, row.serve)
    };
    let writes = match writes {
        Writes::AsFlagsSay => open_writes(request.fields),
        Writes::Yes => true,
        Writes::No => false,
    };
    match sftp.access() {
        Access::ReadOnly(fault) if writes => Err(fault.into()),
        _ => Ok((name, serve)),
    }
}

/// Whether OPEN's flags ask for more than reading. Flags that cannot be read are refused by OPEN itself.
fn open_writes(mut fields: Reader<'_>) -> bool {
    let flags = fields.bytes().and_then(|_| fields.u32());
    flags.is_ok_and(|flags| flags & !open_flag::READ != 0)
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
        for row in EXTENSIONS {
            let announced = row.announced.or_else(|| sftp.is_peer().then_some("1"));
            if let Some(announced) = announced {
                wire::put_bytes(out, row.name.as_bytes());
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
