//! The changes of the volume: what each will do (its intent), how it is done, and what it was (its record).
//!
//! Nothing here flushes or answers: in which order that happens is [`super::committer`]'s business.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use pair::record::{Operation, Record, VolumePath};
use pair::volume::PRIVATE_FOLDER;
use rustix::fs::CWD;
use rustix::io::Errno;

use super::attributes::NewAttributes;
use super::disk::{Disk, look};
use super::journal::{Intent, empty_record};
use super::root::proc_path;
use super::stage::name_of;
use super::usage::Charge;
use super::{FileKind, FolderId, Place, Publication, Result, Stage};

/// A change of the volume.
#[derive(Debug)]
pub enum Change {
    /// A complete upload takes its name.
    Publish(Publication),
    /// A name is changed.
    Rename {
        /// The old one.
        from: Place,
        /// The new one.
        to: Place,
        /// Whether a file that has the new name is replaced; else that is refused.
        replace: bool,
    },
    /// A file or link goes.
    Remove(Place),
    /// A folder comes, with this mode.
    MakeFolder(Place, u32),
    /// An empty folder goes.
    RemoveFolder(Place),
    /// A link comes, with this text.
    MakeLink(Place, Vec<u8>),
    /// A file gets a second name.
    HardLink {
        /// The first.
        from: Place,
        /// The second.
        to: Place,
    },
    /// Attributes of an open thing change.
    SetAttributes(Arc<OwnedFd>, NewAttributes),
    /// A file is about to be written in place; its name may be new in this folder.
    Dirty(Arc<OwnedFd>, Option<Arc<OwnedFd>>),
    /// A file that was written in place is made durable, and is whole again.
    Clean(Arc<OwnedFd>),
    /// A file that is written in place is made durable.
    Flush(Arc<OwnedFd>),
    /// What has arrived of an upload is made durable.
    FlushStage(Arc<Stage>),
}

impl Change {
    /// What is about to happen, by the names that things have now. `None` where nothing needs to be told. What is sure
    /// to fail is refused here: after a crash it could not be told from what has happened.
    pub(super) fn intent(&self, paths: &mut Paths<'_>, account: &str, seq: u64) -> Result<Option<Intent>> {
        self.refuse_what_must_fail()?;
        let time_ms = jiff::Timestamp::now().as_millisecond();
        let record = |op, path| Record { account: account.to_owned(), path, ..empty_record(seq, time_ms, op) };
        let plain = |record| Intent { record, stage: None, replaces: false };
        let object = |place: &Place| Ok::<_, Errno>(Some(look(&place.folder, place.name())?.identity.1));
        Ok(Some(match self {
            Change::Publish(publication) => {
                let Publication { stage, place, exclusive, size, hash, .. } = publication;
                let path = paths.of(place)?;
                let (inode, hash) = (Some(stage.inode()), hash.map(|hash| hash.to_hex().to_string()));
                let record = Record { inode, hash, size: Some(*size), ..record(Operation::Put, path) };
                Intent { record, stage: Some(stage.number()), replaces: !exclusive }
            }
            // Two names of one thing: the system leaves both as they are, so there is nothing to tell.
            Change::Rename { from, to, .. } if is_same(from, to) => return Ok(None),
            Change::Rename { from, to, replace } => {
                let target = Some(paths.of(to)?);
                let path = paths.of(from)?;
                let record = Record { target, inode: object(from)?, ..record(Operation::Rename, path) };
                Intent { record, stage: None, replaces: *replace }
            }
            Change::Remove(place) => {
                let path = paths.of(place)?;
                plain(Record { inode: object(place)?, ..record(Operation::Remove, path) })
            }
            Change::MakeFolder(place, mode) => {
                plain(Record { mode: Some(*mode), ..record(Operation::Mkdir, paths.of(place)?) })
            }
            Change::RemoveFolder(place) => {
                let path = paths.of(place)?;
                plain(Record { inode: object(place)?, ..record(Operation::Rmdir, path) })
            }
            Change::MakeLink(place, text) => {
                let target = Some(VolumePath(text.clone()));
                plain(Record { target, ..record(Operation::Symlink, paths.of(place)?) })
            }
            Change::HardLink { from, to } => {
                let (path, target) = (paths.of(from)?, Some(paths.of(to)?));
                plain(Record { target, inode: object(from)?, ..record(Operation::Link, path) })
            }
            Change::SetAttributes(thing, _) => return open_thing(paths.volume, thing, &record, Operation::Setattr),
            Change::Dirty(file, _) => return open_thing(paths.volume, file, &record, Operation::Dirty),
            Change::Clean(file) => return open_thing(paths.volume, file, &record, Operation::Clean),
            Change::Flush(_) | Change::FlushStage(_) => return Ok(None),
        }))
    }

