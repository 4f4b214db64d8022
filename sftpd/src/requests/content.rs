//! OPEN, READ, WRITE, CLOSE, fsync: the content of files.

use std::os::fd::AsFd;
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use pair::wire::{Attrs, DATA_BYTES_MAX, kind, open_flag};
use rustix::io::Errno;

use super::drafts;
use crate::fault::Fault;
use crate::handles::{Direct, Handle, Upload};
use crate::sftp::{Later, Reply, Request, Sftp, Stop};
use crate::storage::{
    Attributes, Change, Closing, FileKind, NotWritten, Opening, Place, StorageError, Volume, Writer, attributes_of,
    file_content,
};

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
    if flags & (open_flag::WRITE | open_flag::APPEND) == 0 {
        let handle = open_to_read(sftp, path)?;
        Ok(Reply::Handle(sftp.handles.insert(handle)))
    } else if sftp.is_peer() || sftp.writes_in_place() {
        open_in_place(sftp, path, flags, &attrs)
    } else {
        open_to_write(sftp, path, flags, &attrs)
    }
}

/// On the connection that writes an upload it is read as far as it has come; elsewhere there are complete versions only.
fn open_to_read(sftp: &Sftp, path: &[u8]) -> Result<Handle, Stop> {
    if let Some(content) = drafts::content(sftp, path) {
        return Ok(Handle::DraftReading(content));
    }
    let Some(place) = sftp.unfinished_place(path, true) else {
        return Ok(Handle::Reading(Arc::new(sftp.root.open_file(path)?.0)));
    };
    if let Some(file) = sftp.unfinished_reader(&place) {
        return Ok(Handle::Reading(file));
    }
    match sftp.root.open_file(path) {
        Ok((file, _)) => Ok(Handle::Reading(Arc::new(file))),
        Err(StorageError::System(Errno::NOENT)) => {
            Err(Fault::failure("the upload of this file is not finished, and there is no earlier version").into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Replication writes straight to the file, having stages and renames of its own; so do accounts that are set to, and
/// changes in the middle of files too large for a copy. Of the latter two the journal is told before and after.
fn open_in_place(sftp: &mut Sftp, path: &[u8], flags: u32, attrs: &Attrs) -> Result<Reply, Stop> {
    if !sftp.is_peer() && drafts::open(sftp, &sftp.root.place_behind_links(path)?, flags)?.is_some() {
        return open_to_write(sftp, path, flags, attrs);
    }
    if let Some(reason) = sftp.daemon.volume.failure() {
        return Err(Fault::failure(reason).into());
    }
    let create = (flags & open_flag::CREAT != 0).then(|| attrs.mode.unwrap_or(0o666) & !UMASK);
    let (file, _) = sftp.root.open_in_place(path, create, flags & open_flag::EXCL != 0)?;
    let folder = create.and_then(|_| sftp.root.place_behind_links(path).ok());
    let volume = &sftp.daemon.volume;
    let (file, told) = volume.write_in_place(file, folder.as_ref(), sftp.quota.clone(), sftp.author.clone())?;
    let file = Arc::new(file);
    let append = flags & open_flag::APPEND != 0;
    let handle = Handle::Direct(Direct { file: file.clone(), path: path.to_vec(), append });
    let truncate = flags & open_flag::TRUNC != 0;
    let Some(told) = told else {
        file.begin(truncate)?;
        return Ok(Reply::Handle(sftp.handles.insert(handle)));
    };
    Ok(open_later(sftp, handle, path, async move {
        told.await?;
        // A large file takes its time.
        Ok(tokio::task::block_in_place(|| file.begin(truncate))?)
    }))
}

/// A handle that the client hears of when something is durable.
fn open_later(
    sftp: &mut Sftp,
    handle: Handle,
    path: &[u8],
    durable: impl Future<Output = Result<(), Fault>> + Send + 'static,
) -> Reply {
    let handle = sftp.handles.insert(handle);
    let answer = handle.clone();
    let work = async move {
        durable.await?;
        Ok(Reply::Handle(answer))
    };
    match sftp.later(&[path], work) {
        Reply::Later(later) => Reply::Later(Later { opened: Some(handle), ..later }),
        other => other,
    }
}

/// Ends a handle that the client was never told of.
pub fn forget(sftp: &mut Sftp, handle: &str) {
    if let Ok(Handle::Upload(upload)) = sftp.handles.take(handle.as_bytes()) {
        upload.writer.forget();
    }
}

/// An upload: its bytes go to a stage, which CLOSE publishes under the name that `path` leads to. One that this account
/// has not finished is continued, or begun again.
fn open_to_write(sftp: &mut Sftp, path: &[u8], flags: u32, attrs: &Attrs) -> Result<Reply, Stop> {
    let place = sftp.root.place_behind_links(path)?;
    if let Some(draft) = drafts::open(sftp, &place, flags)? {
        return Ok(Reply::Handle(sftp.handles.insert(Handle::Draft(draft))));
    }
    let existing = match place.attributes() {
        Ok(existing) => Some(existing),
        Err(StorageError::System(Errno::NOENT)) => None,
        Err(error) => return Err(error.into()),
    };
    let is_unfinished = sftp.unfinished_at(&place).is_some();
    let mode = match &existing {
        _ if is_unfinished && flags & open_flag::CREAT != 0 && flags & open_flag::EXCL != 0 => {
            return Err(Errno::EXIST.into());
        }
        Some(existing) => check_existing(existing, flags)?,
        None if flags & open_flag::CREAT == 0 && !is_unfinished => return Err(Errno::NOENT.into()),
        None => attrs.mode.unwrap_or(0o666) & 0o7777 & !UMASK,
    };
    let opening = Opening {
        account: sftp.identity.name().into(),
        connection: sftp.connection,
        place,
        mode,
        truncate: flags & open_flag::TRUNC != 0,
        exclusive: flags & open_flag::EXCL != 0,
        quota: sftp.quota.clone(),
    };
    let append = flags & open_flag::APPEND != 0;
    let writer = match sftp.daemon.volume.resume_upload(&opening)? {
        Some(writer) => Ok(writer),
        None => {
            let source = match existing {
                Some(existing) if !opening.truncate && existing.size > 0 => Some(sftp.root.open_file(path)?),
                _ => None,
            };
            let source = source.as_ref().map(|(file, attributes)| (file, attributes));
            sftp.daemon.volume.begin_upload(&opening, source)
        }
    };
    let writer = match writer {
        Ok(writer) => writer,
        Err(StorageError::TooLargeToCopy) => return open_in_place(sftp, path, flags, attrs),
        Err(error) => return Err(error.into()),
    };
    let must_settle = writer.must_settle();
    let handle = Handle::Upload(Upload { writer, opening, path: path.to_vec(), append, broken: None });
    if !must_settle {
        return Ok(Reply::Handle(sftp.handles.insert(handle)));
    }
    let settled = sftp.daemon.volume.settle();
    Ok(open_later(sftp, handle, path, async move { Ok(settled.await?) }))
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
        Handle::Reading(file) => file.clone(),
        Handle::Upload(upload) => upload.writer.file()?,
        Handle::Direct(direct) => direct.file.file(),
        Handle::DraftReading(content) => return read_draft(content, offset, length, request),
        Handle::Draft(_) => return Err(Errno::INVAL.into()),
        Handle::Listing(_) => return Err(Errno::ISDIR.into()),
    };
    let start = request.out.len();
    request.out.resize(start + DATA_HEADER_BYTES + length, 0);
    let data = request.out.get_mut(start + DATA_HEADER_BYTES..).unwrap_or_default();
    let read = file_content::read_at(file.as_fd(), data, offset);
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
        Handle::Upload(_) => {
            on_upload(sftp, handle, |upload| upload.writer.write((!upload.append).then_some(offset), data))?
        }
        Handle::Direct(direct) => direct.file.write((!direct.append).then_some(offset), data)?,
        Handle::Draft(draft) => drafts::write(draft, offset, data)?,
        Handle::Reading(_) | Handle::DraftReading(_) => return Err(Fault::denied("opened for reading only").into()),
        Handle::Listing(_) => return Err(Errno::ISDIR.into()),
    }
    sftp.daemon.metrics.received(data.len() as u64);
    Ok(Reply::Done)
}

/// Changes an upload. If a handle beside this one has published it, the change begins from what that left, as a new
/// upload: what stands under a name is never changed in place.
pub fn on_upload<T>(
    sftp: &mut Sftp,
    handle: &[u8],
    change: impl Fn(&Upload) -> Result<T, NotWritten>,
) -> Result<T, Stop> {
    let Handle::Upload(upload) = sftp.handles.get(handle)? else {
        return Err(Errno::INVAL.into());
    };
    match change(upload) {
        Ok(done) => return Ok(done),
        Err(NotWritten::Failed(error)) => return Err(error.into()),
        Err(NotWritten::Publishing) => {
            let path = upload.path.clone();
            if sftp.is_changing(&path) {
                return Err(Stop::Wait);
            }
            return Err(Fault::failure("the file is being closed on another channel: try again").into());
        }
        Err(NotWritten::Published) => {}
    }
    let (volume, place) = (sftp.daemon.volume.clone(), upload.writer.place()?);
    let begun = begin_behind(&volume, upload, place).and_then(|writer| {
        upload.writer = writer;
        change(upload).map_err(|error| match error {
            NotWritten::Failed(error) => Fault::from(error),
            _ => Fault::failure("the file is being closed by another request: try again"),
        })
    });
    // What was published is complete, but not what this handle was to make of it: its CLOSE must not say so.
    begun.map_err(|fault| {
        upload.broken.get_or_insert_with(|| fault.clone());
        fault.into()
    })
}

/// A new upload behind the one that was published: another handle of this connection may have begun it already.
fn begin_behind(volume: &Volume, upload: &Upload, place: Place) -> Result<Writer, Fault> {
    let opening = Opening { truncate: false, exclusive: false, place, ..upload.opening.clone() };
    if let Some(writer) = volume.share_upload(&opening)? {
        return Ok(writer);
    }
    let file = upload.writer.file()?;
    let attributes = attributes_of(file.as_fd())?;
    Ok(volume.begin_upload(&opening, Some((&file, &attributes)))?)
}

/// SSH_FXP_CLOSE. For an upload this is the moment: the answer says that it is complete, durable and visible.
pub fn close(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let handle = request.fields.bytes()?;
    match sftp.handles.take(handle)? {
        Handle::Upload(upload) => close_upload(sftp, upload),
        Handle::Direct(direct) => {
            let closed = direct.file.close();
            Ok(sftp.later(&[&direct.path], async move {
                closed.await?;
                Ok(Reply::Done)
            }))
        }
        Handle::Draft(draft) => drafts::close(sftp, draft),
        Handle::Reading(_) | Handle::DraftReading(_) | Handle::Listing(_) => Ok(Reply::Done),
    }
}

fn close_upload(sftp: &Sftp, upload: Upload) -> Result<Reply, Stop> {
    let Upload { writer, path, broken, .. } = upload;
    if let Some(fault) = broken {
        return Err(Fault::failure(format!("the upload is incomplete: {}", fault.text)).into());
    }
    let shown = String::from_utf8_lossy(&path).into_owned();
    let account = sftp.identity.name().to_owned();
    let publication = match writer.close() {
        Ok(Closing::Publish(publication)) => publication,
        Ok(Closing::Nothing) => return Ok(Reply::Done),
        Ok(Closing::Behind(mut answered)) => {
            return Ok(sftp.later(&[&path], async move {
                let answer = answered.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
                answer.unwrap_or_else(|| Err(StorageError::Refused("the upload was given up".into())))?;
                Ok(Reply::Done)
            }));
        }
        Err(error) => {
            sftp.daemon.metrics.upload(false);
            tracing::info!(account, path = shown, %error, "upload failed");
            // A failure, because FileZilla and rclone show the sentence of no other code.
            return Err(Fault::failure(Fault::from(error).text).into());
        }
    };
    let committed = sftp.daemon.volume.commit(Change::Publish(publication), sftp.author.clone());
    let daemon = sftp.daemon.clone();
    Ok(sftp.later(&[&path], async move {
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
    }))
}

/// fsync@openssh.com: what was written is made durable; the name still comes with CLOSE.
pub fn fsync(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let handle = request.fields.bytes()?;
    let change = match sftp.handles.get(handle)? {
        Handle::Upload(upload) => Change::FlushStage(upload.writer.stage()?),
        Handle::Direct(direct) => {
            let flushed = direct.file.flush();
            return Ok(sftp.later(&[], async move {
                flushed.await?;
                Ok(Reply::Done)
            }));
        }
        _ => return Ok(Reply::Done),
    };
    // No path changes by it, so no other request needs to wait.
    Ok(sftp.change(change, &[]))
}
