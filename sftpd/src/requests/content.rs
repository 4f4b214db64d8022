//! OPEN, READ, WRITE, CLOSE, fsync: the content of files.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use pair::wire::{Attrs, DATA_BYTES_MAX, kind, open_flag};
use rustix::io::Errno;

use super::drafts;
use crate::fault::Fault;
use crate::handles::{Handle, InPlace, Upload};
use crate::sftp::{Reply, Request, Sftp, Stop};
use crate::storage::{Attributes, Change, FileKind, StorageError, file_content};

/// What a new file's mode loses, as with most systems' daemons.
const UMASK: u32 = 0o022;

/// Room in a DATA reply before the data: length, type, request number, data length.
const DATA_HEADER_BYTES: usize = 4 + 1 + 4 + 4;

/// SSH_FXP_OPEN.
pub fn open(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let path = sftp.path(&mut request.fields)?;
    let flags = request.fields.u32()?;
    let attrs = request.fields.attrs()?;
    sftp.handles.check_room()?;
    let handle = if flags & (open_flag::WRITE | open_flag::APPEND) == 0 {
        open_to_read(sftp, path)?
    } else if sftp.is_peer() {
        open_in_place(sftp, path, flags, &attrs)?
    } else {
        open_to_write(sftp, path, flags, &attrs)?
    };
    Ok(Reply::Handle(sftp.handles.insert(handle)))
}

fn open_to_read(sftp: &Sftp, path: &[u8]) -> Result<Handle, Stop> {
    if let Some(content) = drafts::content(sftp, path) {
        return Ok(Handle::DraftReading(content));
    }
    let (file, _) = sftp.root.open_file(path)?;
    Ok(Handle::Reading(file))
}

/// Replication writes straight to the file: it has stages and renames of its own.
fn open_in_place(sftp: &Sftp, path: &[u8], flags: u32, attrs: &Attrs) -> Result<Handle, Stop> {
    let create = (flags & open_flag::CREAT != 0).then(|| attrs.mode.unwrap_or(0o666) & !UMASK);
    let (file, _) = sftp.root.open_in_place(path, create, flags & open_flag::EXCL != 0)?;
    let truncate = flags & open_flag::TRUNC != 0;
    if truncate {
        file_content::truncate(file.as_fd(), 0)?;
    }
    let append = flags & open_flag::APPEND != 0;
    Ok(Handle::InPlace(InPlace {
        file: Arc::new(file),
        path: path.to_vec(),
        append,
        dirty: truncate || create.is_some(),
    }))
}

/// An upload: its bytes go to a stage, which CLOSE publishes under the name that `path` leads to.
fn open_to_write(sftp: &Sftp, path: &[u8], flags: u32, attrs: &Attrs) -> Result<Handle, Stop> {
    let place = sftp.root.place_behind_links(path)?;
    if let Some(draft) = drafts::open(sftp, &place, flags)? {
        return Ok(Handle::Draft(draft));
    }
    let existing = match place.attributes() {
        Ok(existing) => Some(existing),
        Err(StorageError::System(Errno::NOENT)) => None,
        Err(error) => return Err(error.into()),
    };
    let mode = match &existing {
        Some(existing) => check_existing(existing, flags)?,
        None if flags & open_flag::CREAT == 0 => return Err(Errno::NOENT.into()),
        None => attrs.mode.unwrap_or(0o666) & 0o7777 & !UMASK,
    };
    let source = match existing {
        Some(existing) if flags & open_flag::TRUNC == 0 && existing.size > 0 => Some(sftp.root.open_file(path)?),
        _ => None,
    };
    let stage = sftp.daemon.volume.stage(mode, source.as_ref().map(|(file, attributes)| (file, attributes)))?;
    Ok(Handle::Upload(Upload {
        stage,
        place,
        path: path.to_vec(),
        exclusive: flags & open_flag::EXCL != 0,
        append: flags & open_flag::APPEND != 0,
        failed: None,
    }))
}

/// What stands under the name of an upload must be a file that may be written. Its mode stays the name's mode.
fn check_existing(existing: &Attributes, flags: u32) -> Result<u32, Stop> {
    match existing.kind {
        FileKind::Folder => return Err(Errno::ISDIR.into()),
        FileKind::File => {}
        _ => return Err(Errno::PERM.into()),
    }
    if flags & open_flag::CREAT != 0 && flags & open_flag::EXCL != 0 {
        return Err(Errno::EXIST.into());
    }
    if existing.mode & 0o222 == 0 {
        return Err(Errno::ACCESS.into());
    }
    Ok(existing.mode & 0o7777)
}

