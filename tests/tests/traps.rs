//! What has caught servers and clients built on russh and beside it, each with a test that sees who falls in.
//!
//! | trap | what would see it |
//! |---|---|
//! | 1. reading waits for writing, writing for reading | `requests_packed_together_…`, `the_server_goes_on_reading_…`, `a_large_download_…` |
//! | 2. what waits while keys are exchanged is not gone on with | `new_keys_again_and_again_…` (the client asks), `channel/tests.rs` in sftpd (the server asks), `our_client_and_openssh_…` |
//! | 3. handles and names taken for text | `two_hundred_handles_…`, `conformance::as_openssh::names_are_bytes`; our client: `pair/src/client/tests.rs` |
//! | 4. a bad packet: answered under number 0, or the stream out of step | `the_longest_packet_…`, `abuse::a_garbled_request_…`, `abuse::what_is_no_sftp_…`, the fuzzers |
//! | 5. extensions that nobody serves | we have our own: `extensions::what_is_announced_…`, `extensions.rs` |
//! | 6. a client that flushes unasked, gives up after 10 s and queues without end | we have our own: `pair/src/client/tests.rs` |
//! | 7. a window that stays closed, and requests that come all the same | `who_asks_behind_a_closed_window_…`, `abuse::a_client_that_asks_and_never_reads_…` |
//! | 8. sending by the size of the wrong window | nothing here asks for a window's size; `a_small_window_…`, and what sees 7 |
//! | 9. defaults: a delay for asking how to log in, no grace, ten tries | `who_asks_first_how_to_log_in_…`, `guesses_on_one_connection_…`, `session.rs` in sftpd, `logins::a_connection_that_does_not_log_in_is_ended` |
//! | 10. both ends write and neither reads, or one channel of a connection stops another | `…_both_ways_at_once_…`, `a_channel_that_nobody_reads_…` |
//! | 11. a slow password check stops others | `checker.rs` in sftpd, `enumeration::two_hundred_connections_…`, `abuse::a_connection_is_kept_alive_…` |
//! | 12. data beyond a packet while keys are exchanged; known holes | what sees 2; `tidy::russh_is_pinned_…` |
//! | 13. what a build needs | `containers.rs` builds the image from nothing |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use futures::future::{Either, join_all, select};
use pair::client::{Client, Login, PrivateKey};
use pair::wire::{Code, PACKET_BYTES_MAX, kind, open_flag as flag, put_bytes, put_packet};
use russh::client::{Config, Handle};
use tests::raw::{Answer, parse};
use tests::step::NEW;
use tests::{Anybody, Machine, OpenSsh, Raw, Sftp, USER, eventually, has_program, make_key, run};
use tokio::time::timeout;

/// How long a transfer may take. Who is stuck is stuck for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// A content in which no piece is like another.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes as u32 / 4 + 1).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).take(bytes).collect()
}

/// A machine with a file for its user; gives the file's content, too.
fn machine_with(name: &str, bytes: usize) -> (Machine, Vec<u8>) {
    let machine = Machine::master().start();
    let content = content(bytes);
    std::fs::create_dir_all(machine.path(USER.0, "")).unwrap();
    std::fs::write(machine.path(USER.0, name), &content).unwrap();
    (machine, content)
}

/// A READ with a number of the test's own.
fn put_read(out: &mut BytesMut, number: u32, handle: &[u8], offset: u64, bytes: u32) {
    put_packet(out, kind::READ, |out| {
        out.put_u32(number);
        put_bytes(out, handle);
        out.put_u64(offset);
        out.put_u32(bytes);
    });
}

/// How many large READs leave no room in a window and in every queue behind it: 10 MB of answers.
const TOO_MANY: u32 = 40;

/// These READs. With them begins a stream that is not read.
fn close_the_window(handle: &[u8]) -> BytesMut {
    let mut requests = BytesMut::new();
    (0..TOO_MANY).for_each(|number| put_read(&mut requests, number, handle, 0, 255 * 1024));
    requests
}

/// A number of the metrics.
fn metric(machine: &Machine, name: &str) -> u64 {
    let page = machine.page("/metrics").1;
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {page}"))
}

/// A connection on which nobody has logged in.
async fn greeted(machine: &Machine, config: Config, who: Anybody) -> Handle<Anybody> {
    russh::client::connect(Arc::new(config), machine.address(), who).await.unwrap()
}

