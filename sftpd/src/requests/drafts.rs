//! Requests on names that hold `users.yaml` in the admin folder. Their content never touches the disk as uploaded.
//!
//! Everywhere else these names are like any other. The rules are the admin folder's ([`crate::admin_folder`]).

use bytes::Bytes;
use pair::wire::open_flag;
use rustix::io::Errno;

use crate::accounts::users_file::BYTES_MAX;
use crate::admin_folder::{self, AdminFolder, By, CHECK_NAME, RESULT_NAME, USERS_NAME};
use crate::fault::Fault;
use crate::handles::Draft;
use crate::sftp::{Identity, Reply, Sftp, Stop};
use crate::storage::{Change, Place, file_content};

/// The admin folder, if this session's `/` is it.
fn admin_folder(sftp: &Sftp) -> Option<&AdminFolder> {
    match &sftp.identity {
        Identity::Account(account) if account.admin => Some(&sftp.daemon.admin_folder),
        _ => None,
    }
}

/// Who changes the accounts by this session.
fn by(sftp: &Sftp) -> By {
    By { who: sftp.identity.name().to_owned(), actor: sftp.actor.clone() }
}

/// The name at a place, if the admin folder guards it.
fn guarded<'a>(sftp: &Sftp, place: &'a Place) -> Option<&'a [u8]> {
    admin_folder(sftp)?;
    let in_admin_folder = place.folder_identity().ok()? == sftp.root.identity().ok()?;
    (in_admin_folder && admin_folder::is_guarded_name(place.name())).then(|| place.name())
}

/// Whether somebody means users.yaml and calls it otherwise: its passwords would stay on the disk as they are.
fn is_misnamed(sftp: &Sftp, place: &Place) -> bool {
    let name = place.name().to_ascii_lowercase();
    let in_admin_folder = || place.folder_identity().ok() == sftp.root.identity().ok();
    admin_folder(sftp).is_some() && name.windows(9).any(|part| part == b"users.yml") && in_admin_folder()
}

/// The waiting draft that a path names.
pub fn content(sftp: &Sftp, path: &[u8]) -> Option<Bytes> {
    let folder = admin_folder(sftp).filter(|folder| folder.has_drafts())?;
    let place = sftp.root.place(path).ok()?;
    folder.draft(guarded(sftp, &place)?)
}

/// The waiting drafts as entries of a listing, if `folder` is the admin folder.
pub fn entries(sftp: &Sftp, folder: (u64, u64)) -> Vec<(Vec<u8>, u64)> {
    match (admin_folder(sftp), sftp.root.identity()) {
        (Some(admin), Ok(root)) if root == folder => admin.drafts(),
        _ => Vec::new(),
    }
}

/// OPEN for writing: a draft, where the name is guarded.
pub fn open(sftp: &Sftp, place: &Place, flags: u32) -> Result<Option<Draft>, Stop> {
    let Some(name) = guarded(sftp, place) else {
        return match is_misnamed(sftp, place) {
            true => Err(Fault::failure("the accounts' file is users.yaml: upload it under that name").into()),
            false => Ok(None),
        };
    };
    if name == RESULT_NAME {
        return Err(Fault::denied("users.yaml.result is written by the server").into());
    }
    if flags & open_flag::CREAT != 0 && flags & open_flag::EXCL != 0 && place.attributes().is_ok() {
        return Err(Errno::EXIST.into());
    }
    let is_touched = flags & open_flag::TRUNC != 0 || place.attributes().is_err();
    Ok(Some(Draft { name: name.to_vec(), content: Vec::new(), failed: None, is_touched }))
}

/// WRITE to a draft: front to back, from 0 on. A tail can never be joined to an old head.
pub fn write(draft: &mut Draft, offset: u64, data: &[u8]) -> Result<(), Stop> {
    let refused = if offset > draft.content.len() as u64 {
        Some("users.yaml must be uploaded whole, from its beginning: it cannot be resumed".to_owned())
    } else if offset + data.len() as u64 > BYTES_MAX as u64 {
        Some(format!("users.yaml is larger than {BYTES_MAX} bytes"))
    } else {
        None
    };
    if let Some(text) = refused {
        let fault = Fault::failure(text);
        draft.failed.get_or_insert_with(|| fault.clone());
        return Err(fault.into());
    }
    draft.is_touched = true;
    let start = offset as usize;
    let end = draft.content.len().max(start + data.len());
    draft.content.resize(end, 0);
    if let Some(space) = draft.content.get_mut(start..start + data.len()) {
        space.copy_from_slice(data);
    }
    Ok(())
}

/// CLOSE of a draft: users.yaml is applied, users.yaml.check is tried, any other name waits for its rename.
pub fn close(sftp: &mut Sftp, draft: Draft) -> Result<Reply, Stop> {
    let Draft { name, content, failed, is_touched } = draft;
    let (daemon, by) = (sftp.daemon.clone(), by(sftp));
    if let Some(fault) = failed {
        let text = format!("the upload is incomplete and was dropped: {}", fault.text);
        return Ok(sftp.later(&[], async move {
            daemon.admin_folder.note_dropped(&daemon, &fault.text, &by).await;
            Err(Fault::failure(text))
        }));
    }
    let content = Bytes::from(content);
    if !is_touched {
        // Opened for writing and closed again, as `touch` does: nothing was meant to change.
        return Ok(Reply::Done);
    }
    if name == USERS_NAME {
        return Ok(apply(sftp, content));
    }
    daemon.admin_folder.keep_draft(name.clone(), content.clone());
    if name != CHECK_NAME {
        sftp.has_uploaded_draft = true;
        return Ok(Reply::Done);
    }
    Ok(sftp.later(&[b"/users.yaml.check"], async move {
        let tried = daemon.admin_folder.try_out(&daemon, content, &by).await.answer();
        if tried.is_err() {
            // A client that looks whether its upload is there must not find it.
            daemon.admin_folder.drop_draft(CHECK_NAME);
        }
        tried.map(|()| Reply::Done)
    }))
}

