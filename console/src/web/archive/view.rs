//! Lines of a file: its last ones, those at a place, those around a hit; with ways to those before and behind.
//!
//! Always holds: a page has one window of the file, whatever the file holds; packed files are unpacked for it on the way.

use askama::Template;
use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::tz::TimeZone;
use web::{Session, figures};

use super::super::records::local_time;
use super::super::{Frame, Site, page};
use super::files::crumbs;
use super::form::{HOWS, field, pattern_of, query};
use super::lines::{Row, pieces};
use super::overview::Choice;
use super::{Fault, HERE, home_path, text};
use crate::archive::{Content, Line, Pattern, Place, Window, after, around, before, tail};

#[derive(Template)]
#[template(path = "archive_view.html")]
struct Page {
    frame: Frame,
    style: String,
    script: String,
    crumbs: Vec<Choice>,
    name: String,
    file: String,
    size: String,
    modified: String,
    packed_as: &'static str,
    rows: Vec<Row>,
    is_wrapped: bool,
    is_first: bool,
    is_last: bool,
    damage: String,
    mistake: String,
    typed_text: String,
    typed_how: String,
    begin: String,
    earlier: String,
    later: String,
    end: String,
    wrap: String,
    download: String,
    /// Where one listens to what comes; empty where nothing more can come.
    events: String,
}

/// Which lines are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Tail,
    From(u64),
    To(u64),
    Around(u64),
}

/// What is wanted of a file.
struct Asked {
    file: String,
    wanted: Wanted,
    /// The number of the line at that place, where it is known.
    number: Option<u64>,
    is_wrapped: bool,
    text: String,
    how: String,
    pattern: Option<Pattern>,
    mistake: String,
}

impl Asked {
    fn of(asked: &str) -> Asked {
        let number = |name: &str| field(asked, name).parse::<u64>().ok();
        let (text, how) = (field(asked, "text"), field(asked, "how"));
        let (pattern, mistake) = match pattern_of(&text, &how) {
            Ok(pattern) => (pattern, String::new()),
            Err((_, sentence)) => (None, sentence),
        };
        let wanted = match (number("start"), number("end"), number("around")) {
            (Some(start), _, _) => Wanted::From(start),
            (None, Some(end), _) => Wanted::To(end),
            (None, None, Some(place)) => Wanted::Around(place),
            (None, None, None) => Wanted::Tail,
        };
        let is_wrapped = field(asked, "wrap") != "no";
        Asked { file: field(asked, "file"), wanted, number: number("line"), is_wrapped, text, how, pattern, mistake }
    }

    /// The address of other lines of the same file.
    fn link(&self, place: &[(&str, &str)], is_wrapped: bool) -> String {
        let wrap = if is_wrapped { "" } else { "no" };
        let kept = [("file", self.file.as_str()), ("text", &self.text), ("how", &self.how), ("wrap", wrap)];
        format!("{HERE}/view?{}", query(&[&kept, place].concat()))
    }
}

/// Shows the page.
pub async fn show(State(site): State<Site>, session: Extension<Session>, RawQuery(query): RawQuery) -> Response {
    let asked = Asked::of(&query.unwrap_or_default());
    match look(&site, &asked).await {
        Ok((place, content, window)) => {
            let status = if asked.mistake.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
            page(status, &page_of(&site, &session, &asked, &place, &content, &window))
        }
        Err(fault) => fault.page(&site, &session),
    }
}

async fn look(site: &Site, asked: &Asked) -> Result<(Place, Content, Window), Fault> {
    let place = Place::parse(&asked.file).ok_or(Fault::Missing)?;
    let told = site.archive.known.told().await;
    let (home, path, wanted) = (home_path(&told, &place)?, place.path.clone(), asked.wanted);
    let (content, window) = site
        .look(move |volume, bounds| {
            let content = Content::of(volume.home(&home)?.file(&path)?)?;
            let window = match wanted {
                Wanted::Tail => tail(&content, bounds),
                Wanted::From(start) => after(&content, start, bounds),
                Wanted::To(end) => before(&content, end, bounds),
                Wanted::Around(place) => around(&content, place, bounds),
            }?;
            Ok((content, window))
        })
        .await?;
    Ok((place, content, window))
}

