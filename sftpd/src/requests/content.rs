//! OPEN, READ, WRITE: the content of files.

use std::os::fd::AsFd;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use pair::wire::{Attrs, DATA_BYTES_MAX, kind, open_flag};
use rustix::io::Errno;

use super::{drafts, growing};
use crate::dispatch::Does;
use crate::fault::Fault;
use crate::handles::{Direct, Handle, Reading, Upload};
use crate::pending::plain;
use crate::sftp::{Later, Reply, Request, Sftp, Stop};
use crate::storage::{Attributes, FileKind, NotWritten, Opening, Place, StorageError, Volume, Writer, attributes_of};
use crate::transfer::{Direction, Transfer};

/// Room in a DATA reply before the data: length, type, request number, data length.
pub const DATA_HEADER_BYTES: usize = 4 + 1 + 4 + 4;

/// SSH_FXP_OPEN.
pub fn open(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let path = sftp.path(&mut request.fields)?;
    let flags = request.fields.u32()?;
    let attrs = request.fields.attrs()?;
    sftp.handles.check_room()?;
    if flags & open_flag::CREAT != 0 && path.ends_with(b"/") {
        return Err(Errno::ISDIR.into());
    }
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
pub fn open_to_read(sftp: &Sftp, path: &[u8]) -> Result<Handle, Stop> {
    if let Some(content) = drafts::content(sftp, path) {
        return Ok(Handle::DraftReading(content));
    }
    let transfer = Transfer::new(Direction::Down, plain(path));
    let reading = |file| Handle::Reading(Reading { file, transfer });
    let place = sftp.unfinished_place(path, true);
    if let Some((place, file)) = place.as_ref().and_then(|place| Some((place, sftp.unfinished_reader(place)?))) {
        sftp.permit(Does::Reads, place)?;
        return Ok(reading(file));
    }
    let is_unfinished =
        place.is_some_and(|place| sftp.unfinished_at(&place).is_some() && sftp.may(Does::Looks, &place).is_ok());
    let is_missing = || matches!(sftp.root.open_file(path), Err(StorageError::System(Errno::NOENT)));
    match sftp.find(Does::Reads, path, || Ok(sftp.root.open_file(path)?.0)) {
        Ok(file) => Ok(reading(Arc::new(file))),
        Err(Stop::Fault(_)) if is_unfinished && is_missing() => {
            let fault = Fault::failure("the upload of this file is not finished, and there is no earlier version");
            Err(fault.into())
        }
        Err(stop) => Err(stop),
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
    // Where rights go by folder nothing is made before it is known where.
    let may_create = flags & open_flag::CREAT != 0 && (sftp.is_peer() || sftp.writes_in_place());
    let create = may_create.then(|| sftp.mode_of_new_file(attrs));
    let opened = sftp.root.open_in_place(path, create, flags & open_flag::EXCL != 0);
    let (file, _) = sftp.looked_up(path, opened)?;
    sftp.permit(Does::Changes, file.as_fd())?;
    let folder = create.and_then(|_| sftp.root.place_behind_links(path).ok());
    let volume = &sftp.daemon.volume;
    let (file, told) = volume.write_in_place(file, folder.as_ref(), sftp.quota.clone(), sftp.author.clone())?;
    let file = Arc::new(file);
    let append = flags & open_flag::APPEND != 0;
    let truncate = flags & open_flag::TRUNC != 0;
    let transfer = Transfer { is_begun: truncate, ..Transfer::new(Direction::Up, plain(path)) };
    let read = Transfer::new(Direction::Down, plain(path));
    let handle = Handle::Direct(Direct { file: file.clone(), transfer, read, append });
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
pub(super) fn open_later(
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
    let is_exclusive = flags & open_flag::CREAT != 0 && flags & open_flag::EXCL != 0;
    // Who wants a new file does not get it behind a link.
    let looked = if is_exclusive { sftp.root.look(path) } else { sftp.root.look_behind_links(path) };
    let (place, existing) = sftp.looked_up(path, looked)?;
    sftp.permit(Does::Adds, &place)?;
    if let Some(draft) = drafts::open(sftp, &place, flags)? {
        return Ok(Reply::Handle(sftp.handles.insert(Handle::Draft(draft))));
    }
    let existing = match existing {
        Ok(existing) => Some(existing),
        Err(StorageError::System(Errno::NOENT)) => None,
        Err(error) => return Err(error.into()),
    };
    let is_unfinished = sftp.unfinished_at(&place).is_some();
    let adds_only = sftp.adds_only(&place);
    if let (false, true, Some(fault)) = (is_unfinished, existing.is_some(), &adds_only) {
        if sftp.continues_at_end(flags) {
            return growing::open(sftp, path, flags);
        }
        return Err(fault.clone().into());
    }
    let mode = match &existing {
        _ if is_exclusive && (is_unfinished || existing.is_some()) => return Err(Errno::EXIST.into()),
        Some(existing) => check_existing(existing)?,
        None if flags & open_flag::CREAT == 0 && !is_unfinished => return Err(Errno::NOENT.into()),
        None => sftp.mode_of_new_file(attrs),
    };
    let opening = Opening {
        account: sftp.identity.name().into(),
        connection: sftp.connection,
        place,
        mode,
        truncate: flags & open_flag::TRUNC != 0,
        // Who may only add takes no name that another upload has got meanwhile.
        exclusive: flags & open_flag::EXCL != 0 || adds_only.is_some(),
        quota: sftp.quota.clone(),
    };
    let append = flags & open_flag::APPEND != 0;
    let transfer = Transfer {
        is_resumed: is_unfinished && !opening.truncate && sftp.unfinished_reader(&opening.place).is_none(),
        is_begun: opening.truncate || !(is_unfinished || existing.is_some()),
        replaces: existing.is_some(),
        ..Transfer::new(Direction::Up, plain(path))
    };
    let writer = match sftp.daemon.volume.resume_upload(&opening)? {
        Some(writer) => Ok(writer),
        None => {
            let source = match existing {
                Some(_) if !opening.truncate => Some(sftp.root.open_file(path)?),
                _ => None,
            };
            if let Some((file, _)) = &source {
                sftp.permit(Does::Changes, file.as_fd())?;
            }
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
    let read = Transfer::new(Direction::Down, plain(path));
    let handle = Handle::Upload(Upload { writer, opening, transfer, read, append, broken: None });
    if !must_settle {
        return Ok(Reply::Handle(sftp.handles.insert(handle)));
    }
    let settled = sftp.daemon.volume.settle();
    Ok(open_later(sftp, handle, path, async move { Ok(settled.await?) }))
}

/// What stands under the name of an upload must be a file that may be written. Its mode stays the name's mode.
fn check_existing(existing: &Attributes) -> Result<u32, Stop> {
    match existing.kind {
        FileKind::Folder => return Err(Errno::ISDIR.into()),
        FileKind::File => {}
        _ => return Err(Errno::PERM.into()),
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
    let source = sftp.source(handle)?;
    let is_full = length == DATA_BYTES_MAX;
    let mut answer = if is_full { sftp.daemon.rooms.take() } else { Vec::with_capacity(DATA_HEADER_BYTES + length) };
    answer.resize(DATA_HEADER_BYTES, 0);
    let count = match source.read_onto(&mut answer, offset) {
        Ok(count) if count > 0 || length == 0 => count.min(length),
        other => {
            sftp.daemon.rooms.give_back(answer);
            // Who asks for what comes behind the end has had all of it.
            sftp.handles.moved(Direction::Down, handle, 0, 0);
            return other.map_or_else(|error| Err(error.into()), |_| Err(Fault::end().into()));
        }
    };
    // Where there was more room than was asked for.
    answer.truncate(DATA_HEADER_BYTES + count);
    put_data_header(&mut answer, request.id, count);
    // A large answer that is the first goes as it is. One that is small in its room would keep that.
    if request.out.is_empty() && answer.len() >= answer.capacity() / 2 {
        *request.out = BytesMut::from(Bytes::from(answer));
    } else {
        request.out.extend_from_slice(&answer);
        sftp.daemon.rooms.give_back(answer);
    }
    sftp.handles.moved(Direction::Down, handle, offset, count as u64);
    sftp.daemon.metrics.sent(count as u64);
    Ok(Reply::Written)
}

fn put_data_header(answer: &mut [u8], id: u32, count: usize) {
    let mut header = [0; DATA_HEADER_BYTES];
    let mut fields = header.as_mut_slice();
    fields.put_u32((DATA_HEADER_BYTES - 4 + count) as u32);
    fields.put_u8(kind::DATA);
    fields.put_u32(id);
    fields.put_u32(count as u32);
    if let Some(space) = answer.get_mut(..DATA_HEADER_BYTES) {
        space.copy_from_slice(&header);
    }
}

/// SSH_FXP_WRITE. What follows the data is ignored: rclone 1.60 sends such.
pub fn write(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let handle = request.fields.bytes()?;
    let offset = request.fields.u64()?;
    let data = request.fields.bytes()?;
    write_to(sftp, handle, offset, data)?;
    sftp.daemon.metrics.received(data.len() as u64);
    Ok(Reply::Done)
}

/// Writes to a handle, at an offset unless the handle appends.
pub fn write_to(sftp: &mut Sftp, handle: &[u8], offset: u64, data: &[u8]) -> Result<(), Stop> {
    match sftp.handles.get(handle)? {
        Handle::Upload(_) => {
            on_upload(sftp, handle, |upload| upload.writer.write((!upload.append).then_some(offset), data))?
        }
        Handle::Direct(direct) => direct.file.write((!direct.append).then_some(offset), data)?,
        Handle::Draft(draft) => drafts::write(draft, offset, data)?,
        Handle::Reading(_) | Handle::DraftReading(_) => return Err(Fault::denied("opened for reading only").into()),
        Handle::Listing(_) => return Err(Errno::ISDIR.into()),
    }
    sftp.handles.moved(Direction::Up, handle, offset, data.len() as u64);
    Ok(())
}

/// What a handle was to become cannot be any more: its CLOSE must not say that it is. What is written in place stays as far
/// as it came.
pub fn spoil(sftp: &mut Sftp, handle: &[u8], fault: &Fault) {
    match sftp.handles.get(handle) {
        Ok(Handle::Upload(upload)) => drop(upload.broken.get_or_insert_with(|| fault.clone())),
        Ok(Handle::Draft(draft)) => drop(draft.failed.get_or_insert_with(|| fault.clone())),
        _ => {}
    }
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
            let path = upload.transfer.path.clone();
            if sftp.pending.concern(&path) {
                return Err(Stop::Wait);
            }
            return Err(Fault::failure("the file is being closed on another channel: try again").into());
        }
        Err(NotWritten::Published) => {}
    }
    let place = upload.writer.place()?;
    if let Err(fault) = sftp.may(Does::Changes, &place) {
        spoil(sftp, handle, &fault);
        return Err(fault.into());
    }
    let Handle::Upload(upload) = sftp.handles.get(handle)? else {
        return Err(Errno::INVAL.into());
    };
    let volume = sftp.daemon.volume.clone();
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
