//! An SFTP server in memory that does, to chosen files, what a bad one would: it loses, cuts, changes, swaps, hides and hangs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use pair::keys::derived_host_keys;
use pair::secret::PairSecret;
use pair::wire::{Attrs, Code, Reader, kind, next_packet, open_flag, put_bytes, put_packet};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session};
use russh::{Channel, ChannelId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// What it does, and to which file: the number that the file has in its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mischief {
    /// Nothing.
    Honest,
    /// CLOSE is answered with OK, and the file is gone.
    Lose(u64),
    /// A bit is another one.
    Corrupt(u64),
    /// The end is missing.
    Truncate(u64),
    /// Something is appended.
    Append(u64),
    /// Two files have each other's content.
    Swap(u64, u64),
    /// It holds what it held in the run before.
    Stale(u64),
    /// It is not listed.
    Hide(u64),
    /// It is listed with another size.
    WrongListedSize(u64),
    /// READ fails.
    Unreadable(u64),
    /// RENAME is answered with OK, and the old name stays, too.
    KeepOldName,
    /// RENAME is answered with OK, and nothing happens.
    DoNotRename,
    /// A file that nobody has made is in its folder.
    Invent(u64),
    /// The connection ends at the file's CLOSE.
    HangUp(u64),
    /// RENAME is done, and the connection ends instead of the answer.
    HangUpAfterRename,
    /// CLOSE is answered late.
    Delay(u64, Duration),
    /// OPEN for writing is refused with a sentence.
    Refuse(u64, &'static str),
    /// There is room for so many bytes.
    Room(u64),
    /// It has the file late.
    Late(u64, Duration),
    /// It never has the file.
    Missing(u64),
    /// What it reads of the file is another byte.
    Rot(u64),
}

use Mischief::*;

/// What lies on it. Two servers may have the same: then one is the other's standby.
#[derive(Default)]
pub struct Volume {
    files: BTreeMap<String, Vec<u8>>,
    folders: BTreeSet<String>,
    /// What each number held at first, for [`Stale`].
    before: BTreeMap<u64, Vec<u8>>,
    closed: BTreeMap<u64, std::time::Instant>,
}

/// A running server. It ends with the test's runtime.
pub struct Server {
    pub address: SocketAddr,
    pub volume: Arc<Mutex<Volume>>,
    mischief: Arc<Mutex<Mischief>>,
}

impl Server {
    pub async fn start(mischief: Mischief) -> Server {
        Server::over(Arc::default(), mischief).await
    }

    /// One that shows what another one has.
    pub async fn over(volume: Arc<Mutex<Volume>>, mischief: Mischief) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let keys = derived_host_keys(&PairSecret::generate().unwrap()).unwrap();
        let config = Arc::new(Config { keys, nodelay: true, ..Config::default() });
        let mischief = Arc::new(Mutex::new(mischief));
        let (shared, does) = (volume.clone(), mischief.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let door = Door { volume: shared.clone(), mischief: does.clone(), channel: None };
                let config = config.clone();
                tokio::spawn(async move {
                    if let Ok(session) = russh::server::run_stream(config, stream, door).await {
                        let _ = session.await;
                    }
                });
            }
        });
        Server { address, volume, mischief }
    }

    pub fn becomes(&self, mischief: Mischief) {
        *self.mischief.lock().unwrap() = mischief;
    }

    /// Whether nothing of any run is left.
    pub fn is_clean(&self) -> bool {
        let volume = self.volume.lock().unwrap();
        volume.files.is_empty() && volume.folders.is_empty()
    }
}

struct Door {
    volume: Arc<Mutex<Volume>>,
    mischief: Arc<Mutex<Mischief>>,
    channel: Option<Channel<Msg>>,
}