fn page_of(site: &Site, session: &Session, asked: &Asked, place: &Place, content: &Content, window: &Window) -> Page {
    let zone = site.config.zone().unwrap_or(TimeZone::UTC);
    let first = first_number(asked, window);
    let number_at = |behind: u64| first.map(|first| (first + behind).to_string()).unwrap_or_default();
    let (first_text, last_text) = (number_at(0), number_at(window.lines.len() as u64));
    let (start, end) = (window.start.to_string(), window.end.to_string());
    let is_tail = window.is_last && window.damage.is_none();
    // Half a line is told again once it is whole.
    let told = window.lines.iter().rev().find(|line| line.is_ended).map_or(window.start, |line| line.next);
    let events =
        [("file", asked.file.as_str()), ("after", &told.to_string()), ("text", &asked.text), ("how", &asked.how)];
    let here = match asked.wanted {
        Wanted::Tail => None,
        Wanted::From(at) => Some(("start", at)),
        Wanted::To(at) => Some(("end", at)),
        Wanted::Around(at) => Some(("around", at)),
    };
    let here = here.map(|(key, at)| (key, at.to_string()));
    let number = asked.number.map(|number| number.to_string()).unwrap_or_default();
    let here: Vec<(&str, &str)> =
        here.iter().map(|(key, at)| (*key, at.as_str())).chain([("line", number.as_str())]).collect();
    Page {
        frame: site.frame(session, HERE),
        style: site.assets.url("archive.css"),
        script: site.assets.url("archive.js"),
        crumbs: crumbs(place.parent().as_ref()),
        name: text::name(place.name()),
        size: figures::bytes(content.size),
        modified: local_time(content.modified_s.saturating_mul(1000), &zone),
        packed_as: content.packed_as(),
        rows: rows(asked, window, first),
        is_wrapped: asked.is_wrapped,
        is_first: window.start == 0,
        is_last: window.is_last,
        damage: window.damage.as_deref().map(super::super::shown).unwrap_or_default(),
        mistake: asked.mistake.clone(),
        typed_text: asked.text.clone(),
        typed_how: asked.how.clone(),
        begin: asked.link(&[("start", "0"), ("line", "1")], asked.is_wrapped),
        earlier: asked.link(&[("end", &start), ("line", &first_text)], asked.is_wrapped),
        later: asked.link(&[("start", &end), ("line", &last_text)], asked.is_wrapped),
        end: asked.link(&[], asked.is_wrapped),
        wrap: asked.link(&here, !asked.is_wrapped),
        download: format!("{HERE}/file?{}", query(&[("file", &asked.file)])),
        events: if is_tail && content.is_plain() { format!("{HERE}/follow?{}", query(&events)) } else { String::new() },
        file: asked.file.clone(),
    }
}

/// The number of the first line that is shown, where it can be told.
fn first_number(asked: &Asked, window: &Window) -> Option<u64> {
    if window.start == 0 {
        return Some(1);
    }
    let lines = window.lines.len() as u64;
    match asked.wanted {
        Wanted::Tail => None,
        Wanted::From(_) => asked.number,
        Wanted::To(_) => asked.number?.checked_sub(lines),
        Wanted::Around(place) => {
            let before = window.lines.iter().take_while(|line| line.offset < place).count() as u64;
            asked.number?.checked_sub(before)
        }
    }
}

fn rows(asked: &Asked, window: &Window, first: Option<u64>) -> Vec<Row> {
    let target = match asked.wanted {
        Wanted::Around(place) => window.lines.iter().rposition(|line| line.offset <= place),
        _ => None,
    };
    let row = |(at, line): (usize, &Line)| {
        let number = first.map(|first| (first + at as u64).to_string()).unwrap_or_default();
        let place = line.offset.to_string();
        let link = asked.link(&[("around", &place), ("line", &number)], asked.is_wrapped) + "#hit";
        row_of(line, number, link, asked.pattern.as_ref(), target == Some(at))
    };
    window.lines.iter().enumerate().map(row).collect()
}

/// A line as a row.
pub fn row_of(line: &Line, number: String, link: String, pattern: Option<&Pattern>, is_target: bool) -> Row {
    let (pieces, more) = pieces(&line.bytes, line.length, pattern);
    let is_hit = pieces.iter().any(|piece| piece.class == "found");
    Row { number, link, is_hit, is_target, is_unended: !line.is_ended, pieces, more }
}
