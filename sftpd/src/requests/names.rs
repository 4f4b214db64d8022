//! REMOVE, RENAME, SYMLINK, READLINK, REALPATH and their kin: names.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::drafts;
use crate::dispatch::Does;
use crate::fault::Fault;
use crate::sftp::{Reply, Request, Sftp, Stop};
use crate::storage::{Change, FileKind, Place, attributes_of, read_link};

/// SSH_FXP_REMOVE.
pub fn remove(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let path = sftp.path(&mut request.fields)?;
    let place = sftp.looked_up(path, sftp.root.place(path))?;
    sftp.permit(Does::Adds, &place)?;
    if let Some(reply) = drafts::remove(sftp, &place)? {
        return Ok(reply);
    }
    // First what is not finished or was refused, and never with it the complete version: rclone removes what failed.
    if let Some(account) = &sftp.author
        && sftp.daemon.volume.discard_unfinished(account, sftp.connection, &place)?
    {
        return Ok(settled(sftp, &[path]));
    }
    if let Some(fault) = sftp.adds_only(&place) {
        // Whatever takes the name meanwhile is not to be removed.
        return Err(if place.attributes().is_ok() { fault.into() } else { Errno::NOENT.into() });
    }
    Ok(sftp.change(Change::Remove(place), &[path]))
}

/// SSH_FXP_RENAME: an existing target is refused.
pub fn rename(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    rename_as(sftp, request, false)
}

/// posix-rename@openssh.com: an existing target is replaced, with no moment in which there is none.
pub fn posix_rename(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    rename_as(sftp, request, true)
}

fn rename_as(sftp: &Sftp, request: &mut Request<'_>, replace: bool) -> Result<Reply, Stop> {
    let old = sftp.path(&mut request.fields)?;
    let new = sftp.path(&mut request.fields)?;
    let from = sftp.looked_up(old, sftp.root.place(old))?;
    let to = if replace { sftp.root.place(new) } else { sftp.root.place_for_folder(new) };
    let to = sftp.looked_up(new, to)?;
    sftp.check_rename(&from, &to)?;
    let is_new = replace || to.attributes().is_err();
    if new.ends_with(b"/") && is_new && from.attributes().is_ok_and(|found| found.kind != FileKind::Folder) {
        return Err(Errno::NOTDIR.into());
    }
    if let Some(reply) = drafts::rename(sftp, &from, &to, &[old, new])? {
        return Ok(reply);
    }
    // Who may only add renames its own uploads, to names that nobody has.
    let replace = replace && sftp.adds_only(&to).is_none();
    let from = sftp.own_source(from)?;
    if let Some(author) = sftp.author.clone().filter(|author| sftp.daemon.volume.has_unfinished(author)) {
        return rename_unfinished(sftp, &author, (from, to), replace, &[old, new]);
    }
    Ok(sftp.change(Change::Rename { from, to, replace }, &[old, new]))
}

/// OK, once what was done to an unfinished upload is durable.
pub fn settled(sftp: &Sftp, paths: &[&[u8]]) -> Reply {
    let settled = sftp.daemon.volume.settle();
    sftp.later(paths, async move {
        settled.await?;
        Ok(Reply::Done)
    })
}

/// RENAME by an account with unfinished uploads: they go along with their names, and give way as files do.
fn rename_unfinished(
    sftp: &Sftp,
    author: &Arc<str>,
    (from, to): (Place, Place),
    replace: bool,
    paths: &[&[u8]],
) -> Result<Reply, Stop> {
    let (is_complete, volume) = (from.attributes().is_ok(), sftp.daemon.volume.clone());
    let is_unfinished = volume.is_unfinished(author, &from)?;
    // What is just being completed there comes before this or after it: either is a change of a complete file.
    let is_target_unfinished = volume.is_unfinished(author, &to).unwrap_or(false);
    let is_taken = is_target_unfinished || (!is_complete && is_unfinished && to.attributes().is_ok());
    if (is_complete || is_unfinished) && is_taken && !replace {
        return Err(Errno::EXIST.into());
    }
    if is_unfinished && !is_complete && volume.rename_unfinished(author, sftp.connection, &from, &to)? {
        return Ok(settled(sftp, paths));
    }
    let committed = volume.commit(Change::Rename { from: from.clone(), to: to.clone(), replace }, sftp.author.clone());
    let (author, connection) = (author.clone(), sftp.connection);
    Ok(sftp.later(paths, async move {
        committed.await?;
        tokio::task::block_in_place(|| {
            // The change has happened. An upload that began to be completed meanwhile is completed where it was.
            if let Ok(false) = volume.rename_unfinished(&author, connection, &from, &to) {
                let _ = volume.discard_unfinished(&author, connection, &to);
            }
        });
        volume.settle().await?;
        Ok(Reply::Done)
    }))
}

/// hardlink@openssh.com.
pub fn hardlink(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let old = sftp.path(&mut request.fields)?;
    let new = sftp.path(&mut request.fields)?;
    let from = sftp.looked_up(old, sftp.root.place(old))?;
    let to = sftp.looked_up(new, sftp.root.place_for_thing(new))?;
    sftp.permit(Does::Changes, &from)?;
    sftp.permit(Does::Changes, &to)?;
    drafts::refuse_other_kinds(sftp, &from)?;
    drafts::refuse_other_kinds(sftp, &to)?;
    Ok(sftp.change(Change::HardLink { from, to }, &[old, new]))
}

/// SSH_FXP_SYMLINK, in OpenSSH's order: first what the link says, then where it is.
pub fn symlink(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let text = request.fields.bytes()?;
    let path = sftp.path(&mut request.fields)?;
    if text.is_empty() || text.contains(&0) {
        return Err(Fault::failure("a link cannot say that").into());
    }
    let place = sftp.looked_up(path, sftp.root.place_for_thing(path))?;
    sftp.permit(Does::Changes, &place)?;
    sftp.check_makes_links()?;
    drafts::refuse_other_kinds(sftp, &place)?;
    Ok(sftp.change(Change::MakeLink(place, text.to_vec()), &[path]))
}

/// SSH_FXP_READLINK.
pub fn readlink(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let path = sftp.path(&mut request.fields)?;
    let link = sftp.find(Does::Looks, path, || sftp.root.handle_for_attributes(path, false))?;
    if attributes_of(link.as_fd())?.kind != FileKind::Link {
        return Err(Fault::failure("that is no link").into());
    }
    Ok(Reply::Name(read_link(&link)?))
}

/// SSH_FXP_REALPATH. A last component that does not exist yet is answered: FileZilla and psftp ask before OPEN.
pub fn realpath(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let path = sftp.path(&mut request.fields)?;
    canonical(sftp, path)
}

/// expand-path@openssh.com: `~` is the account's folder, which is its `/`.
pub fn expand_path(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let path = request.fields.bytes()?;
    let expanded = match path.strip_prefix(b"~") {
        Some(rest) if rest.is_empty() || rest.first() == Some(&b'/') => [b"/", rest].concat(),
        Some(_) => return Err(Fault::failure("only `~` and `~/…` are known").into()),
        None => path.to_vec(),
    };
    sftp.check_path(&expanded)?;
    canonical(sftp, &expanded)
}

fn canonical(sftp: &Sftp, path: &[u8]) -> Result<Reply, Stop> {
    let canonical = sftp.looked_up(path, sftp.root.canonical(path))?;
    Ok(Reply::Name(sftp.permit_canonical(canonical)?))
}
