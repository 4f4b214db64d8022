//! Files for whoever asks: one as it lies there, or many as an archive that is packed while it is sent.
//!
//! Always holds: memory is that of a few pieces, whatever is sent; a browser shows nothing of it, it keeps it. Who goes away, or takes
//! nothing for a while, ends it. Each is logged when it begins and when it ends.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use jiff::tz::TimeZone;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{Sender, channel};
use tokio_util::sync::CancellationToken;
use web::{Caller, Session, figures};

use super::super::Site;
use super::form::{Asked, field};
use super::{Fault, Homes, homes, log, text};
use crate::archive::{Bounds, By, Item, Pack, Place, Sieve, Told, Volume, Walked, walk};

/// Bytes of a piece.
const PIECE_BYTES: usize = 128 * 1024;
/// Pieces that wait for the browser.
const PIECES_MAX: usize = 4;
/// Ticked names that the log has.
const WORDS_MAX: usize = 50;
/// How long a browser may take nothing.
const STALL_MAX: Duration = Duration::from_secs(120);

/// One file.
pub async fn file(
    State(site): State<Site>,
    session: Extension<Session>,
    caller: Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Response {
    let file = field(&query.unwrap_or_default(), "file");
    let told = site.archive.known.told().await;
    let opened = async {
        let place = Place::parse(&file).ok_or(Fault::Missing)?;
        let turn = site.archive.downloads.clone().try_acquire_owned().map_err(|_| Fault::Busy)?;
        Ok((site.open(&told, &place).await?, place, turn))
    };
    let (content, place, turn) = match opened.await {
        Ok(opened) => opened,
        Err(fault) => return Fault::page(&fault, &site, &session),
    };
    let size = content.size;
    let work = move |out: &mut Pieces| {
        let sent = io::copy(&mut io::Read::take(content.raw(), size), out)?;
        if sent < size {
            // Its length was promised: the browser sees that the file is not whole.
            return Err(io::Error::other("the file became shorter while it was sent"));
        }
        Ok(figures::bytes(sent))
    };
    let body = send(&site, (session.0, caller.0), "download", file, turn, work);
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, text::attachment(place.name())),
        (header::CONTENT_LENGTH, size.to_string()),
    ];
    (headers, body).into_response()
}

/// Many files: those that were ticked, or all that a question finds.
pub async fn bundle(
    State(site): State<Site>,
    session: Extension<Session>,
    caller: Extension<Caller>,
    body: Bytes,
) -> Response {
    let form = String::from_utf8_lossy(&body).into_owned();
    let zone = site.config.zone().unwrap_or(TimeZone::UTC);
    let told = site.archive.known.told().await;
    let pack = match field(&form, "pack").as_str() {
        "gz" => Pack::Gzip,
        "zst" => Pack::Zstd,
        _ => Pack::Tar,
    };
    let chosen = match field(&form, "which").as_str() {
        "found" => Chosen::found(&form, &told, &zone),
        _ => Chosen::ticked(&form, &told),
    };
    let gathered = async {
        let chosen = chosen?;
        let turn = site.archive.downloads.clone().try_acquire_owned().map_err(|_| Fault::Busy)?;
        let words = chosen.words.clone();
        Ok((site.look(move |volume, bounds| chosen.gather(volume, bounds)).await?, words, turn))
    };
    let ((items, known), words, turn) = match gathered.await {
        Ok(gathered) => gathered,
        Err(fault) => return Fault::page(&fault, &site, &session),
    };
    if items.is_empty() {
        let sentence = "No file was chosen: tick some, or ask for files that are there.";
        return site.fault(&session, StatusCode::UNPROCESSABLE_ENTITY, "Nothing to download", sentence);
    }
    let what = format!("{words} ({}, {})", figures::of(items.len() as u64, "file", "files"), pack.ending());
    let work = move |out: &mut Pieces| {
        // The token that ends when the browser goes away, so that a file of zeros, which packs to nothing, is left then.
        let over = out.over.clone();
        let bundled = crate::archive::bundle(&items, &known, pack, &over, &mut *out)?;
        let (files, bytes) = (figures::of(bundled.files, "file", "files"), figures::bytes(bundled.bytes));
        Ok(format!("{files}, {bytes}, {} incomplete", bundled.incomplete))
    };
    let today = super::super::activity::today(&zone);
    let name = format!("logs-{today}.{}", pack.ending());
    let body = send(&site, (session.0, caller.0), "bundle", what, turn, work);
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, text::attachment(name.as_bytes())),
    ];
    (headers, body).into_response()
}

/// What goes into an archive: places with the folders of their agents, and which files there.
struct Chosen {
    places: Vec<(Place, Vec<u8>)>,
    sieve: Sieve,
    /// For the log.
    words: String,
}

