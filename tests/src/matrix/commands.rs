//! The command lines of the clients: one function each, from an act to a command, or `None` where the client has no such act.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::Command;

use super::{Act, Desk};
use crate::{LFTP, rclone_remote};

/// Words for sftp's and psftp's batches, which are bytes as names are.
fn line(words: &[&OsStr], quote: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut line = Vec::new();
    for (number, word) in words.iter().enumerate() {
        // The verb and its options stand as they are.
        let is_plain = number == 0 || word.as_bytes().starts_with(b"-") && word.len() < 4;
        line.extend(if is_plain { word.as_bytes().to_vec() } else { quote(word.as_bytes()) });
        line.push(b' ');
    }
    line.push(b'\n');
    line
}

fn in_double_quotes(word: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for byte in word {
        quoted.extend(if matches!(byte, b'"' | b'\\') { vec![b'\\', *byte] } else { vec![*byte] });
    }
    quoted.push(b'"');
    quoted
}

fn doubled_quotes(word: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for byte in word {
        quoted.extend(if *byte == b'"' { vec![b'"', b'"'] } else { vec![*byte] });
    }
    quoted.push(b'"');
    quoted
}

fn batch(desk: &Desk, act: &Act<'_>, quote: fn(&[u8]) -> Vec<u8>, verbs: &Verbs) -> Option<std::path::PathBuf> {
    let os = OsStr::new;
    let words: Vec<&OsStr> = match *act {
        Act::Put(file, name) => vec![os("put"), file.as_os_str(), os(name)],
        Act::Get(name, file) => vec![os("get"), os(name), file.as_os_str()],
        Act::PutWithTimes(file, name) => vec![os("put"), os(verbs.with_times?), file.as_os_str(), os(name)],
        Act::GetWithTimes(name, file) => vec![os("get"), os(verbs.with_times?), os(name), file.as_os_str()],
        Act::Resume(file, name) => vec![os("reput"), file.as_os_str(), os(name)],
        Act::Fetch(name, file) => vec![os("reget"), os(name), file.as_os_str()],
        Act::Rename(old, new) => vec![os(verbs.rename), os(old), os(new)],
        Act::PutTree(folder, name) => vec![os("put"), os(verbs.whole_tree), folder.as_os_str(), os(name)],
        Act::GetTree(name, folder) => vec![os("get"), os(verbs.whole_tree), os(name), folder.as_os_str()],
    };
    let path = desk.folder().join("batch");
    std::fs::write(&path, line(&words, quote)).expect("the batch");
    Some(path)
}

struct Verbs {
    with_times: Option<&'static str>,
    rename: &'static str,
    whole_tree: &'static str,
}

pub(super) fn openssh_sftp(desk: &Desk, act: &Act<'_>) -> Option<Command> {
    let verbs = Verbs { with_times: Some("-p"), rename: "rename", whole_tree: "-R" };
    let batch = batch(desk, act, in_double_quotes, &verbs)?;
    let mut command = desk.openssh().command("sftp");
    command.arg("-b").arg(batch).arg(desk.openssh().target());
    Some(command)
}

pub(super) fn scp(desk: &Desk, act: &Act<'_>) -> Option<Command> {
    let remote = |name: &str| OsString::from(format!("{}:{name}", desk.openssh().target()));
    let (options, from, to) = match *act {
        Act::Put(file, name) => ("-q", file.into(), remote(name)),
        Act::Get(name, file) => ("-q", remote(name), file.into()),
        Act::PutWithTimes(file, name) => ("-qp", file.into(), remote(name)),
        Act::GetWithTimes(name, file) => ("-qp", remote(name), file.into()),
        Act::PutTree(folder, name) => ("-qr", folder.into(), remote(name)),
        Act::GetTree(name, folder) => ("-qr", remote(name), folder.into()),
        Act::Resume(..) | Act::Fetch(..) | Act::Rename(..) => return None,
    };
    let mut command = desk.openssh().command("scp");
    command.arg(options).arg(from).arg(to);
    Some(command)
}

fn putty(desk: &Desk, program: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["-batch", "-P", &desk.address().port().to_string(), "-pw", desk.password(), "-hostkey"]);
    command.arg(desk.machine.host_key());
    command
}

