//! SFTP packet by packet: for what no client sends, and to set our answers beside those of OpenSSH's own server.

use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use bytes::{BufMut, BytesMut};
use pair::wire::{Attrs, Code, Reader, VERSION, kind, put_bytes, put_packet};

use crate::client::Sftp;
use crate::machine::Machine;

/// Where Debian and others put OpenSSH's server.
const REFEREES: [&str; 3] = ["/usr/lib/openssh/sftp-server", "/usr/libexec/sftp-server", "/usr/lib/ssh/sftp-server"];

/// OpenSSH's own server.
pub fn referee() -> &'static str {
    REFEREES.into_iter().find(|path| Path::new(path).is_file()).expect("openssh's sftp-server is installed")
}

/// An entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: Vec<u8>,
    /// The line for people.
    pub longname: Vec<u8>,
    /// Its attributes.
    pub attrs: Attrs,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// STATUS, without its words.
    Status(Code),
    /// HANDLE.
    Handle(Vec<u8>),
    /// DATA.
    Data(Vec<u8>),
    /// NAME.
    Names(Vec<Entry>),
    /// ATTRS.
    Attrs(Attrs),
    /// EXTENDED_REPLY.
    Extended(Vec<u8>),
}

impl Answer {
    /// The handle. Panics where it is anything else.
    #[track_caller]
    pub fn handle(self) -> Vec<u8> {
        match self {
            Answer::Handle(handle) => handle,
            other => panic!("no handle but {other:?}"),
        }
    }
}

/// An SFTP stream.
pub struct Raw {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    next: u32,
    /// The extensions that the server has announced, with their data.
    pub announced: Vec<(String, String)>,
    /// Its files must outlive the process.
    login: Option<Sftp>,
}

impl Raw {
    /// One to a machine, through OpenSSH's ssh; nothing is sent yet.
    pub fn connect(machine: &Machine, login: (&str, &str)) -> Raw {
        Raw::through(machine.sftp(login))
    }

    /// One through OpenSSH's ssh with a login of one's own.
    pub fn through(sftp: Sftp) -> Raw {
        let mut command = sftp.command("ssh");
        command.arg("-s").arg(sftp.target()).arg("sftp");
        let mut raw = Raw::of(&mut command);
        raw.login = Some(sftp);
        raw
    }

    /// One to a machine, greeted.
    pub fn greeted(machine: &Machine, login: (&str, &str)) -> Raw {
        let mut raw = Raw::connect(machine, login);
        raw.greet();
        raw
    }

    /// One to OpenSSH's own server, at work in a folder, greeted.
    pub fn referee(folder: &Path) -> Raw {
        let mut raw = Raw::of(Command::new(referee()).current_dir(folder));
        raw.greet();
        raw
    }

