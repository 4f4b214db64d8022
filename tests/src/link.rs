//! A network link to a machine that can be cut, or hold back what goes in one direction.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A relay on loopback. It ends with the test's process.
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// Which way something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From who connects.
    Up,
    /// Back to them.
    Down,
}

#[derive(Default)]
struct Shared {
    // Held for a look; what is held back waits for the condition.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_cut: bool,
    held: Option<Direction>,
    streams: Vec<TcpStream>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a new connection in, unless the link is cut.
    fn admit(&self, ends: [&TcpStream; 2]) -> bool {
        let mut state = self.state();
        if !state.is_cut {
            state.streams.extend(ends.into_iter().filter_map(|end| end.try_clone().ok()));
        }
        !state.is_cut
    }

    fn wait_while_held(&self, direction: Direction) {
        let held = |state: &mut State| state.held == Some(direction);
        drop(self.changed.wait_while(self.state(), held));
    }
}

impl Link {
    /// A link that lets everything through.
    pub fn to(target: SocketAddr) -> Link {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let relayed = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(target) else { continue };
                if relayed.admit([&client, &server]) {
                    relay(&client, &server, Direction::Up, &relayed);
                    relay(&server, &client, Direction::Down, &relayed);
                }
            }
        });
        Link { address, shared }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections and lets none in.
    pub fn cut(&self) {
        let mut state = self.shared.state();
        state.is_cut = true;
        for stream in state.streams.drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Holds back what goes one way; nobody hears that it does not arrive.
    pub fn hold(&self, direction: Direction) {
        self.shared.state().held = Some(direction);
    }

    /// Lets everything through again, also what was held back.
    pub fn mend(&self) {
        let mut state = self.shared.state();
        (state.is_cut, state.held) = (false, None);
        self.shared.changed.notify_all();
    }
}

fn relay(from: &TcpStream, to: &TcpStream, direction: Direction, shared: &Arc<Shared>) {
    let (Ok(mut from), Ok(mut to), shared) = (from.try_clone(), to.try_clone(), shared.clone()) else { return };
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            shared.wait_while_held(direction);
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
}
