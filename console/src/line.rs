//! What a line of a log says: sftpd's own activity log, or SFTPGo's JSON log. Pure.
//!
//! Always holds: whatever stands in a line, it is a record, passed over, or a problem with a sentence; nothing is guessed. SFTPGo tells
//! of much that nobody did (its `sender` is then a part of it); that is passed over.

use std::borrow::Cow;
use std::net::SocketAddr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer};

use crate::record::{Entry, Operation, Outcome};

/// More than any number of bytes or milliseconds that is meant: sums of a million such are still right.
const QUANTITY_MAX: i64 = 1 << 50;

/// How SFTPGo before 2.7 says that somebody has logged in; the name follows in quotes.
const OLD_LOGIN: &str = "User \"";

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Somebody did something.
    Record(Box<Entry>),
    /// It is no record, and not meant to be one.
    PassedOver,
    /// It should be one, and cannot be read: why.
    Problem(String),
}

/// Reads a line, without its end. Times without a zone are taken as of `zone`.
pub fn meaning(line: &[u8], zone: &TimeZone) -> Meaning {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Meaning::PassedOver;
    }
    match serde_json::from_slice::<Line>(line) {
        Ok(line) => of_line(line, zone),
        Err(_) if std::str::from_utf8(line).is_err() => {
            // Whoever writes names as they are, in whatever encoding: better read with a mark than not at all.
            let text = String::from_utf8_lossy(line);
            serde_json::from_str(&text).map_or_else(no_record, |line| of_line(line, zone))
        }
        Err(error) => no_record(error),
    }
}

fn no_record(error: serde_json::Error) -> Meaning {
    use serde_json::error::Category;
    Meaning::Problem(match error.classify() {
        Category::Eof => "the line ends before its JSON object does".into(),
        Category::Data => format!("it is JSON, but no record: {error}"),
        Category::Syntax | Category::Io => format!("it is no JSON object: {error}"),
    })
}

/// The fields of both, as far as they are kept. An empty text is none.
#[derive(Deserialize)]
#[serde(default)]
struct Line<'a> {
    id: u64,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow)]
    level: Cow<'a, str>,
    #[serde(borrow)]
    sender: Cow<'a, str>,
    #[serde(borrow)]
    username: Cow<'a, str>,
    #[serde(borrow)]
    remote_addr: Cow<'a, str>,
    /// SFTPGo's, of a login that failed or a ban.
    #[serde(borrow)]
    client_ip: Cow<'a, str>,
    /// SFTPGo's, of a login.
    #[serde(borrow)]
    ip: Cow<'a, str>,
    #[serde(borrow)]
    connection_id: Cow<'a, str>,
    #[serde(borrow)]
    protocol: Cow<'a, str>,
    #[serde(borrow)]
    file_path: Cow<'a, str>,
    /// SFTPGo's: the path as its account sees it; its `file_path` is that of the server.
    #[serde(borrow)]
    virtual_path: Cow<'a, str>,
    #[serde(borrow)]
    file_path_escaped: Cow<'a, str>,
    #[serde(borrow)]
    target_path: Cow<'a, str>,
    #[serde(borrow)]
    virtual_target_path: Cow<'a, str>,
    size_bytes: Quantity,
    file_size: Quantity,
    elapsed_ms: Quantity,
    /// SFTPGo's, of a command, in milliseconds.
    elapsed: Quantity,
    #[serde(borrow)]
    outcome: Cow<'a, str>,
    #[serde(borrow)]
    error: Cow<'a, str>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    /// SFTPGo's, of a login that failed.
    #[serde(borrow)]
    login_type: Cow<'a, str>,
    #[serde(borrow)]
    client_version: Cow<'a, str>,
    /// SFTPGo's, of a login.
    #[serde(borrow)]
    client: Cow<'a, str>,
    #[serde(borrow)]
    key_fingerprint: Cow<'a, str>,
    #[serde(borrow)]
    certificate: Cow<'a, str>,
    /// Ours, of a login, as are the next two.
    #[serde(borrow)]
    cipher: Cow<'a, str>,
    #[serde(borrow)]
    mac: Cow<'a, str>,
    #[serde(borrow)]
    kex: Cow<'a, str>,
    /// What of them is old; versions before those three had nothing else.
    #[serde(borrow)]
    old_algorithms: Cow<'a, str>,
    /// SFTPGo's, of a login: the algorithms.
    #[serde(borrow)]
    info: Cow<'a, str>,
    /// SFTPGo's, of its defender: what happened.
    #[serde(borrow)]
    event: Cow<'a, str>,
    /// SFTPGo's, of everything that is no record.
    #[serde(borrow)]
    message: Cow<'a, str>,
}