pub(super) fn psftp(desk: &Desk, act: &Act<'_>) -> Option<Command> {
    let batch = batch(desk, act, doubled_quotes, &Verbs { with_times: None, rename: "ren", whole_tree: "-r" })?;
    let mut command = putty(desk, "psftp");
    command.arg("-b").arg(batch).arg(format!("{}@127.0.0.1", desk.user()));
    Some(command)
}

pub(super) fn pscp(desk: &Desk, act: &Act<'_>) -> Option<Command> {
    let remote = |name: &str| OsString::from(format!("{}@127.0.0.1:{name}", desk.user()));
    let (option, from, to) = match *act {
        Act::Put(file, name) => ("-q", file.into(), remote(name)),
        Act::Get(name, file) => ("-q", remote(name), file.into()),
        Act::PutWithTimes(file, name) => ("-p", file.into(), remote(name)),
        Act::GetWithTimes(name, file) => ("-p", remote(name), file.into()),
        // It makes no folder under another name than that of the one it copies.
        Act::PutTree(folder, _) => ("-r", folder.into(), remote("")),
        Act::GetTree(name, folder) => ("-r", remote(name), folder.into()),
        Act::Resume(..) | Act::Fetch(..) | Act::Rename(..) => return None,
    };
    let mut command = putty(desk, "pscp");
    command.args(["-sftp", option]).arg(from).arg(to);
    Some(command)
}

pub(super) fn lftp(desk: &Desk, act: &Act<'_>) -> Option<Command> {
    let shown = |path: &Path| path.display().to_string();
    // lftp keeps times by itself.
    let commands = match *act {
        Act::Put(file, name) | Act::PutWithTimes(file, name) => format!("put '{}' -o '{name}'", shown(file)),
        Act::Get(name, file) | Act::GetWithTimes(name, file) => format!("get '{name}' -o '{}'", shown(file)),
        Act::Resume(file, name) => format!("put -c '{}' -o '{name}'", shown(file)),
        Act::Fetch(name, file) => format!("get -c '{name}' -o '{}'", shown(file)),
        Act::Rename(old, new) => format!("mv '{old}' '{new}'"),
        Act::PutTree(folder, name) => format!("mirror -R '{}' '{name}'", shown(folder)),
        Act::GetTree(name, folder) => format!("mirror '{name}' '{}'", shown(folder)),
    };
    let settings = "set net:max-retries 1; set cmd:fail-exit yes; set xfer:clobber yes; set net:timeout 20";
    let mut command = Command::new("lftp");
    command.args(["-u", &format!("{},{}", desk.user(), desk.password()), "-e"]);
    command.arg(format!("{LFTP}; {settings}; {commands}; bye")).arg(format!("sftp://{}", desk.address()));
    Some(command)
}

pub(super) fn rclone(desk: &Desk, act: &Act<'_>) -> Option<Command> {
    let remote = |name: &str| OsString::from(rclone_remote(desk.address(), desk.login, name));
    let (verb, from, to) = match *act {
        Act::Put(file, name) | Act::PutWithTimes(file, name) => ("copyto", file.into(), remote(name)),
        Act::Get(name, file) | Act::GetWithTimes(name, file) => ("copyto", remote(name), file.into()),
        Act::Rename(old, new) => ("moveto", remote(old), remote(new)),
        Act::PutTree(folder, name) => ("copy", folder.into(), remote(name)),
        Act::GetTree(name, folder) => ("copy", remote(name), folder.into()),
        Act::Resume(..) | Act::Fetch(..) => return None,
    };
    let mut command = Command::new("rclone");
    command.args(["--config", "/dev/null", "--retries", "1", "--low-level-retries", "1", verb]).arg(from).arg(to);
    Some(command)
}

