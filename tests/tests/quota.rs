//! Quotas and direct uploads, with OpenSSH's client and request by request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use pair::client::Client;
use pair::feed::{Event, Subscription, path};
use pair::wire::{Attrs, open_flag as flag};
use tests::{Machine, Sftp, User, eventually, master_with};

const USERS: &str = r#"users:
  A: {name: admin, password: secret, admin: true}
  1: {name: alice, password: "1234", quota: 1MiB}
  2: {name: friend, password: "1234", home: alice}
"#;

fn put(client: &Sftp, folder: &std::path::Path, bytes: usize, name: &str) -> tests::Outcome {
    let file = folder.join("file");
    std::fs::write(&file, vec![7; bytes]).unwrap();
    client.run(&format!("put {} {name}\n", file.display()))
}

#[test]
fn a_folder_holds_no_more_than_its_quota_and_the_old_file_stays() {
    let (master, folder) = (Machine::master().users(USERS).start(), tempfile::tempdir().unwrap());
    let alice = master.sftp(("alice", "1234"));
    let size = |name: &str| std::fs::metadata(master.path("alice", name)).ok().map(|data| data.len());
    put(&alice, folder.path(), 600_000, "x").expect_ok();
    put(&alice, folder.path(), 600_000, "x").expect_ok();
    assert!(!put(&alice, folder.path(), 600_000, "y").ok, "1.2 MB are more than 1 MiB");
    assert!(!put(&alice, folder.path(), 1_100_000, "x").ok);
    assert_eq!((size("x"), size("y")), (Some(600_000), None), "the old file stays");
    let said = |text: &str| master.program().lines().iter().any(|line| line.contains(text));
    eventually("the log says why", || said("quota exceeded") && said("of 1 MiB used"));
    // What was refused has given its room back, and another account in the folder has none but the folder's.
    put(&master.sftp(("friend", "1234")), folder.path(), 400_000, "z").expect_ok();
    assert!(!put(&alice, folder.path(), 100_000, "more").ok);
    alice.run("rm z\n").expect_ok();
    put(&alice, folder.path(), 100_000, "more").expect_ok();
}

