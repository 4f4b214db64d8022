//! Archives on a disk, as sftpd would have written their chain, and each way to tamper with one.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use pair::chain::{Event, FORMAT, Header, Segment, digest};
use pair::record::Position;

use super::*;

/// An archive of two agents.
struct Archive {
    folder: tempfile::TempDir,
    head: Option<(u64, String)>,
}

fn hash(content: &[u8]) -> Option<String> {
    Some(blake3::hash(content).to_hex().to_string())
}

fn event(what: What, path: &str, from: u64, size: u64, content: &[u8]) -> Event {
    let blake3 = if what == What::Expired { None } else { hash(content) };
    Event { event: what, path: VolumePath(path.into()), from, size, blake3, time: "2026-11-20T00:00:00Z".into() }
}

impl Archive {
    fn new() -> Archive {
        Archive { folder: tempfile::tempdir().unwrap(), head: None }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, content: &[u8]) {
        std::fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        std::fs::write(self.path(path), content).unwrap();
    }

    /// Seals on a day, and says that all is in the chain that came up to so many hours from now.
    fn seal_until(&mut self, day: &str, hours: i64, events: Vec<Event>) -> PathBuf {
        let number = self.head.as_ref().map_or(1, |head| head.0 + 1);
        let until = Timestamp::now() + SignedDuration::from_hours(hours);
        let segment = Segment {
            header: Header {
                format: FORMAT.into(),
                number,
                epoch: (1, "e".into()),
                machine: "n".into(),
                time: format!("{day}T12:00:00Z"),
                previous: self.head.as_ref().map(|head| head.1.clone()),
                until: until.to_string(),
                through: Position { epoch: "e".into(), seq: number },
                agents: ["agent01", "agent02"].map(|home| VolumePath(home.into())).to_vec(),
            },
            events,
        };
        let text = segment.text().unwrap();
        self.write(&segment.path(), text.as_bytes());
        self.head = Some((number, digest(text.as_bytes())));
        self.path(&segment.path())
    }

    fn seal(&mut self, day: &str, events: Vec<Event>) -> PathBuf {
        self.seal_until(day, 1, events)
    }

    fn ask(&self, question: &Question) -> Report {
        verify(&Source::open(self.folder.path()).unwrap(), question).unwrap()
    }

    fn verify(&self) -> Report {
        self.ask(&Question::default())
    }

    /// What is wrong: fault and path.
    fn found(&self) -> Vec<(Fault, String)> {
        self.verify().findings.into_iter().map(|finding| (finding.fault, finding.path)).collect()
    }
}

const DAYS: [&str; 3] = ["2026-11-20", "2026-11-21", "2026-11-22"];

/// One that has seen rotation, growth, retention and a takeover.
fn healthy() -> (Archive, Vec<PathBuf>) {
    let mut archive = Archive::new();
    archive.write("agent01/app.log.1", b"rotated");
    archive.write("agent01/deep/\u{e9} b.log", b"one two three");
    archive.write("agent02/found", b"found");
    archive.write("other/account", b"of no agent");
    let arrived = |path: &str, content: &[u8]| event(What::Arrived, path, 0, content.len() as u64, content);
    let first = archive.seal(
        DAYS[0],
        vec![
            arrived("agent01/app.log.1", b"rotated"),
            arrived("agent01/deep/\u{e9} b.log", b"one "),
            arrived("agent01/old", b"gone"),
        ],
    );
    let grown = event(What::Grown, "agent01/deep/\u{e9} b.log", 4, 8, b"two ");
    let second = archive.seal(DAYS[1], vec![grown, event(What::Expired, "agent01/old", 0, 4, b"")]);
    let grown = event(What::Grown, "agent01/deep/\u{e9} b.log", 8, 13, b"three");
    let third = archive.seal(DAYS[2], vec![grown, event(What::Found, "agent02/found", 0, 5, b"found")]);
    (archive, vec![first, second, third])
}

fn at(path: &str) -> String {
    path.to_owned()
}

#[test]
fn a_healthy_archive_is_clean_after_rotation_growth_retention_and_takeover() {
    let (archive, _) = healthy();
    let report = archive.verify();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.segments, report.events, report.files, report.bytes), (3, 7, 3, 25));
    assert_eq!(report.days.iter().map(|head| head.day.as_str()).collect::<Vec<_>>(), DAYS);
    assert_eq!(Some(&report.days[2].digest), archive.head.as_ref().map(|head| &head.1));
    assert!(report.in_words().contains("all is as it was sent"), "{}", report.in_words());
}

#[test]
fn a_folder_without_a_chain_is_said_to_have_none() {
    let report = Archive::new().verify();
    assert!(report.is_clean() && report.in_words().contains("no chain yet"));
}

#[test]
fn a_file_that_was_altered_is_named_wherever_that_was() {
    for content in
        [&b"One two three"[..], b"one twO three", b"one two threE", b"one two thre", b"", b"one two three four"]
    {
        let (archive, _) = healthy();
        archive.write("agent01/deep/\u{e9} b.log", content);
        assert_eq!(archive.found(), [(Fault::Altered, at("agent01/deep/%C3%A9 b.log"))], "{content:?}");
    }
}

#[test]
fn a_file_that_is_missing_is_named_also_where_its_whole_folder_is() {
    let (archive, _) = healthy();
    std::fs::remove_dir_all(archive.path("agent01")).unwrap();
    let expected = [(Fault::Missing, at("agent01/app.log.1")), (Fault::Missing, at("agent01/deep/%C3%A9 b.log"))];
    assert_eq!(archive.found(), expected);
}