    fn refuse_what_must_fail(&self) -> Result<()> {
        if let Change::Rename { from, .. } | Change::HardLink { from, .. } = self {
            // That it is missing comes before that the other name is taken, as with the system.
            from.attributes()?;
            from.check_expected()?;
        }
        if let Change::Publish(Publication { place, .. }) | Change::Remove(place) = self {
            place.check_expected()?;
        }
        let new_name = match self {
            Change::Publish(Publication { place, exclusive: true, .. })
            | Change::Rename { to: place, replace: false, .. }
            | Change::HardLink { to: place, .. }
            | Change::MakeFolder(place, _)
            | Change::MakeLink(place, _) => Some(place),
            _ => None,
        };
        if new_name.is_some_and(|place| place.attributes().is_ok()) {
            return Err(Errno::EXIST.into());
        }
        match self {
            Change::Remove(place) if place.attributes()?.kind == FileKind::Folder => Err(Errno::ISDIR.into()),
            _ => Ok(()),
        }
    }

    /// Whether something must be durable before the change may happen.
    pub(super) fn has_content(&self) -> bool {
        matches!(self, Change::Publish(_) | Change::Flush(_) | Change::FlushStage(_) | Change::Clean(_))
    }

    /// Makes it durable.
    pub(super) fn flush_content(&self, disk: &Disk) -> rustix::io::Result<()> {
        match self {
            Change::Publish(publication) => publication.stage.flush(),
            Change::FlushStage(stage) => stage.flush(),
            Change::Flush(file) | Change::Clean(file) => disk.flush(file.as_fd()),
            _ => Ok(()),
        }
    }

    /// What must be durable after the change has happened.
    pub(super) fn touched(&self) -> Vec<Arc<OwnedFd>> {
        match self {
            Change::Publish(Publication { place, .. })
            | Change::Remove(place)
            | Change::MakeFolder(place, _)
            | Change::RemoveFolder(place)
            | Change::MakeLink(place, _) => vec![place.folder.clone()],
            Change::Rename { from, to, .. } | Change::HardLink { from, to } => {
                vec![from.folder.clone(), to.folder.clone()]
            }
            Change::SetAttributes(thing, _) => vec![thing.clone()],
            Change::Dirty(_, folder) => folder.iter().cloned().collect(),
            Change::Clean(_) | Change::Flush(_) | Change::FlushStage(_) => Vec::new(),
        }
    }

    /// Whether paths of later changes may depend on it, so that their intents must wait for it.
    pub(super) fn moves_a_folder(&self) -> bool {
        match self {
            Change::Rename { from, .. } => from.attributes().is_ok_and(|found| found.kind == FileKind::Folder),
            _ => false,
        }
    }

    /// The stage whose content it makes durable.
    pub(super) fn stage(&self) -> Option<&Stage> {
        match self {
            Change::Publish(publication) => Some(&publication.stage),
            Change::FlushStage(stage) => Some(stage),
            _ => None,
        }
    }

    /// Makes the change.
    pub(super) fn apply(&self, disk: &Disk) -> Result<()> {
        match self {
            Change::Publish(Publication { stage, place, exclusive, .. }) => {
                let source = name_of(stage.number());
                disk.rename((stage.folder(), source.as_bytes()), named(place), !exclusive)?;
                stage.published();
            }
            Change::Rename { from, to, replace } => disk.rename(named(from), named(to), *replace)?,
            Change::Remove(place) => disk.unlink(&place.folder, place.name())?,
            Change::MakeFolder(place, mode) => disk.make_folder(&place.folder, place.name(), *mode)?,
            Change::RemoveFolder(place) => disk.remove_folder(&place.folder, place.name())?,
            Change::MakeLink(place, text) => disk.make_link(&place.folder, place.name(), text)?,
            Change::HardLink { from, to } => disk.hard_link(named(from), named(to))?,
            Change::SetAttributes(thing, new) => disk.set_attributes(thing.as_fd(), new)?,
            Change::Dirty(..) | Change::Clean(_) | Change::Flush(_) | Change::FlushStage(_) => {}
        }
        Ok(())
    }

    /// Bytes of files that the change takes away, as far as can be seen before.
    pub(super) fn bytes_that_go(&self) -> u64 {
        let size = |place: &Place| place.attributes().map_or(0, |found| found.bytes_that_go_with_a_name());
        match self {
            Change::Publish(Publication { place, .. }) | Change::Remove(place) => size(place),
            // A thing that is renamed to itself stays.
            Change::Rename { from, to, replace: true } if !is_same(from, to) => size(to),
            Change::SetAttributes(thing, NewAttributes { size: Some(_), .. }) => {
                rustix::fs::fstat(thing).map_or(0, |stat| stat.st_size as u64)
            }
            _ => 0,
        }
    }

    /// Bytes of files that the change has brought. A second name brings none.
    pub(super) fn bytes_that_come(&self) -> u64 {
        let stat = match self {
            Change::Publish(publication) => rustix::fs::fstat(publication.stage.file()),
            Change::SetAttributes(thing, NewAttributes { size: Some(_), .. }) => rustix::fs::fstat(thing),
            _ => return 0,
        };
        stat.map_or(0, |stat| stat.st_size as u64)
    }

