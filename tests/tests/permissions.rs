//! Rights by folder: what each allows, and that no link, rename or race leads around them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::BufMut;
use pair::wire::{Attrs, Code, kind, open_flag as flag, put_bytes};
use tests::raw::Answer;
use tests::step::NEW;
use tests::{ADMIN, Machine, Pair, Raw, SEED, USER, eventually};

const OK: Answer = Answer::Status(Code::Ok);
const DENIED: Answer = Answer::Status(Code::PermissionDenied);

/// A machine whose user reads everywhere, adds in `/in`, does all in `/own` and nothing in `/in/secret`.
fn machine() -> (Machine, Raw) {
    let rights = "    permissions: {/: read, /in: upload, /own: full, /in/secret: none}\n";
    let machine = Machine::master().users(&format!("{SEED}{rights}")).setting("DURABILITY", "none").start();
    for folder in ["in/secret", "own", "reports"] {
        std::fs::create_dir_all(machine.path(USER.0, folder)).unwrap();
    }
    for file in ["top", "reports/old", "in/theirs", "in/secret/plan", "own/mine"] {
        std::fs::write(machine.path(USER.0, file), format!("content of {file}")).unwrap();
    }
    let raw = Raw::greeted(&machine, USER);
    (machine, raw)
}

fn put(raw: &mut Raw, path: &[u8]) -> Answer {
    match raw.open(path, NEW, None) {
        Answer::Handle(handle) => {
            assert_eq!(raw.write(&handle, 0, b"new"), OK);
            raw.on(kind::CLOSE, &handle)
        }
        refused => refused,
    }
}

fn get(raw: &mut Raw, path: &[u8]) -> Answer {
    match raw.open(path, flag::READ, None) {
        Answer::Handle(handle) => {
            let data = raw.read(&handle, 0, 1000);
            raw.on(kind::CLOSE, &handle);
            data
        }
        refused => refused,
    }
}

fn mkdir(raw: &mut Raw, path: &[u8]) -> Answer {
    raw.ask(kind::MKDIR, |out| {
        put_bytes(out, path);
        Attrs::default().put(out);
    })
}

fn chmod(raw: &mut Raw, path: &[u8]) -> Answer {
    raw.ask(kind::SETSTAT, |out| {
        put_bytes(out, path);
        Attrs { mode: Some(0o640), ..Attrs::default() }.put(out);
    })
}

fn two(raw: &mut Raw, request: &str, old: &[u8], new: &[u8]) -> Answer {
    let body = |out: &mut bytes::BytesMut| {
        put_bytes(out, old);
        put_bytes(out, new);
    };
    match request {
        "rename" => raw.ask(kind::RENAME, body),
        "symlink" => raw.ask(kind::SYMLINK, body),
        extension => raw.extended(extension, body),
    }
}