impl Handler for Door {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, russh::Error> {
        Ok(if (user, password) == ("user", "secret") { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.channel = Some(channel);
        reply.accept().await;
        Ok(())
    }

    async fn subsystem_request(&mut self, id: ChannelId, _: &str, session: &mut Session) -> Result<(), russh::Error> {
        let talk =
            Talk { volume: self.volume.clone(), mischief: self.mischief.clone(), handles: BTreeMap::new(), next: 0 };
        let (channel, handle) = (self.channel.take().unwrap(), session.handle());
        tokio::spawn(async move {
            talk.run(channel.into_stream()).await;
            let reason = russh::Disconnect::ByApplication;
            let _ = handle.disconnect(reason, String::new(), String::new()).await;
        });
        session.channel_success(id)
    }
}

enum Open {
    Writing(String, Vec<u8>),
    Reading(String, Bytes),
    Folder(Option<Vec<(String, Attrs)>>),
}

/// What comes of a request.
enum Reply {
    Answer(Code, &'static str),
    Handle(u32),
    Data(Bytes),
    Names(Vec<(String, Attrs)>),
    Attrs(Attrs),
    Extended(Vec<u8>),
    End,
}

struct Talk {
    volume: Arc<Mutex<Volume>>,
    mischief: Arc<Mutex<Mischief>>,
    handles: BTreeMap<u32, Open>,
    next: u32,
}

impl Talk {
    async fn run(mut self, stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite) {
        let (mut reading, mut writing) = tokio::io::split(stream);
        let mut buffer = BytesMut::new();
        loop {
            while let Some(packet) = next_packet(&mut buffer).unwrap() {
                let mut out = BytesMut::new();
                let mut fields = Reader(&packet);
                let kind = fields.u8().unwrap();
                if kind == kind::INIT {
                    put_packet(&mut out, kind::VERSION, |out| {
                        out.put_u32(3);
                        put_bytes(out, b"statvfs@openssh.com");
                        put_bytes(out, b"2");
                    });
                } else {
                    let id = fields.u32().unwrap();
                    let pause = self.pause(kind, fields);
                    tokio::time::sleep(pause).await;
                    match self.serve(kind, fields) {
                        Reply::End => return,
                        reply => put_reply(&mut out, id, reply),
                    }
                }
                if writing.write_all(&out).await.is_err() {
                    return;
                }
            }
            if reading.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        }
    }

    fn does(&self) -> Mischief {
        self.mischief.lock().unwrap().clone()
    }

    fn pause(&self, kind: u8, mut fields: Reader<'_>) -> Duration {
        let Delay(number, pause) = self.does() else { return Duration::ZERO };
        let handle = if kind == kind::CLOSE { handle(&mut fields) } else { return Duration::ZERO };
        match self.handles.get(&handle) {
            Some(Open::Writing(path, _)) if number_of(path) == Some(number) => pause,
            _ => Duration::ZERO,
        }
    }

    fn give(&mut self, open: Open) -> Reply {
        self.next += 1;
        self.handles.insert(self.next, open);
        Reply::Handle(self.next)
    }

    fn serve(&mut self, kind: u8, mut fields: Reader<'_>) -> Reply {
        if [kind::WRITE, kind::READ, kind::CLOSE, kind::READDIR].contains(&kind) {
            return self.serve_open(kind, fields);
        }
        let missing = Reply::Answer(Code::NoSuchFile, "no such file");
        let ok = Reply::Answer(Code::Ok, "");
        let mut text = || String::from_utf8(fields.bytes().unwrap().to_vec()).unwrap();
        let (does, shared) = (self.does(), self.volume.clone());
        let mut volume = shared.lock().unwrap();
        match kind {
            kind::OPEN => {
                let path = text();
                let is_writing = fields.u32().unwrap() & open_flag::WRITE != 0;
                match does {
                    Refuse(number, sentence) if is_writing && number_of(&path) == Some(number) => {
                        return Reply::Answer(Code::Failure, sentence);
                    }
                    _ if is_writing => return self.give(Open::Writing(path, Vec::new())),
                    _ => {}
                }
                match volume.shown(&does).get(&path) {
                    Some(content) => self.give(Open::Reading(path, Bytes::from(content.clone()))),
                    None => missing,
                }
            }
            kind::OPENDIR => {
                let path = text();
                if !volume.folders.contains(&path) {
                    return missing;
                }
                let names = volume.list(&does, &path);
                self.give(Open::Folder(Some(names)))
            }
            kind::MKDIR => {
                volume.folders.insert(text());
                ok
            }
            kind::RMDIR => {
                volume.folders.remove(&text());
                ok
            }
            kind::REMOVE => match volume.files.remove(&text()) {
                Some(_) => ok,
                None => missing,
            },
            kind::RENAME => {
                let (from, to) = (text(), text());
                let Some(content) = volume.files.get(&from).cloned() else { return missing };
                if does == DoNotRename {
                    return ok;
                }
                volume.files.insert(to, content);
                if does != KeepOldName {
                    volume.files.remove(&from);
                }
                if does == HangUpAfterRename { Reply::End } else { ok }
            }
            kind::STAT | kind::LSTAT => volume.attributes(&does, &text()).map_or(missing, Reply::Attrs),
            kind::EXTENDED => {
                let room: u64 = if let Room(bytes) = does { bytes } else { 1 << 40 };
                let fields = [1, 1, room, room, room, 0, 0, 0, 0, 0, 255];
                Reply::Extended(fields.iter().flat_map(|field: &u64| field.to_be_bytes()).collect())
            }
            _ => Reply::Answer(Code::OpUnsupported, "not supported"),
        }
    }

