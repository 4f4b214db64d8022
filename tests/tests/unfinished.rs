//! Unfinished uploads: one per account and path, seen by that account only, continued by whoever comes next.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use pair::client::{Client, ClientError, Handle};
use pair::wire::open_flag as flag;
use tests::{Machine, User, eventually, master_with, read_all};

/// What clients open a new upload with.
const NEW: u32 = flag::WRITE | flag::CREAT | flag::TRUNC;

async fn begin(client: &Client, path: &str, content: &[u8]) -> Handle {
    let handle = client.open(path.as_bytes(), NEW, Some(0o644)).await.unwrap();
    client.write(&handle, 0, content).await.unwrap();
    handle
}

async fn put(client: &Client, path: &str, content: &[u8]) {
    let handle = begin(client, path, content).await;
    client.close(handle).await.unwrap();
}

async fn size(client: &Client, path: &str) -> Option<u64> {
    client.stat(path.as_bytes()).await.ok().and_then(|attrs| attrs.size)
}

async fn listed(client: &Client, name: &str) -> Option<u64> {
    let names = client.list(b"/").await.unwrap();
    names.into_iter().find(|entry| entry.name == name.as_bytes()).and_then(|entry| entry.attrs.size)
}

fn on_volume(machine: &Machine, path: &str) -> Option<Vec<u8>> {
    std::fs::read(machine.path("alice", path)).ok()
}

fn sentence<T: std::fmt::Debug>(result: Result<T, ClientError>) -> String {
    result.unwrap_err().to_string()
}

/// A machine with two accounts on one folder, and a third.
fn machine() -> (Machine, User, User) {
    let (alice, friend) = (User::new("alice"), User::new("friend"));
    let machine = master_with(&[(&alice, ""), (&friend, ", home: alice")]).start();
    (machine, alice, friend)
}

