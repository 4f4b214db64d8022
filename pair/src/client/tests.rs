//! The client against OpenSSH's own `sftp-server`, and against servers that misbehave.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, Join, duplex, join};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::*;
use crate::wire::put_packet;

const SERVER: &str = "/usr/lib/openssh/sftp-server";

async fn openssh() -> Option<(Client, Child)> {
    if !Path::new(SERVER).exists() {
        eprintln!("SKIPPED: {SERVER} is missing; install openssh-sftp-server");
        return None;
    }
    let pipe = std::process::Stdio::piped;
    let mut child = Command::new(SERVER).stdin(pipe()).stdout(pipe()).kill_on_drop(true).spawn().unwrap();
    let stream: Join<ChildStdout, ChildStdin> = join(child.stdout.take().unwrap(), child.stdin.take().unwrap());
    Some((Client::over(stream).await.unwrap(), child))
}

fn path(folder: &Path, name: &[u8]) -> Vec<u8> {
    [folder.as_os_str().as_bytes(), b"/", name].concat()
}

#[tokio::test]
async fn a_file_goes_there_and_back() {
    let Some((client, _server)) = openssh().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let name = path(folder.path(), b"nasty \xff\nname");
    let content: Vec<u8> = (0..3_000_000u32).map(|number| (number * 7 % 251) as u8).collect();
    assert!(client.write_bytes_max() >= 255 * 1024);

    let flags = open_flag::WRITE | open_flag::CREAT | open_flag::TRUNC;
    let handle = client.open(&name, flags, Some(0o600)).await.unwrap();
    let size = client.write_bytes_max();
    let writes = content.chunks(size).enumerate().map(|(n, part)| client.write(&handle, (n * size) as u64, part));
    join_all(writes).await.into_iter().collect::<Result<Vec<_>>>().unwrap();
    client.fsync(&handle).await.unwrap();
    client
        .fsetstat(&handle, Attrs { mode: Some(0o640), times: Some((5, 1_000_000)), ..Attrs::default() })
        .await
        .unwrap();
    client.close(handle).await.unwrap();

    let attrs = client.lstat(&name).await.unwrap();
    assert_eq!((attrs.size, attrs.mode, attrs.times), (Some(3_000_000), Some(0o100640), Some((5, 1_000_000))));
    let handle = client.open(&name, open_flag::READ, None).await.unwrap();
    let mut found = Vec::new();
    while let Some(data) = client.read(&handle, found.len() as u64, usize::MAX).await.unwrap() {
        found.extend_from_slice(&data);
    }
    assert!(found == content);
    client.close(handle).await.unwrap();
}

#[tokio::test]
async fn folders_links_and_renames() {
    let Some((client, _server)) = openssh().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &[u8]| path(folder.path(), name);
    client.mkdir(&at(b"sub"), 0o700).await.unwrap();
    client.symlink(b"no/where", &at(b"sub/link")).await.unwrap();
    assert_eq!(client.readlink(&at(b"sub/link")).await.unwrap(), b"no/where");
    client.lsetstat(&at(b"sub/link"), Attrs { times: Some((9, 9)), ..Attrs::default() }).await.unwrap();
    assert_eq!(client.lstat(&at(b"sub/link")).await.unwrap().times, Some((9, 9)));
    assert!(client.stat(&at(b"sub/link")).await.unwrap_err().is_missing());

    for name in [b"a", b"b"] {
        std::fs::write(folder.path().join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    assert!(client.rename(&at(b"a"), &at(b"b")).await.is_err());
    client.hardlink(&at(b"b"), &at(b"kept")).await.unwrap();
    client.posix_rename(&at(b"a"), &at(b"b")).await.unwrap();
    assert_eq!(std::fs::read(folder.path().join("b")).unwrap(), b"a");
    assert_eq!(std::fs::read(folder.path().join("kept")).unwrap(), b"b");

    let mut names: Vec<_> = client.list(&at(b".")).await.unwrap().into_iter().map(|name| name.name).collect();
    names.sort();
    assert_eq!(names, [&b"b"[..], b"kept", b"sub"]);
    client.setstat(&at(b"sub"), Attrs { mode: Some(0o750), ..Attrs::default() }).await.unwrap();
    assert!(client.rmdir(&at(b"sub")).await.is_err());
    client.remove(&at(b"sub/link")).await.unwrap();
    client.rmdir(&at(b"sub")).await.unwrap();
    assert!(client.list(&at(b"sub")).await.unwrap_err().is_missing());
}

#[tokio::test]
async fn a_thousand_requests_at_once_are_all_answered() {
    let Some((client, _server)) = openssh().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..1000).map(|number| path(folder.path(), format!("{number}").as_bytes())).collect();
    let flags = open_flag::WRITE | open_flag::CREAT;
    let files = paths.iter().map(|path| async {
        let handle = client.open(path, flags, Some(0o600)).await?;
        client.write(&handle, 0, path).await?;
        client.close(handle).await
    });
    join_all(files).await.into_iter().collect::<Result<Vec<_>>>().unwrap();
    assert_eq!(client.list(&path(folder.path(), b"")).await.unwrap().len(), 1000);
}

#[tokio::test]
async fn a_dead_server_fails_all_that_wait_and_all_that_come() {
    let Some((client, mut server)) = openssh().await else { return };
    server.kill().await.unwrap();
    let requests = (0..200).map(|_| client.lstat(b"/"));
    let answers = tokio::time::timeout(std::time::Duration::from_secs(5), join_all(requests)).await.unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Err(ClientError::Lost(_)))), "{answers:?}");
    assert!(client.is_lost());
}