    /// Requests on a handle.
    fn serve_open(&mut self, kind: u8, mut fields: Reader<'_>) -> Reply {
        let does = self.does();
        match kind {
            kind::WRITE => {
                let (handle, offset) = (handle(&mut fields), fields.u64().unwrap() as usize);
                let data = fields.bytes().unwrap();
                let Some(Open::Writing(_, content)) = self.handles.get_mut(&handle) else {
                    return Reply::Answer(Code::Failure, "no such handle");
                };
                content.resize(content.len().max(offset + data.len()), 0);
                content[offset..offset + data.len()].copy_from_slice(data);
                Reply::Answer(Code::Ok, "")
            }
            kind::READ => {
                let (handle, offset, length) = (handle(&mut fields), fields.u64().unwrap(), fields.u32().unwrap());
                match self.handles.get(&handle) {
                    Some(Open::Reading(path, _)) if does == number_of(path).map_or(Honest, Unreadable) => {
                        Reply::Answer(Code::Failure, "input/output error")
                    }
                    Some(Open::Reading(_, content)) if (offset as usize) < content.len() => {
                        // Less than was asked for is allowed, and happens.
                        let end = content.len().min(offset as usize + length.min(20_000) as usize);
                        Reply::Data(content.slice(offset as usize..end))
                    }
                    Some(_) => Reply::Answer(Code::Eof, ""),
                    None => Reply::Answer(Code::Failure, "no such handle"),
                }
            }
            kind::CLOSE => match self.handles.remove(&handle(&mut fields)) {
                Some(Open::Writing(path, content)) => self.volume.lock().unwrap().publish(&does, path, content),
                Some(_) => Reply::Answer(Code::Ok, ""),
                None => Reply::Answer(Code::Failure, "no such handle"),
            },
            kind::READDIR => match self.handles.get_mut(&handle(&mut fields)) {
                Some(Open::Folder(names)) => match names.take().filter(|names| !names.is_empty()) {
                    Some(names) => Reply::Names(names),
                    None => Reply::Answer(Code::Eof, ""),
                },
                _ => Reply::Answer(Code::Failure, "no such handle"),
            },
            _ => unreachable!("not on a handle"),
        }
    }
}

impl Volume {
    /// What is told of a file or a folder.
    fn attributes(&self, does: &Mischief, path: &str) -> Option<Attrs> {
        let of_file = |content: &Vec<u8>| Attrs { size: Some(content.len() as u64), ..Attrs::default() };
        let of_folder = || Attrs { mode: Some(0o040_750), ..Attrs::default() };
        self.shown(does).get(path).map(of_file).or_else(|| self.folders.contains(path).then(of_folder))
    }