/// Ends a connection and waits until the server knows.
async fn hang_up(machine: &Machine, client: Client) {
    drop(client);
    tokio::task::block_in_place(|| {
        eventually("the connection is gone", || machine.page("/metrics").1.contains("sftpd_sessions 0"));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_upload_is_seen_by_its_account_only_on_any_connection_and_everywhere() {
    let (machine, alice, friend) = machine();
    let first = alice.connect(&machine).await;
    put(&first, "x", b"the old version").await;
    let _handle = begin(&first, "x", b"new").await;
    let (second, other) = (alice.connect(&machine).await, friend.connect(&machine).await);
    for client in [&first, &second] {
        // Another connection is shown one byte less: what is all there but not closed must not look complete.
        let seen = if std::ptr::eq(client, &first) { 3 } else { 2 };
        assert_eq!((size(client, "x").await, listed(client, "x").await), (Some(seen), Some(seen)));
        assert_eq!(client.lstat(b"x").await.unwrap().size, Some(seen));
    }
    assert_eq!((size(&other, "x").await, listed(&other, "x").await), (Some(15), Some(15)));
    let _new = begin(&first, "fresh", b"12345").await;
    assert_eq!((size(&second, "fresh").await, listed(&second, "fresh").await), (Some(4), Some(4)));
    assert_eq!((size(&other, "fresh").await, listed(&other, "fresh").await), (None, None));
    assert_eq!(on_volume(&machine, "x").unwrap(), b"the old version");
    assert_eq!(on_volume(&machine, "fresh"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_where_it_was_and_the_size_of_the_handle_says_where() {
    let (machine, alice, _) = machine();
    let first = alice.connect(&machine).await;
    put(&first, "x", b"the old version").await;
    let _handle = begin(&first, "x", b"new ").await;
    hang_up(&machine, first).await;
    let second = alice.connect(&machine).await;
    // FileZilla and psftp: no CREAT, no TRUNC, and the handle's size decides.
    let handle = second.open(b"x", flag::WRITE, None).await.unwrap();
    assert_eq!(second.fstat(&handle).await.unwrap().size, Some(3));
    second.write(&handle, 3, b" version").await.unwrap();
    assert_eq!(on_volume(&machine, "x").unwrap(), b"the old version");
    second.close(handle).await.unwrap();
    assert_eq!(on_volume(&machine, "x").unwrap(), b"new version");
    // With TRUNC it begins anew, also where it has no earlier version.
    let _handle = begin(&second, "fresh", b"a long beginning").await;
    hang_up(&machine, second).await;
    put(&alice.connect(&machine).await, "fresh", b"short").await;
    assert_eq!(on_volume(&machine, "fresh").unwrap(), b"short");
}

#[tokio::test(flavor = "multi_thread")]
async fn appending_clients_go_on_at_the_end_of_what_has_arrived() {
    let (machine, alice, _) = machine();
    let first = alice.connect(&machine).await;
    put(&first, "x", b"the old version").await;
    let _handle = begin(&first, "x", b"new ").await;
    let second = alice.connect(&machine).await;
    // curl and sftp reput: APPEND.
    let handle = second.open(b"x", flag::WRITE | flag::APPEND | flag::CREAT, None).await.unwrap();
    second.write(&handle, 3, b" version").await.unwrap();
    second.close(handle).await.unwrap();
    assert_eq!(on_volume(&machine, "x").unwrap(), b"new version");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_connection_takes_an_upload_over_and_the_older_hears_why() {
    let (machine, alice, _) = machine();
    let (old, new) = (alice.connect(&machine).await, alice.connect(&machine).await);
    let stale = begin(&old, "x", b"from the old").await;
    let handle = new.open(b"x", flag::WRITE, None).await.unwrap();
    for _ in 0..2 {
        assert!(sentence(old.write(&stale, 12, b"late").await).contains("taken this upload over"));
    }
    assert!(sentence(old.close(stale).await).contains("taken this upload over"));
    new.write(&handle, 11, b"d, then the new").await.unwrap();
    new.close(handle).await.unwrap();
    assert_eq!(on_volume(&machine, "x").unwrap(), b"from the old, then the new");
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_of_one_connection_share_an_upload_and_each_close_publishes_what_there_is() {
    let (machine, alice, _) = machine();
    let client = alice.connect(&machine).await;
    let one = begin(&client, "x", b"one ").await;
    let two = client.open(b"x", flag::WRITE, None).await.unwrap();
    client.write(&two, 4, b"two ").await.unwrap();
    assert_eq!(read_all(&client, b"x").await.unwrap(), b"one two ", "readers on the connection share it");
    client.close(one).await.unwrap();
    assert_eq!(on_volume(&machine, "x").unwrap(), b"one two ");
    client.write(&two, 8, b"more").await.unwrap();
    assert_eq!(on_volume(&machine, "x").unwrap(), b"one two ", "what was published is never changed in place");
    client.close(two).await.unwrap();
    assert_eq!(on_volume(&machine, "x").unwrap(), b"one two more");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_on_other_connections_get_the_last_complete_version_or_a_refusal() {
    let (machine, alice, _) = machine();
    let (writer, reader) = (alice.connect(&machine).await, alice.connect(&machine).await);
    put(&writer, "x", b"the old version").await;
    let _old = begin(&writer, "x", b"new").await;
    let _new = begin(&writer, "fresh", b"new").await;
    assert_eq!(read_all(&reader, b"x").await.unwrap(), b"the old version");
    assert!(sentence(read_all(&reader, b"fresh").await).contains("not finished"));
    assert!(read_all(&reader, b"missing").await.is_err_and(|error| error.is_missing()), "what is not there is missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn remove_takes_the_unfinished_upload_and_only_then_the_file_behind_it() {
    let (machine, alice, _) = machine();
    let first = alice.connect(&machine).await;
    put(&first, "x", b"the old version").await;
    let live = begin(&first, "x", b"new").await;
    let second = alice.connect(&machine).await;
    second.remove(b"x").await.unwrap();
    assert_eq!((on_volume(&machine, "x").unwrap().len(), size(&second, "x").await), (15, Some(15)));
    assert!(sentence(first.close(live).await).contains("removed by another connection"));
    // On its own connection it is as on every Unix: what has no name any more ends without a word.
    let live = begin(&first, "x", b"new").await;
    first.remove(b"x").await.unwrap();
    first.write(&live, 3, b"more").await.unwrap();
    first.close(live).await.unwrap();
    assert_eq!(on_volume(&machine, "x").unwrap(), b"the old version");
    second.remove(b"x").await.unwrap();
    assert_eq!(on_volume(&machine, "x"), None);
    assert_eq!(std::fs::read_dir(machine.data().join(".pair/stage")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_upload_survives_kill_and_restart_and_goes_when_nobody_continues_it() {
    let (alice, friend) = (User::new("alice"), User::new("friend"));
    let users = [(&alice, ""), (&friend, ", home: alice")];
    let mut machine = master_with(&users).start();
    let client = alice.connect(&machine).await;
    put(&client, "x", b"the old version").await;
    let _handle = begin(&client, "x", b"new ").await;
    for is_killed in [true, false] {
        if is_killed {
            machine.kill()
        } else {
            assert!(machine.stop().success())
        }
        machine.start();
        assert_eq!(size(&friend.connect(&machine).await, "x").await, Some(15));
        assert_eq!(size(&alice.connect(&machine).await, "x").await, Some(3), "killed: {is_killed}");
    }
    let client = alice.connect(&machine).await;
    let handle = client.open(b"x", flag::WRITE, None).await.unwrap();
    client.write(&handle, 3, b" version").await.unwrap();
    client.close(handle).await.unwrap();
    assert_eq!(on_volume(&machine, "x").unwrap(), b"new version");

    let machine = master_with(&users).setting("LIMITS__UNFINISHED_EXPIRY", "1s").start();
    let client = alice.connect(&machine).await;
    put(&client, "x", b"the old version").await;
    drop(begin(&client, "x", b"new").await);
    drop(client);
    let stages = || std::fs::read_dir(machine.data().join(".pair/stage")).unwrap().count();
    tokio::task::block_in_place(|| eventually("it has expired", || stages() == 0));
    assert_eq!(size(&alice.connect(&machine).await, "x").await, Some(15));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_with_an_unfinished_upload_is_not_empty_to_its_account() {
    let (machine, alice, friend) = machine();
    let client = alice.connect(&machine).await;
    client.mkdir(b"in", 0o755).await.unwrap();
    let handle = begin(&client, "in/x", b"new").await;
    assert!(sentence(client.rmdir(b"in").await).contains("not empty"));
    // Another account sees no such file: then the close fails, and says why.
    friend.connect(&machine).await.rmdir(b"in").await.unwrap();
    assert!(sentence(client.close(handle).await).contains("no such file"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_upload_goes_along_when_its_folder_or_itself_is_renamed() {
    let (machine, alice, _) = machine();
    let client = alice.connect(&machine).await;
    client.mkdir(b"in", 0o755).await.unwrap();
    let open = begin(&client, "in/x", b"open").await;
    let left = begin(&client, "in/y", b"left").await;
    client.rename(b"in", b"out").await.unwrap();
    client.close(open).await.unwrap();
    assert_eq!(on_volume(&machine, "out/x").unwrap(), b"open");
    drop(left);
    hang_up(&machine, client).await;
    let client = alice.connect(&machine).await;
    assert_eq!(size(&client, "out/y").await, Some(3));
    // A name that is taken refuses it as it refuses a file.
    assert!(client.rename(b"out/y", b"out/x").await.is_err());
    client.rename(b"out/y", b"z").await.unwrap();
    assert_eq!((size(&client, "out/y").await, size(&client, "z").await), (None, Some(3)));
    let handle = client.open(b"z", flag::WRITE | flag::APPEND, None).await.unwrap();
    client.write(&handle, 0, b"t over").await.unwrap();
    client.close(handle).await.unwrap();
    assert_eq!(on_volume(&machine, "z").unwrap(), b"left over");
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_a_complete_file_without_truncation_changes_a_copy_of_it() {
    let (machine, alice, friend) = machine();
    let client = alice.connect(&machine).await;
    put(&client, "x", b"the old version").await;
    let handle = client.open(b"x", flag::READ | flag::WRITE, None).await.unwrap();
    client.write(&handle, 4, b"NEW").await.unwrap();
    assert_eq!(on_volume(&machine, "x").unwrap(), b"the old version");
    assert_eq!(read_all(&friend.connect(&machine).await, b"x").await.unwrap(), b"the old version");
    client.close(handle).await.unwrap();
    assert_eq!(on_volume(&machine, "x").unwrap(), b"the NEW version");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_in_the_middle_of_a_file_too_large_for_a_copy_is_made_in_place_and_told() {
    let (machine, alice, _) = machine();
    let client = alice.connect(&machine).await;
    put(&client, "first", b"the folder must be there").await;
    let file = std::fs::File::create(machine.path("alice", "large")).unwrap();
    file.set_len(65 * 1024 * 1024).unwrap();
    let handle = client.open(b"large", flag::READ | flag::WRITE, None).await.unwrap();
    client.write(&handle, 1000, b"changed").await.unwrap();
    client.close(handle).await.unwrap();
    assert_eq!(&on_volume(&machine, "large").unwrap()[999..1008], b"\0changed\0");
    let mut told = pair::feed::Subscription::connect(&pair::feed::path(&machine.state()), "b", None).await.unwrap();
    let mut operations = Vec::new();
    while operations.last() != Some(&"clean") {
        if let pair::feed::Event::Record(record) = told.next().await.unwrap() {
            operations.push(record.op.name());
        }
    }
    // Where the file system has reflinks it is a copy after all, and no `clean` ever comes: this test needs one without.
    assert_eq!(operations.iter().filter(|name| **name == "dirty").count(), 1);
}
