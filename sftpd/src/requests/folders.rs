//! OPENDIR, READDIR, MKDIR, RMDIR: folders.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BufMut;
use pair::wire::{Attrs, kind, put_bytes, put_packet};
use rustix::io::Errno;

use super::attributes::{attrs, draft_attributes};
use super::drafts;
use super::longname::longname;
use crate::dispatch::Does;
use crate::fault::Fault;
use crate::handles::{Handle, Listing};
use crate::sftp::{Reply, Request, Sftp, Stop};
use crate::storage::{Change, FolderEntry};

/// A READDIR reply is filled to this size: few round trips, and far from the 256 KiB at which OpenSSH gives up.
const LISTING_BYTES: usize = 60 * 1024;

/// SSH_FXP_OPENDIR. A missing folder fails here and not at READDIR: FileZilla decides by it whether to make one.
pub fn opendir(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let path = sftp.path(&mut request.fields)?;
    sftp.handles.check_room()?;
    let folder = sftp.looked_up(path, sftp.root.open_folder(path))?;
    sftp.permit(Does::Looks, folder.as_fd())?;
    let identity = folder.identity()?;
    let now_s = jiff::Timestamp::now().as_second();
    let drafts = drafts::entries(sftp, identity);
    let mut others: BTreeMap<_, _> =
        drafts.into_iter().map(|(name, size)| (name, draft_attributes(size, now_s))).collect();
    if let Some(account) = &sftp.author {
        others.extend(sftp.daemon.volume.unfinished_in(account, sftp.connection, folder.id()?));
    }
    let shown = sftp.shown_names(folder.as_fd());
    let listing = Listing { folder, others, shown };
    Ok(Reply::Handle(sftp.handles.insert(Handle::Listing(listing))))
}

/// SSH_FXP_READDIR.
pub fn readdir(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let handle = request.fields.bytes()?;
    let owners = sftp.owners();
    let Handle::Listing(listing) = sftp.handles.get(handle)? else {
        return Err(Fault::failure("that handle is no folder's").into());
    };
    let now_s = jiff::Timestamp::now().as_second();
    let mut names = bytes::BytesMut::new();
    let mut count = 0u32;
    while names.len() < LISTING_BYTES {
        if let Some(entry) = next_entry(listing)? {
            put_entry(
                &mut names,
                &entry.name,
                &longname(&entry.name, &entry.attributes, &owners, now_s),
                &attrs(&entry.attributes),
            );
        } else if let Some((name, attributes)) = listing.others.pop_first() {
            put_entry(&mut names, &name, &longname(&name, &attributes, &owners, now_s), &attrs(&attributes));
        } else {
            break;
        }
        count += 1;
    }
    if count == 0 {
        return Err(Fault::end().into());
    }
    put_packet(request.out, kind::NAME, |out| {
        out.put_u32(request.id);
        out.put_u32(count);
        out.put_slice(&names);
    });
    Ok(Reply::Written)
}

/// The next entry of the folder itself, as this account sees it.
fn next_entry(listing: &mut Listing) -> Result<Option<FolderEntry>, Stop> {
    while let Some(FolderEntry { name, attributes }) = listing.folder.next_entry()? {
        let is_shown = |names: &BTreeSet<Vec<u8>>| names.contains(&name) || name == b"." || name == b"..";
        if listing.shown.as_ref().is_none_or(is_shown) {
            let attributes = listing.others.remove(&name).unwrap_or(attributes);
            return Ok(Some(FolderEntry { name, attributes }));
        }
    }
    Ok(None)
}

fn put_entry(out: &mut bytes::BytesMut, name: &[u8], longname: &[u8], attrs: &Attrs) {
    put_bytes(out, name);
    put_bytes(out, longname);
    attrs.put(out);
}

/// SSH_FXP_MKDIR.
pub fn mkdir(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let path = sftp.path(&mut request.fields)?;
    let mode = sftp.mode_of_new_folder(&request.fields.attrs()?);
    let place = sftp.looked_up(path, sftp.root.place_for_folder(path))?;
    sftp.permit(Does::Adds, &place)?;
    drafts::refuse_other_kinds(sftp, &place)?;
    Ok(sftp.change(Change::MakeFolder(place, mode), &[path]))
}

/// SSH_FXP_RMDIR.
pub fn rmdir(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let path = sftp.path(&mut request.fields)?;
    let place = sftp.looked_up(path, sftp.root.place(path))?;
    sftp.permit(Does::Changes, &place)?;
    sftp.permit_move(&place)?;
    drafts::rmdir(sftp, &place)?;
    if let (Some(account), Ok(folder)) = (&sftp.author, place.id())
        && !sftp.daemon.volume.unfinished_in(account, sftp.connection, folder).is_empty()
    {
        // The account sees its unfinished upload in there.
        return Err(Errno::NOTEMPTY.into());
    }
    Ok(sftp.change(Change::RemoveFolder(place), &[path]))
}
