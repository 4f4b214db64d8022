//! The doors to uploads that have not got their name yet.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::super::unfinished::ByWhom;
use super::super::upload::{Beginning, Upload};
use super::super::writer::Writer;
use super::{Attributes, FolderId, NewAttributes, Opening, Place, Result, StorageError, Volume};

impl Volume {
    /// Begins an upload; with `existing`, from that file's content. One that this account has begun there before is
    /// replaced.
    pub fn begin_upload(&self, opening: &Opening, existing: Option<(&OwnedFd, &Attributes)>) -> Result<Writer> {
        let stage = self.new_stage(opening.mode)?;
        let number = stage.number();
        let mut beginning = Beginning::Empty;
        if let Some((file, attributes)) = existing {
            stage.fill_from(file.as_fd(), attributes)?;
            beginning = Beginning::Copy(attributes.size);
        }
        let upload = Upload::new(opening, stage, &beginning, self.unfinished.keeping().clone());
        upload.note_begun(&upload.lock())?;
        let begun = self.unfinished.begin(opening, &upload);
        let mut writer = begun.inspect_err(|_| {
            upload.remove(opening.connection);
        })?;
        if opening.place.attributes().is_ok() {
            writer.must_settle = true;
            if existing.is_none() {
                self.note_begun(opening, number);
            }
        }
        Ok(writer)
    }

    /// Continues the upload that the account has begun there, if it has: from its beginning, or where it ended.
    pub fn resume_upload(&self, opening: &Opening) -> Result<Option<Writer>> {
        if let Some(reason) = self.failure() {
            return Err(StorageError::Refused(reason));
        }
        self.unfinished.resume(opening, ByWhom::Anybody)
    }

    /// Continues the upload that this very connection writes there, if there is one. Refused where another one does.
    pub fn share_upload(&self, opening: &Opening) -> Result<Option<Writer>> {
        self.unfinished.resume(opening, ByWhom::ItsConnection)
    }

    /// Whether an account has unfinished uploads anywhere.
    pub fn has_unfinished(&self, account: &str) -> bool {
        self.unfinished.has_any(account)
    }

    /// What an account sees where it has an unfinished upload.
    pub fn unfinished_at(&self, account: &str, connection: u64, place: &Place) -> Option<Attributes> {
        self.unfinished.attributes(account, connection, place)
    }

    /// Whether an account has an unfinished upload at a place. Refused while it is being completed.
    pub fn is_unfinished(&self, account: &str, place: &Place) -> Result<bool> {
        self.unfinished.is_there(account, place)
    }

    /// The unfinished uploads of an account in a folder, by name.
    pub fn unfinished_in(&self, account: &str, connection: u64, folder: FolderId) -> BTreeMap<Vec<u8>, Attributes> {
        self.unfinished.in_folder(account, connection, folder)
    }

    /// The file of an upload that this connection writes, for reading.
    pub fn unfinished_reader(&self, account: &str, connection: u64, place: &Place) -> Option<Arc<OwnedFd>> {
        self.unfinished.reader(account, connection, place)
    }

    /// Removes an account's unfinished upload; tells whether there was one. Refused while it is being completed.
    pub fn discard_unfinished(&self, account: &str, connection: u64, place: &Place) -> Result<bool> {
        self.unfinished.discard(account, connection, place)
    }

    /// Gives an account's unfinished upload another name; tells whether there was one.
    pub fn rename_unfinished(&self, account: &str, connection: u64, from: &Place, to: &Place) -> Result<bool> {
        self.unfinished.rename(account, connection, from, to)
    }

    /// Sets attributes of an account's unfinished upload; tells whether there is one.
    pub fn set_unfinished(&self, account: &str, connection: u64, place: &Place, new: &NewAttributes) -> Result<bool> {
        self.unfinished.set_attributes(account, connection, place, new)
    }

    /// Removes unfinished uploads that nobody has written for so long. Gives their number.
    pub fn expire_unfinished(&self, age: Duration) -> usize {
        self.unfinished.expire(age)
    }
}
