//! Contents: made, read back, and everything that may be done to one.

use proptest::prelude::*;

use super::*;
use crate::plan::{Mix, Sizes, Target, Verify};

pub fn plan(sizes: &str, files: u64, seed: u64) -> Plan {
    Plan {
        target: Target { name: "t".into(), address: "t:1".into() },
        standbys: Vec::new(),
        account: "a".into(),
        files,
        sizes: sizes.parse().unwrap(),
        clients: 1,
        in_flight: 1,
        mix: Mix::default(),
        duration: None,
        load_max: std::time::Duration::from_secs(3600),
        ramp: std::time::Duration::ZERO,
        verify: Verify::Target,
        seed,
        keep: false,
    }
}

fn contents(sizes: &str, files: u64) -> Contents {
    Contents::new("20261122-021530-9f3c1a".parse().unwrap(), plan(sizes, files, 7))
}

fn whole(contents: &Contents, number: u64, piece: usize) -> Vec<u8> {
    let mut content = contents.content(number);
    std::iter::from_fn(|| content.next(piece)).flatten().collect()
}

fn judged(contents: &Contents, number: u64, found: &[u8]) -> Result<(), Wrong> {
    let mut judge = contents.judge(number);
    found.chunks(777).for_each(|piece| judge.take(piece));
    judge.finish()
}

const SIZES: [u64; 12] = [0, 1, 7, 8, 79, 80, 81, 4096, 8192 + 80, 300_000, LARGE_BYTES - 1, LARGE_BYTES + 12_345];

#[test]
fn every_size_comes_whole_in_pieces_of_any_size_and_is_found_right() {
    for size in SIZES {
        let contents = contents(&format!("{size}B"), 3);
        let content = whole(&contents, 1, 255 * 1024);
        assert_eq!(content.len() as u64, size);
        assert_eq!(content, whole(&contents, 1, 32 * 1024 - 5), "{size}");
        assert_eq!(judged(&contents, 1, &content), Ok(()), "{size}");
    }
}

#[test]
fn a_file_says_who_it_is_and_its_hash_is_that_of_the_rest() {
    let contents = contents("10KiB", 9);
    let content = whole(&contents, 5, 1000);
    let header = Header::parse(&content).unwrap();
    assert_eq!((header.number, header.size, header.run.as_str()), (5, 10 * 1024, "20261122-021530-9f3c1a"));
    assert_eq!(header.hash, blake3::hash(&content[HEADER_BYTES..]));
}

#[test]
fn contents_follow_from_seed_and_number_and_no_two_are_equal() {
    let contents = contents("100B", 1000);
    let mut all: Vec<Vec<u8>> = (0..1000).map(|number| whole(&contents, number, 4096)).collect();
    assert_eq!(all, (0..1000).map(|number| whole(&contents, number, 4096)).collect::<Vec<_>>());
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 1000);
}

#[test]
fn whatever_is_done_to_a_file_is_told_for_what_it_is() {
    for size in [8, 79, 80, 81, 5000, 300_000] {
        let contents = contents(&format!("{size}B"), 10);
        let (right, other) = (whole(&contents, 3, 4096), whole(&contents, 4, 4096));
        let cut = |length: usize| Err(Wrong::Truncated { found: length as u64, expected: size });
        assert_eq!(judged(&contents, 3, &other), Err(Wrong::Swapped { number: 4 }), "{size}");
        assert_eq!(judged(&contents, 3, &[]), cut(0), "{size}");
        assert_eq!(judged(&contents, 3, &right[..right.len() / 2]), cut(right.len() / 2), "{size}");
        assert_eq!(judged(&contents, 3, &right[..right.len() - 1]), cut(right.len() - 1), "{size}");
        let longer = [right.as_slice(), b"more"].concat();
        assert_eq!(judged(&contents, 3, &longer), Err(Wrong::TooLong { found: size + 4, expected: size }), "{size}");
        for place in [0, right.len() / 2, right.len() - 1] {
            let mut wrong = right.clone();
            wrong[place] ^= 0x10;
            assert_eq!(
                judged(&contents, 3, &wrong),
                Err(Wrong::Corrupted { first: place as u64, bytes: 1 }),
                "{size} at {place}"
            );
        }
    }
}

#[test]
fn a_header_that_names_another_file_before_the_right_body_is_a_wrong_header_and_no_swap() {
    let contents = contents("5000B", 10);
    let mut wrong = whole(&contents, 3, 4096);
    wrong[39] ^= 1;
    assert_eq!(Header::parse(&wrong).unwrap().number, 2);
    assert_eq!(judged(&contents, 3, &wrong), Err(Wrong::Corrupted { first: 39, bytes: 1 }));
}

#[test]
fn small_and_large_files_that_were_swapped_are_told_apart() {
    let contents = contents("20B..2000B", 200);
    let small = (0..200).find(|number| contents.size(*number) < 60).unwrap();
    let large = (0..200).find(|number| contents.size(*number) > 1000).unwrap();
    let (of_small, of_large) = (whole(&contents, small, 4096), whole(&contents, large, 4096));
    assert_eq!(judged(&contents, large, &of_small), Err(Wrong::Swapped { number: small }));
    assert_eq!(judged(&contents, small, &of_large), Err(Wrong::Swapped { number: large }));
}

#[test]
fn a_file_of_another_run_is_stale() {
    let ours = contents("5000B", 10);
    let theirs = Contents::new("20251122-021530-000000".parse().unwrap(), plan("5000B", 10, 7));
    let found = judged(&ours, 3, &whole(&theirs, 3, 4096));
    assert_eq!(found, Err(Wrong::Stale { run: "20251122-021530-000000".parse().unwrap() }));
}

#[test]
fn a_hole_of_zeros_is_counted() {
    let contents = contents("300000B", 10);
    let mut wrong = whole(&contents, 3, 4096);
    wrong[100_000..104_096].fill(0);
    let Err(Wrong::Corrupted { first: 100_000..100_010, bytes: 4000..=4096 }) = judged(&contents, 3, &wrong) else {
        panic!("{:?}", judged(&contents, 3, &wrong));
    };
}

proptest! {
    #[test]
    fn no_change_goes_unseen(size in 1_u64..20_000, place in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let contents = contents(&format!("{size}B"), 2);
        let mut content = whole(&contents, 0, 4096);
        content[place.index(size as usize)] ^= 1 << bit;
        prop_assert!(judged(&contents, 0, &content).is_err());
    }

    #[test]
    fn sizes_lie_where_they_should(least in 0_u64..5000, span in 0_u64..5000, seed: u64) {
        let sizes = Sizes::Range(least, least + span);
        for number in 0..50 {
            prop_assert!((least..=least + span).contains(&sizes.of(seed, number)));
        }
    }
}