    /// What is there after CLOSE.
    fn publish(&mut self, does: &Mischief, path: String, mut content: Vec<u8>) -> Reply {
        let number = number_of(&path).unwrap_or(u64::MAX);
        let middle = content.len() / 2;
        match does {
            HangUp(wanted) if *wanted == number => return Reply::End,
            Lose(wanted) if *wanted == number => return Reply::Answer(Code::Ok, ""),
            Corrupt(wanted) if *wanted == number => content[middle] ^= 0x08,
            Truncate(wanted) if *wanted == number => content.truncate(middle),
            Append(wanted) if *wanted == number => content.extend_from_slice(b"and more"),
            Stale(wanted) if *wanted == number => content = self.before.get(&number).cloned().unwrap_or_default(),
            Invent(wanted) if *wanted == number => {
                let folder = path.rsplit_once('/').unwrap().0;
                self.files.insert(format!("{folder}/surprise"), b"?".to_vec());
            }
            _ => {}
        }
        self.before.entry(number).or_insert_with(|| content.clone());
        self.closed.insert(number, std::time::Instant::now());
        self.files.insert(path.clone(), content);
        if let Swap(one, other) = does
            && [one, other].contains(&&number)
        {
            let partner = if *one == number { *other } else { *one };
            let partner = self.files.keys().find(|path| number_of(path) == Some(partner)).cloned();
            if let Some(partner) = partner {
                let (ours, theirs) = (self.files[&path].clone(), self.files[&partner].clone());
                self.files.insert(path, theirs);
                self.files.insert(partner, ours);
            }
        }
        Reply::Answer(Code::Ok, "")
    }

    /// The files as this server shows them.
    fn shown(&self, does: &Mischief) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files.clone();
        match does {
            Missing(number) => files.retain(|path, _| number_of(path) != Some(*number)),
            Rot(number) => {
                let rotten = files.iter_mut().filter(|(path, _)| number_of(path) == Some(*number));
                rotten.for_each(|(_, content)| content[0] ^= 1);
            }
            Late(number, by) => {
                let is_late = self.closed.get(number).is_none_or(|closed| closed.elapsed() < *by);
                files.retain(|path, _| !is_late || number_of(path) != Some(*number));
            }
            _ => {}
        }
        files
    }

    fn list(&self, does: &Mischief, folder: &str) -> Vec<(String, Attrs)> {
        let name_in = |path: &str| {
            let (parent, name) = path.rsplit_once('/')?;
            (parent == folder).then(|| name.to_owned())
        };
        let folders = self.folders.iter().filter_map(|path| name_in(path));
        let mut entries: Vec<(String, Attrs)> =
            folders.map(|name| (name, Attrs { mode: Some(0o040_750), ..Attrs::default() })).collect();
        for (path, content) in self.shown(does) {
            let Some(name) = name_in(&path) else { continue };
            let number = number_of(&path).unwrap_or(u64::MAX);
            let size = if *does == WrongListedSize(number) { 1 } else { content.len() as u64 };
            if *does != Hide(number) {
                entries.push((name, Attrs { size: Some(size), mode: Some(0o100_640), ..Attrs::default() }));
            }
        }
        entries
    }
}

fn handle(fields: &mut Reader<'_>) -> u32 {
    u32::from_be_bytes(fields.bytes().unwrap().try_into().unwrap())
}

/// The number that a file has in its run.
fn number_of(path: &str) -> Option<u64> {
    path.rsplit('/').next()?.split("-r").next()?.parse().ok()
}

fn put_reply(out: &mut BytesMut, id: u32, reply: Reply) {
    let kind = match &reply {
        Reply::Answer(..) | Reply::End => kind::STATUS,
        Reply::Handle(_) => kind::HANDLE,
        Reply::Data(_) => kind::DATA,
        Reply::Names(_) => kind::NAME,
        Reply::Attrs(_) => kind::ATTRS,
        Reply::Extended(_) => kind::EXTENDED_REPLY,
    };
    put_packet(out, kind, |out| {
        out.put_u32(id);
        match reply {
            Reply::Answer(code, sentence) => {
                out.put_u32(code as u32);
                put_bytes(out, sentence.as_bytes());
                put_bytes(out, b"en");
            }
            Reply::Handle(handle) => put_bytes(out, &handle.to_be_bytes()),
            Reply::Data(data) => put_bytes(out, &data),
            Reply::Names(names) => {
                out.put_u32(names.len() as u32);
                for (name, attrs) in names {
                    put_bytes(out, name.as_bytes());
                    put_bytes(out, name.as_bytes());
                    attrs.put(out);
                }
            }
            Reply::Attrs(attrs) => attrs.put(out),
            Reply::Extended(body) => out.put_slice(&body),
            Reply::End => {}
        }
    });
}
