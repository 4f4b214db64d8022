//! Somebody is told when a standby is gone, and once more when it is well again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use tests::{Pair, eventually};

/// Takes messages.
struct Receiver {
    address: SocketAddr,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let taken = bodies.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut stream = BufReader::new(stream);
                let mut length = 0;
                for line in (&mut stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()) {
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).unwrap();
                taken.lock().unwrap().push(String::from_utf8(body).unwrap());
                let answer = "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
            }
        });
        Receiver { address, bodies }
    }

    fn bodies(&self) -> Vec<String> {
        self.bodies.lock().unwrap().clone()
    }
}

#[test]
fn one_message_tells_that_a_standby_is_gone_and_one_that_it_is_back_also_over_restarts_of_filesync() {
    let receiver = Receiver::start();
    let url = format!("http://{}/hook", receiver.address);
    let mut pair = Pair::start_with(&[
        ("FILESYNC_ALARM_URL", &url),
        ("FILESYNC_ALARM_LAG", "10s"),
        ("FILESYNC_FOLLOW", "true"),
        ("LOG_LEVEL", "debug"),
    ]);
    eventually("the feed is followed", || pair.mirror.metric("filesync_followed") >= 1.0);
    assert_eq!(receiver.bodies(), Vec::<String>::new());
    pair.standby.stop();
    eventually("the alarm is told, and filesync knows it", || {
        receiver.bodies().len() == 1
            && pair
                .mirror
                .program()
                .lines()
                .iter()
                .any(|line| line.contains("told: ") && line.contains("not connected"))
    });
    let body = receiver.bodies()[0].clone();
    assert!(body.contains("\"alarm\":true") && body.contains("not connected"), "{body}");
    pair.mirror.stop();
    pair.mirror.start();
    eventually("the new filesync has tried", || pair.mirror.page("/readyz").1.contains("cannot be reached"));
    pair.standby.start();
    eventually("it is back", || receiver.bodies().len() >= 2);
    let body = receiver.bodies()[1].clone();
    assert!(body.contains("\"alarm\":false") && body.contains("well again"), "{body}");
    pair.wait_until_equal();
    assert_eq!(receiver.bodies().len(), 2, "{:?}", receiver.bodies());
}

#[test]
fn a_message_that_nobody_takes_stops_nothing_and_is_said_once() {
    // A port on which nobody listens any more.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut pair =
        Pair::start_with(&[("FILESYNC_ALARM_URL", &format!("http://{address}/")), ("FILESYNC_ALARM_LAG", "1s")]);
    pair.wait_until_equal();
    pair.standby.stop();
    let told = |pair: &Pair| {
        let lines = pair.mirror.program().lines();
        let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        (count("ALARM: "), count("a message cannot be delivered"))
    };
    eventually("it is said", || told(&pair) == (1, 1));
    pair.standby.start();
    pair.wait_until_equal();
    assert_eq!(told(&pair), (1, 1));
}
