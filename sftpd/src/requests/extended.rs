//! Extensions that are about the server or the volume, and those of the pair.

use std::os::fd::AsFd;

use bytes::BufMut;
use pair::extension::Whoami;
use pair::wire::{DATA_BYTES_MAX, PACKET_BYTES_MAX, Reader, put_bytes};
use rustix::fs::StatVfs;
use rustix::io::Errno;

use super::attributes::new_attributes;
use super::owners::Owners;
use crate::accounts::Accounts;
use crate::dispatch::Does;
use crate::fault::Fault;
use crate::sftp::{Reply, Request, Sftp, Stop};
use crate::storage::{Change, NewAttributes, file_content};

/// The largest set of accounts that is taken from the master, in bytes.
const ACCOUNTS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The longest id of a machine.
const NODE_BYTES_MAX: usize = 64;

/// statvfs@openssh.com.
pub fn statvfs(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let path = sftp.path(&mut request.fields)?;
    sftp.find(Does::Looks, path, || sftp.root.handle_for_attributes(path, true))?;
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

/// home-directory, draft-ietf-secsh-filexfer-extensions-00, section 5. Everybody's home is `/`, and only one's own is told.
pub fn home_directory(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let name = request.fields.bytes()?;
    if !name.is_empty() && name != sftp.identity.name().as_bytes() {
        return Err(Fault::failure("only your own home folder can be asked for").into());
    }
    Ok(Reply::Name(b"/".to_vec()))
}

/// whoami@sftp-ha: the account of the session, as it is in users.yaml, and what this machine is for.
pub fn whoami(sftp: &mut Sftp, _: &mut Request<'_>) -> Result<Reply, Stop> {
    let account = sftp.identity.name().to_owned();
    let admin = sftp.daemon.accounts().get(&account).is_some_and(|account| account.admin);
    let now = sftp.daemon.roles.now();
    let epoch = now.node.epoch.as_ref().map(|epoch| epoch.id.clone());
    let answer = serde_json::to_vec(&Whoami { account, admin, role: now.node.role, epoch });
    Ok(Reply::Extended(answer.map_err(|error| Fault::failure(error.to_string()))?))
}

/// users-groups-by-id@openssh.com: names for the owners that a listing shows, empty where there is none.
pub fn users_groups_by_id(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let (users, groups) = (Reader(request.fields.bytes()?), Reader(request.fields.bytes()?));
    let owners = sftp.owners();
    let mut body = Vec::new();
    for (mut ids, name) in [(users, Owners::user as fn(&Owners, u32) -> Option<&str>), (groups, Owners::group)] {
        let mut names = Vec::new();
        while !ids.0.is_empty() {
            put_bytes(&mut names, name(&owners, ids.u32()?).unwrap_or_default().as_bytes());
        }
        put_bytes(&mut body, &names);
    }
    if body.len() > DATA_BYTES_MAX {
        return Err(Fault::failure("so many names fit in no answer: ask for fewer").into());
    }
    Ok(Reply::Extended(body))
}

/// accounts@sftp-ha.
pub fn accounts(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let path = sftp.path(&mut request.fields)?;
    let daemon = sftp.daemon.clone();
    sftp.access().permit(Does::Changes)?;
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

/// put@sftp-ha.
pub fn put(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let path = sftp.path(&mut request.fields)?;
    let attributes = NewAttributes { size: None, owner: None, ..new_attributes(&request.fields.attrs()?) };
    let place = sftp.root.place(path)?;
    if place.attributes().is_ok() {
        // The committer refuses it too, but only after a flush.
        return Err(Errno::EXIST.into());
    }
    let publication = sftp.daemon.volume.stage_new(request.fields.bytes()?, &attributes, place)?;
    Ok(sftp.change(Change::Publish(publication), &[path]))
}

/// activity@sftp-ha: the other machine's log is kept here, too.
pub fn activity(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let node = String::from_utf8_lossy(request.fields.bytes()?).into_owned();
    let lines = request.fields.bytes()?.to_vec();
    if node.is_empty() || node.len() > NODE_BYTES_MAX || !node.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Fault::failure("that is no machine's id").into());
    }
    let daemon = sftp.daemon.clone();
    Ok(sftp.later(&[], async move {
        let kept = tokio::task::spawn_blocking(move || daemon.received_activity.append(&node, &lines)).await;
        let kept = kept.map_err(|_| Fault::failure("the lines were not kept"))?;
        let last = kept.map_err(|error| Fault::failure(format!("the lines cannot be kept: {error}")))?;
        Ok(Reply::Extended(last.to_be_bytes().to_vec()))
    }))
}

/// digest@sftp-ha.
pub fn digest(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let path = sftp.path(&mut request.fields)?;
    let (start, length) = (request.fields.u64()?, request.fields.u64()?);
    let (file, _) = sftp.root.open_file(path)?;
    let end = if length == 0 { u64::MAX } else { start.saturating_add(length) };
    let hash = move || -> rustix::io::Result<Vec<u8>> {
        let file = file_content::quietly(file.as_fd()).unwrap_or(file);
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
