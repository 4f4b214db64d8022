//! Requests as data, with what they led to as text: to be asked of OpenSSH's server and of ours alike.

use bytes::BufMut;
use pair::wire::{Attrs, Code, kind, open_flag as flag, put_bytes};

use crate::raw::{Answer, Raw};

/// What a new file is opened with.
pub const NEW: u32 = flag::WRITE | flag::CREAT | flag::TRUNC;

/// A request, or a few that belong together. Paths are in the folder of the case.
#[derive(Clone, Debug)]
pub enum Step {
    /// OPEN with these flags, WRITE there, CLOSE.
    Put(&'static str, u32, u64, &'static str),
    /// OPEN, READ to the end, CLOSE.
    Get(&'static str),
    /// STAT.
    Stat(&'static str),
    /// LSTAT.
    Lstat(&'static str),
    /// OPEN for reading, FSTAT, CLOSE.
    Fstat(&'static str),
    /// OPENDIR, READDIR to the end, CLOSE: the names in order of the alphabet.
    List(&'static str),
    /// MKDIR with a mode.
    Mkdir(&'static str, u32),
    /// RMDIR.
    Rmdir(&'static str),
    /// REMOVE.
    Remove(&'static str),
    /// RENAME.
    Rename(&'static str, &'static str),
    /// posix-rename@openssh.com.
    PosixRename(&'static str, &'static str),
    /// hardlink@openssh.com.
    Hardlink(&'static str, &'static str),
    /// SYMLINK: what it says, and where it is.
    Symlink(&'static str, &'static str),
    /// READLINK.
    Readlink(&'static str),
    /// REALPATH.
    Realpath(&'static str),
    /// expand-path@openssh.com.
    ExpandPath(&'static str),
    /// SETSTAT of mode, times and size.
    Setstat(&'static str, Option<u32>, Option<(u32, u32)>, Option<u64>),
    /// lsetstat@openssh.com of times.
    Lsetstat(&'static str, (u32, u32)),
    /// OPEN for writing, FSETSTAT of mode, times and size, CLOSE.
    Fsetstat(&'static str, Option<u32>, Option<(u32, u32)>, Option<u64>),
    /// copy-data: from, offset, length; to, opened with these flags, offset.
    Copy(&'static str, u64, u64, &'static str, u32, u64),
    /// OPEN for reading, statvfs and fstatvfs: whether both answer alike.
    Statvfs(&'static str),
    /// home-directory of nobody by name, which is one's own.
    Home,
    /// An extension that nobody has.
    Unknown,
    /// OPEN for reading, and then what only writers may do.
    WriteToReader(&'static str),
    /// A handle that nobody gave, in every request that takes one.
    WrongHandle,
}

/// One server, and the folder on it in which a case is at work.
pub struct Bench<'a> {
    /// The stream.
    pub raw: &'a mut Raw,
    /// The folder: empty, or ending in a slash.
    pub folder: String,
    base: Vec<u8>,
}

impl Bench<'_> {
    /// In a folder of a server, `""` for the one where it starts.
    pub fn new<'a>(raw: &'a mut Raw, folder: &str) -> Bench<'a> {
        let Answer::Names(names) = raw.on(kind::REALPATH, b".") else { panic!("no REALPATH") };
        let mut base = names.into_iter().next().expect("one name").name;
        if base == b"/" {
            base.clear();
        }
        let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        if !folder.is_empty() {
            let made = raw.ask(kind::MKDIR, |out| {
                put_bytes(out, folder.as_bytes());
                Attrs::default().put(out);
            });
            assert_eq!(made, Answer::Status(Code::Ok));
        }
        Bench { raw, folder, base }
    }

    fn at(&self, path: &str) -> Vec<u8> {
        match path.strip_prefix('/') {
            Some(rest) => [&self.base, &b"/"[..], self.folder.as_bytes(), rest.as_bytes()].concat(),
            None if path.is_empty() => Vec::new(),
            None => format!("{}{path}", self.folder).into_bytes(),
        }
    }

    /// Asks, and tells in words what came of it.
    pub fn ask(&mut self, step: &Step) -> String {
        use Step::{Fstat, Lstat, Stat};
        match step {
            Stat(path) => self.on(kind::STAT, path),
            Lstat(path) => self.on(kind::LSTAT, path),
            Step::Rmdir(path) => self.on(kind::RMDIR, path),
            Step::Remove(path) => self.on(kind::REMOVE, path),
            Step::Readlink(path) => self.on(kind::READLINK, path),
            Step::Realpath(path) => self.on(kind::REALPATH, path),
            Step::List(path) => self.list(path),
            Step::Put(path, flags, offset, content) => self.put(path, *flags, *offset, content),
            Step::Get(path) => self.open(path, flag::READ, read_all),
            Fstat(path) => self.open(path, flag::READ, |raw, handle| shown(raw.on(kind::FSTAT, handle))),
            Step::Mkdir(path, mode) => self.with_attrs(kind::MKDIR, path, &mode_of(*mode)),
            Step::Setstat(path, mode, times, size) => {
                self.with_attrs(kind::SETSTAT, path, &Attrs { mode: *mode, times: *times, size: *size, owner: None })
            }
            Step::Fsetstat(path, mode, times, size) => {
                let attrs = Attrs { mode: *mode, times: *times, size: *size, owner: None };
                self.open(path, flag::WRITE, |raw, handle| {
                    shown(raw.ask(kind::FSETSTAT, |out| {
                        put_bytes(out, handle);
                        attrs.put(out);
                    }))
                })
            }
            Step::Copy(from, offset, length, to, flags, at) => self.copy((from, *offset, *length), (to, *flags, *at)),
            Step::WriteToReader(path) => self.open(path, flag::READ, |raw, handle| shown(raw.write(handle, 0, b"x"))),
            Step::WrongHandle => self.wrong_handle(),
            extension => self.extension(extension),
        }
    }

    fn extension(&mut self, step: &Step) -> String {
        let (name, paths) = match step {
            Step::Rename(old, new) => ("", vec![self.at(old), self.at(new)]),
            Step::PosixRename(old, new) => ("posix-rename@openssh.com", vec![self.at(old), self.at(new)]),
            Step::Hardlink(old, new) => ("hardlink@openssh.com", vec![self.at(old), self.at(new)]),
            Step::Symlink(text, path) => ("symlink", vec![text.as_bytes().to_vec(), self.at(path)]),
            Step::ExpandPath(path) => ("expand-path@openssh.com", vec![self.at(path)]),
            Step::Home => ("home-directory", vec![Vec::new()]),
            Step::Lsetstat(path, times) => {
                let (path, attrs) = (self.at(path), Attrs { times: Some(*times), ..Attrs::default() });
                return shown(self.raw.extended("lsetstat@openssh.com", |out| {
                    put_bytes(out, &path);
                    attrs.put(out);
                }));
            }
            Step::Statvfs(path) => return self.statvfs(path),
            _ => ("nobody@example.org", Vec::new()),
        };
        let body = |out: &mut bytes::BytesMut| paths.iter().for_each(|path| put_bytes(out, path));
        let answer = match name {
            "" => self.raw.ask(kind::RENAME, body),
            "symlink" => self.raw.ask(kind::SYMLINK, body),
            name => self.raw.extended(name, body),
        };
        match (step, answer) {
            // Where a home is differs; that it is told does not.
            (Step::Home, Answer::Names(names)) => format!("{} name", names.len()),
            (_, answer) => self.told(answer),
        }
    }

    fn on(&mut self, kind: u8, path: &str) -> String {
        let path = self.at(path);
        let answer = self.raw.on(kind, &path);
        self.told(answer)
    }

    /// What an answer says, with paths as seen from the case's folder.
    fn told(&self, answer: Answer) -> String {
        let Answer::Names(names) = &answer else { return shown(answer) };
        let from = [&self.base, &b"/"[..], self.folder.as_bytes()].concat();
        let start: &[u8] = if self.base.is_empty() { b"/" } else { &self.base };
        let inside = |name: &[u8]| match name.strip_prefix(from.strip_suffix(b"/").unwrap_or(&from)) {
            Some(rest) => format!("in it {}", String::from_utf8_lossy(rest)),
            None if name == start => "where it starts".into(),
            None => String::from_utf8_lossy(name).into_owned(),
        };
        names.iter().map(|entry| inside(&entry.name)).collect::<Vec<_>>().join(" ")
    }

    fn with_attrs(&mut self, kind: u8, path: &str, attrs: &Attrs) -> String {
        let path = self.at(path);
        shown(self.raw.ask(kind, |out| {
            put_bytes(out, &path);
            attrs.put(out);
        }))
    }

    fn open(&mut self, path: &str, flags: u32, work: impl FnOnce(&mut Raw, &[u8]) -> String) -> String {
        let path = self.at(path);
        match self.raw.open(&path, flags, Some(0o644)) {
            Answer::Handle(handle) => {
                let done = work(self.raw, &handle);
                let closed = shown(self.raw.on(kind::CLOSE, &handle));
                format!("{done}, closed {closed}")
            }
            refused => format!("OPEN {}", shown(refused)),
        }
    }

    fn put(&mut self, path: &str, flags: u32, offset: u64, content: &str) -> String {
        self.open(path, flags, |raw, handle| shown(raw.write(handle, offset, content.as_bytes())))
    }

    fn list(&mut self, path: &str) -> String {
        let path = self.at(path);
        match self.raw.list(&path) {
            Err(code) => shown(Answer::Status(code)),
            Ok(mut entries) => {
                entries.sort_by(|one, other| one.name.cmp(&other.name));
                let line = |entry: &crate::raw::Entry| {
                    let longname = String::from_utf8_lossy(&entry.longname);
                    let mode = longname.split_whitespace().next().unwrap_or_default().to_owned();
                    let name = String::from_utf8_lossy(&entry.name).into_owned();
                    // What `.` and `..` are like depends on where the case is at work.
                    if matches!(name.as_str(), "." | "..") {
                        return name;
                    }
                    assert!(longname.ends_with(&name), "{longname}");
                    format!("{mode} {name} {}", shown(Answer::Attrs(entry.attrs)))
                };
                entries.iter().map(line).collect::<Vec<_>>().join("; ")
            }
        }
    }

    fn copy(&mut self, from: (&str, u64, u64), to: (&str, u32, u64)) -> String {
        let to_path = self.at(to.0);
        self.open(from.0, flag::READ, |raw, source| match raw.open(&to_path, to.1, Some(0o644)) {
            Answer::Handle(target) => {
                let copied = raw.extended("copy-data", |out| {
                    put_bytes(out, source);
                    out.put_u64(from.1);
                    out.put_u64(from.2);
                    put_bytes(out, &target);
                    out.put_u64(to.2);
                });
                format!("{}, target {}", shown(copied), shown(raw.on(kind::CLOSE, &target)))
            }
            refused => format!("OPEN {}", shown(refused)),
        })
    }

    fn statvfs(&mut self, path: &str) -> String {
        let by_path = self.at(path);
        self.open(path, flag::READ, |raw, handle| {
            let size = |answer: Answer| match answer {
                Answer::Extended(body) => format!("{} bytes", body.len()),
                other => shown(other),
            };
            let found = raw.extended("statvfs@openssh.com", |out| put_bytes(out, &by_path));
            let by_handle = raw.extended("fstatvfs@openssh.com", |out| put_bytes(out, handle));
            format!("{}, {}", size(found), size(by_handle))
        })
    }

    fn wrong_handle(&mut self) -> String {
        let raw = &mut *self.raw;
        let wrong = [&b""[..], b"?", &[b'9'; 300], &[0; 4096]];
        let mut found = Vec::new();
        for handle in wrong {
            found.push(shown(raw.on(kind::CLOSE, handle)));
            found.push(shown(raw.on(kind::FSTAT, handle)));
            found.push(shown(raw.on(kind::READDIR, handle)));
            found.push(shown(raw.read(handle, 0, 10)));
            found.push(shown(raw.write(handle, 0, b"x")));
            found.push(shown(raw.extended("fsync@openssh.com", |out| put_bytes(out, handle))));
            found.push(shown(raw.extended("fstatvfs@openssh.com", |out| put_bytes(out, handle))));
        }
        found.sort();
        found.dedup();
        found.join(" ")
    }
}

fn mode_of(mode: u32) -> Attrs {
    Attrs { mode: Some(mode), ..Attrs::default() }
}

fn read_all(raw: &mut Raw, handle: &[u8]) -> String {
    let mut content = Vec::new();
    loop {
        match raw.read(handle, content.len() as u64, 1000) {
            Answer::Data(data) => content.extend_from_slice(&data),
            Answer::Status(Code::Eof) => return String::from_utf8_lossy(&content).into_owned(),
            other => return shown(other),
        }
    }
}

/// An answer without what no two servers have in common: words, owners, the time it is now, sizes of folders.
fn shown(answer: Answer) -> String {
    match answer {
        // Where OpenSSH calls a request that makes no sense a bad message, ours is a failure with a reason: clients take
        // a bad message for a broken connection.
        Answer::Status(Code::BadMessage) => "Failure".into(),
        Answer::Status(code) => format!("{code:?}"),
        Answer::Attrs(attrs) => {
            let mode = attrs.mode.unwrap_or_default();
            // An upload takes its name by a rename, which changes the folder's times as making a file does.
            let is_folder = mode & 0o170_000 == 0o040_000;
            let size = attrs.size.filter(|_| !is_folder);
            // Times that a case has set are long ago.
            let modified =
                attrs.times.map(|(_, modified)| modified).filter(|modified| !is_folder && *modified < 1_000_000);
            format!("mode {mode:o} size {size:?} modified {modified:?}")
        }
        Answer::Data(data) => String::from_utf8_lossy(&data).into_owned(),
        Answer::Handle(_) => "a handle".into(),
        other => format!("{other:?}"),
    }
}