/// SSH_FXP_READ. The data is read straight into the merged answers of the burst.
pub fn read(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let handle = request.fields.bytes()?;
    let offset = request.fields.u64()?;
    let length = (request.fields.u32()? as usize).min(DATA_BYTES_MAX);
    let file = match sftp.handles.get(handle)? {
        Handle::Reading(file) => OwnedFd::as_fd(file),
        Handle::Upload(upload) => upload.stage.file(),
        Handle::InPlace(in_place) => in_place.file.as_fd(),
        Handle::DraftReading(content) => return read_draft(content, offset, length, request),
        Handle::Draft(_) => return Err(Errno::INVAL.into()),
        Handle::Listing(_) => return Err(Errno::ISDIR.into()),
    };
    let start = request.out.len();
    request.out.resize(start + DATA_HEADER_BYTES + length, 0);
    let data = request.out.get_mut(start + DATA_HEADER_BYTES..).unwrap_or_default();
    let read = file_content::read_at(file, data, offset);
    let count = match read {
        Ok(count) if count > 0 || length == 0 => count,
        other => {
            request.out.truncate(start);
            return other.map_or_else(|error| Err(error.into()), |_| Err(Fault::end().into()));
        }
    };
    request.out.truncate(start + DATA_HEADER_BYTES + count);
    put_data_header(request, start, count);
    sftp.daemon.metrics.sent(count as u64);
    Ok(Reply::Written)
}

fn put_data_header(request: &mut Request<'_>, start: usize, count: usize) {
    let mut header = [0; DATA_HEADER_BYTES];
    let mut fields = header.as_mut_slice();
    fields.put_u32((DATA_HEADER_BYTES - 4 + count) as u32);
    fields.put_u8(kind::DATA);
    fields.put_u32(request.id);
    fields.put_u32(count as u32);
    if let Some(space) = request.out.get_mut(start..start + DATA_HEADER_BYTES) {
        space.copy_from_slice(&header);
    }
}

fn read_draft(content: &Bytes, offset: u64, length: usize, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
    let data = content.get(start..content.len().min(start.saturating_add(length))).unwrap_or_default();
    if data.is_empty() {
        return Err(Fault::end().into());
    }
    let header = request.out.len();
    request.out.put_bytes(0, DATA_HEADER_BYTES);
    request.out.put_slice(data);
    put_data_header(request, header, data.len());
    Ok(Reply::Written)
}

/// SSH_FXP_WRITE. What follows the data is ignored: rclone 1.60 sends such.
pub fn write(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let handle = request.fields.bytes()?;
    let offset = request.fields.u64()?;
    let data = request.fields.bytes()?;
    match sftp.handles.get(handle)? {
        Handle::Upload(upload) => {
            let offset = if upload.append { file_content::end_of(upload.stage.file())? } else { offset };
            if let Err(error) = file_content::write_at(upload.stage.file(), data, offset) {
                let fault = Fault::from(error);
                upload.failed.get_or_insert_with(|| fault.clone());
                return Err(fault.into());
            }
        }
        Handle::InPlace(in_place) => {
            in_place.dirty = true;
            let offset = if in_place.append { file_content::end_of(in_place.file.as_fd())? } else { offset };
            file_content::write_at(in_place.file.as_fd(), data, offset)?;
        }
        Handle::Draft(draft) => drafts::write(draft, offset, data)?,
        Handle::Reading(_) | Handle::DraftReading(_) => return Err(Fault::denied("opened for reading only").into()),
        Handle::Listing(_) => return Err(Errno::ISDIR.into()),
    }
    sftp.daemon.metrics.received(data.len() as u64);
    Ok(Reply::Done)
}

/// SSH_FXP_CLOSE. For an upload this is the moment: the answer says that it is complete, durable and visible.
pub fn close(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let handle = request.fields.bytes()?;
    match sftp.handles.take(handle)? {
        Handle::Upload(Upload { failed: Some(fault), .. }) => Err(not_published(fault).into()),
        Handle::Upload(upload) => Ok(publish(sftp, upload)),
        Handle::InPlace(in_place) if in_place.dirty => Ok(sftp.change(Change::Flush(in_place.file), &[&in_place.path])),
        Handle::Draft(draft) => drafts::close(sftp, draft),
        Handle::InPlace(_) | Handle::Reading(_) | Handle::DraftReading(_) | Handle::Listing(_) => Ok(Reply::Done),
    }
}

fn not_published(fault: Fault) -> Fault {
    Fault::failure(format!("the upload is incomplete and was dropped: {}", fault.text))
}

fn publish(sftp: &Sftp, upload: Upload) -> Reply {
    let Upload { stage, place, path, exclusive, .. } = upload;
    let committed = sftp.daemon.volume.commit(Change::Publish { stage, place, exclusive });
    let daemon = sftp.daemon.clone();
    let account = sftp.identity.name().to_owned();
    let shown = String::from_utf8_lossy(&path).into_owned();
    sftp.later(&[&path], async move {
        let result = committed.await;
        daemon.metrics.upload(result.is_ok());
        match result {
            Ok(()) => {
                tracing::debug!(account, path = shown, "upload complete");
                Ok(Reply::Done)
            }
            Err(error) => {
                tracing::info!(account, path = shown, %error, "upload failed");
                Err(error.into())
            }
        }
    })
}

/// fsync@openssh.com: what was written is made durable; the name still comes with CLOSE.
pub fn fsync(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let handle = request.fields.bytes()?;
    let file = match sftp.handles.get(handle)? {
        Handle::Upload(upload) => Arc::new(upload.stage.file().try_clone_to_owned().map_err(|_| Errno::MFILE)?),
        Handle::InPlace(in_place) => {
            in_place.dirty = false;
            in_place.file.clone()
        }
        _ => return Ok(Reply::Done),
    };
    // No path changes by it, so no other request needs to wait.
    Ok(sftp.change(Change::Flush(file), &[]))
}