fn apply(sftp: &Sftp, content: Bytes) -> Reply {
    let (daemon, by) = (sftp.daemon.clone(), by(sftp));
    sftp.later(&[b"/users.yaml"], async move {
        daemon.admin_folder.apply(&daemon, content, &by).await.answer()?;
        Ok(Reply::Done)
    })
}

/// REMOVE, where the name is guarded.
pub fn remove(sftp: &Sftp, place: &Place) -> Result<Option<Reply>, Stop> {
    let (Some(name), Some(folder)) = (guarded(sftp, place), admin_folder(sftp)) else {
        return Ok(None);
    };
    if folder.drop_draft(name) {
        return Ok(Some(Reply::Done));
    }
    // WinSCP removes the target before it renames its finished upload onto it. The rename replaces it anyway.
    if name == USERS_NAME && sftp.has_uploaded_draft && folder.has_upload_waiting() {
        return Ok(Some(Reply::Done));
    }
    match why_it_stays(name) {
        Some(sentence) => Err(Fault::denied(sentence).into()),
        None => Ok(None),
    }
}

/// Why a name cannot be removed, if so.
fn why_it_stays(name: &[u8]) -> Option<&'static str> {
    match name {
        USERS_NAME => Some("users.yaml cannot be removed: replace it instead"),
        RESULT_NAME => Some("users.yaml.result belongs to the server"),
        _ => None,
    }
}

/// RMDIR, where the name is guarded: rclone tries it after a refused REMOVE and shows only what it hears then.
pub fn rmdir(sftp: &Sftp, place: &Place) -> Result<(), Stop> {
    match guarded(sftp, place).and_then(why_it_stays) {
        Some(sentence) => Err(Fault::failure(sentence).into()),
        None => Ok(()),
    }
}

/// RENAME, where one of the names is guarded. A rename onto users.yaml is an upload of it.
pub fn rename(sftp: &Sftp, from: &Place, to: &Place, paths: &[&[u8]]) -> Result<Option<Reply>, Stop> {
    let Some(folder) = admin_folder(sftp) else {
        return Ok(None);
    };
    let (source, target) = (guarded(sftp, from), guarded(sftp, to));
    if source.is_none() && target.is_none() {
        return Ok(None);
    }
    if matches!(source, Some(USERS_NAME | RESULT_NAME)) || target == Some(RESULT_NAME) {
        return Err(Fault::denied("users.yaml and its result keep their names: upload a copy instead").into());
    }
    let draft = source.and_then(|name| folder.draft(name).map(|content| (name, content)));
    match (draft, target) {
        (Some((name, content)), Some(USERS_NAME)) => {
            let (daemon, by, name) = (sftp.daemon.clone(), by(sftp), name.to_vec());
            Ok(Some(sftp.later(paths, async move {
                daemon.admin_folder.apply(&daemon, content, &by).await.answer()?;
                daemon.admin_folder.drop_draft(&name);
                Ok(Reply::Done)
            })))
        }
        (Some((name, content)), Some(target)) => {
            folder.keep_draft(target.to_vec(), content);
            folder.drop_draft(name);
            Ok(Some(Reply::Done))
        }
        (Some(_), None) => Err(stays_in_memory().into()),
        (None, Some(USERS_NAME)) => rename_file_onto_users(sftp, from.clone(), paths).map(Some),
        (None, _) => Ok(None),
    }
}

/// Why what is in memory goes to no file.
pub fn stays_in_memory() -> Fault {
    Fault::denied("a users.yaml may hold passwords and is kept in memory: it cannot take that name")
}

/// A file that is already on the disk becomes users.yaml; it goes once it was taken.
fn rename_file_onto_users(sftp: &Sftp, from: Place, paths: &[&[u8]]) -> Result<Reply, Stop> {
    let path = paths.first().copied().unwrap_or_default();
    let (file, attributes) = sftp.root.open_file(path)?;
    if attributes.size > BYTES_MAX as u64 {
        return Err(Fault::failure(format!("users.yaml is larger than {BYTES_MAX} bytes")).into());
    }
    let content = Bytes::from(file_content::read_whole(&file)?);
    let (daemon, by) = (sftp.daemon.clone(), by(sftp));
    let author = sftp.author.clone();
    Ok(sftp.later(paths, async move {
        daemon.admin_folder.apply(&daemon, content, &by).await.answer()?;
        daemon.volume.commit(Change::Remove(from), author).await?;
        Ok(Reply::Done)
    }))
}

/// Refuses to make anything but a file under a guarded name, or to give one a second name.
pub fn refuse_other_kinds(sftp: &Sftp, place: &Place) -> Result<(), Stop> {
    match guarded(sftp, place) {
        Some(_) => Err(Fault::denied("in the admin folder this name is for an uploaded users.yaml only").into()),
        None => Ok(()),
    }
}

/// SETSTAT of a guarded name: `Some` for a draft, whose attributes nobody keeps.
pub fn setstat(sftp: &Sftp, path: &[u8], size: Option<u64>) -> Result<Option<Reply>, Stop> {
    if content(sftp, path).is_some() {
        return Ok(Some(Reply::Done));
    }
    if size.is_some() && admin_folder(sftp).is_some() {
        let place = sftp.root.place_behind_links(path)?;
        if guarded(sftp, &place).is_some() {
            return Err(Fault::denied("users.yaml can only be replaced whole").into());
        }
    }
    Ok(None)
}
