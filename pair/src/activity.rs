//! What is written down about use: one record a line, in JSON, under the names that SFTPGo users' tools know.
//!
//! Always holds: a line has no characters but those that are printed as they are, whatever names it speaks of; it reads
//! back as it was. Who writes records, and when, is sftpd's business (`sftpd/src/activity.rs`).

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

/// The file that is being written.
pub const LIVE_NAME: &str = "activity.log";

/// How a closed file begins; its date and `.log` follow.
pub const CLOSED_PREFIX: &str = "activity-";

/// Whether a file of the logs' folder is a closed one.
pub fn is_closed_name(name: &str) -> bool {
    name.starts_with(CLOSED_PREFIX) && name.ends_with(".log")
}

/// What happened, as `sender` has it.
pub mod sender {
    /// Somebody has logged in.
    pub const LOGIN: &str = "login";
    /// A connection on which somebody was logged in has ended.
    pub const LOGOUT: &str = "logout";
    /// A login failed, or a connection ended without one.
    pub const CONNECTION_FAILED: &str = "connection_failed";
    /// A file was sent to us.
    pub const UPLOAD: &str = "Upload";
    /// A file was sent to a client.
    pub const DOWNLOAD: &str = "Download";
    /// Other accounts are in force, or a users.yaml was refused.
    pub const ACCOUNTS: &str = "Accounts";
    /// This machine has another role.
    pub const ROLE: &str = "Role";
    /// An operator has done something by command.
    pub const COMMAND: &str = "Command";
    /// An address is banned for a while, or an account's password shut.
    pub const BAN: &str = "Ban";
    /// A segment of the archive's chain was written, or retention has removed a file.
    pub const ARCHIVE: &str = "Archive";
    /// Records could not be kept; `error` tells how many.
    pub const LOST: &str = "Lost";
}

/// How bad it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As wanted.
    #[default]
    Info,
    /// Somebody did not get what he asked for.
    Warn,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// All of it, under a name that was free.
    Complete,
    /// All of it, in place of a file of that name.
    Replaced,
    /// The rest of what an earlier connection had begun.
    Resumed,
    /// The client closed the file before its end, having what it wanted.
    Partial,
    /// It ended before its end.
    Aborted,
    /// It was not done at all.
    Refused,
}

/// One record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Activity {
    /// Grows from record to record of one machine, also over restarts: microseconds since 1970, or one more than the last.
    pub id: u64,
    /// When it was over, as in RFC 3339, in UTC.
    pub time: String,
    /// How bad it is.
    pub level: Level,
    /// What happened: one of [`sender`], or the name of a change (`Rename`, `Remove`, `Mkdir`, …).
    pub sender: String,
    /// The account's login name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// The client's address and port.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_addr: String,
    /// The same for all that happens on one connection; never given away again.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub connection_id: String,
    /// `SFTP`, or nothing where there was no session.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// The path as its account sees it, from its `/`. What is not UTF-8 in it is shown as `\u{fffd}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_path: Option<String>,
    /// The same with `%XX` for every byte that is not printable ASCII, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_path_escaped: Option<String>,
    /// The new name, or what a link says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_path: Option<String>,
    /// Bytes that were moved for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// The size of the file in the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_size: Option<u64>,
    /// From its beginning to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_ms: Option<u64>,
    /// What became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The sentence that the client, or the operator, heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How somebody logged in: `password`, `publickey` or `certificate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// What the client calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_version: Option<String>,
    /// SHA256 of the key, or of the key in the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_fingerprint: Option<String>,
    /// A certificate's identity and serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// With what its connection is encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cipher: Option<String>,
    /// With what it is authenticated; none where the cipher does that itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// With what its first keys were exchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kex: Option<String>,
    /// Old algorithms that its connection uses, by an exception of the account's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_algorithms: Option<String>,
}

/// The longest path in a record, in bytes: the system's own limit.
const PATH_BYTES_MAX: usize = 4096;

/// The longest of all other texts, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// A line has no more bytes than this, whatever its texts say: each of them may need six for one.
pub const LINE_BYTES_MAX: usize = 128 * 1024;

/// Cuts a text that is too long to be meant.
fn cap(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
}

impl Activity {
    /// Cuts what is longer than anything that is meant: names and paths are what strangers send.
    pub fn cap(&mut self) {
        [&mut self.sender, &mut self.username, &mut self.remote_addr, &mut self.connection_id]
            .into_iter()
            .for_each(|text| cap(text, TEXT_BYTES_MAX));
        let texts = [
            &mut self.error,
            &mut self.method,
            &mut self.client_version,
            &mut self.key_fingerprint,
            &mut self.certificate,
            &mut self.cipher,
            &mut self.mac,
            &mut self.kex,
            &mut self.old_algorithms,
        ];
        texts.into_iter().flatten().for_each(|text| cap(text, TEXT_BYTES_MAX));
        let paths = [&mut self.file_path, &mut self.target_path];
        paths.into_iter().flatten().for_each(|text| cap(text, PATH_BYTES_MAX));
        self.file_path_escaped.iter_mut().for_each(|text| cap(text, 3 * PATH_BYTES_MAX));
    }

