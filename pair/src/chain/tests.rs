//! Segments and chains of them, as they were written and as somebody has tampered with them.

use super::*;

fn segment(number: u64, previous: Option<&str>, day: &str) -> Segment {
    Segment {
        header: Header {
            format: FORMAT.into(),
            number,
            epoch: (1, "e".repeat(16)),
            machine: "n".into(),
            time: format!("{day}T10:00:00Z"),
            previous: previous.map(str::to_owned),
            until: format!("{day}T09:59:59Z"),
            through: Position { epoch: "e".repeat(16), seq: number * 10 },
            agents: vec![VolumePath(b"agent01".to_vec())],
        },
        events: vec![Event {
            event: What::Grown,
            path: VolumePath(b"agent01/a \n\xff\"name".to_vec()),
            from: 5,
            size: 9,
            blake3: Some("0".repeat(64)),
            time: format!("{day}T09:00:00Z"),
        }],
    }
}

/// Three segments as they lie on the volume: day, number, bytes.
fn chain() -> Vec<(String, u64, Vec<u8>)> {
    let mut previous: Option<String> = None;
    [(1, "2026-11-21"), (2, "2026-11-21"), (3, "2026-11-22")]
        .map(|(number, day)| {
            let bytes = segment(number, previous.as_deref(), day).text().unwrap().into_bytes();
            previous = Some(digest(&bytes));
            (day.to_owned(), number, bytes)
        })
        .to_vec()
}

fn flaws(chain: &[(String, u64, Vec<u8>)]) -> Vec<(u64, Flaw)> {
    let mut checker = Checker::default();
    let look = |(day, number, bytes): &(String, u64, Vec<u8>)| {
        checker.look(day, *number, bytes).flaws.into_iter().map(|flaw| (*number, flaw)).collect::<Vec<_>>()
    };
    chain.iter().flat_map(look).collect()
}

#[test]
fn a_segment_reads_back_whatever_a_name_holds_and_has_a_line_for_each_event() {
    let segment = segment(17, None, "2026-11-22");
    let text = segment.text().unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(text.is_ascii(), "{text}");
    assert_eq!(Segment::parse(text.as_bytes()).unwrap(), segment);
    assert_eq!(segment.path(), "admin/archive-chain/2026-11-22/000017.chain");
    assert_eq!(number_of("000017.chain"), Some(17));
    assert_eq!(number_of(&file_name(12_345_678)), Some(12_345_678));
    for name in ["17.chain", "000017", "000017.chain.tmp", "000000.chain", "-00001.chain"] {
        assert_eq!(number_of(name), None, "{name}");
    }
    assert!(is_day("2026-11-22") && !is_day("2026-13-22") && !is_day("20261122") && !is_day("2026-11-2"));
    assert_eq!(home_of(b"agent01/a/b"), b"agent01");
}

#[test]
fn a_chain_as_it_was_written_has_no_flaw() {
    assert_eq!(flaws(&chain()), []);
}

#[test]
fn a_segment_that_was_altered_is_told_by_the_one_behind_it() {
    let mut chain = chain();
    let text = String::from_utf8(chain[1].2.clone()).unwrap().replace("\"size\":9", "\"size\":8");
    chain[1].2 = text.into_bytes();
    assert_eq!(flaws(&chain), [(3, Flaw::Broken)]);
}

#[test]
fn a_segment_that_was_cut_off_or_overwritten_is_named() {
    for bytes in [&b"{}\n"[..], b"", b"\xff\n"] {
        let mut chain = chain();
        chain[1].2 = bytes.to_vec();
        let found = flaws(&chain);
        assert!(matches!(&found[..], [(2, Flaw::Unreadable(_)), (3, Flaw::Broken)]), "{found:?}");
    }
    let mut chain = chain();
    chain[2].2.pop();
    assert!(matches!(&flaws(&chain)[..], [(3, Flaw::Unreadable(_))]));
}

#[test]
fn a_segment_that_was_taken_out_is_missing() {
    let mut without = chain();
    without.remove(1);
    assert_eq!(flaws(&without), [(3, Flaw::Missing(2, 2))]);
    let mut without = chain();
    without.drain(..2);
    assert_eq!(flaws(&without), [(3, Flaw::Missing(1, 2))]);
}

#[test]
fn segments_that_changed_places_are_named() {
    let mut swapped = chain();
    let (one, other) = (swapped[0].2.clone(), swapped[1].2.clone());
    (swapped[0].2, swapped[1].2) = (other, one);
    let found = flaws(&swapped);
    assert!(found.contains(&(1, Flaw::Renamed(2))) && found.contains(&(2, Flaw::Renamed(1))), "{found:?}");
    assert!(found.contains(&(3, Flaw::Broken)));
    let mut moved = chain();
    moved[1].0 = "2026-11-22".into();
    assert_eq!(flaws(&moved), [(2, Flaw::Misplaced("2026-11-21".into()))]);
}

#[test]
fn a_segment_that_was_put_in_is_named() {
    let mut more = chain();
    let copy = more[1].clone();
    more.insert(2, ("2026-11-22".into(), copy.1, copy.2));
    assert!(flaws(&more).contains(&(2, Flaw::Twice)));
}