#[test]
fn what_was_there_before_counts_and_a_wrong_quota_is_named() {
    let (master, folder) = (Machine::master().users(USERS).prepare(), tempfile::tempdir().unwrap());
    std::fs::create_dir_all(master.path("alice", "in/deep")).unwrap();
    std::fs::write(master.path("alice", "in/deep/old"), vec![1; 1_000_000]).unwrap();
    let mut master = master;
    master.start();
    assert!(!put(&master.sftp(("alice", "1234")), folder.path(), 100_000, "x").ok);
    let admin = master.sftp(("admin", "secret"));
    let users = folder.path().join("users.yaml");
    std::fs::write(&users, USERS.replace("1MiB", "plenty")).unwrap();
    assert!(!admin.run(&format!("put {} users.yaml\n", users.display())).ok);
    assert!(master.result().contains("users.yaml:3:") && master.result().contains("10GiB"), "{}", master.result());
    std::fs::write(&users, USERS.replace("1MiB", "2MiB")).unwrap();
    admin.run(&format!("put {} users.yaml\n", users.display())).expect_ok();
    assert!(master.result().contains("new quota"), "{}", master.result());
    put(&master.sftp(("alice", "1234")), folder.path(), 100_000, "x").expect_ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_uploads_are_written_under_their_name_and_told_as_dirty_and_clean() {
    let logger = User::new("logger");
    let master = master_with(&[(&logger, ", upload: direct, quota: 100")]).start();
    let client = logger.connect(&master).await;
    let handle = client.open(b"log", flag::WRITE | flag::CREAT | flag::APPEND, None).await.unwrap();
    client.write(&handle, 0, b"line 1\n").await.unwrap();
    let written = || std::fs::read(master.path("logger", "log")).unwrap();
    assert_eq!(written(), b"line 1\n", "seen while the file is open");
    client.write(&handle, 0, b"line 2\n").await.unwrap();
    let refused = client.write(&handle, 0, &[b'x'; 100]).await.unwrap_err().to_string();
    assert!(refused.contains("quota exceeded"), "{refused}");
    let incomplete = client.close(handle).await.unwrap_err().to_string();
    assert!(incomplete.contains("incomplete"), "{incomplete}");
    assert_eq!(written(), b"line 1\nline 2\n");
    let mut told = Subscription::connect(&path(&master.state()), "standby", None).await.unwrap();
    let (mut operations, mut size) = (Vec::new(), None);
    while operations.last() != Some(&"clean") {
        if let Event::Record(record) = told.next().await.unwrap()
            && record.path.0 == b"logger/log"
        {
            operations.push(record.op.name());
            size = record.size;
        }
    }
    assert_eq!((operations.as_slice(), size), (["dirty", "clean"].as_slice(), Some(14)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_file_that_is_begun_again_gives_back_what_it_held() {
    let logger = User::new("logger");
    let master = master_with(&[(&logger, ", upload: direct, quota: 100")]).start();
    let client = logger.connect(&master).await;
    for _ in 0..3 {
        let handle = client.open(b"log", flag::WRITE | flag::CREAT | flag::TRUNC, None).await.unwrap();
        client.write(&handle, 0, &[b'x'; 60]).await.unwrap();
        client.close(handle).await.unwrap();
    }
    let handle = client.open(b"log", flag::WRITE, None).await.unwrap();
    let size = |size| Attrs { size: Some(size), ..Attrs::default() };
    assert!(client.fsetstat(&handle, size(101)).await.unwrap_err().to_string().contains("quota exceeded"));
    client.fsetstat(&handle, size(10)).await.unwrap();
    client.write(&handle, 10, &[b'x'; 90]).await.unwrap();
    client.close(handle).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_takes_a_folder_past_its_quota() {
    let alice = User::new("alice");
    let master = master_with(&[(&alice, ", quota: 100")]).start();
    let client = alice.connect(&master).await;
    put_bytes(&client, b"x", 60).await.unwrap();
    client.posix_rename(b"x", b"x").await.unwrap();
    assert!(put_bytes(&client, b"y", 60).await.is_err(), "a file that is renamed to itself is still there");
    client.remove(b"y").await.unwrap();
    let grown = Attrs { size: Some(101), ..Attrs::default() };
    assert!(client.setstat(b"x", grown).await.unwrap_err().to_string().contains("quota exceeded"));
    // A second name brings no bytes, and takes none away while the other one is there.
    client.hardlink(b"x", b"second").await.unwrap();
    put_bytes(&client, b"y", 40).await.unwrap();
    client.remove(b"second").await.unwrap();
    client.remove(b"y").await.unwrap();
    assert!(put_bytes(&client, b"y", 41).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_upload_counts_also_after_a_restart() {
    let alice = User::new("alice");
    let mut master = master_with(&[(&alice, ", quota: 100")]).start();
    let client = alice.connect(&master).await;
    let handle = client.open(b"x", flag::WRITE | flag::CREAT, None).await.unwrap();
    client.write(&handle, 0, &[b'x'; 60]).await.unwrap();
    drop(client);
    master.restart();
    let client = alice.connect(&master).await;
    assert!(put_bytes(&client, b"y", 60).await.is_err());
    client.remove(b"y").await.unwrap();
    client.remove(b"x").await.unwrap();
    put_bytes(&client, b"y", 60).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folders_new_quota_holds_for_all_who_share_it() {
    let folder = tempfile::tempdir().unwrap();
    let (alice, friend) = (User::new("alice"), User::new("friend"));
    let master = master_with(&[(&alice, ""), (&friend, ", home: alice")]).start();
    let client = friend.connect(&master).await;
    put_bytes(&client, b"x", 60).await.unwrap();
    let users = std::fs::read_to_string(master.path("admin", "users.yaml")).unwrap();
    let file = folder.path().join("users.yaml");
    std::fs::write(&file, users.replacen("name: alice", "name: alice, quota: 100", 1)).unwrap();
    master.sftp(("admin", "secret")).run(&format!("put {} users.yaml\n", file.display())).expect_ok();
    eventually("the session of before has ended", || client.is_lost());
    let client = friend.connect(&master).await;
    assert!(put_bytes(&client, b"y", 60).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_waits_cannot_be_grown_from_outside() {
    let alice = User::new("alice");
    let master = master_with(&[(&alice, ", quota: 100")]).start();
    let client = alice.connect(&master).await;
    let handle = client.open(b"x", flag::WRITE | flag::CREAT, None).await.unwrap();
    client.write(&handle, 0, &[b'x'; 10]).await.unwrap();
    drop(client);
    let client = alice.connect(&master).await;
    eventually_left(&client, b"x").await;
    let refused = client.setstat(b"x", sized(1000)).await.unwrap_err().to_string();
    assert!(refused.contains("open it to change its size"), "{refused}");
    assert_eq!(client.stat(b"x").await.unwrap().size, Some(9), "zeros have not arrived");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_file_with_two_names_must_fit_beside_it() {
    let alice = User::new("alice");
    let master = master_with(&[(&alice, ", quota: 100")]).start();
    let client = alice.connect(&master).await;
    put_bytes(&client, b"x", 60).await.unwrap();
    client.hardlink(b"x", b"second").await.unwrap();
    let handle = client.open(b"x", flag::WRITE, None).await.unwrap();
    client.write(&handle, 0, b"y").await.unwrap();
    let refused = client.close(handle).await.unwrap_err().to_string();
    assert!(refused.contains("quota exceeded"), "{refused}");
    // What was refused has given its room back.
    client.remove(b"x").await.unwrap();
    put_bytes(&client, b"y", 40).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_an_upload_again_does_not_make_it_fit() {
    let alice = User::new("alice");
    let master = master_with(&[(&alice, ", quota: 100")]).start();
    let client = alice.connect(&master).await;
    put_bytes(&client, b"x", 60).await.unwrap();
    let handle = client.open(b"x", flag::WRITE | flag::CREAT | flag::TRUNC, None).await.unwrap();
    client.write(&handle, 0, &[b'n'; 60]).await.unwrap();
    client.hardlink(b"x", b"second").await.unwrap();
    let again = client.open(b"x", flag::WRITE, None).await.unwrap();
    assert!(client.close(again).await.unwrap_err().to_string().contains("quota exceeded"));
    assert_eq!(std::fs::read(master.path("alice", "x")).unwrap(), [b'x'; 60], "the old file stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_could_not_be_grown_is_not_published() {
    let alice = User::new("alice");
    let master = master_with(&[(&alice, ", quota: 100")]).start();
    let client = alice.connect(&master).await;
    put_bytes(&client, b"x", 60).await.unwrap();
    let handle = client.open(b"x", flag::WRITE | flag::CREAT | flag::TRUNC, None).await.unwrap();
    assert!(client.fsetstat(&handle, sized(101)).await.unwrap_err().to_string().contains("quota exceeded"));
    let refused = client.close(handle).await.unwrap_err().to_string();
    assert!(refused.contains("quota exceeded"), "{refused}");
    assert_eq!(std::fs::read(master.path("alice", "x")).unwrap(), [b'x'; 60], "the old file stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_removed_counts_until_its_handle_is_closed() {
    let alice = User::new("alice");
    let master = master_with(&[(&alice, ", quota: 100")]).start();
    let client = alice.connect(&master).await;
    let handle = client.open(b"x", flag::WRITE | flag::CREAT, None).await.unwrap();
    client.write(&handle, 0, &[b'x'; 60]).await.unwrap();
    client.remove(b"x").await.unwrap();
    assert!(client.write(&handle, 60, &[b'x'; 60]).await.is_err(), "its bytes are still on the disk");
    assert!(put_bytes(&client, b"y", 60).await.is_err());
    client.remove(b"y").await.unwrap();
    let _ = client.close(handle).await;
    put_bytes(&client, b"y", 60).await.unwrap();
}

fn sized(bytes: u64) -> Attrs {
    Attrs { size: Some(bytes), ..Attrs::default() }
}

/// Waits until the connection of before is known to be gone: from then on the last byte is not shown.
async fn eventually_left(client: &Client, name: &[u8]) {
    let is_left = async {
        while client.stat(name).await.unwrap().size != Some(9) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), is_left).await.unwrap();
}

async fn put_bytes(client: &Client, name: &[u8], bytes: usize) -> Result<(), pair::client::ClientError> {
    let handle = client.open(name, flag::WRITE | flag::CREAT | flag::TRUNC, None).await?;
    let written = client.write(&handle, 0, &vec![b'x'; bytes]).await;
    client.close(handle).await?;
    written
}
