//! STAT, LSTAT, FSTAT, SETSTAT and their kin: attributes of paths and handles.

use std::os::fd::AsFd;
use std::sync::Arc;

use pair::wire::Attrs;
use rustix::io::Errno;

use super::{content, drafts, names};
use crate::dispatch::Does;
use crate::handles::Handle;
use crate::recording;
use crate::sftp::{Reply, Request, Sftp, Stop};
use crate::storage::{Attributes, Change, FileKind, NewAttributes, attributes_of};

/// The mode that a users.yaml in memory shows: a file that its owner reads and writes.
const DRAFT_MODE: u32 = 0o100_600;

/// SSH_FXP_STAT.
pub fn stat(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    look(sftp, request, true)
}

/// SSH_FXP_LSTAT.
pub fn lstat(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    look(sftp, request, false)
}

/// What is in memory, or an upload that this account has not finished, hides what the volume has.
fn look(sftp: &Sftp, request: &mut Request<'_>, follow: bool) -> Result<Reply, Stop> {
    let path = sftp.path(&mut request.fields)?;
    if let Some(content) = drafts::content(sftp, path) {
        return Ok(Reply::Attributes(draft_attrs(content.len() as u64)));
    }
    let place = sftp.unfinished_place(path, follow);
    if let Some((place, found)) = place.and_then(|place| sftp.unfinished_at(&place).map(|found| (place, found))) {
        sftp.permit(Does::Looks, &place)?;
        return Ok(Reply::Attributes(attrs(&found)));
    }
    let thing = sftp.find(Does::Looks, path, || sftp.root.handle_for_attributes(path, follow))?;
    Ok(Reply::Attributes(attrs(&attributes_of(thing.as_fd())?)))
}

/// SSH_FXP_FSTAT.
pub fn fstat(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let handle = request.fields.bytes()?;
    let attributes = match sftp.handles.get(handle)? {
        Handle::Reading(reading) => attributes_of(reading.file.as_fd())?,
        Handle::Upload(upload) => upload.writer.attributes()?,
        Handle::Direct(direct) => attributes_of(direct.file.file().as_fd())?,
        Handle::Listing(listing) => listing.folder.attributes()?,
        Handle::Draft(draft) => return Ok(Reply::Attributes(draft_attrs(draft.content.len() as u64))),
        Handle::DraftReading(content) => return Ok(Reply::Attributes(draft_attrs(content.len() as u64))),
    };
    Ok(Reply::Attributes(attrs(&attributes)))
}

/// SSH_FXP_SETSTAT.
pub fn setstat(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    set_by_path(sftp, request, true)
}

/// lsetstat@openssh.com.
pub fn lsetstat(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    set_by_path(sftp, request, false)
}

fn set_by_path(sftp: &Sftp, request: &mut Request<'_>, follow: bool) -> Result<Reply, Stop> {
    let path = sftp.path(&mut request.fields)?;
    let asked = new_attributes(&request.fields.attrs()?);
    let new = sftp.settable(FileKind::File, asked);
    if let Some(reply) = drafts::setstat(sftp, path, new.size)? {
        return Ok(reply);
    }
    let unfinished = sftp.unfinished_place(path, follow);
    if let Some(place) = &unfinished {
        sftp.permit(Does::Adds, place)?;
    }
    if let (Some(place), Some(account)) = (unfinished, &sftp.author)
        && sftp.daemon.volume.set_unfinished(account, sftp.connection, &place, &new)?
    {
        return Ok(if new.size.is_some() { names::settled(sftp, &[path]) } else { Reply::Done });
    }
    let thing = sftp.find(Does::Adds, path, || sftp.root.handle_for_attributes(path, follow))?;
    let found = attributes_of(thing.as_fd())?;
    sftp.check_own(thing.as_fd())?;
    if let Some(fault) = sftp.adds_only(thing.as_fd()).filter(|_| asked.size.is_some() || asked.owner.is_some()) {
        return Err(fault.into());
    }
    let new = sftp.settable(found.kind, asked);
    let room = match (&sftp.quota, new.size) {
        (Some(quota), Some(size)) => Some(quota.room_to_grow(found.size, size)?),
        _ => None,
    };
    let committed = sftp.daemon.volume.commit(Change::SetAttributes(Arc::new(thing), new), sftp.author.clone());
    Ok(sftp.later(&[path], async move {
        committed.await?;
        drop(room);
        Ok(Reply::Done)
    }))
}

/// SSH_FXP_FSETSTAT. What is set on an upload belongs to the file that it becomes.
pub fn fsetstat(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let handle = request.fields.bytes()?;
    let asked = request.fields.attrs()?;
    let new = sftp.settable(FileKind::File, new_attributes(&asked));
    match sftp.handles.get(handle)? {
        // A client that cuts or grows a broken upload to full size (scp, lftp) does not make it whole.
        Handle::Upload(upload) if upload.writer.has_failed() => {}
        Handle::Upload(_) => {
            if content::on_upload(sftp, handle, |upload| upload.writer.set_attributes(&new))? {
                return Ok(names::settled(sftp, &[]));
            }
        }
        Handle::Direct(direct) => direct.file.set_attributes(&new)?,
        // Nobody keeps the attributes of a users.yaml on its way; its size is what was written.
        Handle::Draft(_) => {}
        // As with OpenSSH, whose ftruncate refuses a file that is open for reading.
        Handle::Reading(_) if new.size.is_some() => return Err(Errno::INVAL.into()),
        Handle::Reading(reading) => {
            let (thing, path) = (reading.file.clone(), reading.transfer.path.clone());
            let set = || {
                sftp.may(Does::Changes, &thing)?;
                Ok(sftp.change(Change::SetAttributes(thing.clone(), new), &[]))
            };
            return recording::recorded_by_handle(sftp, &path, &asked, set());
        }
        Handle::DraftReading(_) | Handle::Listing(_) => return Err(Errno::INVAL.into()),
    }
    Ok(Reply::Done)
}

/// Attributes as they go over the wire.
pub fn attrs(attributes: &Attributes) -> Attrs {
    // Version 3 has 32 bits without sign for a time.
    let seconds = |time: i64| time.clamp(0, i64::from(u32::MAX)) as u32;
    Attrs {
        size: Some(attributes.size),
        owner: Some((attributes.user, attributes.group)),
        mode: Some(attributes.mode),
        times: Some((seconds(attributes.accessed_s), seconds(attributes.modified_s))),
    }
}

/// Attributes of a users.yaml in memory.
pub fn draft_attributes(size: u64, now_s: i64) -> Attributes {
    Attributes {
        kind: FileKind::File,
        size,
        mode: DRAFT_MODE,
        user: rustix::process::geteuid().as_raw(),
        group: rustix::process::getegid().as_raw(),
        accessed_s: now_s,
        modified_s: now_s,
        links: 1,
        identity: (0, 0),
    }
}

fn draft_attrs(size: u64) -> Attrs {
    attrs(&draft_attributes(size, jiff::Timestamp::now().as_second()))
}

/// What a request wants to set.
pub fn new_attributes(attrs: &Attrs) -> NewAttributes {
    NewAttributes { size: attrs.size, owner: attrs.owner, mode: attrs.mode, times: attrs.times }
}
