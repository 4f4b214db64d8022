//! What the record knows before, during and after a send, and after a crash.

use super::*;

fn stamp(ino: u64, size: u64) -> Stamp {
    Stamp { ino, btime_ns: 1, size, mtime_ns: 2, ctime_ns: 3 }
}

fn intent(text: i64, ino: u64, from: u64, to: u64) -> Intent {
    Intent {
        text,
        folder: "logs".into(),
        path: b"\xff.log".to_vec(),
        stamp: stamp(ino, to),
        mode: 0o644,
        from,
        to,
        hash: [1; 32],
        proof: Proof { sent: to, start: [2; 32], hash: [3; 32], hash_bytes: to, tail: [4; 32] },
        remote: b"/logs/\xff.log".to_vec(),
        number: 0,
        stored_from: from,
        stored_to: to,
        packed: String::new(),
        begun: false,
    }
}

fn record() -> (tempfile::TempDir, Record) {
    let folder = tempfile::tempdir().unwrap();
    let record = Record::open(&folder.path().join("archive.db")).unwrap();
    (folder, record)
}

fn note(record: &mut Record, note: Note) -> i64 {
    record.write(&[note], 1000).unwrap()[0]
}

#[test]
fn a_send_is_there_after_a_crash_until_its_outcome_is_noted() {
    let (folder, mut record) = record();
    let text = note(&mut record, Note::Intent(Box::new(intent(0, 7, 0, 10))));
    note(&mut record, Note::Begun(text));
    drop(record);
    let mut record = Record::open(&folder.path().join("archive.db")).unwrap();
    let left = record.intents().unwrap();
    assert_eq!(left, [Intent { begun: true, ..intent(text, 7, 0, 10) }]);
    assert!(record.has_remote(b"/logs/\xff.log").unwrap(), "its name is not given twice");
    assert_eq!(record.texts_of_file(7, 1).unwrap()[0].proof.sent, 0);
    note(&mut record, Note::Done(Box::new(left[0].clone()), Some(stamp(7, 10))));
    assert!(record.intents().unwrap().is_empty());
    let noted = record.noted("logs", b"\xff.log").unwrap().unwrap();
    assert_eq!((noted.stamp, noted.text, noted.missing_s), (stamp(7, 10), text, None));
    assert_eq!(record.texts_of_start(&[2; 32], 10).unwrap()[0].proof, left[0].proof);
    assert_eq!(record.totals().unwrap(), (1, 10));
}

#[test]
fn what_is_not_sent_leaves_nothing_and_what_was_sent_before_stays() {
    let (_folder, mut record) = record();
    let text = note(&mut record, Note::Intent(Box::new(intent(0, 7, 0, 10))));
    note(&mut record, Note::Dropped(text));
    assert!(record.texts_of_file(7, 1).unwrap().is_empty() && !record.has_remote(b"/logs/\xff.log").unwrap());
    let text = note(&mut record, Note::Intent(Box::new(intent(0, 7, 0, 10))));
    note(&mut record, Note::Done(Box::new(intent(text, 7, 0, 10)), None));
    note(&mut record, Note::Intent(Box::new(intent(text, 7, 10, 30))));
    note(&mut record, Note::Dropped(text));
    let known = record.text(text).unwrap().unwrap();
    assert_eq!((known.proof.sent, known.stored, known.base), (10, 10, 0));
}

#[test]
fn the_rest_of_a_text_may_begin_a_file_of_its_own() {
    let (_folder, mut record) = record();
    let text = note(&mut record, Note::Intent(Box::new(intent(0, 7, 0, 10))));
    note(&mut record, Note::Done(Box::new(intent(text, 7, 0, 10)), None));
    let rest = Intent { remote: b"/logs/other".to_vec(), stored_from: 0, stored_to: 20, ..intent(text, 7, 10, 30) };
    note(&mut record, Note::Intent(Box::new(rest.clone())));
    note(&mut record, Note::Done(Box::new(rest), None));
    let known = record.text(text).unwrap().unwrap();
    assert_eq!(
        (known.remote.as_slice(), known.base, known.stored, known.proof.sent),
        (&b"/logs/other"[..], 10, 20, 30)
    );
}

#[test]
fn a_renamed_file_is_the_same_text_and_what_is_gone_is_kept_for_a_time() {
    let (_folder, mut record) = record();
    let text = note(&mut record, Note::Intent(Box::new(intent(0, 7, 0, 10))));
    note(&mut record, Note::Done(Box::new(intent(text, 7, 0, 10)), Some(stamp(7, 10))));
    let (folder, path) = ("logs".to_owned(), b"new".to_vec());
    let known = Note::Known { folder, path, stamp: stamp(8, 10), text, carries: true };
    note(&mut record, known);
    assert!(record.texts_of_file(7, 1).unwrap().is_empty());
    assert_eq!(record.texts_of_file(8, 1).unwrap()[0].id, text);
    assert_eq!(record.files_of_text(text).unwrap().len(), 2);
    note(&mut record, Note::Missing("logs".into(), b"\xff.log".to_vec(), true));
    assert_eq!(record.forget_missing(1000).unwrap(), 0);
    assert_eq!(record.forget_missing(1001).unwrap(), 1);
    assert_eq!(record.all_noted("logs").unwrap().len(), 1);
    assert!(record.text(text).unwrap().is_some(), "its text is known for ever");
}

#[test]
fn what_the_archive_has_lost_is_sent_again() {
    let (_folder, mut record) = record();
    let text = note(&mut record, Note::Intent(Box::new(intent(0, 7, 0, 10))));
    note(&mut record, Note::Done(Box::new(intent(text, 7, 0, 10)), Some(stamp(7, 10))));
    assert_eq!(record.last_texts(0).unwrap().len(), 1);
    let less = Proof { sent: 4, ..intent(0, 7, 0, 10).proof };
    note(&mut record, Note::Back(text, Some((less, 4))));
    assert_eq!(record.text(text).unwrap().map(|text| (text.proof.sent, text.stored)), Some((4, 4)));
    assert_eq!(record.noted("logs", b"\xff.log").unwrap(), None);
    note(&mut record, Note::Back(text, None));
    assert_eq!(record.text(text).unwrap(), None);
}
