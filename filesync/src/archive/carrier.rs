//! Carries a parcel to the archive: opens, sends, closes, verifies.
//!
//! Always holds: nothing that is in the archive is replaced, cut or removed. A file is begun with the demand that its name be free; only
//! one that the record says this agent has begun is gone on with; and only an upload that is not finished is ever taken back, over an
//! account that could take nothing else back. What has arrived counts once the server has closed it and shows its size (and its hash,
//! where it tells hashes).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{BufMut, BytesMut};
use pair::client::{ClientError, Handle};
use pair::wire::{Attrs, Code, Reader, open_flag, put_bytes};

use super::door::Session;
use super::names::folders_above;
use super::parcel::Parcel;
use super::record::{Intent, Note, Scribe};
use super::status::Board;
use crate::throttle::Throttle;

/// Writes of one file in flight.
const WRITES_MAX: usize = 16;
/// How much is read from the disk at a time, in bytes.
const CHUNK_BYTES: u64 = 1020 * 1024;
/// Parts from this size on are noted as begun: they may take long, and are gone on with after a crash. In bytes.
const NOTED_BYTES: u64 = super::parcel::SMALL_BYTES;

/// Why a parcel has not arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection is of no use any more.
    Lost(String),
    /// It does not work now: a sentence for people.
    Refused(String),
    /// The name belongs to something else.
    Taken,
    /// What was read is not what was hashed: the file was written to, and not only at its end.
    Changed,
    /// The agent cannot write down or read what it must.
    Own(String),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        if error.is_lost() {
            Failure::Lost(error.to_string())
        } else {
            Failure::Refused(format!("the server says: {error}"))
        }
    }
}

/// Carries parcels over one connection.
#[derive(Clone)]
pub struct Carrier {
    /// The connection.
    pub session: Arc<Session>,
    /// Where it is written down.
    pub scribe: Scribe,
    /// How fast content may go.
    pub throttle: Arc<Throttle>,
    /// Where progress is shown.
    pub board: Arc<Board>,
}

/// An open file of the archive.
enum Opened {
    /// It is written from there on, counted in the parcel.
    At(Handle, u64),
    /// All of it is there.
    Complete,
}

impl Carrier {
    /// Brings a parcel to where its note says. When this is over it is in the archive, or the failure says why not.
    pub async fn carry(&self, parcel: &Parcel) -> Result<(), Failure> {
        let opened = self.open(parcel).await?;
        if let Opened::At(handle, at) = opened
            && let Err(failure) = self.send(parcel, &handle, at).await
        {
            if failure == Failure::Changed {
                self.take_back(&parcel.intent).await;
            }
            if matches!(failure, Failure::Refused(_)) {
                // An upload of which a part was refused is not published by this.
                let _refused = self.session.client.close(handle).await;
            }
            return Err(failure);
        }
        self.verify(parcel).await
    }

