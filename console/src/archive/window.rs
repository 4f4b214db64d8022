//! Some lines of a file: from a place on, before it, around it, or its last ones.
//!
//! Always holds: a window has at most [`LINES_MAX`] lines and [`BYTES_MAX`] bytes, however large the file is; windows that follow each
//! other leave nothing out. A line that is longer than a window is shown in parts.

use std::io::{self, Read};

use super::bounds::{Bounds, Stop};
use super::content::Content;
use crate::packing::is_damage;

/// Lines of a window.
pub const LINES_MAX: usize = 200;
/// Bytes of a window.
const BYTES_MAX: usize = 256 * 1024;
/// Bytes of a line that are shown.
pub const LINE_BYTES_MAX: usize = 4096;
/// Lines before the one that is looked for.
const LINES_BEFORE: usize = 20;

/// A line, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where it begins in the text.
    pub offset: u64,
    /// Its first bytes, without the line's end.
    pub bytes: Vec<u8>,
    /// How many bytes it has.
    pub length: u64,
    /// Where the next one begins.
    pub next: u64,
    /// Whether its end was seen.
    pub is_ended: bool,
}

/// Lines that follow each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The lines.
    pub lines: Vec<Line>,
    /// Where they begin in the text.
    pub start: u64,
    /// Where they end.
    pub end: u64,
    /// Whether the text ends there, for now.
    pub is_last: bool,
    /// Why nothing behind it can be read, where a packed file is damaged or not whole.
    pub damage: Option<String>,
}

/// The lines from a place on.
pub fn after(content: &Content, start: u64, bounds: &Bounds) -> io::Result<Window> {
    let (bytes, damage) = read(content, start, BYTES_MAX + 1, bounds)?;
    Ok(Window { damage, ..lines_from(&bytes, start, LINES_MAX) })
}

/// The lines that end at a place.
pub fn before(content: &Content, end: u64, bounds: &Bounds) -> io::Result<Window> {
    let start = end.saturating_sub(BYTES_MAX as u64);
    let (bytes, damage) = read(content, start, (end - start) as usize, bounds)?;
    Ok(Window { damage, ..lines_to(&bytes, start, LINES_MAX) })
}

/// The lines around one that begins at a place.
pub fn around(content: &Content, place: u64, bounds: &Bounds) -> io::Result<Window> {
    let start = place.saturating_sub(BYTES_MAX as u64);
    let (bytes, damage) = read(content, start, BYTES_MAX * 2 + 1, bounds)?;
    let at = ((place - start) as usize).min(bytes.len());
    let (head, rest) = bytes.split_at(at);
    let first = lines_to(head, start, LINES_BEFORE);
    let behind = lines_from(rest.get(..BYTES_MAX + 1).unwrap_or(rest), start + at as u64, LINES_MAX - LINES_BEFORE);
    let begin = first.start;
    let lines = first.lines.into_iter().chain(behind.lines).collect();
    Ok(Window { lines, start: begin, end: behind.end, is_last: behind.is_last, damage })
}

/// The last lines.
pub fn tail(content: &Content, bounds: &Bounds) -> io::Result<Window> {
    if content.is_plain() {
        return Ok(Window { is_last: true, ..before(content, content.size, bounds)? });
    }
    let (mut kept, mut total, mut damage) = (Vec::new(), 0, None);
    let mut text = match content.text(0, bounds) {
        Ok(text) => text,
        Err(error) => {
            let damage = Some(damaged(error)?);
            return Ok(Window { damage, is_last: true, ..Window::default() });
        }
    };
    loop {
        let had = kept.len();
        let read = text.by_ref().take(BYTES_MAX as u64).read_to_end(&mut kept);
        total += (kept.len() - had) as u64;
        match read {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                damage = Some(damaged(error)?);
                break;
            }
        }
        let too_many = kept.len().saturating_sub(BYTES_MAX);
        if too_many > BYTES_MAX {
            kept.drain(..too_many);
        }
    }
    let last = kept.get(kept.len().saturating_sub(BYTES_MAX)..).unwrap_or_default();
    Ok(Window { is_last: true, damage, ..lines_to(last, total - last.len() as u64, LINES_MAX) })
}

/// So many bytes from a place on, fewer where the text ends, and why it ends there if it should not.
fn read(content: &Content, start: u64, count: usize, bounds: &Bounds) -> io::Result<(Vec<u8>, Option<String>)> {
    let mut bytes = Vec::new();
    let read = content.text(start, bounds).and_then(|text| text.take(count as u64).read_to_end(&mut bytes));
    let damage = read.err().map(damaged).transpose()?;
    Ok((bytes, damage))
}

/// The sentence for a packed file that is damaged; other errors are errors.
fn damaged(error: io::Error) -> io::Result<String> {
    match Stop::of(&error) {
        None if is_damage(&error) => Ok(format!("The file is damaged, or not whole yet: {error}.")),
        _ => Err(error),
    }
}

fn line(bytes: &[u8], offset: u64, is_ended: bool) -> Line {
    let next = offset + bytes.len() as u64 + u64::from(is_ended);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let shown = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    Line { offset, bytes: shown.to_vec(), length: bytes.len() as u64, next, is_ended }
}

/// The first lines of some bytes; where there are more than a window has, the last of them is no line yet.
fn lines_from(bytes: &[u8], start: u64, lines_max: usize) -> Window {
    let is_all = bytes.len() <= BYTES_MAX;
    let bytes = bytes.get(..BYTES_MAX).unwrap_or(bytes);
    let (mut lines, mut at) = (Vec::new(), 0);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty() && lines.len() < lines_max) {
        let end = memchr::memchr(b'\n', rest);
        if end.is_none() && !is_all && !lines.is_empty() {
            break;
        }
        let length = end.unwrap_or(rest.len());
        lines.push(line(rest.get(..length).unwrap_or(rest), start + at as u64, end.is_some()));
        at += length + usize::from(end.is_some());
    }
    let is_last = is_all && at >= bytes.len();
    Window { lines, start, end: start + at as u64, is_last, damage: None }
}

/// The last lines of some bytes. The first of them is left out where its beginning may not be among them.
fn lines_to(bytes: &[u8], start: u64, lines_max: usize) -> Window {
    let (mut lines, mut rest) = (Vec::new(), bytes);
    while let Some((last, before)) = rest.split_last().filter(|_| lines.len() < lines_max) {
        let is_ended = *last == b'\n';
        let text = if is_ended { before } else { rest };
        let from = memchr::memrchr(b'\n', text).map_or(0, |at| at + 1);
        if from == 0 && start > 0 && !lines.is_empty() {
            break;
        }
        let (ahead, own) = text.split_at_checked(from).unwrap_or((&[], text));
        lines.push(line(own, start + from as u64, is_ended));
        rest = ahead;
    }
    lines.reverse();
    Window { lines, start: start + rest.len() as u64, end: start + bytes.len() as u64, is_last: false, damage: None }
}