/// A server that greets and then answers a request with what the test says.
async fn scripted(answer: impl FnOnce(&mut BytesMut) + Send + 'static) -> Client {
    let (ours, theirs) = duplex(1 << 20);
    tokio::spawn(async move {
        let mut theirs: DuplexStream = theirs;
        let mut greeting = [0; 9];
        theirs.read_exact(&mut greeting).await.unwrap();
        let mut out = BytesMut::new();
        put_packet(&mut out, kind::VERSION, |out| out.put_u32(3));
        theirs.write_all(&out).await.unwrap();
        theirs.read_u32().await.unwrap();
        out.clear();
        answer(&mut out);
        theirs.write_all(&out).await.unwrap();
        let mut rest = Vec::new();
        theirs.read_to_end(&mut rest).await.unwrap();
    });
    Client::over(ours).await.unwrap()
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_is_an_error_and_no_panic() {
    let number_only = scripted(|out| put_packet(out, kind::ATTRS, |out| out.put_u32(0))).await;
    assert!(matches!(number_only.lstat(b"/").await, Err(ClientError::Protocol(_))));
    let wrong_type = scripted(|out| put_packet(out, kind::DATA, |out| out.put_u32(0))).await;
    assert!(matches!(wrong_type.lstat(b"/").await, Err(ClientError::Protocol(_))));
    let unasked = scripted(|out| put_packet(out, kind::ATTRS, |out| out.put_u32(77))).await;
    assert!(matches!(unasked.lstat(b"/").await, Err(ClientError::Lost(_))));
    let endless = scripted(|out| out.put_u32(u32::MAX)).await;
    assert!(matches!(endless.lstat(b"/").await, Err(ClientError::Lost(_))));
    let bare_status = scripted(|out| {
        put_packet(out, kind::STATUS, |out| {
            out.put_u32(0);
            out.put_u32(2);
        })
    })
    .await;
    assert!(bare_status.lstat(b"/").await.unwrap_err().is_missing());
}

#[test]
fn what_leads_elsewhere_is_no_name() {
    let wrong: [&[u8]; 7] = [b"", b".", b"..", b"a/b", b"../x", b"/etc", b"a\0"];
    assert!(wrong.iter().all(|name| !is_name(name)));
    let right: [&[u8]; 4] = [b"..a", b"...", b"\xff\n", b" "];
    assert!(right.iter().all(|name| is_name(name)));
}

#[tokio::test]
async fn what_broke_a_client_before_or_could_is_an_error_and_never_a_wait() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/answers");
    let mut tried = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let answers = std::fs::read(entry.unwrap().path()).unwrap();
        // Also each of its beginnings: a server may go away anywhere.
        for end in 0..=answers.len().min(300) {
            let (near, mut far) = tokio::io::duplex(1 << 20);
            far.write_all(&answers[..end]).await.unwrap();
            drop(far);
            let talk = async {
                let Ok(client) = Client::over(near).await else { return };
                let _ = client.lstat(b"x").await;
                let _ = client.list(b"x").await;
                let _ = client.readlink(b"x").await;
            };
            tokio::time::timeout(std::time::Duration::from_secs(30), talk).await.expect("it does not wait for ever");
            tried += 1;
        }
    }
    assert!(tried > 100);
}

/// A greeted client, and the server's end in the test's hands.
async fn in_hand() -> (Client, DuplexStream) {
    let (near, mut far) = duplex(1 << 24);
    let greeted = async {
        far.read_exact(&mut [0; 9]).await.unwrap();
        let mut out = BytesMut::new();
        put_packet(&mut out, kind::VERSION, |out| out.put_u32(3));
        far.write_all(&out).await.unwrap();
    };
    let (client, ()) = tokio::join!(Client::over(near), greeted);
    (client.unwrap(), far)
}

