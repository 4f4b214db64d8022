//! copy-data: bytes from one open file to another, without a way to the client and back.
//!
//! What is written goes the way of every WRITE, so quotas, hashes and unfinished uploads know of it. A large copy is
//! made turn by turn; the requests behind it wait, as they do with OpenSSH, so a CLOSE never publishes half of it.

use super::{Ongoing, TURN_BYTES, content, drafts};
use crate::fault::Fault;
use crate::handles::{Handle, Source};
use crate::sftp::{Reply, Request, Sftp, Stop};

/// Bytes that are read and written at a time.
const PART_BYTES: usize = 1024 * 1024;

/// What a request asks for.
#[derive(Clone, Copy)]
struct Copy<'a> {
    from: &'a [u8],
    from_offset: u64,
    /// In bytes; 0 means to the end.
    length: u64,
    to: &'a [u8],
    to_offset: u64,
}

/// How far a copy has come.
#[derive(Clone, Copy)]
pub struct Progress {
    copied: u64,
    /// The source's size when the copy began: one that ends before is no longer the file that was to be copied.
    source_bytes: u64,
}

/// copy-data, draft-ietf-secsh-filexfer-extensions-00, section 7.
pub fn copy_data(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let fields = &mut request.fields;
    let (from, from_offset, length) = (fields.bytes()?, fields.u64()?, fields.u64()?);
    let copy = Copy { from, from_offset, length, to: fields.bytes()?, to_offset: fields.u64()? };
    let mut progress = match sftp.ongoing.take() {
        Some(Ongoing::Copying(progress)) => progress,
        _ => begin(sftp, &copy)?,
    };
    let turn = copy_for_a_turn(sftp, &copy, &mut progress);
    match &turn {
        Ok(_) => {}
        Err(Stop::Wait | Stop::Again) => sftp.ongoing = Some(Ongoing::Copying(progress)),
        // Clients close the target all the same, and half a copy must not take the name.
        Err(Stop::Fault(fault)) => content::spoil(sftp, copy.to, fault),
    }
    turn
}

fn begin(sftp: &mut Sftp, copy: &Copy<'_>) -> Result<Progress, Stop> {
    let source = sftp.source(copy.from)?;
    let (identity, source_bytes) = (source.identity()?, source.size()?);
    let target = match sftp.handles.get(copy.to)? {
        Handle::Draft(_) => None,
        _ if matches!(source, Source::Memory(_)) => return Err(drafts::stays_in_memory().into()),
        target => target.source()?.identity()?,
    };
    // Where both ends are the same the copy may never end. OpenSSH refuses it too.
    if copy.from == copy.to || (identity.is_some() && identity == target) {
        return Err(Fault::failure("a file cannot be copied into itself").into());
    }
    Ok(Progress { copied: 0, source_bytes })
}

/// Copies on from where it was.
fn copy_for_a_turn(sftp: &mut Sftp, copy: &Copy<'_>, progress: &mut Progress) -> Result<Reply, Stop> {
    let source = sftp.source(copy.from)?;
    let (at, end) = (&mut progress.copied, if copy.length == 0 { u64::MAX } else { copy.length });
    let turn_end = at.saturating_add(TURN_BYTES);
    let mut buffer = vec![0; PART_BYTES];
    while *at < end {
        if *at >= turn_end {
            return Err(Stop::Again);
        }
        let wanted = usize::try_from(end - *at).unwrap_or(usize::MAX).min(PART_BYTES);
        let space = buffer.get_mut(..wanted).unwrap_or_default();
        let from = copy.from_offset.saturating_add(*at);
        let count = source.read_at(space, from)?;
        let data = space.get(..count).unwrap_or_default();
        if data.is_empty() && from < progress.source_bytes {
            return Err(Fault::failure("the source became shorter while it was copied").into());
        }
        if data.is_empty() {
            // Who asked for more than there is hears of the end.
            return if copy.length == 0 { Ok(Reply::Done) } else { Err(Fault::end().into()) };
        }
        content::write_to(sftp, copy.to, copy.to_offset.saturating_add(*at), data)?;
        *at += count as u64;
    }
    Ok(Reply::Done)
}
