//! Clients that keep many requests under way on one connection, as programs do that are made for speed.

use std::sync::Arc;

use futures::stream::{self, StreamExt};
use pair::client::Client;
use pair::wire::open_flag;

use super::server::Server;
use crate::Anybody;

/// Files that are under way at once.
const FILES: usize = 64;

/// Requests of one file.
const REQUESTS: usize = 64;

/// Uploads files of one content, by their numbers.
pub async fn upload(client: &Client, folder: &str, numbers: std::ops::Range<usize>, content: &[u8]) {
    let put = |number: usize| async move {
        let path = format!("{folder}/f{number}");
        let flags = open_flag::WRITE | open_flag::CREAT | open_flag::TRUNC;
        let handle = client.open(path.as_bytes(), flags, Some(0o644)).await.expect("a handle");
        client.write(&handle, 0, content).await.expect("it is written");
        client.close(handle).await.expect("it has arrived");
    };
    stream::iter(numbers).map(put).buffer_unordered(FILES).collect::<()>().await;
}

/// Downloads what was uploaded.
pub async fn download(client: &Client, folder: &str, numbers: std::ops::Range<usize>, bytes: usize) {
    let get = |number: usize| async move {
        let path = format!("{folder}/f{number}");
        let handle = client.open(path.as_bytes(), open_flag::READ, None).await.expect("a handle");
        let found = client.read(&handle, 0, bytes).await.expect("it is read");
        assert_eq!(found.map_or(0, |found| found.len()), bytes, "{path}");
        client.close(handle).await.expect("it is closed");
    };
    stream::iter(numbers).map(get).buffer_unordered(FILES).collect::<()>().await;
}

/// Reads a file from its beginning to its end, many requests ahead.
pub async fn read_whole(client: &Client, path: &str, bytes: u64) {
    let handle = client.open(path.as_bytes(), open_flag::READ, None).await.expect("a handle");
    let part = client.read_bytes_max();
    {
        let handle = &handle;
        let read = |offset: u64| async move {
            let mut at = offset;
            // A server may give less than it is asked for.
            while at < (offset + part as u64).min(bytes) {
                let wanted = part - (at - offset) as usize;
                let found = client.read(handle, at, wanted).await.expect("it is read").expect("it is not the end");
                at += found.len() as u64;
            }
        };
        stream::iter((0..bytes).step_by(part)).map(read).buffer_unordered(REQUESTS).collect::<()>().await;
    }
    client.close(handle).await.expect("it is closed");
}

/// Writes a file of so many bytes, many requests ahead.
pub async fn write_whole(client: &Client, path: &str, bytes: u64, content: &[u8]) {
    let flags = open_flag::WRITE | open_flag::CREAT | open_flag::TRUNC;
    let handle = client.open(path.as_bytes(), flags, Some(0o644)).await.expect("a handle");
    let part = client.write_bytes_max().min(content.len());
    {
        let (client, handle) = (&client, &handle);
        let write = |offset: u64| async move {
            let length = part.min((bytes - offset) as usize);
            client.write(handle, offset, &content[..length]).await.expect("it is written");
        };
        stream::iter((0..bytes).step_by(part)).map(write).buffer_unordered(REQUESTS).collect::<()>().await;
    }
    client.close(handle).await.expect("it has arrived");
}

/// Connects, logs in with the key and leaves, so often, by a few at once.
pub async fn shake_hands(server: &Server, times: usize, at_once: usize) {
    let config = Arc::new(russh::client::Config::default());
    let shake = |_| async {
        let mut handle =
            russh::client::connect(config.clone(), server.address, Anybody::default()).await.expect("it answers");
        let (user, key) = server.login();
        let key = russh::keys::PrivateKeyWithHashAlg::new(key, None);
        let answered = handle.authenticate_publickey(user, key).await.expect("it answers");
        assert!(answered.success(), "{} lets the key in", server.name);
        let _ = handle.disconnect(russh::Disconnect::ByApplication, "", "").await;
        let _ = handle.await;
    };
    stream::iter(0..times).map(shake).buffer_unordered(at_once).collect::<()>().await;
}