impl Default for Line<'_> {
    fn default() -> Self {
        let none = Cow::Borrowed;
        Line {
            id: 0,
            time: none(""),
            level: none(""),
            sender: none(""),
            username: none(""),
            remote_addr: none(""),
            client_ip: none(""),
            ip: none(""),
            connection_id: none(""),
            protocol: none(""),
            file_path: none(""),
            virtual_path: none(""),
            file_path_escaped: none(""),
            target_path: none(""),
            virtual_target_path: none(""),
            size_bytes: Quantity(None),
            file_size: Quantity(None),
            elapsed_ms: Quantity(None),
            elapsed: Quantity(None),
            outcome: none(""),
            error: none(""),
            method: none(""),
            login_type: none(""),
            client_version: none(""),
            client: none(""),
            key_fingerprint: none(""),
            certificate: none(""),
            cipher: none(""),
            mac: none(""),
            kex: none(""),
            old_algorithms: none(""),
            info: none(""),
            event: none(""),
            message: none(""),
        }
    }
}

/// A number of bytes or milliseconds, if it is one; SFTPGo writes -1 for none.
#[derive(Clone, Copy, Debug, Default)]
struct Quantity(Option<i64>);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Quantity, D::Error> {
        let number = Option::<f64>::deserialize(deserializer)?;
        // Exact up to 2^53, which is more than the most that is kept.
        Ok(Quantity(number.filter(|number| *number >= 0.0).map(|number| (number as i64).min(QUANTITY_MAX))))
    }
}

fn of_line(line: Line<'_>, zone: &TimeZone) -> Meaning {
    if line.sender.is_empty() {
        return Meaning::Problem("it is JSON, but no record: it has no sender".into());
    }
    let is_ours = line.id > 0;
    let known = Operation::of_sender(&line.sender);
    let old_login = if is_ours { None } else { old_login(&line.message) };
    let operation = match (known, line.event.as_ref()) {
        (Some(operation), _) => operation,
        (None, "banned") if line.sender == "defender" => Operation::Ban,
        (None, _) if old_login.is_some() => Operation::Login,
        (None, _) if is_ours => Operation::Other,
        (None, _) => return Meaning::PassedOver,
    };
    let Some(time_ms) = time_ms(&line.time, zone) else {
        return Meaning::Problem(format!("its time is {:?}, which is none", shortened(&line.time)));
    };
    let entry = Entry { time_ms, operation: Some(operation), ..entry(line, operation, is_ours) };
    Meaning::Record(Box::new(match old_login {
        Some(login) if entry.account.is_empty() => Entry { time_ms, connection: entry.connection, ..login },
        _ => entry,
    }))
}

fn entry(line: Line<'_>, operation: Operation, is_ours: bool) -> Entry {
    let (address, port) = address_and_port(first([&line.remote_addr, &line.client_ip, &line.ip]));
    let outcome = if is_ours { said_outcome(&line.outcome) } else { foreign_outcome(&line, operation) };
    let algorithms = match line.info.split_once("negotiated algorithms:") {
        Some((_, algorithms)) => algorithms_of(algorithms),
        None if line.cipher.is_empty() => line.old_algorithms.into_owned(),
        None => in_one(&[&line.cipher, &line.mac, &line.kex]),
    };
    Entry {
        log_id: i64::try_from(line.id).ok().filter(|id| *id > 0),
        outcome,
        sender: (operation == Operation::Other).then(|| line.sender.into_owned()),
        account: line.username.into_owned(),
        address,
        port,
        connection: line.connection_id.into_owned(),
        protocol: line.protocol.into_owned(),
        path: text(if line.virtual_path.is_empty() { line.file_path } else { line.virtual_path }),
        path_escaped: text(line.file_path_escaped),
        target: text(if line.virtual_target_path.is_empty() { line.target_path } else { line.virtual_target_path }),
        moved_bytes: line.size_bytes.0,
        file_bytes: line.file_size.0,
        elapsed_ms: line.elapsed_ms.0.or(line.elapsed.0),
        error: text(line.error),
        method: if line.login_type.is_empty() { line.method } else { line.login_type }.into_owned(),
        client: if line.client.is_empty() { line.client_version } else { line.client }.into_owned(),
        key_fingerprint: text(line.key_fingerprint),
        certificate: text(line.certificate),
        algorithms,
        ..Entry::default()
    }
}

