//! The check-file family: the server hashes a file, or the blocks of a part of it, so that a client can compare without
//! reading everything back.
//!
//! draft-ietf-secsh-filexfer-extensions-00, section 3. WinSCP asks by name and reads the draft's answer; paramiko asks
//! for `check-file` with a handle and wants that name repeated in front of the answer.

use bytes::BufMut;
use md5::Md5;
use pair::wire::{DATA_BYTES_MAX, put_bytes};
use sha1::Sha1;
use sha2::digest::DynDigest;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use super::{Ongoing, TURN_BYTES, content};
use crate::fault::Fault;
use crate::handles::Source;
use crate::sftp::{Reply, Request, Sftp, Stop};

/// Bytes that are read at a time.
const PART_BYTES: usize = 256 * 1024;

/// The smallest block that may be asked for, in bytes: the draft's.
const BLOCK_BYTES_MIN: u32 = 256;

type Hasher = Box<dyn DynDigest + Send>;

type Algorithm = (&'static str, fn() -> Hasher);

/// What we can hash with, under the draft's names. The older ones guard against accidents only.
const ALGORITHMS: [Algorithm; 6] = [
    ("sha512", || Box::new(Sha512::default())),
    ("sha384", || Box::new(Sha384::default())),
    ("sha256", || Box::new(Sha256::default())),
    ("sha224", || Box::new(Sha224::default())),
    ("sha1", || Box::new(Sha1::default())),
    ("md5", || Box::new(Md5::default())),
];

/// A file that is being hashed.
pub struct Hashing {
    source: Source,
    algorithm: &'static str,
    hasher: Hasher,
    start: u64,
    at: u64,
    end: u64,
    /// `None`: one hash of everything.
    block_bytes: Option<u64>,
    digests: Vec<u8>,
}

/// `check-file-handle`.
pub fn check_file_handle(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let handle = request.fields.bytes()?;
    go_on(sftp, request, &[], |sftp| sftp.source(handle))
}

/// `check-file`, as paramiko has it.
pub fn check_file(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let handle = request.fields.bytes()?;
    let mut name = Vec::new();
    put_bytes(&mut name, b"check-file");
    go_on(sftp, request, &name, |sftp| sftp.source(handle))
}

/// `check-file-name`.
pub fn check_file_name(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let path = sftp.path(&mut request.fields)?;
    go_on(sftp, request, &[], |sftp| Ok(content::open_to_read(sftp, path)?.source()?))
}

fn go_on(
    sftp: &mut Sftp,
    request: &mut Request<'_>,
    head: &[u8],
    open: impl FnOnce(&mut Sftp) -> Result<Source, Stop>,
) -> Result<Reply, Stop> {
    let mut hashing = match sftp.ongoing.take() {
        Some(Ongoing::Hashing(hashing)) => hashing,
        _ => Box::new(begin(open(sftp)?, request)?),
    };
    if !hashing.hash_for_a_turn()? {
        sftp.ongoing = Some(Ongoing::Hashing(hashing));
        return Err(Stop::Again);
    }
    let mut body = head.to_vec();
    put_bytes(&mut body, hashing.algorithm.as_bytes());
    body.put_slice(&hashing.digests);
    Ok(Reply::Extended(body))
}

/// Reads what is to be hashed, and how: algorithms by preference, start, length (0: to the end), block (0: no blocks).
fn begin(source: Source, request: &mut Request<'_>) -> Result<Hashing, Stop> {
    let asked = String::from_utf8_lossy(request.fields.bytes()?).into_owned();
    let (start, length, block) = (request.fields.u64()?, request.fields.u64()?, request.fields.u32()?);
    let known = asked.split(',').find_map(|name| ALGORITHMS.iter().find(|(known, _)| *known == name.trim()));
    let Some((algorithm, hasher)) = known else {
        let names = ALGORITHMS.map(|(name, _)| name).join(", ");
        return Err(Fault::failure(format!("none of these hashes is known here; known are {names}")).into());
    };
    let size = source.size()?;
    if start > size {
        return Err(Fault::failure(format!("the file ends at {size}, before the start that was asked for")).into());
    }
    if (1..BLOCK_BYTES_MIN).contains(&block) {
        return Err(Fault::failure(format!("blocks must have {BLOCK_BYTES_MIN} bytes or more")).into());
    }
    let end = if length == 0 { size } else { start.saturating_add(length).min(size) };
    let (hasher, block_bytes) = (hasher(), Some(u64::from(block)).filter(|block| *block > 0));
    let digests = block_bytes.map_or(1, |block| (end - start).div_ceil(block));
    if digests.saturating_mul(hasher.output_size() as u64) > DATA_BYTES_MAX as u64 {
        return Err(Fault::failure("so many hashes fit in no answer: ask for larger blocks or a shorter part").into());
    }
    Ok(Hashing { source, algorithm, hasher, start, at: start, end, block_bytes, digests: Vec::new() })
}

impl Hashing {
    /// Hashes on; tells whether that was all.
    fn hash_for_a_turn(&mut self) -> Result<bool, Stop> {
        let turn_end = self.at.saturating_add(TURN_BYTES).min(self.end);
        let mut buffer = vec![0; PART_BYTES];
        while self.at < turn_end {
            // No read goes past the end of its block.
            let left_of = |block: u64| block - (self.at - self.start) % block;
            let block_end =
                self.block_bytes.map_or(self.end, |block| self.at.saturating_add(left_of(block)).min(self.end));
            let wanted = usize::try_from(block_end - self.at).unwrap_or(usize::MAX).min(PART_BYTES);
            let space = buffer.get_mut(..wanted).unwrap_or_default();
            let count = self.source.read_at(space, self.at)?;
            if count == 0 {
                return Err(Fault::failure("the file became shorter while it was hashed").into());
            }
            self.hasher.update(space.get(..count).unwrap_or_default());
            self.at += count as u64;
            if self.at == block_end {
                self.digests.extend_from_slice(&self.hasher.finalize_reset());
            }
        }
        if self.at < self.end {
            return Ok(false);
        }
        if self.digests.is_empty() && self.block_bytes.is_none() {
            // Nothing was there to be hashed; that has a hash, too.
            self.digests.extend_from_slice(&self.hasher.finalize_reset());
        }
        Ok(true)
    }
}