/// A name in a URL.
fn encoded(name: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(byte);
    name.iter().map(|byte| if plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

pub(super) fn curl(desk: &Desk, act: &Act<'_>) -> Option<Command> {
    let url = |name: &[u8]| format!("sftp://{}/{}", desk.address(), encoded(name));
    let mut command = Command::new("curl");
    command.args(["-sSkg", "-u", &format!("{}:{}", desk.user(), desk.password())]);
    match *act {
        Act::Put(file, name) => command.arg("-T").arg(file).arg(url(name.as_bytes())),
        Act::Get(name, file) => command.arg("-o").arg(file).arg(url(name.as_bytes())),
        Act::Resume(file, name) => command.args(["-C", "-"]).arg("-T").arg(file).arg(url(name.as_bytes())),
        Act::Fetch(name, file) => command.args(["-C", "-"]).arg("-o").arg(file).arg(url(name.as_bytes())),
        Act::GetWithTimes(name, file) => command.arg("-R").arg("-o").arg(file).arg(url(name.as_bytes())),
        Act::Rename(old, new) => command.args(["-Q", &format!("rename /{old} /{new}"), "--list-only"]).arg(url(b"")),
        Act::PutTree(folder, name) => {
            std::fs::create_dir_all(folder).expect("it is there");
            command.args(["--ftp-create-dirs", "-K"]).arg(list(desk, folder, |file| {
                let inner = [name.as_bytes(), b"/", file.file_name().unwrap_or_default().as_bytes()].concat();
                ("upload-file", url(&inner))
            }))
        }
        Act::GetTree(name, folder) => {
            std::fs::create_dir_all(folder).expect("a folder");
            let there = desk.on_server(name);
            command.arg("-K").arg(list(desk, &there, |file| {
                let base = file.file_name().unwrap_or_default();
                ("output", url(&[name.as_bytes(), b"/", base.as_bytes()].concat()))
            }));
            command.current_dir(folder)
        }
        Act::PutWithTimes(..) => return None,
    };
    Some(command)
}

/// A file of curl's options that has it transfer each file of a folder.
fn list(desk: &Desk, folder: &Path, entry: impl Fn(&Path) -> (&'static str, String)) -> std::path::PathBuf {
    let mut text = Vec::new();
    for file in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let (option, url) = entry(&file);
        // What is uploaded is told by its path, what is downloaded by its name alone: curl is at work in the target folder.
        let local = if option == "output" { file.file_name().unwrap_or_default() } else { file.as_os_str() };
        let escaped: Vec<u8> = local.as_bytes().iter().flat_map(|byte| escape(*byte)).collect();
        text.extend([option.as_bytes(), b"=\"", &escaped, b"\"\nurl=\"", url.as_bytes(), b"\"\n"].concat());
    }
    let path = desk.folder().join("curl");
    std::fs::write(&path, text).expect("curl's options");
    path
}

fn escape(byte: u8) -> Vec<u8> {
    match byte {
        b'"' | b'\\' => vec![b'\\', byte],
        b'\n' => b"\\n".to_vec(),
        byte => vec![byte],
    }
}

/// Debian's, or one with newer modules.
pub(super) fn interpreter() -> Command {
    let mut command = Command::new(std::env::var_os("CLIENTS_PYTHON").unwrap_or_else(|| "/usr/bin/python3".into()));
    command.args(["-W", "ignore"]);
    command
}

pub(super) fn python(script: &str, desk: &Desk, act: &Act<'_>) -> Option<Command> {
    let (action, first, second): (_, &OsStr, &OsStr) = match *act {
        Act::Put(file, name) => ("put", file.as_ref(), name.as_ref()),
        Act::PutWithTimes(file, name) => ("put_with_times", file.as_ref(), name.as_ref()),
        Act::Get(name, file) => ("get", file.as_ref(), name.as_ref()),
        Act::GetWithTimes(name, file) => ("get_with_times", file.as_ref(), name.as_ref()),
        Act::Resume(file, name) => ("resume", file.as_ref(), name.as_ref()),
        Act::Fetch(name, file) => ("fetch", file.as_ref(), name.as_ref()),
        Act::Rename(old, new) => ("rename", old.as_ref(), new.as_ref()),
        Act::PutTree(folder, name) => ("put_tree", folder.as_ref(), name.as_ref()),
        Act::GetTree(name, folder) => ("get_tree", folder.as_ref(), name.as_ref()),
    };
    let mut command = interpreter();
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("clients/{script}.py")));
    command.args(["127.0.0.1", &desk.address().port().to_string(), desk.user(), desk.password(), action]);
    command.args([first, second]);
    Some(command)
}

