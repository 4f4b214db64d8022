//! A person at a page without a script: a client that keeps cookies and sends forms, and follows no redirect by itself.

use std::io::{Read, Write};
use std::net::TcpStream;

/// One of them, at the pages of one program.
pub struct Visitor {
    address: String,
    home: &'static str,
    cookies: Vec<(String, String)>,
}

/// What came back.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// The body.
    pub text: String,
}

impl Answer {
    /// A header; empty where it is not there.
    pub fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}: ")));
        line.and_then(|line| line.split_once(": ")).map_or("", |(_, value)| value)
    }

    /// The token of the first form.
    #[track_caller]
    pub fn csrf(&self) -> &str {
        let (_, rest) = self.text.split_once("name=\"csrf\" value=\"").expect("a form");
        rest.split('"').next().expect("a value")
    }
}

impl Visitor {
    /// At the pages below `home` of a program that has said: "listening on http://address/home".
    pub fn at(said: &str, home: &'static str) -> Visitor {
        Visitor { address: said.trim().trim_end_matches(home).to_owned(), home, cookies: Vec::new() }
    }

    /// Where the pages are: host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it sends as its cookies.
    pub fn cookies(&self) -> String {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        cookies.join("; ")
    }

    /// Asks for a page.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Answer {
        self.send(&format!("GET {path}"), "")
    }

    /// Sends a form.
    #[track_caller]
    pub fn post(&mut self, path: &str, form: &str) -> Answer {
        self.send(&format!("POST {path}"), form)
    }

    /// Logs in by the form of the login page.
    #[track_caller]
    pub fn log_in(&mut self, (name, password): (&str, &str)) -> Answer {
        let login = format!("{}login", self.home);
        let csrf = self.get(&login).csrf().to_owned();
        self.post(&login, &format!("csrf={csrf}&name={name}&password={password}"))
    }

    #[track_caller]
    fn send(&mut self, what: &str, form: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).expect("the page answers");
        write!(
            stream,
            "{what} HTTP/1.1\r\nHost: {0}\r\nOrigin: http://{0}\r\nConnection: close\r\nCookie: {1}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {2}\r\n\r\n{form}",
            self.address,
            self.cookies(),
            form.len()
        )
        .expect("it can be asked");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("it answers");
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer");
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let body = &bytes[end + 4..];
        let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
        let body = if is_chunked { joined(body) } else { body.to_vec() };
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status code");
        for line in head.lines().filter(|line| line.to_lowercase().starts_with("set-cookie: ")) {
            let cookie = line.split_once(": ").and_then(|(_, cookie)| cookie.split(';').next()?.split_once('='));
            let (name, value) = cookie.expect("a cookie");
            self.cookies.retain(|(known, _)| known != name);
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
        Answer { status, head, text: String::from_utf8_lossy(&body).into_owned() }
    }
}

/// A body that came in pieces, each after its length in hexadecimal digits.
fn joined(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let length = std::str::from_utf8(&rest[..end]).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let length = length.expect("the length of a piece");
        body.extend_from_slice(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 2 + length + 2..];
    }
    body
}