#[test]
fn a_file_that_was_renamed_is_missing_here_and_inserted_there() {
    let (archive, _) = healthy();
    std::fs::rename(archive.path("agent02/found"), archive.path("agent02/moved")).unwrap();
    assert_eq!(archive.found(), [(Fault::Inserted, at("agent02/moved")), (Fault::Missing, at("agent02/found"))]);
}

#[test]
fn a_file_that_was_put_in_is_named_and_one_that_has_just_come_is_not() {
    let (mut archive, _) = healthy();
    archive.write("agent02/forged.log", b"x");
    archive.write("agent01/old", b"gone");
    std::os::unix::fs::symlink("/etc/passwd", archive.path("agent02/link")).unwrap();
    let expected = [
        (Fault::Inserted, at("agent01/old")),
        (Fault::Inserted, at("agent02/forged.log")),
        (Fault::Inserted, at("agent02/link")),
    ];
    assert_eq!(archive.found(), expected);
    std::fs::remove_file(archive.path("agent02/link")).unwrap();
    // A chain that ends an hour ago cannot tell of them yet.
    archive = Archive { folder: archive.folder, head: None };
    std::fs::remove_dir_all(archive.path("admin")).unwrap();
    archive.seal_until(DAYS[2], -1, vec![event(What::Arrived, "agent02/found", 0, 3, b"fou")]);
    let report = archive.verify();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.unsealed, 5, "one of them has grown");
}

/// Does something to an archive whose segments lie there.
type Tampering = fn(&Archive, &[PathBuf]);

#[test]
fn a_segment_that_was_altered_removed_moved_or_put_in_is_named() {
    let tamper: [(&str, Tampering); 6] = [
        ("altered", |_, segments| {
            let text = std::fs::read_to_string(&segments[1]).unwrap();
            std::fs::write(&segments[1], text.replace("\"number\":2", "\"number\": 2")).unwrap();
        }),
        ("cut off", |_, segments| {
            let text = std::fs::read(&segments[1]).unwrap();
            std::fs::write(&segments[1], &text[..text.len() - 7]).unwrap();
        }),
        ("removed", |_, segments| std::fs::remove_file(&segments[1]).unwrap()),
        ("reordered", |_, segments| {
            let texts = [0, 1].map(|number| std::fs::read(&segments[number]).unwrap());
            std::fs::write(&segments[0], &texts[1]).unwrap();
            std::fs::write(&segments[1], &texts[0]).unwrap();
        }),
        ("put in", |archive, segments| {
            let copy = archive.path("admin/archive-chain/2026-11-22/000002.chain");
            std::fs::copy(&segments[1], copy).unwrap();
        }),
        ("beside", |archive, _| archive.write("admin/archive-chain/2026-11-22/notes.txt", b"x")),
    ];
    for (what, act) in tamper {
        let (archive, segments) = healthy();
        act(&archive, &segments);
        let found = archive.found();
        assert!(
            found.iter().any(|(fault, path)| *fault == Fault::Chain && path.starts_with(FOLDER)),
            "{what}: {found:?}"
        );
    }
}

#[test]
fn a_chain_that_was_written_anew_or_cut_at_its_end_is_told_by_a_digest_that_was_noted() {
    let (archive, segments) = healthy();
    let noted = archive.head.clone().unwrap().1;
    let question = Question { expect: Some(noted), ..Question::default() };
    assert!(archive.ask(&question).is_clean());
    std::fs::remove_file(&segments[2]).unwrap();
    let found = archive.ask(&question).findings;
    assert!(
        found.iter().any(|finding| finding.fault == Fault::Chain && finding.text.contains("no segment has the digest"))
    );
    // Who forges a file and all of the chain is found out by nothing else.
    let mut forged = Archive::new();
    forged.write("agent01/log", b"forged");
    forged.seal(DAYS[0], vec![event(What::Arrived, "agent01/log", 0, 6, b"forged")]);
    assert!(forged.verify().is_clean() && !forged.ask(&question).is_clean());
}

#[test]
fn a_question_about_one_agent_or_the_last_days_looks_at_no_other_files() {
    let (archive, _) = healthy();
    archive.write("agent01/app.log.1", b"ALTERED");
    let about = |agent: Option<&str>, since: Option<&str>| {
        let question = Question {
            agent: agent.map(str::to_owned),
            since: since.map(|day| day.parse().unwrap()),
            ..Question::default()
        };
        archive.ask(&question).findings.len()
    };
    assert_eq!((about(None, None), about(Some("agent01"), None), about(Some("agent02"), None)), (1, 1, 0));
    assert_eq!((about(None, Some(DAYS[0])), about(None, Some(DAYS[1]))), (1, 0));
}

#[test]
fn findings_beyond_what_is_named_are_counted() {
    let mut report = Report::default();
    for number in 0..10_005 {
        report.find(Finding { fault: Fault::Missing, path: number.to_string(), text: "gone".into() });
    }
    assert_eq!((report.findings.len(), report.unnamed), (10_000, 5));
    assert!(!report.is_clean() && report.in_words().contains("and 5 findings more"));
}

#[test]
fn a_path_that_is_a_folder_now_is_missing_as_a_file() {
    let (archive, _) = healthy();
    std::fs::remove_file(archive.path("agent02/found")).unwrap();
    std::fs::create_dir(Path::new(&archive.path("agent02/found"))).unwrap();
    assert_eq!(archive.found(), [(Fault::Missing, at("agent02/found"))]);
}
