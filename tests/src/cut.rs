//! A way to a machine that breaks once: the first connection is cut when enough has come from the client.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A relay on loopback. It ends with the test's process.
pub struct Cut {
    address: SocketAddr,
    has_cut: Arc<AtomicBool>,
}

impl Cut {
    /// Cuts the first connection that has sent so many bytes; lets all others through.
    pub fn after(bytes: u64, target: SocketAddr) -> Cut {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let has_cut = Arc::new(AtomicBool::new(false));
        let done = has_cut.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(target) else { continue };
                relay(client, server, bytes, &done);
            }
        });
        Cut { address, has_cut }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it has cut.
    pub fn has_cut(&self) -> bool {
        self.has_cut.load(Ordering::SeqCst)
    }
}

fn relay(client: TcpStream, server: TcpStream, bytes: u64, has_cut: &Arc<AtomicBool>) {
    let pairs = [(client.try_clone(), server.try_clone(), true), (server.try_clone(), client.try_clone(), false)];
    let (sent, ends) = (Arc::new(AtomicU64::new(0)), Arc::new((client, server)));
    for (from, to, is_up) in pairs {
        let (Ok(mut from), Ok(mut to)) = (from, to) else { return };
        let (sent, ends, has_cut) = (sent.clone(), ends.clone(), has_cut.clone());
        std::thread::spawn(move || {
            let mut buffer = vec![0; 32 * 1024];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
                let total = sent.fetch_add(if is_up { count as u64 } else { 0 }, Ordering::SeqCst) + count as u64;
                if is_up && total >= bytes && !has_cut.swap(true, Ordering::SeqCst) {
                    break;
                }
            }
            let _ = ends.0.shutdown(Shutdown::Both);
            let _ = ends.1.shutdown(Shutdown::Both);
        });
    }
}
