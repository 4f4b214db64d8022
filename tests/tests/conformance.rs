//! OpenSSH's sftp-server is the referee: the same requests to it and to ours, the same answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use pair::client::{Client, ClientError, Login, connect};
use pair::wire::{Attrs, Code, open_flag as flag};
use tests::Machine;

/// OpenSSH's server in a folder, over pipes.
async fn referee(folder: &Path) -> (tokio::process::Child, Client) {
    let mut child = tokio::process::Command::new(tests::raw::referee())
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let stream = tokio::io::join(child.stdout.take().unwrap(), child.stdin.take().unwrap());
    let client = Client::over(stream).await.unwrap();
    (child, client)
}

/// A machine of ours with one user who has a key, and that user's client.
async fn ours() -> (Machine, Client) {
    ours_with("DURABILITY", "fsync").await
}

async fn ours_with(key: &str, value: &str) -> (Machine, Client) {
    let secret = pair::secret::PairSecret::generate().unwrap();
    let private = pair::keys::peer_key(&secret).unwrap();
    let users = format!(
        "users:\n  A: {{name: admin, password: secret, admin: true}}\n  1: {{name: u, public_keys: [\"{}\"]}}\n",
        private.public_key().to_openssh().unwrap()
    );
    let machine = Machine::master().users(&users).setting(key, value).start();
    let login = Login::with_key("u", Arc::new(private));
    let client = connect(&machine.address().to_string(), login, Arc::new(|_| Ok(()))).await.unwrap();
    (machine, client)
}

/// What a request led to, without the words, which are ours.
fn shown<T: std::fmt::Debug>(result: Result<T, ClientError>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        // Where OpenSSH calls a request that makes no sense a bad message, ours is a failure with a reason: clients take
        // a bad message for a broken connection.
        Err(ClientError::Status { code: Code::BadMessage, .. }) => "Failure".into(),
        Err(ClientError::Status { code, .. }) => format!("{code:?}"),
        Err(other) => format!("broken: {other}"),
    }
}

/// Writes down what each request leads to, with the request's own text.
macro_rules! note {
    ($notes:ident, $request:expr) => {
        $notes.push(format!("{}: {}", stringify!($request), shown($request.await)))
    };
}

async fn put(client: &Client, path: &[u8], flags: u32, offset: u64, content: &[u8]) -> Result<(), ClientError> {
    let handle = client.open(path, flags, Some(0o644)).await?;
    let written = client.write(&handle, offset, content).await;
    client.close(handle).await?;
    written
}