    /// Bytes that its texts take in memory.
    pub fn text_bytes(&self) -> usize {
        let texts = [
            &self.file_path,
            &self.file_path_escaped,
            &self.target_path,
            &self.error,
            &self.method,
            &self.client_version,
            &self.key_fingerprint,
            &self.certificate,
            &self.cipher,
            &self.mac,
            &self.kex,
            &self.old_algorithms,
        ];
        let names = [&self.sender, &self.username, &self.remote_addr, &self.connection_id, &self.time];
        texts.into_iter().flatten().chain(names).map(String::capacity).sum()
    }

    /// The record as a line, with its end.
    pub fn line(&self) -> Vec<u8> {
        let mut line = Vec::with_capacity(256);
        // Writing to memory cannot fail, and every field can be written.
        let _ = self.serialize(&mut serde_json::Serializer::with_formatter(&mut line, Printable));
        line.push(b'\n');
        line
    }

    /// Sets the path, in both forms where it needs both.
    pub fn set_path(&mut self, path: &[u8]) {
        self.file_path = Some(String::from_utf8_lossy(path).into_owned());
        let is_text = std::str::from_utf8(path).is_ok();
        self.file_path_escaped = (!is_text).then(|| crate::record::VolumePath(path.to_vec()).to_string());
    }
}

/// The number of the record in a line; none where the line holds none.
pub fn id_of(line: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Numbered {
        id: u64,
    }
    serde_json::from_slice(line).ok().map(|Numbered { id }| id)
}

/// JSON in which everything stands escaped that a terminal or a page would not show as it is: control characters, marks that
/// turn the direction of text, what has no width, separators of lines and paragraphs.
struct Printable;

impl serde_json::ser::Formatter for Printable {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut written = 0;
        for (at, letter) in fragment.char_indices().filter(|(_, letter)| !is_printable(*letter)) {
            writer.write_all(fragment.get(written..at).unwrap_or_default().as_bytes())?;
            for unit in letter.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            written = at + letter.len_utf8();
        }
        writer.write_all(fragment.get(written..).unwrap_or_default().as_bytes())
    }
}

fn is_printable(letter: char) -> bool {
    matches!(letter, ' '..='~') || (!letter.is_ascii() && letter.escape_debug().len() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line_of(path: &[u8]) -> String {
        let mut activity = Activity { sender: sender::UPLOAD.into(), ..Activity::default() };
        activity.set_path(path);
        let line = String::from_utf8(activity.line()).unwrap();
        assert_eq!(serde_json::from_str::<Activity>(&line).unwrap(), activity);
        line
    }

    #[test]
    fn a_hostile_name_stays_one_record_that_shows_what_it_is() {
        let cases = [
            ("a\nb", r#""a\nb""#),
            ("\u{1b}[2J", r#""\u001b[2J""#),
            ("a\"},{\"", r#""a\"},{\"""#),
            ("gpj.\u{202e}exe", r#""gpj.\u202eexe""#),
            ("\u{2028}\u{2066}\u{feff}\u{200b}\u{7f}\u{9b}", r#""\u2028\u2066\ufeff\u200b\u007f\u009b""#),
            ("\u{e0041}", r#""\udb40\udc41""#),
            ("Grüße/日本.txt", r#""Grüße/日本.txt""#),
        ];
        for (name, expected) in cases {
            assert!(line_of(name.as_bytes()).contains(expected), "{}", line_of(name.as_bytes()));
        }
        let line = line_of(b"\xff%\n");
        assert!(line.contains(r#""file_path_escaped":"%FF%25%0A""#), "{line}");
    }

    #[test]
    fn however_long_the_texts_are_the_line_is_not() {
        let long = "\u{1}".repeat(300_000);
        let mut activity = Activity {
            username: long.clone(),
            error: Some(long.clone()),
            target_path: Some(long.clone()),
            certificate: Some("é".repeat(300_000)),
            client_version: Some(long.clone()),
            method: Some(long.clone()),
            ..Activity::default()
        };
        activity.set_path(&[0xff; 100_000]);
        activity.cap();
        let line = activity.line();
        assert!(line.len() < LINE_BYTES_MAX, "{}", line.len());
        assert_eq!(serde_json::from_slice::<Activity>(&line).unwrap(), activity);
        let mut short = Activity { username: "a".into(), ..Activity::default() };
        short.cap();
        assert_eq!(short.username, "a");
    }

    #[test]
    fn the_number_of_a_line_is_found_and_half_a_line_has_none() {
        let line = Activity { id: 7, ..Activity::default() }.line();
        assert_eq!(id_of(&line), Some(7));
        assert_eq!(id_of(&line[..line.len() / 2]), None);
    }

    proptest! {
        #[test]
        fn every_name_gives_one_line_that_reads_back(path: Vec<u8>, text: String) {
            let mut activity = Activity { username: text, ..Activity::default() };
            activity.set_path(&path);
            let line = activity.line();
            prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            prop_assert!(std::str::from_utf8(&line).unwrap().trim_end_matches('\n').chars().all(|c| !c.is_control()));
            prop_assert_eq!(serde_json::from_slice::<Activity>(&line).unwrap(), activity);
        }
    }
}
