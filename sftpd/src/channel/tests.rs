//! A channel while the server itself asks for new keys. russh does so after a gibibyte and tells nobody when they are there, so
//! what waits meanwhile must go on by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use pair::client::Client;
use pair::node::Role;
use pair::secret::PairSecret;
use pair::wire::open_flag as flag;
use russh::client::{Config, Handler};
use tokio_util::sync::CancellationToken;

/// Counts how often keys were exchanged.
struct Counting(Arc<AtomicUsize>);

impl Handler for Counting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &russh::keys::PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }

    async fn kex_done(
        &mut self,
        _: Option<&[u8]>,
        _: &russh::Names,
        _: &mut russh::client::Session,
    ) -> Result<(), russh::Error> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Uploads with many requests at once.
async fn upload(client: &Client, content: &[u8]) {
    let (handle, size) = (client.open(b"x", flag::WRITE | flag::CREAT, None).await.unwrap(), client.write_bytes_max());
    let pieces = content.chunks(size).enumerate();
    let writes = pieces.map(|(number, piece)| client.write(&handle, (number * size) as u64, piece));
    join_all(writes).await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    client.close(handle).await.unwrap();
}

/// Downloads in the same way.
async fn download(client: &Client, bytes: usize) -> Vec<u8> {
    let (handle, size) = (client.open(b"x", flag::READ, None).await.unwrap(), client.read_bytes_max());
    let reads = (0..bytes).step_by(size).map(|offset| client.read(&handle, offset as u64, size));
    join_all(reads).await.into_iter().flat_map(|piece| piece.unwrap().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn new_keys_that_the_server_asks_for_again_and_again_hold_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = crate::tests::config_in(folder.path(), Role::Master);
    let running = crate::start(config, PairSecret::generate().unwrap(), CancellationToken::new()).await.unwrap();
    running.daemon.greetings.renew_keys_after(1 << 20);
    let exchanges = Arc::new(AtomicUsize::new(0));
    let who = Counting(exchanges.clone());
    let mut session = russh::client::connect(Arc::new(Config::default()), running.listen, who).await.unwrap();
    assert!(session.authenticate_password("admin", "secret").await.unwrap().success());
    let channel = session.channel_open_session().await.unwrap();
    channel.request_subsystem(true, "sftp").await.unwrap();
    let client = Client::over(channel.into_stream()).await.unwrap();
    let content: Vec<u8> = (0..6_000_000_u32).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let there_and_back = async {
        upload(&client, &content).await;
        download(&client, content.len()).await
    };
    let found = tokio::time::timeout(Duration::from_secs(60), there_and_back).await.expect("it goes on behind each");
    assert!(found == content);
    let exchanges = exchanges.load(Ordering::Relaxed);
    assert!(exchanges > 10, "only {exchanges} exchanges of keys: that tries nothing");
}
