//! What a server may answer to filesync's client: any stream of packets.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pair::client::Client;
use pair::wire::open_flag;
use tokio::io::AsyncWriteExt;

fuzz_target!(|answers: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        if far.write_all(answers).await.is_err() {
            return;
        }
        let talk = async {
            let Ok(client) = Client::over(near).await else { return };
            let _ = client.lstat(b"x").await;
            let _ = client.list(b"x").await;
            let _ = client.readlink(b"x").await;
            let _ = client.extended("digest@sftp-ha", b"x").await;
            if let Ok(handle) = client.open(b"x", open_flag::READ, None).await {
                let _ = client.read(&handle, 0, 1000).await;
                let _ = client.close(handle).await;
            }
        };
        // The far end never says more: what still waits then waits for nothing.
        let _ = far.shutdown().await;
        let _ = tokio::time::timeout(Duration::from_secs(5), talk).await.map_err(|_| panic!("the client waits for ever"));
    });
});
