//! The greeting, and the bodies of requests and answers that more than one of them share.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{ClientError, Name, Result};
use crate::wire::{Attrs, Reader, VERSION, kind, next_packet, put_bytes, put_packet};

/// Greets the server; tells what it announced, and what was read past its greeting.
pub(super) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
) -> Result<(BTreeMap<Vec<u8>, Vec<u8>>, BytesMut)> {
    let lost = |error: std::io::Error| ClientError::Lost(error.to_string());
    let mut buffer = BytesMut::new();
    put_packet(&mut buffer, kind::INIT, |out| out.put_u32(VERSION));
    stream.write_all(&buffer).await.map_err(lost)?;
    stream.flush().await.map_err(lost)?;
    buffer.clear();
    let packet = loop {
        if let Some(packet) = next_packet(&mut buffer)? {
            break packet;
        }
        if stream.read_buf(&mut buffer).await.map_err(lost)? == 0 {
            return Err(ClientError::Lost("the server hung up instead of starting SFTP".into()));
        }
    };
    let mut reader = Reader(&packet);
    if (reader.u8()?, reader.u32()?) != (kind::VERSION, VERSION) {
        return Err(ClientError::Protocol("it does not speak version 3".into()));
    }
    let mut extensions = BTreeMap::new();
    while !reader.0.is_empty() {
        extensions.insert(reader.bytes()?.to_vec(), reader.bytes()?.to_vec());
    }
    Ok((extensions, buffer))
}

/// Adds the names of a NAME packet.
pub(super) fn parse_names(body: &[u8], names: &mut Vec<Name>) -> Result<()> {
    let mut reader = Reader(body);
    for _ in 0..reader.u32()? {
        let name = reader.bytes()?.to_vec();
        let _for_people = reader.bytes()?;
        names.push(Name { name, attrs: reader.attrs()? });
    }
    Ok(())
}

/// Whether a server's word can be the name of something in a folder.
pub(super) fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

/// The bytes that `body` writes.
pub(super) fn encoded(body: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    body(&mut out);
    out
}

/// Two strings.
pub(super) fn put_both(out: &mut BytesMut, first: &[u8], second: &[u8]) {
    put_bytes(out, first);
    put_bytes(out, second);
}

/// A path or handle, and attributes.
pub(super) fn put_path_and_attrs(out: &mut BytesMut, path: &[u8], attrs: Attrs) {
    put_bytes(out, path);
    attrs.put(out);
}

/// The name of an extended request, and its body.
pub(super) fn put_extended(out: &mut BytesMut, name: &str, body: &[u8]) {
    put_bytes(out, name.as_bytes());
    out.extend_from_slice(body);
}