    fn of(command: &mut Command) -> Raw {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().expect("piped")));
        Raw { child, input, output, next: 0, announced: Vec::new(), login: None }
    }

    /// INIT.
    pub fn greet(&mut self) {
        self.send(&packet(kind::INIT, |out| out.put_u32(VERSION)));
        let answer = self.receive();
        let mut fields = Reader(&answer);
        assert_eq!((fields.u8(), fields.u32()), (Ok(kind::VERSION), Ok(VERSION)));
        while !fields.0.is_empty() {
            let pair = [fields.bytes().unwrap(), fields.bytes().unwrap()];
            let [name, data] = pair.map(|text| String::from_utf8_lossy(text).into_owned());
            self.announced.push((name, data));
        }
    }

    /// Sends bytes. A session that was ended takes nothing any more: the test looks at what comes of it.
    pub fn send(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().expect("not taken");
        let _ = input.write_all(bytes).and_then(|()| input.flush());
    }

    /// The way in, to be written to on another thread, or to be closed.
    pub fn take_input(&mut self) -> ChildStdin {
        self.input.take().expect("not taken")
    }

    /// The next packet: type and body. Panics if the stream ends instead.
    pub fn receive(&mut self) -> Vec<u8> {
        self.try_receive().expect("an answer")
    }

    /// The next packet; `None` if the stream ends instead.
    pub fn try_receive(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 4];
        self.output.read_exact(&mut length).ok()?;
        let length = u32::from_be_bytes(length) as usize;
        assert!(length <= 256 * 1024, "an answer of {length} bytes");
        let mut body = vec![0; length];
        self.output.read_exact(&mut body).ok()?;
        Some(body)
    }

    /// Asks and waits for the answer, which must be to this request.
    pub fn ask(&mut self, kind: u8, body: impl FnOnce(&mut BytesMut)) -> Answer {
        self.next += 1;
        let id = self.next;
        self.send(&packet(kind, |out| {
            out.put_u32(id);
            body(out);
        }));
        let (found, answer) = parse(&self.receive());
        assert_eq!(found, id, "the answer is to another request");
        answer
    }

    /// An extended request.
    pub fn extended(&mut self, name: &str, body: impl FnOnce(&mut BytesMut)) -> Answer {
        self.ask(kind::EXTENDED, |out| {
            put_bytes(out, name.as_bytes());
            body(out);
        })
    }

    /// OPEN with a mode.
    pub fn open(&mut self, path: &[u8], flags: u32, mode: Option<u32>) -> Answer {
        self.ask(kind::OPEN, |out| {
            put_bytes(out, path);
            out.put_u32(flags);
            Attrs { mode, ..Attrs::default() }.put(out);
        })
    }

    /// A request on one path or handle.
    pub fn on(&mut self, kind: u8, path: &[u8]) -> Answer {
        self.ask(kind, |out| put_bytes(out, path))
    }

    /// READ.
    pub fn read(&mut self, handle: &[u8], offset: u64, length: u32) -> Answer {
        self.ask(kind::READ, |out| {
            put_bytes(out, handle);
            out.put_u64(offset);
            out.put_u32(length);
        })
    }

    /// WRITE.
    pub fn write(&mut self, handle: &[u8], offset: u64, data: &[u8]) -> Answer {
        self.ask(kind::WRITE, |out| {
            put_bytes(out, handle);
            out.put_u64(offset);
            put_bytes(out, data);
        })
    }

    /// Everything in a folder, in the order in which it is told.
    pub fn list(&mut self, path: &[u8]) -> Result<Vec<Entry>, Code> {
        let handle = match self.on(kind::OPENDIR, path) {
            Answer::Status(code) => return Err(code),
            opened => opened.handle(),
        };
        let mut entries = Vec::new();
        loop {
            match self.on(kind::READDIR, &handle) {
                Answer::Names(more) => entries.extend(more),
                Answer::Status(Code::Eof) => break,
                other => panic!("no entries but {other:?}"),
            }
        }
        assert_eq!(self.on(kind::CLOSE, &handle), Answer::Status(Code::Ok));
        Ok(entries)
    }

    /// Whether the stream's process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it can be asked").is_some()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A packet: type and body.
pub fn packet(kind: u8, body: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    put_packet(&mut out, kind, body);
    out
}

/// An answer's number and what it says.
pub fn parse(packet: &[u8]) -> (u32, Answer) {
    let mut fields = Reader(packet);
    let kind = fields.u8().expect("a type");
    let id = fields.u32().expect("a number");
    let answer = match kind {
        kind::STATUS => Answer::Status(Code::from_wire(fields.u32().expect("a code"))),
        kind::HANDLE => Answer::Handle(fields.bytes().expect("a handle").to_vec()),
        kind::DATA => Answer::Data(fields.bytes().expect("data").to_vec()),
        kind::ATTRS => Answer::Attrs(fields.attrs().expect("attributes")),
        kind::EXTENDED_REPLY => Answer::Extended(fields.0.to_vec()),
        kind::NAME => {
            let count = fields.u32().expect("a count");
            let mut entry = || Entry {
                name: fields.bytes().expect("a name").to_vec(),
                longname: fields.bytes().expect("a line").to_vec(),
                attrs: fields.attrs().expect("attributes"),
            };
            Answer::Names((0..count).map(|_| entry()).collect())
        }
        other => panic!("an answer of type {other}"),
    };
    (id, answer)
}
