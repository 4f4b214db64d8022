//! A way to a server that takes its time, as over a long distance: all bytes come later, as many as one likes.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::Instant;

const CHUNK_BYTES: usize = 64 * 1024;
/// On their way at once: more than any window lets through.
const CHUNKS_MAX: usize = 4096;

/// A relay on loopback.
pub struct Delay {
    address: SocketAddr,
    _runtime: Runtime,
}

impl Delay {
    /// A way on which each direction takes so long.
    pub fn to(target: SocketAddr, one_way: Duration) -> Delay {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("an address");
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(target).await else { continue };
                tokio::spawn(relay(client, server, one_way));
            }
        });
        Delay { address, _runtime: runtime }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn relay(client: TcpStream, server: TcpStream, one_way: Duration) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::join!(carry(from_client, to_server, one_way), carry(from_server, to_client, one_way));
}

async fn carry(mut from: tokio::net::tcp::OwnedReadHalf, mut to: tokio::net::tcp::OwnedWriteHalf, one_way: Duration) {
    let (sender, mut on_their_way) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    let read = async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(count) = from.read(&mut buffer).await {
            if count == 0 || sender.send((Instant::now() + one_way, buffer[..count].to_vec())).await.is_err() {
                break;
            }
        }
    };
    let write = async move {
        while let Some((due, bytes)) = on_their_way.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(read, write);
}