async fn get(client: &Client, path: &[u8]) -> Result<String, ClientError> {
    let handle = client.open(path, flag::READ, None).await?;
    let mut content = Vec::new();
    while let Some(part) = client.read(&handle, content.len() as u64, 1000).await? {
        content.extend_from_slice(&part);
    }
    client.close(handle).await?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

async fn names(client: &Client, path: &[u8]) -> Result<Vec<String>, ClientError> {
    let mut names: Vec<_> =
        client.list(path).await?.into_iter().map(|name| String::from_utf8_lossy(&name.name).into_owned()).collect();
    names.sort();
    Ok(names)
}

async fn attributes(client: &Client, path: &[u8]) -> Result<(Option<u64>, Option<u32>, Option<u32>), ClientError> {
    let attrs = client.lstat(path).await?;
    let size = attrs.size.filter(|_| attrs.mode.is_some_and(|mode| mode & 0o170_000 != 0o040_000));
    Ok((size, attrs.mode, attrs.times.map(|(_, modified)| modified).filter(|modified| *modified < 1000)))
}

const NEW: u32 = flag::WRITE | flag::CREAT | flag::TRUNC;

async fn files(c: &Client) -> Vec<String> {
    let mut notes = Vec::new();
    note!(notes, put(c, b"a", NEW, 0, b"first"));
    note!(notes, get(c, b"a"));
    note!(notes, put(c, b"a", flag::WRITE, 2, b"XX"));
    note!(notes, get(c, b"a"));
    note!(notes, put(c, b"a", flag::WRITE | flag::APPEND, 0, b"+end"));
    note!(notes, get(c, b"a"));
    note!(notes, put(c, b"a", NEW, 3, b"hole"));
    note!(notes, get(c, b"a"));
    note!(notes, put(c, b"a", NEW | flag::EXCL, 0, b"x"));
    note!(notes, put(c, b"new", NEW | flag::EXCL, 0, b"x"));
    note!(notes, put(c, b"missing", flag::WRITE, 0, b"x"));
    note!(notes, put(c, b"no/folder", NEW, 0, b"x"));
    note!(notes, get(c, b"missing"));
    note!(notes, get(c, b"a/b"));
    note!(notes, put(c, b"empty", NEW, 0, b""));
    note!(notes, get(c, b"empty"));
    note!(notes, attributes(c, b"empty"));
    note!(notes, names(c, b"."));
    notes
}

async fn folders(c: &Client) -> Vec<String> {
    let mut notes = Vec::new();
    note!(notes, c.mkdir(b"d", 0o755));
    note!(notes, c.mkdir(b"d", 0o755));
    note!(notes, c.mkdir(b"x/y", 0o755));
    note!(notes, attributes(c, b"d"));
    note!(notes, put(c, b"d/f", NEW, 0, b"x"));
    note!(notes, c.rmdir(b"d"));
    note!(notes, c.remove(b"d"));
    note!(notes, c.rmdir(b"d/f"));
    note!(notes, c.rmdir(b"missing"));
    note!(notes, names(c, b"missing"));
    note!(notes, names(c, b"d/f"));
    note!(notes, names(c, b"d"));
    note!(notes, put(c, b"d", NEW, 0, b"x"));
    note!(notes, c.remove(b"d/f"));
    note!(notes, c.remove(b"d/f"));
    note!(notes, c.rmdir(b"d"));
    note!(notes, names(c, b"."));
    notes
}

async fn renames(c: &Client) -> Vec<String> {
    let mut notes = Vec::new();
    note!(notes, put(c, b"a", NEW, 0, b"a"));
    note!(notes, put(c, b"b", NEW, 0, b"b"));
    note!(notes, c.rename(b"a", b"b"));
    note!(notes, get(c, b"b"));
    note!(notes, c.posix_rename(b"a", b"b"));
    note!(notes, get(c, b"b"));
    note!(notes, c.rename(b"b", b"c"));
    note!(notes, c.rename(b"missing", b"d"));
    note!(notes, c.mkdir(b"d", 0o700));
    note!(notes, c.posix_rename(b"c", b"d"));
    note!(notes, c.rename(b"c", b"d/c"));
    note!(notes, c.rename(b"d", b"d/e"));
    note!(notes, c.hardlink(b"d/c", b"link"));
    note!(notes, c.hardlink(b"d/c", b"link"));
    note!(notes, get(c, b"link"));
    note!(notes, names(c, b"."));
    notes
}

async fn links(c: &Client) -> Vec<String> {
    let mut notes = Vec::new();
    note!(notes, put(c, b"file", NEW, 0, b"content"));
    note!(notes, c.symlink(b"file", b"link"));
    note!(notes, c.symlink(b"file", b"link"));
    note!(notes, c.readlink(b"link"));
    note!(notes, c.readlink(b"file"));
    note!(notes, c.readlink(b"missing"));
    note!(notes, get(c, b"link"));
    note!(notes, put(c, b"link", NEW, 0, b"through the link"));
    note!(notes, get(c, b"file"));
    note!(notes, c.readlink(b"link"));
    note!(notes, c.symlink(b"not there yet", b"dangling"));
    note!(notes, get(c, b"dangling"));
    note!(notes, put(c, b"dangling", NEW, 0, b"made"));
    note!(notes, get(c, b"not there yet"));
    note!(notes, c.symlink(b"circle", b"circle"));
    note!(notes, get(c, b"circle"));
    note!(notes, c.remove(b"link"));
    note!(notes, names(c, b"."));
    notes
}

async fn attribute_changes(c: &Client) -> Vec<String> {
    let set = |mode, times, size| Attrs { mode, times, size, owner: None };
    let mut notes = Vec::new();
    note!(notes, put(c, b"f", NEW, 0, b"content"));
    note!(notes, c.setstat(b"f", set(Some(0o600), Some((5, 7)), None)));
    note!(notes, attributes(c, b"f"));
    note!(notes, c.setstat(b"f", set(None, None, Some(3))));
    note!(notes, get(c, b"f"));
    note!(notes, c.setstat(b"f", set(None, None, Some(5))));
    note!(notes, get(c, b"f"));
    note!(notes, c.setstat(b"missing", set(Some(0o600), None, None)));
    note!(notes, c.symlink(b"f", b"link"));
    note!(notes, c.lsetstat(b"link", set(None, Some((1, 2)), None)));
    note!(notes, c.setstat(b"link", set(None, Some((3, 4)), None)));
    note!(notes, attributes(c, b"link"));
    note!(notes, attributes(c, b"f"));
    note!(notes, c.mkdir(b"d", 0o777));
    note!(notes, c.setstat(b"d", set(Some(0o700), Some((5, 6)), None)));
    note!(notes, attributes(c, b"d"));
    let handle = c.open(b"g", NEW, Some(0o444)).await.unwrap();
    note!(notes, c.write(&handle, 0, b"written although it is read-only by then"));
    note!(notes, c.fsetstat(&handle, set(Some(0o640), Some((8, 9)), Some(7))));
    note!(notes, c.fsync(&handle));
    note!(notes, c.close(handle));
    note!(notes, get(c, b"g"));
    note!(notes, attributes(c, b"g"));
    notes
}

async fn names_are_bytes(c: &Client) -> Vec<String> {
    let mut notes = Vec::new();
    for name in [b"\xff\xfe".as_slice(), b"new\nline", b"-dash", b"back\\slash", b" ", &[b'n'; 255]] {
        note!(notes, put(c, name, NEW, 0, name));
        note!(notes, attributes(c, name));
        note!(notes, c.rename(name, b"plain"));
        note!(notes, c.remove(b"plain"));
    }
    note!(notes, c.extended("unknown@example.org", b""));
    notes
}

macro_rules! referee_cases {
    ($($case:ident),*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                let folder = tempfile::tempdir().unwrap();
                let (_child, theirs) = referee(folder.path()).await;
                let (_machine, our) = ours().await;
                let (expected, found) = (super::$case(&theirs).await, super::$case(&our).await);
                for (expected, found) in expected.iter().zip(&found) {
                    assert_eq!(expected, found, "OpenSSH's answer is on the left");
                }
                assert!(expected.len() == found.len() && expected.len() > 10);
            }
        )*
    };
}