#[test]
fn each_folder_allows_what_it_says_and_no_more() {
    let (machine, mut raw) = machine();
    // To be read only.
    assert_eq!(get(&mut raw, b"top"), Answer::Data(b"content of top".to_vec()));
    assert_eq!(get(&mut raw, b"reports/old"), Answer::Data(b"content of reports/old".to_vec()));
    for path in [&b"new"[..], b"top", b"reports/new", b"reports/old"] {
        assert_eq!(put(&mut raw, path), DENIED);
        assert_eq!(
            chmod(&mut raw, path).clone(),
            if path.ends_with(b"new") { Answer::Status(Code::NoSuchFile) } else { DENIED }
        );
    }
    assert_eq!(raw.on(kind::REMOVE, b"reports/old"), DENIED);
    assert_eq!(raw.on(kind::RMDIR, b"reports"), DENIED);
    assert_eq!(mkdir(&mut raw, b"folder"), DENIED);
    // To be added to only.
    assert_eq!(put(&mut raw, b"in/mine"), OK);
    assert_eq!(mkdir(&mut raw, b"in/folder"), OK);
    assert!(raw.list(b"in").unwrap().iter().any(|entry| entry.name == b"theirs"), "names are seen");
    for path in [&b"in/theirs"[..], b"in/mine"] {
        assert_eq!(get(&mut raw, path), DENIED);
        assert_eq!(put(&mut raw, path), DENIED);
        assert_eq!(raw.on(kind::REMOVE, path), DENIED);
    }
    assert_eq!((chmod(&mut raw, b"in/mine"), chmod(&mut raw, b"in/theirs")), (OK, DENIED));
    let handle = raw.open(b"in/half", NEW | flag::READ, None).handle();
    assert_eq!(raw.write(&handle, 0, b"secret so far"), OK);
    assert_eq!(raw.read(&handle, 0, 10), DENIED, "not even what is on its way");
    assert_eq!(raw.on(kind::CLOSE, &handle), OK);
    // All.
    assert_eq!(put(&mut raw, b"own/mine"), OK);
    assert_eq!(get(&mut raw, b"own/mine"), Answer::Data(b"new".to_vec()));
    assert_eq!(two(&mut raw, "rename", b"own/mine", b"own/other"), OK);
    assert_eq!(raw.on(kind::REMOVE, b"own/other"), OK);
    // Nothing, and nothing is told of what is there.
    for path in [&b"in/secret/plan"[..], b"in/secret/missing", b"in/secret"] {
        assert_eq!(raw.on(kind::STAT, path), DENIED);
        assert_eq!(raw.on(kind::LSTAT, path), DENIED);
        assert_eq!(raw.on(kind::REALPATH, path), DENIED);
        assert_eq!(raw.on(kind::READLINK, path), DENIED);
        assert_eq!(get(&mut raw, path), DENIED);
        assert_eq!(put(&mut raw, path), DENIED);
        assert_eq!(raw.on(kind::REMOVE, path), DENIED);
        assert_eq!(raw.extended("statvfs@openssh.com", |out| put_bytes(out, path)), DENIED);
    }
    assert_eq!(raw.on(kind::OPENDIR, b"in/secret"), DENIED);
    assert_eq!(std::fs::read(machine.path(USER.0, "in/secret/plan")).unwrap(), b"content of in/secret/plan");
    // Whoever has no such rights is not touched by them.
    machine.sftp(ADMIN).run("ls /\n").expect_ok();
}

#[test]
fn no_link_and_no_rename_leads_around_a_folders_rights() {
    let (machine, mut raw) = machine();
    let at = |path: &str| machine.path(USER.0, path);
    // Links that were there, and one's own.
    symlink("/in/secret/plan", at("own/to-plan")).unwrap();
    symlink("../in/secret", at("own/to-secret")).unwrap();
    symlink("/reports", at("own/to-reports")).unwrap();
    // One's own could tell, by where they lead through, what is in a closed folder.
    assert_eq!(two(&mut raw, "symlink", b"../in/secret/plan/../../../own/mine", b"own/probe"), DENIED);
    for path in
        [&b"own/to-plan"[..], b"own/to-secret/plan", b"own/../in/./secret//plan", b"/own/to-secret/../secret/plan"]
    {
        assert_eq!(get(&mut raw, path), DENIED, "{}", String::from_utf8_lossy(path));
        assert_eq!(raw.on(kind::STAT, path), DENIED);
        assert_eq!(put(&mut raw, path), DENIED);
    }
    assert_eq!(raw.on(kind::OPENDIR, b"own/to-secret"), DENIED);
    assert_eq!((put(&mut raw, b"own/to-reports/new"), put(&mut raw, b"own/to-reports/old")), (DENIED, DENIED));
    assert_eq!(raw.on(kind::REMOVE, b"own/to-reports/old"), DENIED);
    assert_eq!(raw.on(kind::REMOVE, b"own/to-reports"), OK, "the link itself is the account's own");
    // Names of what may not be changed, in a folder where all may be.
    for (old, new) in [(&b"top"[..], &b"own/top"[..]), (b"in/theirs", b"own/theirs"), (b"in/secret/plan", b"own/plan")]
    {
        for request in ["rename", "posix-rename@openssh.com", "hardlink@openssh.com"] {
            assert_eq!(two(&mut raw, request, old, new), DENIED, "{request} {}", String::from_utf8_lossy(old));
        }
    }
    assert_eq!(two(&mut raw, "rename", b"own/mine", b"reports/mine"), DENIED);
    assert_eq!(two(&mut raw, "posix-rename@openssh.com", b"own/mine", b"reports/old"), DENIED);
    assert_eq!(two(&mut raw, "hardlink@openssh.com", b"own/mine", b"in/linked"), DENIED);
    // Folders on which rights rest keep their names.
    for folder in [&b"own"[..], b"in", b"in/secret"] {
        assert_eq!(two(&mut raw, "rename", folder, b"own/moved"), DENIED);
        assert_eq!(raw.on(kind::RMDIR, folder), DENIED);
    }
    // What is added keeps what is there: no replacing, also with a name that another upload has got meanwhile.
    assert_eq!(put(&mut raw, b"in/first"), OK);
    let taken = two(&mut raw, "posix-rename@openssh.com", b"in/first", b"in/theirs");
    assert_ne!(taken, OK);
    assert_eq!(std::fs::read(at("in/theirs")).unwrap(), b"content of in/theirs");
    assert_eq!(two(&mut raw, "rename", b"in/first", b"in/second"), OK, "one's own upload gets its final name");
}