/// The next request: its type, its number and its body.
async fn asked(far: &mut DuplexStream) -> (u8, u32, Vec<u8>) {
    let mut packet = vec![0; far.read_u32().await.unwrap() as usize];
    far.read_exact(&mut packet).await.unwrap();
    (packet[0], u32::from_be_bytes(packet[1..5].try_into().unwrap()), packet[5..].to_vec())
}

/// The next request, or none where no more comes. The clock is the test's own: it goes on only when nobody has anything to do.
async fn asked_more(far: &mut DuplexStream) -> Option<(u8, u32, Vec<u8>)> {
    tokio::time::timeout(Duration::from_secs(60), asked(far)).await.ok()
}

async fn answer(far: &mut DuplexStream, kind: u8, number: u32, body: impl FnOnce(&mut BytesMut)) {
    let mut out = BytesMut::new();
    put_packet(&mut out, kind, |out| {
        out.put_u32(number);
        body(out);
    });
    far.write_all(&out).await.unwrap();
}

/// A handle of four bytes that are no text, as servers give them out.
fn no_text(number: u32) -> [u8; 4] {
    (0x80ff_fe00 | number).to_be_bytes()
}

#[tokio::test(start_paused = true)]
async fn a_server_may_take_an_hour_for_an_answer() {
    let (client, mut far) = in_hand().await;
    let server = async {
        let (_, number, _) = asked(&mut far).await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        answer(&mut far, kind::STATUS, number, |out| out.put_u32(2)).await;
    };
    let (found, ()) = tokio::join!(client.lstat(b"/"), server);
    assert!(found.unwrap_err().is_missing());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_nothing_is_sent_so_much_and_no_more() {
    for (bytes, expected) in
        [(100, pipeline::REQUESTS_MAX), (DATA_BYTES_MAX, pipeline::QUEUE_BYTES_MAX / DATA_BYTES_MAX)]
    {
        let (client, mut far) = in_hand().await;
        let handle = Handle {
            bytes: Bytes::from_static(b"0"),
            _place: Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap(),
        };
        let content = vec![0; bytes];
        let all = join_all((0..1000).map(|_| client.write(&handle, 0, &content)));
        let count = async {
            let mut count = 0;
            while asked_more(&mut far).await.is_some() {
                count += 1;
            }
            count
        };
        let count = tokio::select! {
            _ = all => panic!("nobody has answered"),
            count = count => count,
        };
        assert_eq!(count, expected, "requests of {bytes} bytes");
    }
}

#[tokio::test]
async fn an_upload_asks_for_what_it_needs_and_flushes_nothing_unasked() {
    let (client, mut far) = in_hand().await;
    let kinds = Mutex::new(Vec::new());
    let server = async {
        loop {
            let (kind, number, _) = asked(&mut far).await;
            kinds.lock().unwrap().push(kind);
            match kind {
                kind::OPEN => answer(&mut far, kind::HANDLE, number, |out| put_bytes(out, b"0")).await,
                _ => answer(&mut far, kind::STATUS, number, |out| out.put_u32(0)).await,
            }
        }
    };
    let upload = async {
        let handle = client.open(b"x", open_flag::WRITE | open_flag::CREAT, None).await.unwrap();
        client.write(&handle, 0, b"content").await.unwrap();
        client.close(handle).await.unwrap();
    };
    tokio::select! {
        () = upload => {}
        () = server => {}
    }
    assert_eq!(kinds.into_inner().unwrap(), [kind::OPEN, kind::WRITE, kind::CLOSE]);
}

#[tokio::test(start_paused = true)]
async fn handles_are_bytes_and_no_more_are_open_than_foreign_servers_bear() {
    let (client, mut far) = in_hand().await;
    let all = join_all((0..HANDLES_MAX + 50).map(|_| client.open(b"x", open_flag::READ, None)));
    // Each is held, so that none of those behind can be opened.
    let server = async {
        let mut count = 0;
        while let Some((found, number, _)) = asked_more(&mut far).await {
            assert_eq!(found, kind::OPEN);
            answer(&mut far, kind::HANDLE, number, |out| put_bytes(out, &no_text(count))).await;
            count += 1;
        }
        count
    };
    let count = tokio::select! {
        _ = all => panic!("more are open than may be"),
        count = server => count,
    };
    assert_eq!(count as usize, HANDLES_MAX);

    let (client, mut far) = in_hand().await;
    let server = async {
        let (_, number, _) = asked(&mut far).await;
        answer(&mut far, kind::HANDLE, number, |out| put_bytes(out, &no_text(7))).await;
        let (_, number, body) = asked(&mut far).await;
        answer(&mut far, kind::STATUS, number, |out| out.put_u32(0)).await;
        body
    };
    let use_it = async { client.close(client.open(b"x", open_flag::READ, None).await.unwrap()).await.unwrap() };
    let ((), body) = tokio::join!(use_it, server);
    assert_eq!(body, [&[0, 0, 0, 4][..], &no_text(7)].concat());
}
