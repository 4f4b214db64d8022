//! Uploads that were begun where a complete file has the name: what a machine that takes over must know.
//!
//! A client whose connection breaks takes the size that it is shown for what has arrived of its upload. At another machine that would be the size of the
//! complete older file, to whose head it would join its tail, and call that well done. So the other machine shows nothing arrived there instead.
//! Uploads that were left from before a restart are not known here: their paths are not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pair::record::VolumePath;
use rustix::fs::{AtFlags, statat};
use tokio::sync::watch;

use super::{Opening, Place, Result, Volume};

/// Whose uploads under which paths, by the numbers of their stages.
type Uploads = BTreeMap<u64, (Arc<str>, VolumePath)>;

pub(super) type Begun = watch::Sender<Uploads>;

/// So many are told, at most.
const TOLD_MAX: usize = 1000;

impl Volume {
    pub(super) fn note_begun(&self, opening: &Opening, number: u64) {
        let Ok(path) = self.path_at(&opening.place) else { return };
        let stages = self.stages.clone();
        self.begun.send_modify(|begun| {
            begun.retain(|number, (account, other)| {
                let is_replaced = *account == opening.account && *other == path;
                !is_replaced && stages.look(*number).is_ok()
            });
            begun.insert(number, (opening.account.clone(), path));
        });
    }

    fn path_at(&self, place: &Place) -> Result<VolumePath> {
        let mut path = self.whole()?.path_of_place(place)?;
        path.drain(..path.iter().take_while(|byte| **byte == b'/').count());
        Ok(VolumePath(path))
    }

    /// Tells when an upload has begun where a complete file is.
    pub fn watch_begun(&self) -> watch::Receiver<impl Sized + use<>> {
        self.begun.subscribe()
    }

    /// The uploads that are not finished where a complete file is: whose, and where.
    pub fn begun(&self) -> Vec<(String, VolumePath)> {
        let begun = self.begun.borrow();
        let open = begun.iter().filter(|(number, _)| self.stages.look(**number).is_ok());
        open.take(TOLD_MAX).map(|(_, (account, path))| (account.to_string(), path.clone())).collect()
    }

    /// This machine takes over: unfinished uploads of its own are of another time, and those that were begun at the other machine have nothing here.
    /// Where there is no complete file nobody needs to know. Looks at disks: not for an async thread.
    pub fn take_over_uploads(&self, begun: &[(String, VolumePath)], connection: u64) {
        self.expire_unfinished(Duration::ZERO);
        for (account, path) in begun {
            if let Err(error) = self.begin_with_nothing(account, path, connection) {
                tracing::debug!(%error, account, %path, "an upload that was begun at the other machine is not known here");
            }
        }
    }

    fn begin_with_nothing(&self, account: &str, path: &VolumePath, connection: u64) -> Result<()> {
        let place = self.whole()?.place(&path.0)?;
        let there = statat(&*place.folder, place.name(), AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = there.st_mode & 0o777;
        let account = account.into();
        let opening = Opening { account, connection, place, mode, truncate: true, exclusive: false, quota: None };
        // Its connection is gone at once: its account may continue it.
        self.begin_upload(&opening, None).map(drop)
    }
}
