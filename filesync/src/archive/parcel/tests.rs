//! Parcels of real files: what they hold, and what they are when the file changes or the agent dies.

use std::io::Write as _;

use super::*;
use crate::source::Source;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("logs")).unwrap();
        Place { folder }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    fn write(&self, name: &str, content: &[u8]) -> Sight {
        std::fs::write(self.root().join(name), content).unwrap();
        self.sight(name)
    }

    fn sight(&self, name: &str) -> Sight {
        let file = Source::open(&self.root()).unwrap().open_file(name.as_bytes()).unwrap();
        let stamp = Stamp::of(&entry_of_file(&file).unwrap());
        Sight { folder: 0, path: name.as_bytes().to_vec(), stamp, mode: 0o644 }
    }

    fn prepare(&self, sight: &Sight, from: u64, packing: Packing) -> Option<Parcel> {
        let intent = Intent {
            text: 1,
            folder: "logs".into(),
            path: sight.path.clone(),
            stamp: sight.stamp,
            mode: sight.mode,
            from,
            to: sight.stamp.size,
            hash: [0; 32],
            proof: Proof::default(),
            remote: b"/logs/x".to_vec(),
            number: 0,
            stored_from: from,
            stored_to: 0,
            packed: String::new(),
            begun: false,
        };
        let (root, state) = (self.root(), self.folder.path());
        prepare(Order { root: &root, sight, intent, earlier: None, tail: false, packing, state }).unwrap()
    }
}

fn content(parcel: &Parcel) -> Vec<u8> {
    parcel.content.read(0, parcel.length() as usize).unwrap()
}

fn large() -> Vec<u8> {
    (0..SMALL_BYTES * 3).map(|at| (at % 251) as u8).collect()
}

#[test]
fn a_parcel_is_what_stood_in_the_file_and_knows_it_again() {
    let place = Place::new();
    for text in [b"one\ntwo\n".to_vec(), large()] {
        let sight = place.write("a", &text);
        let parcel = place.prepare(&sight, 0, Packing::None).unwrap();
        assert!(content(&parcel) == text);
        assert_eq!(parcel.whole, Some(sight.stamp));
        assert_eq!(parcel.sha256().unwrap(), <[u8; 32]>::from(Sha256::digest(&text)));
        let proof = &parcel.intent.proof;
        let holds = |text: &[u8]| {
            let mut read = |at: u64, length: usize| {
                let rest = text.get(at as usize..).unwrap_or_default();
                Ok(rest[..length.min(rest.len())].to_vec())
            };
            proof.holds(text.len() as u64, &mut read).unwrap()
        };
        let mut longer = text.clone();
        longer.extend_from_slice(b"more");
        assert!(holds(&text) && holds(&longer));
        // One byte of the middle, one of the end, and half of it.
        for at in [text.len() / 2, text.len() - 1] {
            let mut other = text.clone();
            other[at] ^= 1;
            assert!(!holds(&other));
        }
        assert!(!holds(&text[..text.len() / 2]));
    }
}

#[test]
fn packed_parts_unpack_to_the_text_and_follow_each_other() {
    let place = Place::new();
    let text = large();
    for packing in [Packing::Zstd, Packing::Gzip] {
        let mut packed = Vec::new();
        let sight = place.write("a", &text[..1000]);
        packed.extend(content(&place.prepare(&sight, 0, packing).unwrap()));
        File::options().append(true).open(place.root().join("a")).unwrap().write_all(&text[1000..]).unwrap();
        packed.extend(content(&place.prepare(&place.sight("a"), 1000, packing).unwrap()));
        let mut unpacked = Vec::new();
        match packing {
            Packing::Gzip => drop(flate2::read::MultiGzDecoder::new(&*packed).read_to_end(&mut unpacked).unwrap()),
            _ => drop(zstd::Decoder::new(&*packed).unwrap().read_to_end(&mut unpacked).unwrap()),
        }
        assert!(unpacked == text, "{packing:?}");
    }
}

#[test]
fn what_grew_since_it_was_met_is_sent_as_far_as_it_was_and_what_was_cut_or_replaced_is_not() {
    let place = Place::new();
    let sight = place.write("a", b"one\n");
    File::options().append(true).open(place.root().join("a")).unwrap().write_all(b"two\n").unwrap();
    let parcel = place.prepare(&sight, 0, Packing::None).unwrap();
    assert_eq!((content(&parcel), parcel.whole), (b"one\n".to_vec(), None));
    std::fs::write(place.root().join("a"), b"x").unwrap();
    assert!(place.prepare(&sight, 0, Packing::None).is_none(), "it was cut");
    std::fs::write(place.root().join("b"), b"other\n").unwrap();
    std::fs::rename(place.root().join("b"), place.root().join("a")).unwrap();
    assert!(place.prepare(&sight, 0, Packing::None).is_none(), "it is another file");
    std::fs::remove_file(place.root().join("a")).unwrap();
    assert!(place.prepare(&sight, 0, Packing::None).is_none(), "it is gone");
}

#[test]
fn after_a_crash_a_parcel_is_made_of_what_holds_its_content_and_of_nothing_else() {
    let place = Place::new();
    let sight = place.write("a", &large());
    let plain = place.prepare(&sight, 0, Packing::None).unwrap().intent;
    let packed = place.prepare(&sight, 0, Packing::Zstd).unwrap();
    let root = place.root();
    let again = |intent: &Intent, sight: Option<&Sight>| {
        let files: Vec<_> = sight.map(|sight| (root.clone(), sight.clone())).into_iter().collect();
        recover(intent, &files, place.folder.path()).unwrap()
    };
    std::fs::rename(root.join("a"), root.join("a.1")).unwrap();
    let renamed = place.sight("a.1");
    assert!(content(&again(&plain, Some(&renamed)).unwrap()) == large());
    std::fs::copy(root.join("a.1"), root.join("copy")).unwrap();
    assert!(content(&again(&plain, Some(&place.sight("copy"))).unwrap()) == large(), "a copy holds it as well");
    assert!(again(&plain, None).is_none(), "nobody has met it");
    assert!(content(&again(&packed.intent, None).unwrap()) == content(&packed), "packed it needs no file");
    let mut other = large();
    other[5] ^= 1;
    std::fs::write(root.join("a.1"), other).unwrap();
    assert!(again(&plain, Some(&place.sight("a.1"))).is_none(), "it was written anew");
    clean(place.folder.path(), std::slice::from_ref(&packed.intent)).unwrap();
    assert!(again(&packed.intent, None).is_some());
    clean(place.folder.path(), &[]).unwrap();
    assert!(again(&packed.intent, None).is_none());
}