/// A connection of the user's with little room in its socket: whoever only writes is soon stuck.
async fn logged_in_narrowly(machine: &Machine) -> Handle<Anybody> {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(32 * 1024).unwrap();
    socket.set_recv_buffer_size(32 * 1024).unwrap();
    let stream = socket.connect(machine.address()).await.unwrap();
    let config = Arc::new(Config::default());
    let mut session = russh::client::connect_stream(config, stream, Anybody::default()).await.unwrap();
    assert!(session.authenticate_password(USER.0, USER.1).await.unwrap().success());
    session
}

/// A connection of the user's.
async fn logged_in(machine: &Machine, config: Config, who: Anybody) -> Handle<Anybody> {
    let mut session = greeted(machine, config, who).await;
    assert!(session.authenticate_password(USER.0, USER.1).await.unwrap().success());
    session
}

/// Our client on a channel of a connection.
async fn channel_of(session: &Handle<Anybody>) -> Client {
    let channel = session.channel_open_session().await.unwrap();
    channel.request_subsystem(true, "sftp").await.unwrap();
    Client::over(channel.into_stream()).await.unwrap()
}

/// Our client over OpenSSH's transport.
struct OverOpenSsh {
    client: Client,
    _ssh: tokio::process::Child,
    /// Its files must outlive the process.
    _login: Sftp,
}

async fn over_openssh(login: Sftp) -> OverOpenSsh {
    let mut command = login.command("ssh");
    command.arg("-s").arg(login.target()).arg("sftp");
    let mut command = tokio::process::Command::from(command);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut ssh = piped.spawn().unwrap();
    let stream = tokio::io::join(ssh.stdout.take().unwrap(), ssh.stdin.take().unwrap());
    OverOpenSsh { client: Client::over(stream).await.unwrap(), _ssh: ssh, _login: login }
}

/// Two channels of OpenSSH's client on one connection.
fn two_logins(machine: &Machine, folder: &tempfile::TempDir) -> [Sftp; 2] {
    let path = format!("ControlPath={}", folder.path().join("c").display());
    [(); 2].map(|()| machine.sftp(USER).option("ControlMaster=auto").option(&path))
}

/// Uploads with as many requests at once as our client allows.
async fn upload(client: &Client, name: &[u8], content: &[u8]) {
    let (handle, size) = (client.open(name, NEW, None).await.unwrap(), client.write_bytes_max());
    let pieces = content.chunks(size).enumerate();
    let writes = pieces.map(|(number, piece)| client.write(&handle, (number * size) as u64, piece));
    join_all(writes).await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    client.close(handle).await.unwrap();
}

/// Downloads in the same way.
async fn download(client: &Client, name: &[u8], bytes: usize) -> Vec<u8> {
    let (handle, size) = (client.open(name, flag::READ, None).await.unwrap(), client.read_bytes_max());
    let reads = (0..bytes).step_by(size).map(|offset| client.read(&handle, offset as u64, size));
    let pieces = join_all(reads).await.into_iter().map(|piece| piece.unwrap().unwrap());
    let content = pieces.flatten().collect();
    client.close(handle).await.unwrap();
    content
}

/// Uploads by one client and downloads by another at the same time; they may be the same. Both must arrive whole.
async fn both_ways_at_once(machine: &Machine, content: &[u8], up: &Client, down: &Client) {
    let both = async { tokio::join!(upload(up, b"up", content), download(down, b"down", content.len())) };
    let ((), found) = timeout(PATIENCE, both).await.expect("neither waits for the other");
    assert!(found == content, "what was downloaded");
    assert!(std::fs::read(machine.path(USER.0, "up")).unwrap() == content, "what was uploaded");
}

