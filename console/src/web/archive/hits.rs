//! The search: a page that is sent while it is looked for, each hit as soon as it is found.
//!
//! Always holds: it works without a script; who leaves the page, or stops loading it, ends the search at once. A search has a thread of
//! its own, hands over a bounded number of pieces, and waits for a browser no longer than its time.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use askama::Template;
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use jiff::tz::TimeZone;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, TryAcquireError};
use tokio_util::sync::{CancellationToken, DropGuard};
use web::{Caller, Session, figures};

use super::super::activity::today;
use super::super::records::local_time;
use super::super::{Frame, Site, shown};
use super::files::sort_found;
use super::form::{Asked, CONTEXTS, HOWS, Quick, SHOWS, query};
use super::lines::{Row, Rows, pieces};
use super::overview::{Choice, places};
use super::{HERE, Homes, homes, log, text};
use crate::archive::{
    Bounds, By, Counts, Done, End, Event, Found, HITS_MAX, Home, Place, Search, TIME_MAX, TROUBLES_MAX, Told,
    UNPACKED_BYTES_MAX, Volume, Walked, walk,
};

/// What stands in the page where the hits come. No text of others can be it: they are escaped.
const MARK: &str = "<!-- hits -->";
/// Pieces that wait for the browser.
const PIECES_MAX: usize = 64;
/// From one word about how far it is to the next.
const PROGRESS: Duration = Duration::from_millis(500);

#[derive(Template)]
#[template(path = "archive_hits.html")]
struct Page {
    frame: Frame,
    style: String,
    script: String,
    asked: Asked,
    places: Vec<Choice>,
    quick: Vec<Quick>,
    change: String,
    warning: String,
}

/// A piece of the answer.
#[derive(Template)]
#[template(path = "archive_hits_piece.html")]
struct Piece {
    kind: Kind,
}

