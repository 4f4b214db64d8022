//! The PROXY protocol, version 2: from where a client comes whose connection a load balancer hands on (HAProxy's
//! proxy-protocol.txt, section 2.2).
//!
//! Always holds: a header is read only from addresses that the settings list, and there it must be sent. From all others
//! it is taken for what a client says, which is no SSH. Version 1, a line of text, is not taken.

use std::net::SocketAddr;
use std::time::Duration;

use ppp::v2::{Addresses, Command, Header};
use tokio::io::{AsyncRead, AsyncReadExt};

/// How long a load balancer may take for its header. It sends it before anything else.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// What comes before the addresses: signature, version, family, length.
const FIXED_BYTES: usize = 16;
/// Addresses and what else a load balancer adds. What is in use stays below one packet of the network.
const REST_BYTES_MAX: usize = 4096;

/// Why a connection from a load balancer is not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It was closed before it said anything: somebody looks whether the port is open.
    Silent,
    /// With this sentence.
    Sentence(String),
}

/// From where the client comes that `proxy` hands on. What it opens on its own behalf comes from itself.
///
/// # Errors
/// Nothing was said, or something else than a header.
pub async fn client(stream: &mut (impl AsyncRead + Unpin), proxy: SocketAddr) -> Result<SocketAddr, Refusal> {
    let header = tokio::time::timeout(HEADER_TIMEOUT, read(stream, proxy)).await;
    let header = header.map_err(|_| sentence(proxy, "it said nothing for a while"))??;
    source(&header, proxy).map_err(|reason| sentence(proxy, &reason))
}

/// Whether somebody's first words are a header of either version.
pub fn is_header(said: &[u8]) -> bool {
    said.starts_with(ppp::v2::PROTOCOL_PREFIX) || said.starts_with(b"PROXY ")
}

fn sentence(proxy: SocketAddr, reason: &str) -> Refusal {
    let proxy = proxy.ip();
    Refusal::Sentence(format!(
        "{proxy} is listed under proxies but sends no PROXY header of version 2 ({reason}): turn it on there (HAProxy: \
         send-proxy-v2), or take the address from the list"
    ))
}

/// The bytes of a header, or as many as show that it is none.
async fn read(stream: &mut (impl AsyncRead + Unpin), proxy: SocketAddr) -> Result<Vec<u8>, Refusal> {
    let cut = |_| sentence(proxy, "it ended inside its header");
    let mut header = vec![0; FIXED_BYTES];
    let first = stream.read(&mut header).await.map_err(|_| Refusal::Silent)?;
    if first == 0 {
        return Err(Refusal::Silent);
    }
    let begin = header.get(..first).unwrap_or_default();
    // Looked at early: a client's greeting may be shorter than a header, and the rest would be waited for in vain.
    if !ppp::v2::PROTOCOL_PREFIX.iter().zip(begin).all(|(expected, byte)| expected == byte) {
        return Ok(begin.to_vec());
    }
    stream.read_exact(header.get_mut(first..).unwrap_or_default()).await.map_err(cut)?;
    let length = match header.get(FIXED_BYTES - 2..) {
        Some([high, low]) => usize::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    };
    if length <= REST_BYTES_MAX {
        header.resize(FIXED_BYTES + length, 0);
        stream.read_exact(header.get_mut(FIXED_BYTES..).unwrap_or_default()).await.map_err(cut)?;
    }
    Ok(header)
}

fn source(header: &[u8], proxy: SocketAddr) -> Result<SocketAddr, String> {
    let header = Header::try_from(header).map_err(|error| match header.starts_with(b"PROXY ") {
        true => "it sends version 1".to_owned(),
        false => error.to_string(),
    })?;
    if header.command == Command::Local {
        return Ok(proxy);
    }
    match header.addresses {
        Addresses::IPv4(of) => Ok(SocketAddr::from((of.source_address, of.source_port))),
        Addresses::IPv6(of) => Ok(SocketAddr::from((of.source_address, of.source_port))),
        // It does not know, or hands on a local socket.
        Addresses::Unspecified | Addresses::Unix(_) => Ok(proxy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: ([u8; 4], u16) = ([10, 0, 0, 1], 4000);

    /// A header by the document's own figures: signature, version and command, family, length, and what follows.
    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, family][..], &length, rest].concat()
    }

    async fn heard(said: &[u8]) -> Result<SocketAddr, Refusal> {
        let mut said = in_pieces(said);
        client(&mut said, PROXY.into()).await
    }

    /// What was said, in pieces of three bytes, and then the end.
    fn in_pieces(said: &[u8]) -> impl AsyncRead + Unpin + use<> {
        let (mut from, to) = tokio::io::duplex(3);
        let said = said.to_vec();
        tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut from, &said).await });
        to
    }

    #[tokio::test]
    async fn a_header_tells_from_where_the_client_comes() {
        let v4 = [203, 0, 113, 7, 10, 0, 0, 2, 0x30, 0x39, 0x08, 0xae];
        assert_eq!(heard(&header(1, 0x11, &v4)).await, Ok("203.0.113.7:12345".parse().unwrap()));
        let v6 = [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[7], &[0; 16], &[0x30, 0x39, 0x08, 0xae]].concat();
        assert_eq!(heard(&header(1, 0x21, &v6)).await, Ok("[2001:db8::7]:12345".parse().unwrap()));
        let with_more = [&v4[..], &[0x02, 0, 3], b"abc"].concat();
        assert_eq!(heard(&header(1, 0x11, &with_more)).await, Ok("203.0.113.7:12345".parse().unwrap()));
    }

    #[tokio::test]
    async fn what_a_load_balancer_opens_for_itself_comes_from_itself() {
        assert_eq!(heard(&header(0, 0, &[])).await, Ok(PROXY.into()));
        assert_eq!(heard(&header(1, 0, &[])).await, Ok(PROXY.into()));
        assert_eq!(heard(b"").await, Err(Refusal::Silent));
    }

    #[tokio::test]
    async fn what_is_no_header_of_version_2_is_refused_with_a_sentence() {
        let too_long = [b"\r\n\r\n\0\r\nQUIT\n", &[0x21, 0x11, 0xff, 0xff][..]].concat();
        let cases: [(&[u8], &str); 6] = [
            (b"SSH-2.0-OpenSSH_9.2p1\r\n", "send-proxy-v2"),
            (b"x", "send-proxy-v2"),
            (b"PROXY TCP4 203.0.113.7 10.0.0.2 12345 2222\r\n", "version 2"),
            (b"\r\n\r\n\0\r\nQUIT\n", "ended inside"),
            (&too_long, "listed under proxies"),
            (&header(1, 0x11, &[203, 0, 113]), "listed under proxies"),
        ];
        for (said, expected) in cases {
            let Err(Refusal::Sentence(sentence)) = heard(said).await else { panic!("{said:?} was taken") };
            assert!(sentence.contains(expected), "{sentence}");
        }
    }
}