#[test]
fn requests_packed_together_and_read_late_are_answered_all_and_in_order() {
    let (machine, content) = machine_with("file", 1000 * 1024);
    let mut raw = Raw::greeted(&machine, USER);
    let handle = raw.open(b"file", flag::READ, None).handle();
    let offset_of = |number: u32| number as usize % 1000 * 1024;
    let mut requests = BytesMut::new();
    // OpenSSH's client sends what it is given in packets of up to 32 KiB: more than a thousand of these in each.
    (0..30_000).for_each(|number| put_read(&mut requests, number, &handle, offset_of(number) as u64, 1024));
    let mut input = raw.take_input();
    // None is read before all are sent.
    input.write_all(&requests).unwrap();
    let reader = std::thread::spawn(move || {
        for number in 0..30_000 {
            let (found, answer) = parse(&raw.receive());
            let expected = &content[offset_of(number)..][..1024];
            assert!((found, &answer) == (number, &Answer::Data(expected.to_vec())), "answer {found}, {number} is due");
        }
    });
    eventually("all are answered", || reader.is_finished());
    reader.join().unwrap();
}

#[test]
fn the_server_goes_on_reading_while_nobody_takes_its_answers_and_forgets_who_goes() {
    const REQUESTS: u32 = 1000;
    let (machine, _) = machine_with("file", 300 * 1024);
    let before = machine.open_files_at_rest();
    // 15 MB: below what the server parks, and well beyond the 8 MiB that a client sends to one that takes nothing in.
    let fat = |handle: &[u8]| {
        let mut requests = close_the_window(handle);
        (TOO_MANY..REQUESTS).for_each(|number| put_read(&mut requests, number, &[b'x'; 15_000], 0, 1));
        requests
    };
    for is_read in [true, false] {
        let mut raw = Raw::greeted(&machine, USER);
        let handle = raw.open(b"file", flag::READ, None).handle();
        let (requests, mut input) = (fat(&handle), raw.take_input());
        let sender = std::thread::spawn(move || input.write_all(&requests).map(|()| input));
        eventually("it takes all of it", || sender.is_finished());
        let open = sender.join().unwrap().unwrap();
        if is_read {
            let numbers = (0..REQUESTS).map(|_| parse(&raw.receive()).0);
            assert!(numbers.eq(0..REQUESTS), "in the order in which they were asked");
        }
        drop((open, raw));
        eventually("no socket is left", || machine.open_files() <= before);
    }
}

