//! The table of what a file can be, and what holds whatever it is.

use proptest::prelude::*;

use super::*;

const SIZE: u64 = 100;

fn view(size: u64) -> View {
    let stamp = Stamp { ino: 7, btime_ns: 1, size, mtime_ns: 5, ctime_ns: 5 };
    View { stamp, noted: None, is_quiet: true, is_young: false, tail: false }
}

fn candidate(text: i64, sent: u64) -> Candidate {
    let proof = Proof { sent, ..Proof::default() };
    Candidate { text, proof, is_own: false, is_orphan: false, is_busy: false }
}

fn own(text: i64, sent: u64) -> Candidate {
    Candidate { is_own: true, ..candidate(text, sent) }
}

fn orphan(text: i64, sent: u64) -> Candidate {
    Candidate { is_orphan: true, ..candidate(text, sent) }
}

fn judged(view: View, candidates: &[Candidate], held: &[i64]) -> Verdict {
    decide(&view, candidates, |candidate| Ok(held.contains(&candidate.text))).unwrap()
}

#[test]
fn what_needs_no_look_into_the_file() {
    let noted = |view: View| View { noted: Some(view.stamp), ..view };
    assert_eq!(at_a_glance(&view(0)), Some(Verdict::Settled), "an empty file holds nothing to keep");
    assert_eq!(at_a_glance(&noted(view(SIZE))), Some(Verdict::Settled), "it is as it was when it had arrived");
    assert_eq!(at_a_glance(&View { is_quiet: false, ..view(SIZE) }), Some(Verdict::Wait), "it is written to");
    assert_eq!(at_a_glance(&View { is_quiet: false, tail: true, ..view(SIZE) }), None, "it is shipped as it grows");
    // Time back, time in the future, the same size: whatever has changed, the content decides.
    for change in [
        |stamp: &mut Stamp| stamp.mtime_ns = i64::MAX,
        |stamp: &mut Stamp| stamp.mtime_ns = i64::MIN,
        |stamp: &mut Stamp| stamp.ctime_ns += 1,
        |stamp: &mut Stamp| stamp.ino += 1,
        |stamp: &mut Stamp| stamp.btime_ns += 1,
    ] {
        let mut changed = noted(view(SIZE));
        change(&mut changed.stamp);
        assert_eq!(at_a_glance(&changed), None);
    }
}

/// What happened, what is known of the file, the texts that it may hold, those that it holds, and what is done.
type Case = (&'static str, View, Vec<Candidate>, &'static [i64], Verdict);

#[test]
fn the_table_of_what_a_file_is() {
    let (quiet, busy) = (view(SIZE), View { is_quiet: false, tail: true, ..view(SIZE) });
    let young = View { is_young: true, ..busy };
    let in_work = |candidate: Candidate| Candidate { is_busy: true, ..candidate };
    let cases: [Case; 17] = [
        ("nothing is known of it", quiet, vec![], &[], Verdict::New),
        ("renamed", quiet, vec![own(1, SIZE)], &[1], Verdict::Known(1)),
        ("grown", quiet, vec![own(1, 60)], &[1], Verdict::GoesOn(1)),
        ("grown, and shipped as it grows", busy, vec![own(1, 60)], &[1], Verdict::GoesOn(1)),
        (
            "the name, the size and the inode of another, with other content",
            quiet,
            vec![own(1, SIZE)],
            &[],
            Verdict::New,
        ),
        ("truncated and written anew", quiet, vec![own(1, 60)], &[], Verdict::New),
        ("truncated, and shorter than what was shipped", quiet, vec![own(1, 500)], &[], Verdict::New),
        ("copied, and the first one emptied", quiet, vec![orphan(1, SIZE)], &[1], Verdict::Known(1)),
        ("copied with more in it, and the first one emptied", quiet, vec![orphan(1, 60)], &[1], Verdict::GoesOn(1)),
        ("another file that says the same", quiet, vec![candidate(1, SIZE)], &[1], Verdict::New),
        ("perhaps a copy that is being made", young, vec![candidate(1, 60)], &[1], Verdict::Wait),
        ("perhaps the beginning of one", young, vec![candidate(1, 500)], &[], Verdict::Wait),
        ("no copy after all", busy, vec![candidate(1, 500)], &[], Verdict::New),
        ("on its way", quiet, vec![in_work(own(1, 60))], &[1], Verdict::Wait),
        ("begun, and nothing of it has arrived", quiet, vec![in_work(own(1, 0))], &[], Verdict::Wait),
        ("the furthest of its own", quiet, vec![own(1, 60), own(2, 90)], &[1, 2], Verdict::GoesOn(2)),
        ("its own before another's", quiet, vec![own(1, 60), candidate(2, 90)], &[1, 2], Verdict::GoesOn(1)),
    ];
    for (what, view, candidates, held, expected) in cases {
        assert_eq!(judged(view, &candidates, held), expected, "{what}");
    }
}

#[test]
fn what_cannot_be_read_is_an_error_and_no_verdict() {
    let refused = decide(&view(SIZE), &[own(1, 60)], |_| Err(io::ErrorKind::PermissionDenied.into()));
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
}

fn any_candidate() -> impl Strategy<Value = Candidate> {
    (1..9_i64, 0..200_u64, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(text, sent, is_own, is_orphan, is_busy)| Candidate {
            is_own,
            is_orphan: is_orphan && !is_own,
            is_busy,
            ..candidate(text, sent)
        },
    )
}

proptest! {
    #[test]
    fn nothing_is_taken_for_archived_without_a_proof_that_holds(
        candidates in prop::collection::vec(any_candidate(), 0..6),
        held in prop::collection::hash_set(1..9_i64, 0..9),
        is_quiet in any::<bool>(), is_young in any::<bool>(), tail in any::<bool>(),
    ) {
        let view = View { is_quiet, is_young, tail, ..view(SIZE) };
        let held: Vec<i64> = held.into_iter().collect();
        match judged(view, &candidates, &held) {
            Verdict::Known(text) => {
                prop_assert!(held.contains(&text));
                prop_assert!(candidates.iter().any(|c| c.text == text && c.proof.sent == SIZE && !c.is_busy));
            }
            Verdict::GoesOn(text) => {
                prop_assert!(held.contains(&text));
                prop_assert!(candidates.iter().any(|c| c.text == text && (1..SIZE).contains(&c.proof.sent) && (c.is_own || c.is_orphan)));
            }
            Verdict::Settled => prop_assert!(false, "it is not empty, and nothing is noted of it"),
            Verdict::Wait | Verdict::New => {}
        }
    }

    #[test]
    fn a_file_at_rest_of_which_nothing_is_on_its_way_never_waits(
        candidates in prop::collection::vec(any_candidate(), 0..6),
        held in prop::collection::hash_set(1..9_i64, 0..9),
    ) {
        let idle: Vec<Candidate> = candidates.into_iter().map(|c| Candidate { is_busy: false, ..c }).collect();
        let held: Vec<i64> = held.into_iter().collect();
        prop_assert_ne!(judged(view(SIZE), &idle, &held), Verdict::Wait);
    }
}
