//! Extensions that are about the server or the volume, and those of the pair.

use std::os::fd::AsFd;

use bytes::BufMut;
use pair::extension::Hello;
use pair::wire::{DATA_BYTES_MAX, PACKET_BYTES_MAX};
use rustix::fs::StatVfs;

use crate::accounts::Accounts;
use crate::fault::Fault;
use crate::sftp::{Reply, Request, Sftp, Stop};
use crate::storage::{Change, file_content};

/// The largest set of accounts that is taken from the master, in bytes.
const ACCOUNTS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// statvfs@openssh.com.
pub fn statvfs(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let path = sftp.path(&mut request.fields)?;
    Ok(Reply::Extended(room(&sftp.root.room(path)?)))
}

/// fstatvfs@openssh.com. All handles are on the one volume.
pub fn fstatvfs(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let handle = request.fields.bytes()?;
    sftp.handles.get(handle)?;
    Ok(Reply::Extended(room(&sftp.root.room(b"/")?)))
}

fn room(room: &StatVfs) -> Vec<u8> {
    let mut body = Vec::new();
    let fields = [
        room.f_bsize,
        room.f_frsize,
        room.f_blocks,
        room.f_bfree,
        room.f_bavail,
        room.f_files,
        room.f_ffree,
        room.f_favail,
        // An id of the file system means nothing to a client, and tells it about the host.
        0,
        0,
        room.f_namemax,
    ];
    for field in fields {
        body.put_u64(field);
    }
    body
}

/// limits@openssh.com: with it clients send 255 KiB at a time instead of 32.
pub fn limits(sftp: &mut Sftp, _: &mut Request<'_>) -> Result<Reply, Stop> {
    let mut body = Vec::new();
    for limit in [PACKET_BYTES_MAX, DATA_BYTES_MAX, DATA_BYTES_MAX, sftp.daemon.config.limits.handles_per_session] {
        body.put_u64(limit as u64);
    }
    Ok(Reply::Extended(body))
}

/// hello@sftp-ha.
pub fn hello(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let theirs: Hello = serde_json::from_slice(request.fields.0).map_err(|_| Fault::failure("not a hello"))?;
    tracing::debug!(node = theirs.node, role = %theirs.role, version = theirs.version, "the other machine says hello");
    let body = serde_json::to_vec(&sftp.daemon.hello()).map_err(|error| Fault::failure(error.to_string()))?;
    Ok(Reply::Extended(body))
}

/// accounts@sftp-ha.
pub fn accounts(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let path = sftp.path(&mut request.fields)?;
    let daemon = sftp.daemon.clone();
    if !daemon.is_standby() {
        return Err(Fault::failure("this machine is a master: its accounts come from its users.yaml").into());
    }
    let (file, attributes) = sftp.root.open_file(path)?;
    if attributes.size > ACCOUNTS_BYTES_MAX {
        return Err(Fault::failure("too many accounts").into());
    }
    let place = sftp.root.place(path)?;
    let content = file_content::read_whole(&file)?;
    let taken = Accounts::from_json(&content).map_err(|error| Fault::failure(format!("not accounts: {error}")))?;
    Ok(sftp.later(&[path], async move {
        let keeper = daemon.clone();
        tokio::task::spawn_blocking(move || keeper.set_accounts(taken))
            .await
            .map_err(|_| Fault::failure("the accounts could not be kept"))?
            .map_err(|error| Fault::failure(format!("{error:#}")))?;
        daemon.volume.commit(Change::Remove(place), None).await?;
        Ok(Reply::Done)
    }))
}

/// digest@sftp-ha.
pub fn digest(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let path = sftp.path(&mut request.fields)?;
    let (start, length) = (request.fields.u64()?, request.fields.u64()?);
    let (file, _) = sftp.root.open_file(path)?;
    let end = if length == 0 { u64::MAX } else { start.saturating_add(length) };
    let hash = move || -> rustix::io::Result<Vec<u8>> {
        let (mut hasher, mut offset) = (blake3::Hasher::new(), start);
        let mut buffer = vec![0; 1024 * 1024];
        loop {
            let wanted = usize::try_from(end - offset).unwrap_or(usize::MAX).min(buffer.len());
            let space = buffer.get_mut(..wanted).unwrap_or_default();
            let count = file_content::read_at(file.as_fd(), space, offset)?;
            if count == 0 {
                break;
            }
            hasher.update(space.get(..count).unwrap_or_default());
            offset += count as u64;
        }
        let mut body = hasher.finalize().as_bytes().to_vec();
        body.put_u64(offset - start);
        Ok(body)
    };
    Ok(sftp.later(&[], async move {
        let hashed = tokio::task::spawn_blocking(hash).await.map_err(|_| Fault::failure("the file was not hashed"))?;
        Ok(Reply::Extended(hashed?))
    }))
}
