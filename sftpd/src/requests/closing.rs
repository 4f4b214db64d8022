//! CLOSE and fsync: what was written becomes durable, and complete under its name.

use std::os::fd::AsFd;

use super::drafts;
use crate::dispatch::Does;
use crate::fault::Fault;
use crate::handles::{Handle, Upload};
use crate::sftp::{Reply, Request, Sftp, Stop};
use crate::storage::{Change, Closing, Place, StorageError, Writer, attributes_of};
use crate::transfer::Transfer;

/// SSH_FXP_CLOSE. For an upload this is the moment: the answer says that it is complete, durable and visible.
pub fn close(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let handle = request.fields.bytes()?;
    match sftp.handles.take(handle)? {
        Handle::Upload(upload) => close_upload(sftp, upload),
        Handle::Direct(direct) => {
            sftp.actor.iter().for_each(|actor| direct.read.record_read(actor));
            let closed = direct.file.close();
            let size = attributes_of(direct.file.file().as_fd()).ok().map(|found| found.size);
            let reply = sftp.later(&[&direct.transfer.path], async move {
                closed.await?;
                Ok(Reply::Done)
            });
            direct.transfer.when_closed(sftp.actor.clone(), size, Ok(reply))
        }
        Handle::Draft(draft) => drafts::close(sftp, draft),
        Handle::Reading(reading) => {
            sftp.actor.iter().for_each(|actor| reading.record(actor, false));
            Ok(Reply::Done)
        }
        Handle::DraftReading(_) | Handle::Listing(_) => Ok(Reply::Done),
    }
}

fn close_upload(sftp: &mut Sftp, upload: Upload) -> Result<Reply, Stop> {
    let Upload { writer, mut transfer, read, broken, .. } = upload;
    sftp.actor.iter().for_each(|actor| read.record_read(actor));
    let (size, place) = (writer.attributes().ok().map(|found| found.size), writer.place().ok());
    let asked = transfer.path.clone();
    // Its folder may have another name by now.
    if let Some(path) = place.and_then(|place| sftp.root.path_of_place(&place).ok()) {
        transfer.path = path;
    }
    let reply = match broken {
        Some(fault) => Err(Fault::failure(format!("the upload is incomplete: {}", fault.text)).into()),
        None => publish(sftp, writer, &asked, &mut transfer),
    };
    if let Ok(Reply::Done) = reply {
        // There was nothing to publish: it was removed, or nobody has touched it.
        transfer.is_begun &= transfer.bytes > 0;
        let removed = Fault::failure("it was removed before it was complete");
        drop(transfer.when_closed(sftp.actor.clone(), None, Err(removed.into())));
        return reply;
    }
    transfer.when_closed(sftp.actor.clone(), size, reply)
}

fn publish(sftp: &mut Sftp, writer: Writer, path: &[u8], transfer: &mut Transfer) -> Result<Reply, Stop> {
    let closed = || -> Result<(Place, Closing), Fault> {
        let place = writer.place()?;
        // A rename may have brought it to where other rights hold than where it was opened.
        sftp.may(Does::Adds, &place)?;
        if sftp.adds_only(&place).is_some() {
            writer.replace_nothing()?;
        }
        Ok((place, writer.close()?))
    };
    let (place, publication) = match closed() {
        Ok((place, Closing::Publish(publication))) => (place, publication),
        Ok((_, Closing::Nothing)) => return Ok(Reply::Done),
        Ok((_, Closing::Behind(mut answered))) => {
            return Ok(sftp.later(&[path], async move {
                let answer = answered.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
                answer.unwrap_or_else(|| Err(StorageError::Refused("the upload was given up".into())))?;
                Ok(Reply::Done)
            }));
        }
        Err(fault) => {
            sftp.daemon.metrics.upload(false);
            // A failure, because FileZilla and rclone show the sentence of no other code.
            return Err(Fault::failure(fault.text).into());
        }
    };
    transfer.replaces |= place.attributes().is_ok();
    sftp.note_published(&place, &publication);
    let committed = sftp.daemon.volume.commit_with_next(Change::Publish(publication), sftp.author.clone());
    let daemon = sftp.daemon.clone();
    Ok(sftp.later(&[path], async move {
        let result = committed.await;
        daemon.metrics.upload(result.is_ok());
        result?;
        Ok(Reply::Done)
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
