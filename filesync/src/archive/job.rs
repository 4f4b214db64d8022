//! The life of one send: from the file, or from what the record says was on its way, to a note that it has arrived.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::carrier::{Carrier, Failure};
use super::folders::Selection;
use super::judge::{Inode, inode, shown};
use super::names::in_archive;
use super::parcel::{self, Order, Parcel};
use super::record::{Intent, Note, Text};
use super::sight::{Proof, Sight};

/// Names that are tried for one file.
const NAMES_MAX: u32 = 1000;

/// Something to be sent.
#[derive(Clone, Debug)]
pub enum Job {
    /// What a look has found: the file, and the text that goes on in it.
    Found(Sight, Option<Box<Text>>),
    /// What was on its way: its note, and the files that may hold it now, the file that it was first.
    Left(Box<Intent>, Vec<Sight>),
}

/// How a send went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// So many bytes of the file are in the archive now that were not.
    Arrived(u64),
    /// The file is not what it was: the next look sees to it.
    Changed,
    /// The file is gone, and not all of it is in the archive.
    Gone,
}

/// By what jobs are done.
#[derive(Clone)]
pub struct Hands {
    /// The connection, and what belongs to it.
    pub carrier: Carrier,
    /// The folders.
    pub selections: Arc<Vec<Selection>>,
    /// The agent's state folder.
    pub state: PathBuf,
}

impl Job {
    /// The file's path, for people.
    pub fn path(&self, selections: &[Selection]) -> String {
        let (root, path) = match self {
            Job::Found(sight, _) => (selections.get(sight.folder).map(|folder| folder.root.clone()), &sight.path),
            Job::Left(intent, _) => {
                let folder = selections.iter().find(|folder| folder.name == intent.folder);
                (folder.map(|folder| folder.root.clone()), &intent.path)
            }
        };
        root.unwrap_or_default().join(shown(path)).display().to_string()
    }

    /// By what its file and its text are known.
    pub fn keys(&self) -> (Inode, Option<i64>) {
        match self {
            Job::Found(sight, text) => (inode(sight), text.as_ref().map(|text| text.id)),
            Job::Left(intent, _) => ((intent.stamp.ino, intent.stamp.btime_ns), Some(intent.text)),
        }
    }

    /// How many bytes it is.
    pub fn bytes(&self) -> u64 {
        match self {
            Job::Found(sight, text) => sight.stamp.size.saturating_sub(text.as_ref().map_or(0, |text| text.proof.sent)),
            Job::Left(intent, _) => intent.to - intent.from,
        }
    }
}

impl Hands {
    /// Does a job.
    pub async fn do_it(&self, job: Job) -> Result<End, Failure> {
        match job {
            Job::Found(sight, text) => match self.prepare(sight, text).await? {
                Some(parcel) => self.deliver(parcel).await,
                None => Ok(End::Changed),
            },
            Job::Left(intent, files) => self.go_on(*intent, files).await,
        }
    }

    async fn prepare(&self, sight: Sight, text: Option<Box<Text>>) -> Result<Option<Parcel>, Failure> {
        let (selections, state, scribe) = (self.selections.clone(), self.state.clone(), self.carrier.scribe.clone());
        let prepared = tokio::task::spawn_blocking(move || -> Result<Option<Parcel>, String> {
            let Some(folder) = selections.get(sight.folder) else { return Ok(None) };
            let number_and_name = match &text {
                Some(text) => (0, text.remote.clone()),
                None => {
                    let record = scribe.record();
                    free_name(folder, &sight, 0, |name| record.has_remote(name).map_err(|error| error.to_string()))?
                }
            };
            let (number, remote) = number_and_name;
            let intent = Intent {
                text: text.as_ref().map_or(0, |text| text.id),
                folder: folder.name.clone(),
                path: sight.path.clone(),
                stamp: sight.stamp,
                mode: sight.mode,
                from: text.as_ref().map_or(0, |text| text.proof.sent),
                to: sight.stamp.size,
                hash: [0; 32],
                proof: Proof::default(),
                remote,
                number,
                stored_from: text.as_ref().map_or(0, |text| text.stored),
                stored_to: 0,
                packed: String::new(),
                begun: false,
            };
            let earlier = text.as_ref().map(|text| &text.proof);
            let (root, tail, packing, state): (&Path, _, _, &Path) =
                (&folder.root, folder.tail, folder.packing, &state);
            let order = Order { root, sight: &sight, intent, earlier, tail, packing, state };
            parcel::prepare(order).map_err(|error| format!("cannot be read: {error}"))
        });
        let prepared = prepared.await.map_err(|error| Failure::Own(format!("reading it broke off: {error}")))?;
        let Some(mut parcel) = prepared.map_err(Failure::Own)? else { return Ok(None) };
        self.note(&mut parcel).await?;
        Ok(Some(parcel))
    }