impl Chosen {
    fn ticked(form: &str, told: &Told) -> Result<Chosen, Fault> {
        let pairs = form_urlencoded::parse(form.as_bytes());
        let texts: Vec<String> = pairs.filter(|(key, _)| key == "file").map(|(_, value)| value.into_owned()).collect();
        let mut places = Vec::new();
        for text in &texts {
            let place = Place::parse(text).ok_or(Fault::Missing)?;
            places.extend(homes(told, Some(&place))?);
        }
        let left = texts.len().saturating_sub(WORDS_MAX);
        let mut words = texts.into_iter().take(WORDS_MAX).collect::<Vec<_>>().join(" ");
        if left > 0 {
            words += &format!(" and {left} more");
        }
        Ok(Chosen { places, sieve: Sieve::default(), words })
    }

    fn found(form: &str, told: &Told, zone: &TimeZone) -> Result<Chosen, Fault> {
        let asked = Asked::of(form, zone);
        if let Some((_, sentence)) = asked.mistake {
            return Err(Fault::Wrong(sentence));
        }
        let places = homes(told, asked.place.as_ref())?;
        Ok(Chosen { places, words: asked.query_with(&[]), sieve: asked.sieve })
    }

    /// All files of it, each once, by name; and what is missing, in sentences.
    fn gather(self, volume: &Volume, bounds: &Bounds) -> io::Result<(Vec<Item>, Vec<String>)> {
        let is_over = || bounds.over.is_cancelled() || Instant::now() >= bounds.until;
        let (mut walked, mut opened, mut known) = (Walked::default(), Homes::new(), Vec::new());
        for (place, path) in &self.places {
            if is_over() {
                walked.is_cut = true;
                break;
            }
            let looked = volume.home(path).and_then(|home| {
                let home = opened.entry(place.agent.clone()).or_insert(Arc::new(home));
                walk(home, place, &self.sieve, &is_over, &mut walked)
            });
            match looked {
                // An agent that has sent nothing yet has no folder.
                Err(error) if error.kind() == io::ErrorKind::NotFound && place.path.is_empty() => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    known.push(format!("{}: it is not here any more", place.text()));
                }
                looked => looked?,
            }
        }
        if walked.unreadable > 0 {
            let folders = figures::of(walked.unreadable, "folder", "folders");
            known.insert(0, format!("{folders} cannot be read: what is in them is not here"));
        }
        if walked.is_cut {
            known.insert(
                0,
                "There are more files than one archive may hold, or than were found in time: not all are here"
                    .to_owned(),
            );
        }
        super::files::sort_found(&mut walked.files, By::Name, false);
        walked.files.dedup_by(|one, other| one.place == other.place);
        let item = |place: Place| Some(Item { home: opened.get(&place.agent)?.clone(), place });
        Ok((walked.files.into_iter().filter_map(|file| item(file.place)).collect(), known))
    }
}

/// A body that some work writes, on a thread of its own. The work's words are for the log.
fn send(
    site: &Site,
    whose: (Session, Caller),
    what: &'static str,
    of: String,
    turn: OwnedSemaphorePermit,
    work: impl FnOnce(&mut Pieces) -> io::Result<String> + Send + 'static,
) -> Body {
    let (sender, receiver) = channel(PIECES_MAX);
    let over = site.shutdown.child_token();
    let called_off = over.clone().drop_guard();
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        log(&whose, what, &of, "begins");
        let begun = Instant::now();
        let mut pieces = Pieces { sender, over, buffer: Vec::with_capacity(PIECE_BYTES) };
        let worked = work(&mut pieces).and_then(|words| pieces.flush().map(|()| words));
        let took = figures::milliseconds(begun.elapsed().as_secs_f64() * 1000.0);
        match worked {
            Ok(words) => log(&whose, what, &of, &format!("done: {words}, in {took}")),
            Err(error) => {
                log(&whose, what, &of, &format!("broken off after {took}: {error}"));
                // It breaks the body off, so that the browser sees that it is not whole. Where nobody is there any more, nobody hears it.
                let tell = tokio::time::timeout(STALL_MAX, pieces.sender.send(Err(error)));
                let _ = tokio::runtime::Handle::current().block_on(tell);
            }
        }
    });
    Body::from_stream(stream::unfold((receiver, called_off), |(mut receiver, called_off)| async move {
        let piece: io::Result<Bytes> = receiver.recv().await?;
        Some((piece, (receiver, called_off)))
    }))
}

/// What is on its way to a browser.
struct Pieces {
    sender: Sender<io::Result<Bytes>>,
    over: CancellationToken,
    buffer: Vec<u8>,
}

impl Pieces {
    fn hand_over(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE_BYTES)));
        let (sender, over) = (&self.sender, &self.over);
        let send = async {
            tokio::select! {
                sent = sender.send(Ok(piece)) => sent.map_err(|_| "the browser went away"),
                () = over.cancelled() => Err("the browser went away"),
                () = tokio::time::sleep(STALL_MAX) => Err("the browser took nothing for too long"),
            }
        };
        tokio::runtime::Handle::current().block_on(send).map_err(io::Error::other)
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE_BYTES.saturating_sub(self.buffer.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.buffer.extend_from_slice(taken);
        if self.buffer.len() >= PIECE_BYTES {
            self.hand_over()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_over()
    }
}