#[test]
fn what_went_into_a_drop_box_does_not_come_out_again() {
    let (machine, mut raw) = machine();
    let half = raw.open(b"in/half", NEW | flag::READ, None).handle();
    assert_eq!(raw.write(&half, 0, b"on its way"), OK);
    let copied = raw.open(b"own/copied", NEW, None).handle();
    let copy = raw.extended("copy-data", |out| {
        put_bytes(out, &half);
        out.put_u64(0);
        out.put_u64(0);
        put_bytes(out, &copied);
        out.put_u64(0);
    });
    assert_eq!(copy, DENIED);
    for name in ["check-file-handle", "check-file"] {
        let hashed = raw.extended(name, |out| {
            put_bytes(out, &half);
            put_bytes(out, b"md5");
            out.put_u64(0);
            out.put_u64(0);
            out.put_u32(0);
        });
        assert_eq!(hashed, DENIED);
    }
    let mut other = Raw::greeted(&machine, USER);
    assert_eq!(two(&mut other, "rename", b"in/half", b"own/half"), DENIED, "by another connection, too");
    assert_eq!(raw.on(kind::CLOSE, &half), OK);
    assert_eq!(two(&mut raw, "rename", b"in/half", b"own/half"), DENIED);
    // What is not there yet is not to be renamed when it comes.
    for missing in [&b"in/coming"[..], b"in/to-come"] {
        assert_eq!(two(&mut raw, "rename", missing, b"in/stolen"), Answer::Status(Code::NoSuchFile));
    }
    // A file that gets the inode of one's own removed file is not one's own.
    for number in 0..50 {
        let name = format!("in/mine{number}");
        assert_eq!(put(&mut raw, name.as_bytes()), OK);
        std::fs::remove_file(machine.path(USER.0, &name)).unwrap();
        let foreign = format!("in/foreign{number}");
        std::fs::write(machine.path(USER.0, &foreign), "of another").unwrap();
        assert_eq!(chmod(&mut raw, foreign.as_bytes()), DENIED);
        assert_eq!(two(&mut raw, "rename", foreign.as_bytes(), b"in/taken"), DENIED);
    }
}