    async fn note(&self, parcel: &mut Parcel) -> Result<(), Failure> {
        parcel.intent.begun = false;
        let note = Note::Intent(Box::new(parcel.intent.clone()));
        parcel.intent.text = self.carrier.scribe.note(note).await.map_err(Failure::Own)?;
        Ok(())
    }

    /// Carries a parcel; where its name is taken, to the next one.
    async fn deliver(&self, mut parcel: Parcel) -> Result<End, Failure> {
        loop {
            match self.carrier.carry(&parcel).await {
                Ok(()) => {
                    self.arrived(&parcel.intent, parcel.whole).await?;
                    parcel.forget(&self.state);
                    return Ok(End::Arrived(parcel.intent.to - parcel.intent.from));
                }
                Err(Failure::Taken) if parcel.intent.number < NAMES_MAX => self.rename(&mut parcel).await?,
                Err(Failure::Taken) => return Err(Failure::Refused(format!("{NAMES_MAX} names for it are taken"))),
                Err(Failure::Changed) => {
                    self.drop_it(&parcel.intent).await?;
                    parcel.forget(&self.state);
                    return Ok(End::Changed);
                }
                // A machine that has become a standby refuses everything: the other one takes it.
                Err(Failure::Refused(sentence)) => {
                    return Err(match self.carrier.session.is_still_master().await {
                        Ok(()) => Failure::Refused(sentence),
                        Err(why) => Failure::Lost(why),
                    });
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn rename(&self, parcel: &mut Parcel) -> Result<(), Failure> {
        let (selections, scribe) = (self.selections.clone(), self.carrier.scribe.clone());
        let intent = parcel.intent.clone();
        let named = tokio::task::spawn_blocking(move || -> Result<(u32, Vec<u8>), String> {
            let folder = selections.iter().find(|folder| folder.name == intent.folder);
            let folder = folder.ok_or("its folder is not in the settings any more")?;
            let record = scribe.record();
            let (path, stamp, mode) = (intent.path.clone(), intent.stamp, intent.mode);
            let sight = Sight { folder: 0, path, stamp, mode };
            free_name(folder, &sight, intent.number + 1, |name| {
                record.has_remote(name).map_err(|error| error.to_string())
            })
        });
        let (number, remote) = named.await.map_err(|error| Failure::Own(error.to_string()))?.map_err(Failure::Own)?;
        tracing::debug!(taken = %shown(&parcel.intent.remote).display(), "the name is taken: the next one is tried");
        let length = parcel.length();
        parcel.intent = Intent { number, remote, stored_from: 0, stored_to: length, ..parcel.intent.clone() };
        self.note(parcel).await
    }

    async fn go_on(&self, intent: Intent, files: Vec<Sight>) -> Result<End, Failure> {
        let (selections, state) = (self.selections.clone(), self.state.clone());
        let (note, is_here) = (intent.clone(), files.iter().any(|sight| sight.stamp.is_same_file(&intent.stamp)));
        let recovered = tokio::task::spawn_blocking(move || {
            let root = |sight: &Sight| selections.get(sight.folder).map(|folder| folder.root.clone());
            let files: Vec<_> = files.into_iter().filter_map(|sight| Some((root(&sight)?, sight))).collect();
            parcel::recover(&note, &files, &state)
        });
        let recovered = recovered.await.map_err(|error| Failure::Own(format!("reading it broke off: {error}")))?;
        match recovered.map_err(|error| Failure::Own(format!("cannot be read: {error}")))? {
            Some(parcel) => self.deliver(parcel).await,
            None if self.carrier.close_orphan(&intent).await? => {
                self.arrived(&intent, None).await?;
                Ok(End::Arrived(intent.to - intent.from))
            }
            None => {
                self.drop_it(&intent).await?;
                Ok(if is_here { End::Changed } else { End::Gone })
            }
        }
    }

    async fn arrived(&self, intent: &Intent, whole: Option<super::sight::Stamp>) -> Result<(), Failure> {
        let note = Note::Done(Box::new(intent.clone()), whole);
        self.carrier.scribe.note(note).await.map(drop).map_err(Failure::Own)
    }

    async fn drop_it(&self, intent: &Intent) -> Result<(), Failure> {
        self.carrier.scribe.note(Note::Dropped(intent.text)).await.map(drop).map_err(Failure::Own)
    }
}

/// The first name from a number on that no other text of the record has.
fn free_name(
    folder: &Selection,
    sight: &Sight,
    from: u32,
    mut is_taken: impl FnMut(&[u8]) -> Result<bool, String>,
) -> Result<(u32, Vec<u8>), String> {
    for number in from..=NAMES_MAX {
        let name = in_archive(&folder.name, &sight.path, folder.packing, sight.stamp.mtime_ns, number);
        if !is_taken(&name)? {
            return Ok((number, name));
        }
    }
    Err(format!("{NAMES_MAX} names for it are taken"))
}