    /// What an upload replaces is seen only now: what stood there when it began may be gone, or it was renamed.
    pub(super) fn claim_room(&self, gone_bytes: u64) -> Result<()> {
        match self {
            Change::Publish(Publication { upload: Some(upload), .. }) => upload.replaces(gone_bytes),
            _ => Ok(()),
        }
    }

    /// What an upload that has its name added to a folder with a quota.
    pub(super) fn take_charge(&self) -> Option<Charge> {
        match self {
            Change::Publish(Publication { upload: Some(upload), .. }) => upload.take_charge(),
            _ => None,
        }
    }

    /// Completes the record of a change that has happened by what stands there now.
    pub(super) fn observe(&self, record: &mut Record) {
        let stat = match self {
            Change::Publish(publication) => rustix::fs::fstat(publication.stage.file()),
            Change::SetAttributes(thing, _) | Change::Dirty(thing, _) | Change::Clean(thing) => {
                rustix::fs::fstat(thing)
            }
            Change::Rename { to: place, .. }
            | Change::MakeFolder(place, _)
            | Change::MakeLink(place, _)
            | Change::HardLink { to: place, .. } => stat_of(place),
            Change::Remove(_) | Change::RemoveFolder(_) | Change::Flush(_) | Change::FlushStage(_) => return,
        };
        if let Ok(stat) = stat {
            note_stat(record, &stat);
        }
    }
}

fn is_same(one: &Place, other: &Place) -> bool {
    matches!((one.attributes(), other.attributes()), (Ok(one), Ok(other)) if one.identity == other.identity)
}

fn named(place: &Place) -> (&OwnedFd, &[u8]) {
    (&place.folder, place.name())
}

fn stat_of(place: &Place) -> rustix::io::Result<rustix::fs::Stat> {
    rustix::fs::statat(&*place.folder, place.name(), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
}

/// Puts what the system knows of a thing into its record.
pub(super) fn note_stat(record: &mut Record, stat: &rustix::fs::Stat) {
    let ns = |seconds: i64, part: u64| seconds.saturating_mul(1_000_000_000).saturating_add(part as i64);
    record.inode = Some(stat.st_ino);
    record.size = Some(stat.st_size as u64);
    record.mtime_ns = Some(ns(stat.st_mtime, stat.st_mtime_nsec));
    record.ctime_ns = Some(ns(stat.st_ctime, stat.st_ctime_nsec));
    record.mode = Some(stat.st_mode);
}

/// The intent for an open thing; none where it has no name any more.
fn open_thing(
    volume: &[u8],
    thing: &OwnedFd,
    record: &dyn Fn(Operation, VolumePath) -> Record,
    op: Operation,
) -> Result<Option<Intent>> {
    let stat = rustix::fs::fstat(thing)?;
    if stat.st_nlink == 0 {
        return Ok(None);
    }
    let path = inside(volume, thing)?;
    if path.0.starts_with(format!("{PRIVATE_FOLDER}/").as_bytes()) {
        // A stage that its own connection reads: it is told of when it has its name.
        return Ok(None);
    }
    let record = Record { inode: Some(stat.st_ino), ..record(op, path) };
    Ok(Some(Intent { record, stage: None, replaces: false }))
}

/// The paths of places, from the volume on, while one group is intended: no folder moves or goes by a group that has
/// something in it, so each is asked for once.
pub(super) struct Paths<'a> {
    volume: &'a [u8],
    folders: HashMap<FolderId, Vec<u8>>,
}

impl Paths<'_> {
    pub(super) fn new(volume: &[u8]) -> Paths<'_> {
        Paths { volume, folders: HashMap::new() }
    }

    /// A place's path. A folder that was removed has none.
    fn of(&mut self, place: &Place) -> Result<VolumePath> {
        let folder = match self.folders.entry(place.folder_id()?) {
            Occupied(known) => known.into_mut(),
            Vacant(unknown) => {
                if rustix::fs::fstat(&*place.folder)?.st_nlink == 0 {
                    return Err(Errno::NOENT.into());
                }
                unknown.insert(inside(self.volume, &place.folder)?.0)
            }
        };
        let slash = if folder.is_empty() { b"".as_slice() } else { b"/" };
        Ok(VolumePath([folder, slash, place.name()].concat()))
    }
}

fn inside(volume: &[u8], thing: &OwnedFd) -> Result<VolumePath> {
    let path = rustix::fs::readlinkat(CWD, proc_path(thing.as_fd()), Vec::new())?.into_bytes();
    let inside = path.strip_prefix(volume).ok_or(Errno::NOENT)?;
    Ok(VolumePath(inside.strip_prefix(b"/").unwrap_or(inside).to_vec()))
}