/// Those names that are there.
fn in_one(names: &[&str]) -> String {
    let said: Vec<&str> = names.iter().copied().filter(|name| !name.is_empty()).collect();
    said.join(", ")
}

fn text(text: Cow<'_, str>) -> Option<String> {
    (!text.is_empty()).then(|| text.into_owned())
}

fn first<'a, const N: usize>(texts: [&'a Cow<'_, str>; N]) -> &'a str {
    texts.into_iter().find(|text| !text.is_empty()).map_or("", |text| text.as_ref())
}

fn shortened(text: &str) -> &str {
    text.get(..text.floor_char_boundary(64)).unwrap_or_default()
}

fn said_outcome(outcome: &str) -> Outcome {
    Outcome::of_name(outcome).unwrap_or_default()
}

/// SFTPGo names no outcome: a transfer that failed has an error since 2.7, and commands are written down when they are done.
fn foreign_outcome(line: &Line<'_>, operation: Operation) -> Outcome {
    let has_failed = !line.error.is_empty() || line.level == "error";
    match operation {
        _ if !line.outcome.is_empty() => said_outcome(&line.outcome),
        Operation::ConnectionFailed => Outcome::Refused,
        _ if operation.is_transfer() && has_failed => Outcome::Aborted,
        _ if operation.is_change() && has_failed => Outcome::Refused,
        _ if operation.is_transfer() || operation.is_change() => Outcome::Complete,
        _ => Outcome::Unsaid,
    }
}

fn address_and_port(text: &str) -> (String, Option<u16>) {
    match text.parse::<SocketAddr>() {
        Ok(address) => (address.ip().to_string(), Some(address.port())),
        Err(_) => (text.to_owned(), None),
    }
}

/// A time with its zone, or without one, in milliseconds since 1970.
fn time_ms(text: &str, zone: &TimeZone) -> Option<i64> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.as_millisecond());
    }
    let local: DateTime = text.parse().ok()?;
    zone.to_ambiguous_timestamp(local).compatible().ok().map(|time| time.as_millisecond())
}

/// What a Go structure with algorithms says, as `{KeyExchange:a HostKey:b Read:{Cipher:c MAC:d} …}`: each once, in order.
fn algorithms_of(text: &str) -> String {
    let words = text.split(|letter: char| " {}[]\",".contains(letter)).filter_map(|word| {
        let value = word.rsplit_once(':').map_or(word, |(_, value)| value);
        (!value.is_empty()).then_some(value)
    });
    let mut found: Vec<&str> = Vec::new();
    for word in words {
        // The names of the fields, where they stand apart from their values.
        let is_field = text.contains(&format!("\"{word}\":"));
        if !is_field && !found.contains(&word) && found.len() < 16 {
            found.push(word);
        }
    }
    found.join(", ")
}

/// A login as SFTPGo before 2.7 tells it: in a sentence.
fn old_login(message: &str) -> Option<Entry> {
    let rest = message.strip_prefix(OLD_LOGIN).map(|_| message.get("User ".len()..).unwrap_or_default())?;
    let (account, rest) = quoted(rest)?;
    let (method, rest) = quoted(rest.strip_prefix(" logged in with ")?.trim_start_matches(": "))?;
    let after = |mark: &str| rest.find(mark).and_then(|at| quoted(rest.get(at + mark.len()..)?)).map(|(text, _)| text);
    Some(Entry {
        operation: Some(Operation::Login),
        account,
        method,
        address: after("from ip ").unwrap_or_default(),
        client: after("client version ").unwrap_or_default(),
        protocol: "SSH".into(),
        algorithms: rest.split_once("negotiated algorithms:").map(|(_, text)| algorithms_of(text)).unwrap_or_default(),
        ..Entry::default()
    })
}

/// The quoted text with which this begins, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut is_escaped = false;
    let end = inner.find(|letter| {
        let is_end = letter == '"' && !is_escaped;
        is_escaped = letter == '\\' && !is_escaped;
        is_end
    })?;
    let raw = text.get(..end + 2)?;
    // Go's escapes are those of JSON but for a few; those stay as they are.
    let plain = serde_json::from_str(raw).unwrap_or_else(|_| inner.get(..end).unwrap_or_default().to_owned());
    Some((plain, text.get(end + 2..)?))
}

#[cfg(test)]
mod tests;
