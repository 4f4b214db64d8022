//! SFTP version 3 on the wire (draft-ietf-secsh-filexfer-02, as OpenSSH reads it), both directions.
//!
//! Names, handles and extension data are bytes: nothing here assumes UTF-8, and nothing allocates by a length that the
//! peer merely claims. This file knows how packets look, never what they mean; it does no I/O.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The protocol version that both ends speak.
pub const VERSION: u32 = 3;

/// The largest body of a READ reply or WRITE request that our server announces by `limits@openssh.com`, in bytes.
pub const DATA_BYTES_MAX: usize = 255 * 1024;

/// The largest packet that is accepted, in bytes: the data, its header, and a path of full length.
/// OpenSSH's own limit is 256 KiB; a client that goes past it is broken or hostile.
pub const PACKET_BYTES_MAX: usize = 256 * 1024;

macro_rules! packet_types {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        $($(#[$doc])* pub const $name: u8 = $value;)*
    };
}

/// Packet types, draft section 3.
pub mod kind {
    packet_types! {
        /// Client's greeting.
        INIT = 1,
        /// Server's greeting.
        VERSION = 2,
        /// Open a file.
        OPEN = 3,
        /// Close a handle.
        CLOSE = 4,
        /// Read from a handle.
        READ = 5,
        /// Write to a handle.
        WRITE = 6,
        /// Attributes of a path, links not followed.
        LSTAT = 7,
        /// Attributes of a handle.
        FSTAT = 8,
        /// Set attributes of a path.
        SETSTAT = 9,
        /// Set attributes of a handle.
        FSETSTAT = 10,
        /// Open a folder.
        OPENDIR = 11,
        /// Next entries of a folder.
        READDIR = 12,
        /// Remove a file or link.
        REMOVE = 13,
        /// Make a folder.
        MKDIR = 14,
        /// Remove an empty folder.
        RMDIR = 15,
        /// Canonical form of a path.
        REALPATH = 16,
        /// Attributes of a path, links followed.
        STAT = 17,
        /// Rename; an existing target is refused.
        RENAME = 18,
        /// Text of a symbolic link.
        READLINK = 19,
        /// Make a symbolic link.
        SYMLINK = 20,
        /// Result code with a sentence.
        STATUS = 101,
        /// Result: a handle.
        HANDLE = 102,
        /// Result: data.
        DATA = 103,
        /// Result: names with attributes.
        NAME = 104,
        /// Result: attributes.
        ATTRS = 105,
        /// Request by name.
        EXTENDED = 200,
        /// Its answer.
        EXTENDED_REPLY = 201,
    }
}

/// Flags of OPEN, draft section 6.3.
pub mod open_flag {
    /// Open for reading.
    pub const READ: u32 = 0x01;
    /// Open for writing.
    pub const WRITE: u32 = 0x02;
    /// Writes go to the end.
    pub const APPEND: u32 = 0x04;
    /// Create where missing.
    pub const CREAT: u32 = 0x08;
    /// Start empty.
    pub const TRUNC: u32 = 0x10;
    /// Refuse an existing file.
    pub const EXCL: u32 = 0x20;
}

/// Result codes, draft section 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Code {
    /// Done.
    Ok = 0,
    /// No more data or names.
    Eof = 1,
    /// A path does not exist.
    NoSuchFile = 2,
    /// Not allowed.
    PermissionDenied = 3,
    /// Any other failure; the only code whose sentence every client shows.
    Failure = 4,
    /// The packet cannot be read.
    BadMessage = 5,
    /// Not known to this server.
    OpUnsupported = 8,
}

impl Code {
    /// The code of a number on the wire; every unknown one is a failure.
    pub fn from_wire(number: u32) -> Code {
        const KNOWN: [Code; 7] = [
            Code::Ok,
            Code::Eof,
            Code::NoSuchFile,
            Code::PermissionDenied,
            Code::Failure,
            Code::BadMessage,
            Code::OpUnsupported,
        ];
        KNOWN.into_iter().find(|code| *code as u32 == number).unwrap_or(Code::Failure)
    }
}

/// A packet that ends too early or claims a length it does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("malformed SFTP packet")
    }
}

impl std::error::Error for Malformed {}

/// File attributes, draft section 5. Times are whole seconds since 1970, unsigned: they end in 2106.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attrs {
    /// Size in bytes.
    pub size: Option<u64>,
    /// Owner and group, as numbers.
    pub owner: Option<(u32, u32)>,
    /// Mode with the type bits of `st_mode`.
    pub mode: Option<u32>,
    /// Access and modification time in seconds.
    pub times: Option<(u32, u32)>,
}

const ATTR_SIZE: u32 = 0x01;
const ATTR_OWNER: u32 = 0x02;
const ATTR_MODE: u32 = 0x04;
const ATTR_TIMES: u32 = 0x08;
const ATTR_EXTENDED: u32 = 0x8000_0000;