/// FileZilla keeps names: what is to go up is laid under its name in a folder of its own, and what came down is moved.
pub(super) fn filezilla(desk: &Desk, act: &Act<'_>) -> Option<Command> {
    let inner = desk.folder().join("pane");
    std::fs::create_dir_all(&inner).expect("a folder");
    let (action, local, name, keeps_times) = match *act {
        Act::Put(file, name) => ("put", file, name, false),
        Act::PutTree(folder, name) => ("put_tree", folder, name, false),
        Act::GetTree(name, folder) => ("get_tree", folder, name, false),
        Act::PutWithTimes(file, name) => ("put", file, name, true),
        Act::Get(name, file) => ("get", file, name, false),
        Act::GetWithTimes(name, file) => ("get", file, name, true),
        Act::Resume(file, name) => ("resume", file, name, false),
        Act::Fetch(name, file) => ("fetch", file, name, false),
        Act::Rename(old, new) => ("rename", Path::new(old), new, false),
    };
    let laid = inner.join(name);
    let script = match action {
        "put" | "put_tree" | "resume" => "cp -rp \"$0\" \"$1\" && shift && exec \"$@\"",
        "get" | "get_tree" => "to=$0 from=$1; shift; \"$@\" && mv \"$from\" \"$to\"",
        "fetch" => "to=$0 from=$1; shift; mv \"$to\" \"$from\"; \"$@\" && mv \"$from\" \"$to\"",
        _ => "shift; exec \"$@\"",
    };
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(local).arg(&laid).arg("/usr/bin/python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/filezilla.py"));
    command.args(keeps_times.then_some("--preserve"));
    command.args(["127.0.0.1", &desk.address().port().to_string(), desk.user(), desk.password(), action]);
    command.arg(if action == "rename" { local } else { &laid }).arg(name);
    Some(command)
}

/// Mounts, works with the system's own programs, and unmounts.
pub(super) fn sshfs(desk: &Desk, act: &Act<'_>) -> Option<Command> {
    let mount = desk.folder().join("mount");
    std::fs::create_dir_all(&mount).expect("a folder");
    let remote = |name: &str| mount.join(name).into_os_string();
    let (work, first, second): (_, OsString, OsString) = match *act {
        Act::Put(file, name) => ("cp \"$1\" \"$2\"", file.into(), remote(name)),
        Act::Get(name, file) => ("cp \"$1\" \"$2\"", remote(name), file.into()),
        Act::PutWithTimes(file, name) => ("cp -p \"$1\" \"$2\"", file.into(), remote(name)),
        Act::GetWithTimes(name, file) => ("cp -p \"$1\" \"$2\"", remote(name), file.into()),
        Act::Resume(file, name) => (RESUME, file.into(), remote(name)),
        Act::Fetch(name, file) => (RESUME, remote(name), file.into()),
        Act::Rename(old, new) => ("mv \"$1\" \"$2\"", remote(old), remote(new)),
        Act::PutTree(folder, name) => ("cp -r \"$1\" \"$2\"", folder.into(), remote(name)),
        Act::GetTree(name, folder) => ("cp -r \"$1\" \"$2\"", remote(name), folder.into()),
    };
    let options = "password_stdin,StrictHostKeyChecking=no,UserKnownHostsFile=/dev/null,LogLevel=ERROR";
    let script = format!(
        "echo '{}' | sshfs -o {options} -p {} {}@127.0.0.1:/ \"$0\" && {{ ({work}); code=$?; umount \"$0\"; exit $code; }}",
        desk.password(),
        desk.address().port(),
        desk.user(),
    );
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(mount).args([first, second]);
    Some(command)
}

/// Appends what is missing, as a careful person would.
const RESUME: &str = "tail -c +$(($(stat -c %s \"$2\") + 1)) \"$1\" >> \"$2\"";

/// A name from bytes.
pub(super) fn os(name: &[u8]) -> OsString {
    OsString::from_vec(name.to_vec())
}