    /// What was on its way when the agent died, and of which nothing is here any more: if all of it had arrived it is closed and counts;
    /// else it is given up. Tells which.
    pub async fn close_orphan(&self, intent: &Intent) -> Result<bool, Failure> {
        let there = match self.session.client.lstat(&intent.remote).await {
            Ok(there) => there,
            Err(error) if error.is_missing() => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let is_ours = intent.begun || there.times.map(|(_, modified)| modified) == Some(intent.stamp.mtime_s());
        if !is_ours || there.size != Some(intent.stored_to) {
            if intent.begun {
                self.take_back(intent).await;
            }
            return Ok(false);
        }
        match self.go_on(intent).await {
            Ok(Opened::At(handle, _)) => self.session.client.close(handle).await.map(|()| true).map_err(Failure::from),
            Ok(Opened::Complete) => Ok(true),
            // It is complete, and this account may not open it again.
            Err(Failure::Taken) => Ok(true),
            Err(failure) => Err(failure),
        }
    }

    async fn open(&self, parcel: &Parcel) -> Result<Opened, Failure> {
        let intent = &parcel.intent;
        if !intent.begun && intent.stored_from == 0 {
            return self.begin(parcel).await;
        }
        let there = match self.session.client.lstat(&intent.remote).await {
            Ok(attrs) => attrs.size.unwrap_or(0),
            // Retention has removed it, or it never came so far: the rest begins anew.
            Err(error) if error.is_missing() && intent.stored_from == 0 => return self.begin(parcel).await,
            Err(error) if error.is_missing() => return Err(Failure::Taken),
            Err(error) => return Err(error.into()),
        };
        if there == 0 && intent.stored_from > 0 && self.session.adds_only {
            // After a takeover, or for want of room: of the part that was on its way nothing is there, and it hides the complete file.
            self.take_back(intent).await;
            return self.go_on(intent).await;
        }
        if !(intent.stored_from..=intent.stored_to).contains(&there) || (!intent.begun && there != intent.stored_from) {
            return Err(Failure::Taken);
        }
        self.go_on(intent).await
    }

    /// Opens a file of the archive that has a free name.
    async fn begin(&self, parcel: &Parcel) -> Result<Opened, Failure> {
        let (client, intent) = (&self.session.client, &parcel.intent);
        let flags = open_flag::WRITE | open_flag::CREAT | open_flag::EXCL;
        let mode = Some(intent.mode & 0o666 | 0o600);
        let mut opened = client.open(&intent.remote, flags, mode).await;
        if opened.as_ref().is_err_and(ClientError::is_missing) {
            for folder in folders_above(&intent.remote) {
                match client.mkdir(folder, 0o750).await {
                    Err(error) if error.is_lost() => return Err(error.into()),
                    // It is there already; if not, the next OPEN says so.
                    _ => {}
                }
            }
            opened = client.open(&intent.remote, flags, mode).await;
        }
        match opened {
            Ok(handle) => {
                if parcel.length() > NOTED_BYTES {
                    self.scribe.note(Note::Begun(intent.text)).await.map_err(Failure::Own)?;
                }
                Ok(Opened::At(handle, 0))
            }
            Err(error) if error.is_lost() => Err(error.into()),
            Err(error) => self.why_not(parcel, error).await,
        }
    }

    /// A new file was refused: because the name is taken, perhaps by this very file, or for another reason.
    async fn why_not(&self, parcel: &Parcel, error: ClientError) -> Result<Opened, Failure> {
        let intent = &parcel.intent;
        let there = match self.session.client.lstat(&intent.remote).await {
            Ok(there) => there,
            Err(missing) if missing.is_missing() => return Err(error.into()),
            Err(error) => return Err(error.into()),
        };
        if there.size != Some(intent.stored_to) {
            return Err(Failure::Taken);
        }
        let is_same = match self.hash_there(parcel).await? {
            Some(is_same) => is_same,
            // The record was lost, or an answer was: the same name, length and time are taken for the same file.
            None => there.times.map(|(_, modified)| modified) == Some(intent.stamp.mtime_s()),
        };
        if !is_same {
            return Err(Failure::Taken);
        }
        // All bytes may be there in an upload that was never closed, which looks the same: it is closed, else it would be dropped.
        match self.go_on(intent).await {
            // It is complete, and this account may not open it again.
            Err(Failure::Taken) => Ok(Opened::Complete),
            opened => opened,
        }
    }

    /// Opens a file of the archive that this agent has written.
    async fn go_on(&self, intent: &Intent) -> Result<Opened, Failure> {
        let client = &self.session.client;
        let handle = match client.open(&intent.remote, open_flag::WRITE, None).await {
            Ok(handle) => handle,
            Err(error) if error.is_lost() => return Err(error.into()),
            Err(error) => {
                self.session.is_still_master().await.map_err(Failure::Lost)?;
                if matches!(error, ClientError::Status { code: Code::PermissionDenied, .. }) {
                    let there = client.lstat(&intent.remote).await.map(|attrs| attrs.size);
                    // What is complete, and must not be opened any more, has arrived.
                    if intent.begun && there == Ok(Some(intent.stored_to)) {
                        return Ok(Opened::Complete);
                    }
                    self.session.continues.store(false, Ordering::Relaxed);
                    return Err(Failure::Taken);
                }
                return Err(error.into());
            }
        };
        let there = client.fstat(&handle).await?.size.unwrap_or(0);
        match there.checked_sub(intent.stored_from).filter(|at| *at <= intent.stored_to - intent.stored_from) {
            Some(at) => {
                if !intent.begun {
                    self.scribe.note(Note::Begun(intent.text)).await.map_err(Failure::Own)?;
                }
                Ok(Opened::At(handle, at))
            }
            // It is not closed: that would publish what is not ours.
            None => Err(Failure::Taken),
        }
    }

    /// Discards the part of a file that was on its way; only where that can be nothing that is complete.
    async fn take_back(&self, intent: &Intent) {
        if self.session.adds_only {
            // Where it stays it hides nothing but itself, and the server drops it after a day.
            let _may_stay = self.session.client.remove(&intent.remote).await;
        }
    }

    async fn send(&self, parcel: &Parcel, handle: &Handle, from: u64) -> Result<(), Failure> {
        let (client, intent, length) = (&self.session.client, &parcel.intent, parcel.length());
        let (mut at, mut pending, mut hasher) = (0, VecDeque::new(), blake3::Hasher::new());
        while at < length {
            let chunk = parcel.read(at, CHUNK_BYTES.min(length - at) as usize).await;
            let chunk = chunk.map_err(|error| Failure::Own(format!("cannot read it: {error}")))?;
            if chunk.is_empty() {
                return Err(Failure::Changed);
            }
            hasher.update(&chunk);
            let known = usize::try_from(from.saturating_sub(at)).unwrap_or(usize::MAX).min(chunk.len());
            at += known as u64;
            for part in chunk.get(known..).unwrap_or_default().chunks(client.write_bytes_max()) {
                self.throttle.pass(part.len()).await;
                pending.push_back(client.begin_write(handle, intent.stored_from + at, part).await?);
                at += part.len() as u64;
                self.board.sent_bytes(part.len() as u64);
                if pending.len() > WRITES_MAX
                    && let Some(write) = pending.pop_front()
                {
                    write.done().await?;
                }
            }
        }
        for write in pending {
            write.done().await?;
        }
        if *hasher.finalize().as_bytes() != intent.hash {
            return Err(Failure::Changed);
        }
        let time = intent.stamp.mtime_s();
        let attrs = Attrs { times: Some((time, time)), ..Attrs::default() };
        let times = client.begin_fsetstat(handle, attrs).await?;
        let close = client.begin_close(handle).await?;
        // A server that keeps no times keeps the file all the same.
        let _unkept = times.done().await;
        Ok(close.done().await?)
    }

    /// Makes sure that what is there is what was sent.
    async fn verify(&self, parcel: &Parcel) -> Result<(), Failure> {
        let intent = &parcel.intent;
        let there = self.session.client.lstat(&intent.remote).await?;
        if there.size != Some(intent.stored_to) {
            let found = there.size.unwrap_or(0);
            return Err(Failure::Refused(format!("{found} bytes arrived of {}", intent.stored_to)));
        }
        match self.hash_there(parcel).await? {
            Some(false) => Err(Failure::Refused("what arrived is not what was sent: its hash differs".into())),
            _ => Ok(()),
        }
    }

    /// Whether the server's hash of the parcel is its own; none where it tells none.
    async fn hash_there(&self, parcel: &Parcel) -> Result<Option<bool>, Failure> {
        if !self.session.tells_hashes.load(Ordering::Relaxed) || parcel.length() == 0 {
            return Ok(None);
        }
        let mut body = BytesMut::new();
        put_bytes(&mut body, &parcel.intent.remote);
        put_bytes(&mut body, b"sha256");
        body.put_u64(parcel.intent.stored_from);
        body.put_u64(parcel.length());
        body.put_u32(0);
        let told = match self.session.client.extended("check-file-name", &body).await {
            Ok(told) => told,
            Err(error) if error.is_lost() => return Err(error.into()),
            // Not this account, or not this file.
            Err(ClientError::Status { code: Code::PermissionDenied | Code::OpUnsupported, .. }) => {
                self.session.tells_hashes.store(false, Ordering::Relaxed);
                return Ok(None);
            }
            Err(_) => return Ok(None),
        };
        let mut fields = Reader(&told);
        let _algorithm = fields.bytes().map_err(ClientError::from)?;
        let ours = tokio::task::block_in_place(|| parcel.sha256());
        let ours = ours.map_err(|error| Failure::Own(format!("cannot read it again: {error}")))?;
        Ok(Some(fields.0 == ours.as_slice()))
    }
}