mod as_openssh {
    use super::{ours, referee};
    referee_cases!(files, folders, renames, links, attribute_changes, names_are_bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_too_long_is_a_failure_and_not_a_broken_connection() {
    let (_machine, client) = ours().await;
    let refused = put(&client, &[b'n'; 256], NEW, 0, b"x").await;
    assert_eq!(shown(refused), "Failure");
    assert_eq!(shown(put(&client, &[b'n'; 5000], NEW, 0, b"x").await), "Failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_seen_under_its_name_only_when_it_is_closed() {
    let (machine, client) = ours().await;
    put(&client, b"x", NEW, 0, b"old").await.unwrap();
    let handle = client.open(b"x", NEW, None).await.unwrap();
    client.write(&handle, 0, b"new, but not all of it").await.unwrap();
    assert_eq!(get(&client, b"x").await.unwrap(), "new, but not all of it", "its own connection, as on any server");
    assert_eq!(std::fs::read(machine.path("u", "x")).unwrap(), b"old");
    client.close(handle).await.unwrap();
    assert_eq!(get(&client, b"x").await.unwrap(), "new, but not all of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_end_at_their_limit_before_anything_is_touched() {
    let (_machine, client) = ours_with("LIMITS__HANDLES_PER_SESSION", "5").await;
    put(&client, b"x", NEW, 0, b"content").await.unwrap();
    let mut handles = Vec::new();
    for _ in 0..5 {
        handles.push(client.open(b"x", flag::READ, None).await.unwrap());
    }
    assert_eq!(shown(client.open(b"x", NEW, None).await.map(|_| ())), "Failure");
    client.close(handles.pop().unwrap()).await.unwrap();
    assert_eq!(get(&client, b"x").await.unwrap(), "content");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_wait_sees_its_own_changes_in_order() {
    let (_machine, client) = ours().await;
    for round in 0..50 {
        let content = format!("round {round}");
        let handle = client.open(b"x", NEW, None).await.unwrap();
        client.write(&handle, 0, content.as_bytes()).await.unwrap();
        let closing = client.begin_close(&handle).await.unwrap();
        let (read, closed) = tokio::join!(get(&client, b"x"), closing.done());
        closed.unwrap();
        assert_eq!(read.unwrap(), content);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_for_reading_cuts_nothing() {
    let (_machine, client) = ours().await;
    put(&client, b"x", NEW, 0, b"content").await.unwrap();
    let handle = client.open(b"x", flag::READ, None).await.unwrap();
    let cut = Attrs { size: Some(0), ..Attrs::default() };
    assert_eq!(shown(client.fsetstat(&handle, cut).await), "Failure");
    assert_eq!(get(&client, b"x").await.unwrap(), "content");
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_set_during_an_upload_are_those_of_the_file_that_it_becomes() {
    let (machine, client) = ours().await;
    put(&client, b"x", NEW, 0, b"old").await.unwrap();
    let handle = client.open(b"x", NEW, None).await.unwrap();
    client.setstat(b"x", Attrs { mode: Some(0o600), ..Attrs::default() }).await.unwrap();
    let mode = || std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(machine.path("u", "x")).unwrap()) & 0o777;
    assert_eq!(mode(), 0o644, "the old version is let alone");
    client.close(handle).await.unwrap();
    assert_eq!(mode(), 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_on_the_volume_is_let_alone() {
    let (machine, client) = ours().await;
    put(&client, b"x", NEW, 0, b"old").await.unwrap();
    let made = std::process::Command::new("mkfifo").arg(machine.path("u", "pipe")).status().unwrap();
    assert!(made.success());
    assert_eq!(
        shown(client.setstat(b"pipe", Attrs { mode: Some(0o600), ..Attrs::default() }).await),
        "PermissionDenied"
    );
    assert_eq!(shown(client.open(b"pipe", flag::READ, None).await.map(|_| ())), "PermissionDenied");
    assert_eq!(shown(put(&client, b"x", NEW, 0, b"new").await), "()");
    assert_eq!(machine.page("/readyz").0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pairs_own_requests_are_unknown_to_users() {
    let (_machine, client) = ours().await;
    for name in [pair::extension::HELLO, pair::extension::ACCOUNTS, pair::extension::DIGEST, pair::extension::PUT] {
        assert_eq!(shown(client.extended(name, b"{}").await), "OpUnsupported", "{name}");
        assert!(!client.has(name));
    }
}