impl Attrs {
    /// Appends the encoded attributes.
    pub fn put(&self, out: &mut impl BufMut) {
        let mut flags = 0;
        flags |= if self.size.is_some() { ATTR_SIZE } else { 0 };
        flags |= if self.owner.is_some() { ATTR_OWNER } else { 0 };
        flags |= if self.mode.is_some() { ATTR_MODE } else { 0 };
        flags |= if self.times.is_some() { ATTR_TIMES } else { 0 };
        out.put_u32(flags);
        if let Some(size) = self.size {
            out.put_u64(size);
        }
        if let Some((user, group)) = self.owner {
            out.put_u32(user);
            out.put_u32(group);
        }
        if let Some(mode) = self.mode {
            out.put_u32(mode);
        }
        if let Some((accessed, modified)) = self.times {
            out.put_u32(accessed);
            out.put_u32(modified);
        }
    }
}

/// Reads fields from a packet, front to back.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.0.try_get_u8().map_err(|_| Malformed)
    }

    /// A big-endian 32-bit number.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.0.try_get_u32().map_err(|_| Malformed)
    }

    /// A big-endian 64-bit number.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.0.try_get_u64().map_err(|_| Malformed)
    }

    /// A length and that many bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()? as usize;
        let (head, tail) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = tail;
        Ok(head)
    }

    /// Attributes; extended pairs are read past.
    pub fn attrs(&mut self) -> Result<Attrs, Malformed> {
        let flags = self.u32()?;
        let mut attrs = Attrs::default();
        if flags & ATTR_SIZE != 0 {
            attrs.size = Some(self.u64()?);
        }
        if flags & ATTR_OWNER != 0 {
            attrs.owner = Some((self.u32()?, self.u32()?));
        }
        if flags & ATTR_MODE != 0 {
            attrs.mode = Some(self.u32()?);
        }
        if flags & ATTR_TIMES != 0 {
            attrs.times = Some((self.u32()?, self.u32()?));
        }
        if flags & ATTR_EXTENDED != 0 {
            for _ in 0..self.u32()? {
                self.bytes()?;
                self.bytes()?;
            }
        }
        Ok(attrs)
    }
}

/// Appends a length and the bytes.
pub fn put_bytes(out: &mut impl BufMut, bytes: &[u8]) {
    out.put_u32(bytes.len() as u32);
    out.put_slice(bytes);
}

/// Appends one packet: the length, the type, and what `body` writes.
pub fn put_packet(out: &mut BytesMut, kind: u8, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    out.put_u8(kind);
    body(out);
    let length = (out.len() - start - 4) as u32;
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

/// Takes the next whole packet (type and body, without the length) off a stream of bytes.
///
/// `Ok(None)` means that more bytes are needed. A packet of no bytes or over [`PACKET_BYTES_MAX`] is an error, after
/// which the stream cannot be read any further.
pub fn next_packet(stream: &mut BytesMut) -> Result<Option<Bytes>, Malformed> {
    let Some(length) = stream.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length) as usize;
    if length == 0 || length > PACKET_BYTES_MAX {
        return Err(Malformed);
    }
    if stream.len() < 4 + length {
        stream.reserve(4 + length - stream.len());
        return Ok(None);
    }
    stream.advance(4);
    Ok(Some(stream.split_to(length).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_survive_the_wire() {
        let attrs = Attrs { size: Some(u64::MAX), owner: Some((1, 2)), mode: Some(0o100644), times: Some((3, 4)) };
        let mut out = BytesMut::new();
        attrs.put(&mut out);
        assert_eq!(Reader(&out).attrs(), Ok(attrs));
    }

    #[test]
    fn every_cut_of_a_packet_is_either_incomplete_or_malformed() {
        let mut whole = BytesMut::new();
        put_packet(&mut whole, kind::OPEN, |out| {
            out.put_u32(7);
            put_bytes(out, b"a\xffb");
            out.put_u32(open_flag::READ);
            Attrs::default().put(out);
        });
        for cut in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..cut]);
            assert_eq!(next_packet(&mut part), Ok(None));
        }
        let packet = next_packet(&mut whole).expect("well formed").expect("whole");
        for cut in 1..packet.len() {
            let mut reader = Reader(&packet[1..cut]);
            let read = (|| {
                reader.u32()?;
                reader.bytes()?;
                reader.u32()?;
                reader.attrs()
            })();
            assert_eq!(read, Err(Malformed), "cut at {cut}");
        }
    }

    #[test]
    fn a_claimed_length_is_not_allocated() {
        assert_eq!(Reader(&[0xff, 0xff, 0xff, 0xff, 1]).bytes(), Err(Malformed));
        let mut stream = BytesMut::from(&[0xff, 0xff, 0xff, 0xff][..]);
        assert_eq!(next_packet(&mut stream), Err(Malformed));
        let mut empty = BytesMut::from(&[0, 0, 0, 0][..]);
        assert_eq!(next_packet(&mut empty), Err(Malformed));
    }
}