#[test]
fn a_large_download_by_openssh_is_whole_with_any_number_of_large_requests() {
    let (machine, content) = machine_with("file", 40 << 20);
    let (folder, login) = (tempfile::tempdir().unwrap(), machine.sftp(USER));
    let (down, batch) = (folder.path().join("down"), folder.path().join("batch"));
    std::fs::write(&batch, format!("get file {}\n", down.display())).unwrap();
    for options in [&[][..], &["-B", "261120", "-R", "1024"]] {
        let mut command = login.command("sftp");
        let (status, text) = run(command.args(options).arg("-b").arg(&batch).arg(login.target()));
        assert!(status.success() && std::fs::read(&down).unwrap() == content, "{options:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_keys_again_and_again_lose_nothing_and_hold_up_nothing() {
    let (machine, content) = machine_with("down", 12_000_001);
    let (limits, who) = (russh::Limits::new(1 << 20, 1 << 20, Duration::from_secs(3600)), Anybody::default());
    let session = logged_in(&machine, Config { limits, ..Config::default() }, who.clone()).await;
    let client = channel_of(&session).await;
    let there_and_back = async {
        upload(&client, b"up", &content).await;
        download(&client, b"down", content.len()).await
    };
    let found = timeout(PATIENCE, there_and_back).await.expect("it goes on behind every exchange");
    assert!(found == content && std::fs::read(machine.path(USER.0, "up")).unwrap() == content);
    let exchanges = who.0.load(Ordering::Relaxed);
    assert!(exchanges > 10, "only {exchanges} exchanges of keys: that tries nothing");
}

/// OpenSSH's server asks for new keys; our client waits for what it had begun.
#[tokio::test(flavor = "multi_thread")]
async fn our_client_and_openssh_move_bulk_both_ways_at_once_through_many_key_exchanges() {
    if !has_program("sshd") || !rustix::process::geteuid().is_root() {
        return println!("SKIPPED: sshd is for root");
    }
    let (folder, content) = (tempfile::tempdir().unwrap(), content(8_000_001));
    let key = make_key(folder.path());
    let server = OpenSsh::start_with(folder.path(), &key, "RekeyLimit 1M");
    std::fs::write(server.home().join("down"), &content).unwrap();
    let login = Login::with_key("root", Arc::new(PrivateKey::from_openssh(std::fs::read(&key.0).unwrap()).unwrap()));
    let client = pair::client::connect(&server.address().to_string(), login, Arc::new(|_| Ok(()))).await.unwrap();
    let both = async { tokio::join!(upload(&client, b"up", &content), download(&client, b"down", content.len())) };
    let ((), found) = timeout(PATIENCE, both).await.expect("neither waits for the other");
    assert!(found == content && std::fs::read(server.home().join("up")).unwrap() == content);
}

#[test]
fn two_hundred_handles_are_plain_text_and_each_is_its_own_file() {
    let machine = Machine::master().setting("DURABILITY", "none").start();
    std::fs::create_dir_all(machine.path(USER.0, "")).unwrap();
    let mut raw = Raw::greeted(&machine, USER);
    let open = |raw: &mut Raw, number: u32| {
        std::fs::write(machine.path(USER.0, &number.to_string()), format!("content {number}")).unwrap();
        raw.open(number.to_string().as_bytes(), flag::READ, None).handle()
    };
    let handles: Vec<_> = (0..200).map(|number| open(&mut raw, number)).collect();
    for (number, handle) in handles.iter().enumerate() {
        assert!(!handle.is_empty() && handle.iter().all(u8::is_ascii_graphic), "{handle:?}");
        assert_eq!(raw.read(handle, 0, 100), Answer::Data(format!("content {number}").into_bytes()));
    }
    for handle in &handles {
        assert_eq!(raw.on(kind::CLOSE, handle), Answer::Status(Code::Ok));
    }
}

#[test]
fn the_longest_packet_is_served_and_what_follows_is_still_understood() {
    let machine = Machine::master().start();
    let mut raw = Raw::greeted(&machine, USER);
    // Type, number and the path's own length come before the path.
    let path = vec![b'/'; PACKET_BYTES_MAX - 9];
    for _ in 0..3 {
        assert_eq!(raw.on(kind::STAT, &path), Answer::Status(Code::Failure), "the system takes no such path");
        assert!(matches!(raw.on(kind::STAT, b"/"), Answer::Attrs(_)));
    }
}

#[test]
fn who_asks_behind_a_closed_window_is_ended_with_a_sentence_and_leaves_nothing() {
    let machine = Machine::master().setting("LIMITS__PARKED_BYTES", "1000000").start();
    std::fs::create_dir_all(machine.path(USER.0, "")).unwrap();
    std::fs::write(machine.path(USER.0, "file"), content(300 * 1024)).unwrap();
    let before = machine.open_files_at_rest();
    let mut raw = Raw::greeted(&machine, USER);
    let handle = raw.open(b"file", flag::READ, None).handle();
    let memory_kib = machine.program().peak_memory_kib();
    let (mut requests, mut input) = (close_the_window(&handle), raw.take_input());
    // What of it is served makes answers of 25 GB.
    (TOO_MANY..100_000).for_each(|number| put_read(&mut requests, number, &handle, 0, 255 * 1024));
    let sender = std::thread::spawn(move || input.write_all(&requests).map(|()| input));
    let sentence = "the client sends requests and does not take the answers";
    eventually("it is said", || machine.program().lines().iter().any(|line| line.contains(sentence)));
    // The client is still there and reads nothing.
    eventually("no socket is left", || machine.open_files() <= before);
    let grown_kib = machine.program().peak_memory_kib() - memory_kib;
    assert!(grown_kib < 30 * 1024, "{grown_kib} KiB more for one client that does not read");
    assert!(machine.sftp(USER).can_log_in());
    drop(raw);
    drop(sender.join().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_window_lets_every_byte_through() {
    let (machine, content) = machine_with("down", 3_000_001);
    let config = Config { window_size: 40_000, maximum_packet_size: 4096, ..Config::default() };
    let session = logged_in(&machine, config, Anybody::default()).await;
    let client = channel_of(&session).await;
    both_ways_at_once(&machine, &content, &client, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_first_how_to_log_in_is_neither_held_up_nor_counted() {
    // To this machine loopback is an address like any other.
    let machine = Machine::master().setting("GUARD__NEVER", "192.0.2.1").start();
    let connect = || greeted(&machine, Config::default(), Anybody::default());
    let (mut guesser, mut asking) = (connect().await, join_all((0..4).map(|_| connect())).await);
    let ask = async {
        for session in &mut asking {
            assert!(!session.authenticate_none(USER.0).await.unwrap().success());
        }
    };
    // A wrong password is answered after a second, and asking is no password.
    match select(Box::pin(guesser.authenticate_password(USER.0, "wrong")), Box::pin(ask)).await {
        Either::Left(_) => panic!("four questions took longer than one refusal"),
        Either::Right(((), guess)) => assert!(!guess.await.unwrap().success()),
    }
    assert_eq!(metric(&machine, "sftpd_logins_total{name=\"failed\"}"), 1, "the guess");
    assert_eq!(machine.activity().iter().filter(|record| record.error.is_some()).count(), 1, "the guess");
    for session in &mut asking {
        assert!(session.authenticate_password(USER.0, USER.1).await.unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_on_one_connection_end_at_the_sixth() {
    let machine = Machine::master().start();
    let mut session = greeted(&machine, Config::default(), Anybody::default()).await;
    for _ in 0..10 {
        if session.is_closed() || session.authenticate_password(USER.0, "wrong").await.is_err() {
            break;
        }
    }
    // The client of russh takes the end of the connection for one more refusal: the server's count is the right one.
    assert_eq!(metric(&machine, "sftpd_logins_total{name=\"failed\"}"), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_moves_bulk_both_ways_at_once_on_one_channel() {
    let (machine, content) = machine_with("down", 12_000_001);
    let ssh = over_openssh(machine.sftp(USER)).await;
    both_ways_at_once(&machine, &content, &ssh.client, &ssh.client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_moves_bulk_both_ways_at_once_on_two_channels_of_one_connection() {
    let (machine, content) = machine_with("down", 12_000_001);
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = two_logins(&machine, &folder);
    let (up, down) = (over_openssh(first).await, over_openssh(second).await);
    assert_eq!(metric(&machine, "sftpd_sessions"), 1, "one connection");
    both_ways_at_once(&machine, &content, &up.client, &down.client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_client_moves_bulk_both_ways_at_once_on_one_channel() {
    let (machine, content) = machine_with("down", 8_000_001);
    let session = logged_in_narrowly(&machine).await;
    let client = channel_of(&session).await;
    both_ways_at_once(&machine, &content, &client, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_client_moves_bulk_both_ways_at_once_on_two_channels_of_one_connection() {
    let (machine, content) = machine_with("down", 8_000_001);
    let session = logged_in_narrowly(&machine).await;
    let (up, down) = (channel_of(&session).await, channel_of(&session).await);
    both_ways_at_once(&machine, &content, &up, &down).await;
}

/// russh takes nothing of what is sent from outside its task while any channel's window is closed. So a neighbour on the same
/// connection waits until that one is read; what must not happen is that anything is lost, or that anybody else waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_nobody_reads_holds_up_its_own_connection_only_and_nothing_is_lost() {
    let (machine, content) = machine_with("file", 300 * 1024);
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = two_logins(&machine, &folder);
    let mut unread = Raw::through(first);
    unread.greet();
    let handle = unread.open(b"file", flag::READ, None).handle();
    let sent = metric(&machine, "sftpd_sent_bytes_total");
    unread.send(&close_the_window(&handle));
    eventually("its window is closed", || metric(&machine, "sftpd_sent_bytes_total") > sent + 2_000_000);
    let neighbour = over_openssh(second).await;
    assert_eq!(metric(&machine, "sftpd_sessions"), 1, "one connection");
    let work = async {
        neighbour.client.mkdir(b"folder", 0o755).await.unwrap();
        upload(&neighbour.client, b"folder/up", &content).await;
        download(&neighbour.client, b"folder/up", content.len()).await
    };
    let read = async {
        eventually("the neighbour has begun", || machine.path(USER.0, "folder").is_dir());
        assert!(machine.put(USER, "elsewhere", "content"), "on a connection of its own");
        let numbers = (0..TOO_MANY).map(|_| parse(&unread.receive()).0);
        assert!(numbers.eq(0..TOO_MANY), "it goes on where it was");
    };
    let (found, ()) = timeout(PATIENCE, async { tokio::join!(work, read) }).await.expect("both go on");
    assert!(found == content);
}