#[test]
fn a_way_to_an_open_folder_is_seen_and_nothing_beside_it() {
    let rights = "    permissions: {/: none, /a/own: full}\n";
    let machine = Machine::master().users(&format!("{SEED}{rights}")).start();
    std::fs::create_dir_all(machine.path(USER.0, "a/own")).unwrap();
    for file in ["top", "a/other"] {
        std::fs::write(machine.path(USER.0, file), "x").unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    let text = machine.sftp(USER).run(&format!("ls\ncd a\nls\ncd own\nput {} mine\nls\n", file.display())).expect_ok();
    assert!(text.contains("mine") && !text.contains("top") && !text.contains("other"), "{text}");
    let mut raw = Raw::greeted(&machine, USER);
    assert_eq!((get(&mut raw, b"top"), put(&mut raw, b"new"), mkdir(&mut raw, b"a/new")), (DENIED, DENIED, DENIED));
    assert_eq!((raw.on(kind::STAT, b"top"), raw.on(kind::STAT, b"missing")), (DENIED, DENIED));
    assert_eq!((raw.on(kind::STAT, b"/a/other"), raw.on(kind::STAT, b"/a/missing/x")), (DENIED, DENIED));
    assert_eq!(raw.on(kind::STAT, b"/a/own/missing"), Answer::Status(Code::NoSuchFile));
    assert!(matches!(raw.extended("expand-path@openssh.com", |out| put_bytes(out, b"~/a/own/..")), Answer::Names(_)));
    // However long a path is, it costs no time.
    let long = [b"a/".repeat(120_000), b"x".to_vec()].concat();
    assert_eq!(raw.on(kind::STAT, &long), Answer::Status(Code::Failure));
}

#[test]
fn an_upload_that_is_moved_into_other_rights_obeys_them_at_its_close() {
    let (machine, mut raw) = machine();
    let at = |path: &str| machine.path(USER.0, path);
    // Into a drop box: what is there by then stays.
    let handle = raw.open(b"own/x", NEW, None).handle();
    assert_eq!(raw.write(&handle, 0, b"mine"), OK);
    assert_eq!(two(&mut raw, "rename", b"own/x", b"in/report"), OK);
    std::fs::write(at("in/report"), "of another").unwrap();
    assert_eq!(raw.on(kind::CLOSE, &handle), Answer::Status(Code::Failure));
    assert_eq!(std::fs::read(at("in/report")).unwrap(), b"of another");
    // The same by its folder.
    assert_eq!(mkdir(&mut raw, b"own/e"), OK);
    let handle = raw.open(b"own/e/g", NEW, None).handle();
    assert_eq!(raw.write(&handle, 0, b"mine"), OK);
    assert_eq!(two(&mut raw, "rename", b"own/e", b"in/e"), OK);
    std::fs::write(at("in/e/g"), "of another").unwrap();
    assert_eq!(raw.on(kind::CLOSE, &handle), Answer::Status(Code::Failure));
    assert_eq!(std::fs::read(at("in/e/g")).unwrap(), b"of another");
    // Another hand moves the folder to where only may be read.
    assert_eq!(mkdir(&mut raw, b"own/r"), OK);
    let handle = raw.open(b"own/r/file", NEW, None).handle();
    assert_eq!(raw.write(&handle, 0, b"mine"), OK);
    std::fs::rename(at("own/r"), at("reports/r")).unwrap();
    assert_eq!(raw.on(kind::CLOSE, &handle), Answer::Status(Code::Failure));
    assert!(!at("reports/r/file").exists());
}

#[test]
fn a_closed_folder_tells_nothing_of_what_is_in_it() {
    let (machine, mut raw) = machine();
    std::fs::create_dir(machine.path(USER.0, "in/secret/folder")).unwrap();
    let names = ["plan", "folder", "missing"];
    let forms = ["", "/", "/x", "/x/y", "/..", "/../../../own/mine", "/../../theirs", "/."];
    for form in forms {
        for kind in [kind::STAT, kind::LSTAT, kind::OPENDIR, kind::REALPATH, kind::REMOVE, kind::RMDIR, kind::READLINK]
        {
            for name in names {
                let path = format!("/in/secret/{name}{form}");
                assert_eq!(raw.on(kind, path.as_bytes()), DENIED, "{kind} {path}");
            }
        }
        for name in names {
            let path = format!("in/secret/{name}{form}");
            assert_eq!(raw.open(path.as_bytes(), flag::READ, None), DENIED, "{path}");
            // A new file has no slash at its end, wherever it may be.
            let made = if form == "/" { Answer::Status(Code::Failure) } else { DENIED };
            assert_eq!(raw.open(path.as_bytes(), NEW, None), made, "{path}");
            assert_eq!(mkdir(&mut raw, path.as_bytes()), DENIED, "{path}");
            assert_eq!(two(&mut raw, "rename", path.as_bytes(), b"own/x"), DENIED, "{path}");
            assert_eq!(two(&mut raw, "rename", b"own/mine", path.as_bytes()), DENIED, "{path}");
        }
    }
    // Outside of it a path is what it is for everybody.
    assert_eq!(raw.on(kind::STAT, b"reports/missing/x"), Answer::Status(Code::NoSuchFile));
    assert!(matches!(raw.on(kind::STAT, b"own/../reports/./old"), Answer::Attrs(_)));
}

#[test]
fn a_file_that_is_replaced_all_the_time_is_not_read_by_its_lost_name() {
    let rights = "    permissions: {/: full, /key: none, /x/y: none}\n";
    let machine = Machine::master().users(&format!("{SEED}{rights}")).start();
    std::fs::create_dir_all(machine.path(USER.0, "")).unwrap();
    let (key, stop) = (machine.path(USER.0, "key"), AtomicBool::new(false));
    std::fs::write(&key, "secret").unwrap();
    symlink("/elsewhere", machine.path(USER.0, "link")).unwrap();
    let mut raw = Raw::greeted(&machine, USER);
    assert_eq!(two(&mut raw, "rename", b"link", b"x"), DENIED, "what leads to a listed folder is no link");
    assert_eq!(put(&mut raw, b"file (deleted)"), OK);
    assert_eq!(get(&mut raw, b"file (deleted)"), Answer::Data(b"new".to_vec()), "a name like any other");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let fresh = key.with_file_name("fresh");
            while !stop.load(Ordering::Relaxed) {
                let _ = std::fs::write(&fresh, "secret").and_then(|()| std::fs::rename(&fresh, &key));
            }
        });
        for _ in 0..4000 {
            assert_eq!(get(&mut raw, b"key"), DENIED);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_standby_allows_no_more_than_the_master() {
    let (pair, folder) = (Pair::start(), tempfile::tempdir().unwrap());
    pair.master.sftp(USER).run("mkdir in\n").expect_ok();
    std::fs::write(pair.master.path(USER.0, "in/theirs"), "of another").unwrap();
    pair.wait_until_equal();
    pair.wait_until_accounts_are_known();
    let apply = |lines: &str| {
        let file = folder.path().join("users.yaml");
        std::fs::write(&file, format!("{SEED}{lines}")).unwrap();
        let (done, text) = pair.master.order(&["apply-users", file.to_str().unwrap()]);
        assert!(done && text.contains("has them, too"), "{text}");
    };
    for lines in ["    permissions: {/in: upload}\n", "    upload_only: true\n"] {
        apply(lines);
        let mut raw = Raw::greeted(&pair.standby, USER);
        assert!(raw.list(b"in").unwrap().iter().any(|entry| entry.name == b"theirs"), "names are seen");
        assert_ne!(get(&mut raw, b"in/theirs"), Answer::Data(b"of another".to_vec()), "{lines}");
        assert_eq!(put(&mut raw, b"in/new"), Answer::Status(Code::Failure), "{lines}");
    }
}

#[test]
fn a_race_of_links_reads_and_writes_nothing_that_is_not_allowed() {
    let (machine, mut raw) = machine();
    std::fs::write(machine.path(USER.0, "own/a"), "allowed").unwrap();
    let (link, stop) = (machine.path(USER.0, "own/swapped"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let fresh = link.with_file_name("fresh");
            for target in ["/own/a", "/in/secret/plan", "/top"].iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let _ = symlink(target, &fresh);
                let _ = std::fs::rename(&fresh, &link);
            }
        });
        let mut read = 0;
        for _ in 0..3000 {
            match get(&mut raw, b"own/swapped") {
                Answer::Data(data) => {
                    assert!(data == b"allowed" || data == b"content of top" || data == b"new", "{data:?}");
                    read += 1;
                }
                refused => assert!(refused == DENIED || refused == Answer::Status(Code::NoSuchFile), "{refused:?}"),
            }
            put(&mut raw, b"own/swapped");
            chmod(&mut raw, b"own/swapped");
        }
        stop.store(true, Ordering::Relaxed);
        assert!(read > 0, "the race never let anything through");
    });
    assert_eq!(std::fs::read(machine.path(USER.0, "in/secret/plan")).unwrap(), b"content of in/secret/plan");
    assert_eq!(std::fs::read(machine.path(USER.0, "top")).unwrap(), b"content of top");
    use std::os::unix::fs::PermissionsExt;
    for path in ["in/secret/plan", "top"] {
        let mode = std::fs::metadata(machine.path(USER.0, path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "{path}");
    }
}

#[test]
fn other_rights_end_the_session_and_hold_at_the_next() {
    let (machine, mut raw) = machine();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.yaml");
    std::fs::write(&file, format!("{SEED}    permissions: {{/: full, /reports: none}}\n")).unwrap();
    machine.sftp(ADMIN).run(&format!("put {} users.yaml\n", file.display())).expect_ok();
    assert!(machine.result().contains("~ EPuser: new permissions"), "{}", machine.result());
    eventually("the session is ended", || raw.has_ended());
    let mut raw = Raw::greeted(&machine, USER);
    assert_eq!((put(&mut raw, b"top"), get(&mut raw, b"reports/old")), (OK, DENIED));
    drop(raw);
    // Where the file is lost it is written anew with them.
    std::fs::remove_file(machine.path("admin", "users.yaml")).unwrap();
    let text = || std::fs::read_to_string(machine.path("admin", "users.yaml")).unwrap_or_default();
    eventually("users.yaml is written anew", || text().contains("permissions: {\"/\": full, \"/reports\": none}"));
    assert_eq!(get(&mut Raw::greeted(&machine, USER), b"reports/old"), DENIED);
}
