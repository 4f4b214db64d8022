//! STAT, LSTAT, FSTAT, SETSTAT and their kin: attributes of paths and handles.

use std::os::fd::AsFd;
use std::sync::Arc;

use pair::wire::Attrs;
use rustix::io::Errno;

use super::drafts;
use crate::handles::{Handle, Upload};
use crate::sftp::{Reply, Request, Sftp, Stop};
use crate::storage::{
    Attributes, Change, FileKind, NewAttributes, Place, Root, StorageError, attributes_of, set_attributes_now,
};

/// The mode that a users.yaml in memory shows: a file that its owner reads and writes.
const DRAFT_MODE: u32 = 0o100_600;

/// SSH_FXP_STAT.
pub fn stat(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    look(sftp, request, Root::stat)
}

/// SSH_FXP_LSTAT.
pub fn lstat(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    look(sftp, request, Root::lstat)
}

/// What is in memory or under way in this session hides what the volume has.
fn look(
    sftp: &Sftp,
    request: &mut Request<'_>,
    on_volume: fn(&Root, &[u8]) -> Result<Attributes, StorageError>,
) -> Result<Reply, Stop> {
    let path = sftp.path(&mut request.fields)?;
    if let Some(content) = drafts::content(sftp, path) {
        return Ok(Reply::Attributes(draft_attrs(content.len() as u64)));
    }
    let attributes = match upload_to(sftp, path) {
        Some(upload) => attributes_of(upload.stage.file())?,
        None => on_volume(&sftp.root, path)?,
    };
    Ok(Reply::Attributes(attrs(&attributes)))
}

/// SSH_FXP_FSTAT.
pub fn fstat(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let handle = request.fields.bytes()?;
    let attributes = match sftp.handles.get(handle)? {
        Handle::Reading(file) => attributes_of(file.as_fd())?,
        Handle::Upload(upload) => attributes_of(upload.stage.file())?,
        Handle::InPlace(in_place) => attributes_of(in_place.file.as_fd())?,
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
    let new = new_attributes(&request.fields.attrs()?);
    if let Some(reply) = drafts::setstat(sftp, path, new.size)? {
        return Ok(reply);
    }
    if let Some(upload) = upload_to(sftp, path) {
        set_attributes_now(upload.stage.file(), &new)?;
        if sftp.root.lstat(path).is_err() {
            return Ok(Reply::Done);
        }
        // The upload may still die: what stands under the name is changed as well.
    }
    let thing = sftp.root.handle_for_attributes(path, follow)?;
    Ok(sftp.change(Change::SetAttributes(Arc::new(thing), new), &[path]))
}

/// SSH_FXP_FSETSTAT. What is set on an upload belongs to the file that it becomes.
pub fn fsetstat(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let handle = request.fields.bytes()?;
    let new = new_attributes(&request.fields.attrs()?);
    match sftp.handles.get(handle)? {
        Handle::Upload(upload) => {
            // A client that cuts or grows a broken upload to full size (scp, lftp) does not make it whole.
            if upload.failed.is_none() {
                set_attributes_now(upload.stage.file(), &new)?;
            }
        }
        Handle::InPlace(in_place) => {
            in_place.dirty = true;
            set_attributes_now(in_place.file.as_fd(), &new)?;
        }
        // Nobody keeps the attributes of a users.yaml on its way; its size is what was written.
        Handle::Draft(_) => {}
        // As with OpenSSH, whose ftruncate refuses a file that is open for reading.
        Handle::Reading(_) if new.size.is_some() => return Err(Errno::INVAL.into()),
        Handle::Reading(file) => {
            let thing = Arc::new(file.try_clone().map_err(|_| Errno::MFILE)?);
            return Ok(sftp.change(Change::SetAttributes(thing, new), &[]));
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
        user: 0,
        group: 0,
        accessed_s: now_s,
        modified_s: now_s,
        links: 1,
        identity: (0, 0),
    }
}

fn draft_attrs(size: u64) -> Attrs {
    attrs(&draft_attributes(size, jiff::Timestamp::now().as_second()))
}

/// The upload that this session has under way to a path: sshfs looks at a file between making it and closing it.
fn upload_to<'a>(sftp: &'a Sftp, path: &[u8]) -> Option<&'a Upload> {
    // Most requests come while nothing is uploaded: then the path is not looked up twice.
    sftp.handles.upload_to(|_| true)?;
    let place = sftp.root.place(path).ok()?;
    let folder = place.folder_identity().ok()?;
    let is_there = |other: &Place| other.name() == place.name() && other.folder_identity().is_ok_and(|it| it == folder);
    sftp.handles.upload_to(is_there)
}

fn new_attributes(attrs: &Attrs) -> NewAttributes {
    NewAttributes { size: attrs.size, owner: attrs.owner, mode: attrs.mode, times: attrs.times }
}
