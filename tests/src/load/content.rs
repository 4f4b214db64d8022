//! Contents that tell what they are: any file can be judged whole or torn, and from which version it is.

use bytes::BufMut;
use pair::wire::Reader;

const MAGIC: &[u8; 8] = b"sftp-ha\n";
const HEADER_BYTES: usize = 28;
const HASH_BYTES: usize = 32;

/// The least length of a content, in bytes.
pub const CONTENT_BYTES_MIN: usize = HEADER_BYTES + HASH_BYTES;

/// One version of one writer's. Versions grow from upload to upload, whatever their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Who wrote it.
    pub writer: u32,
    /// The how many-th of this writer's uploads it is.
    pub number: u64,
    /// Its length in bytes.
    pub bytes: usize,
}

impl Version {
    /// Its bytes: a header, numbers that follow from it, and the hash of both.
    pub fn content(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(self.bytes);
        content.put_slice(MAGIC);
        content.put_u32(self.writer);
        content.put_u64(self.number);
        content.put_u64(self.bytes as u64);
        let mut numbers = blake3::Hasher::new().update(&content).finalize_xof();
        content.resize(self.bytes - HASH_BYTES, 0);
        numbers.fill(&mut content[HEADER_BYTES..]);
        let hash = blake3::hash(&content);
        content.put_slice(hash.as_bytes());
        content
    }

    /// The version that a content is, or what is wrong with it.
    pub fn of(content: &[u8]) -> Result<Version, String> {
        let length = content.len();
        let header = || {
            let mut fields = Reader(content.strip_prefix(MAGIC)?);
            let (writer, number) = (fields.u32().ok()?, fields.u64().ok()?);
            Some(Version { writer, number, bytes: fields.u64().ok()? as usize })
        };
        let version = header().ok_or_else(|| format!("{length} bytes that no writer wrote"))?;
        if version.bytes != length || length < CONTENT_BYTES_MIN {
            return Err(format!("{length} of the {} bytes of version {}", version.bytes, version.number));
        }
        let (body, hash) = content.split_at(length - HASH_BYTES);
        match blake3::hash(body).as_bytes() == hash {
            true => Ok(version),
            false => Err(format!("version {} is torn", version.number)),
        }
    }
}