enum Kind {
    File { name: String, link: String, time: String, size: String, packed_as: &'static str },
    Gap,
    Trouble { name: String, sentence: String },
    Progress { sentence: String },
    End { class: &'static str, sentence: String, advice: String },
}

/// Where a search looks.
struct Where {
    homes: Vec<(Place, Vec<u8>)>,
    volume: Arc<Volume>,
}

/// Begins a search, and sends its page.
pub fn show(site: &Site, whose: (Session, Caller), asked: Asked, told: &Told, zone: &TimeZone) -> Response {
    let session = whose.0.clone();
    let place = match site.archive.searches.clone().try_acquire_owned() {
        Ok(place) => place,
        Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {
            let sentence = "As many searches are running as may run at a time, so that uploads keep their pace. Try again in a moment, or ask who is searching to stop.";
            return site.fault(&session, StatusCode::SERVICE_UNAVAILABLE, "Other searches are running", sentence);
        }
    };
    let homes = match homes(told, asked.place.as_ref()) {
        Ok(homes) => homes,
        Err(fault) => return fault.page(site, &session),
    };
    let shown = Page {
        frame: site.frame(&session, HERE),
        style: site.assets.url("archive.css"),
        script: site.assets.url("archive.js"),
        places: places(told, asked.place.as_ref()),
        quick: asked.quick(today(zone)),
        change: format!("{HERE}/files?{}", asked.query_with(&[("text", "")])),
        warning: told.fault.as_deref().map(shown).unwrap_or_default(),
        asked: asked.clone(),
    };
    let Ok(html) = shown.render() else {
        return (StatusCode::INTERNAL_SERVER_ERROR, "This page could not be made.\n").into_response();
    };
    let (head, foot) = html.split_once(MARK).unwrap_or((&html, ""));
    let (sender, pieces) = channel(PIECES_MAX);
    let over = site.shutdown.child_token();
    let (counts, begun) = (Arc::new(Counts::default()), Instant::now());
    let hunt = Hunt { asked, zone: zone.clone(), over: over.clone(), counts: counts.clone(), sender, begun };
    let at = Where { homes, volume: site.archive.volume.clone() };
    let site_of_stream = site.clone();
    tokio::task::spawn_blocking(move || hunt.run(at, &whose, place));
    let answer = Answer {
        site: site_of_stream,
        session,
        pieces,
        counts,
        head: Some(head.to_owned()),
        foot: Some(foot.to_owned()),
        _called_off: over.drop_guard(),
    };
    let body = stream::unfold(answer, |mut answer| async move {
        let piece = answer.next().await?;
        Some((Ok::<String, Infallible>(piece), answer))
    });
    // Proxies pass on what comes as it comes.
    let headers = [(header::CONTENT_TYPE.as_str(), "text/html; charset=utf-8"), ("x-accel-buffering", "no")];
    (headers, Body::from_stream(body)).into_response()
}

/// The page, as far as it is not sent yet. Who lets go of it calls the search off.
struct Answer {
    site: Site,
    session: Session,
    pieces: Receiver<String>,
    counts: Arc<Counts>,
    head: Option<String>,
    foot: Option<String>,
    _called_off: DropGuard,
}

impl Answer {
    async fn next(&mut self) -> Option<String> {
        if let Some(head) = self.head.take() {
            return Some(head);
        }
        self.foot.as_ref()?;
        let mut pieces = Vec::new();
        tokio::select! {
            biased;
            count = self.pieces.recv_many(&mut pieces, PIECES_MAX) => match count {
                0 => self.foot.take(),
                _ => Some(pieces.concat()),
            },
            () = tokio::time::sleep(PROGRESS) => {
                if !self.site.door.is_open(&self.session) {
                    return None;
                }
                Some(progress(&self.counts))
            }
        }
    }
}

fn progress(counts: &Counts) -> String {
    let count = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
    let sentence = match count(&counts.files_all) {
        0 => "Looking which files there are …".to_owned(),
        all => format!(
            "Looked through {} of {}, {} …",
            figures::count(count(&counts.files)),
            figures::of(all, "file", "files"),
            figures::bytes(count(&counts.bytes))
        ),
    };
    Piece { kind: Kind::Progress { sentence } }.render().unwrap_or_default()
}

/// A search at work.
struct Hunt {
    asked: Asked,
    zone: TimeZone,
    over: CancellationToken,
    counts: Arc<Counts>,
    sender: Sender<String>,
    begun: Instant,
}

impl Hunt {
    /// Looks, tells, and says at last how it went.
    fn run(self, at: Where, whose: &(Session, Caller), _place: OwnedSemaphorePermit) {
        let typed = &self.asked.typed;
        let of = self.asked.query_with(&[]);
        log(whose, "search", &of, "begins");
        let mut walked = Walked::default();
        let is_over = || self.over.is_cancelled() || self.begun.elapsed() >= TIME_MAX;
        let mut opened = Homes::new();
        for (place, path) in &at.homes {
            let looked = at.volume.home(path).and_then(|home| {
                let home = opened.entry(place.agent.clone()).or_insert(Arc::new(home));
                walk(home, place, &self.asked.sieve, &is_over, &mut walked)
            });
            match looked {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let name = text::name(&place.whole());
                    self.send(&Piece { kind: Kind::Trouble { name, sentence: error.to_string() } });
                }
                Ok(()) => {}
            }
        }
        sort_found(&mut walked.files, By::Time, true);
        let bounds = Bounds { over: self.over.clone(), until: self.begun + TIME_MAX, bytes_max: UNPACKED_BYTES_MAX };
        let Some(pattern) = self.asked.pattern.clone() else { return };
        let search = Search {
            pattern,
            context: self.asked.context,
            last: self.asked.last,
            hits_max: HITS_MAX,
            bounds,
            counts: self.counts.clone(),
        };
        let open = |file: &Found| -> io::Result<Arc<Home>> {
            opened.get(&file.place.agent).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
        };
        let (mark, mut current) = ([("text", typed.text.as_str()), ("how", typed.how.as_str())], String::new());
        let done = search.run(&walked.files, &open, &mut |event| self.tell(event, &mark, &mut current));
        let kind = self.end(done, &walked);
        if let Kind::End { sentence, .. } = &kind {
            log(whose, "search", &of, sentence);
        }
        self.send(&Piece { kind });
    }

    fn tell(&self, event: Event<'_>, mark: &[(&str, &str)], current: &mut String) -> bool {
        let kind = match event {
            Event::File(file, packed_as) => {
                *current = file.place.text();
                Kind::File {
                    name: text::name(&file.place.whole()),
                    link: query(&[&[("file", current.as_str())], mark].concat()),
                    time: local_time(file.modified_s.saturating_mul(1000), &self.zone),
                    size: figures::bytes(file.size),
                    packed_as,
                }
            }
            Event::Line { number, offset, bytes, is_hit } => {
                let pattern = self.asked.pattern.as_ref().filter(|_| is_hit);
                let (pieces, more) = pieces(bytes, bytes.len() as u64, pattern);
                let (around, line) = (offset.to_string(), number.to_string());
                let at = [("file", current.as_str()), ("around", &around), ("line", &line)];
                let link = format!("{HERE}/view?{}#hit", query(&[&at, mark].concat()));
                let row = Row { number: line.clone(), link, is_hit, is_target: false, is_unended: false, pieces, more };
                return self.send(&Rows { rows: vec![row] });
            }
            Event::Gap => Kind::Gap,
            Event::Trouble(file, sentence) => {
                Kind::Trouble { name: text::name(&file.place.whole()), sentence: shown(&sentence) }
            }
        };
        self.send(&Piece { kind })
    }

    /// Hands a piece over; `false` where nobody waits for it any more.
    fn send(&self, piece: &impl Template) -> bool {
        let Ok(html) = piece.render() else { return false };
        let left = TIME_MAX.saturating_sub(self.begun.elapsed());
        let send = async {
            tokio::select! {
                sent = self.sender.send(html) => sent.is_ok(),
                () = self.over.cancelled() => false,
                // A browser that takes nothing keeps nobody else from searching.
                () = tokio::time::sleep(left.max(PROGRESS)) => false,
            }
        };
        tokio::runtime::Handle::current().block_on(send)
    }

    fn end(&self, done: Done, walked: &Walked) -> Kind {
        let count = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
        let hits = count(&self.counts.hits);
        let found = format!(
            "{} in {}. Looked through {} of {}, {}, in {}.",
            figures::of(hits, "line", "lines"),
            figures::of(done.files, "file", "files"),
            figures::count(count(&self.counts.files)),
            figures::of(walked.files.len() as u64, "file", "files"),
            figures::bytes(count(&self.counts.bytes)),
            figures::milliseconds(self.begun.elapsed().as_secs_f64() * 1000.0)
        );
        let (class, word, advice) = match done.end {
            End::All if walked.is_cut => (
                "warn",
                "Not all files were looked through: ",
                "There are more than one search may look at. Ask for one agent, some days, or some names.",
            ),
            End::All if hits == 0 => ("warn", "Nothing was found: ", ""),
            End::All => ("good", "", ""),
            End::Hits => (
                "warn",
                "There is more: ",
                "As many lines are shown as one search shows. Ask for fewer: one agent, some days, or a longer text.",
            ),
            End::Time => (
                "warn",
                "The time was over: ",
                "A search may take five minutes. Ask for fewer files: one agent, some days, or some names.",
            ),
            End::CalledOff => ("warn", "Called off: ", ""),
        };
        let missing = missing(walked, count(&self.counts.troubles), done.end != End::All);
        let class = if missing.is_empty() { class } else { "warn" };
        Kind::End { class, sentence: format!("{word}{found}{missing}"), advice: advice.to_owned() }
    }
}

/// What was not looked through, however the search ended: sentences that follow others; empty where nothing is missing.
fn missing(walked: &Walked, troubles: u64, is_early: bool) -> String {
    let mut sentences = String::new();
    // A search that came to its end says it first of all.
    if walked.is_cut && is_early {
        sentences += " There are more files than one search may look at.";
    }
    if walked.unreadable > 0 {
        sentences += &format!(" {} cannot be read.", figures::of(walked.unreadable, "folder", "folders"));
    }
    if troubles > 0 {
        let files = figures::of(troubles, "file was", "files were");
        sentences += &format!(" {files} not looked through to the end");
        sentences += &match troubles > TROUBLES_MAX {
            true => format!(": the first {TROUBLES_MAX} are named."),
            false => ".".to_owned(),
        };
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_looked_through_is_said_however_the_search_ended() {
        let walked = |is_cut, unreadable| Walked { is_cut, unreadable, ..Walked::default() };
        assert_eq!(missing(&walked(false, 0), 0, true), "");
        assert_eq!(missing(&walked(true, 0), 0, false), "", "said at its beginning");
        assert_eq!(missing(&walked(false, 1), 0, false), " 1 folder cannot be read.");
        assert_eq!(
            missing(&walked(true, 2), 130, true),
            " There are more files than one search may look at. 2 folders cannot be read. \
             130 files were not looked through to the end: the first 100 are named."
        );
        assert_eq!(missing(&walked(false, 0), 1, true), " 1 file was not looked through to the end.");
    }
}
