//! What files are called in the archive. Pure.
//!
//! The same tree as here, below the folder's name. A name that is taken by another text gets the time of its last change before an ending
//! that says how it is packed, else behind it: `app.log.1`, then `app.log.1.20260722T134501Z`, then `app.log.1.20260722T134501Z-2`.

use jiff::Timestamp;

use super::config::Packing;

/// Endings that say how a file is packed: they stay at the end.
const PACKED: [&[u8]; 6] = [b".gz", b".zst", b".xz", b".bz2", b".zip", b".lz4"];

/// The path in the archive of a file, by its folder's name and its path there; the `number`th try (from 0).
pub fn in_archive(folder: &str, path: &[u8], packing: Packing, mtime_ns: i64, number: u32) -> Vec<u8> {
    let mut name = [b"/", folder.as_bytes(), b"/", path].concat();
    name.extend_from_slice(packing.suffix().as_bytes());
    if number == 0 {
        return name;
    }
    let end = PACKED.iter().find(|end| name.ends_with(end)).map_or(0, |end| end.len());
    let ending = name.split_off(name.len() - end);
    let time = Timestamp::from_second(mtime_ns.div_euclid(1_000_000_000)).unwrap_or(Timestamp::UNIX_EPOCH);
    name.extend_from_slice(time.strftime(".%Y%m%dT%H%M%SZ").to_string().as_bytes());
    if number > 1 {
        name.extend_from_slice(format!("-{number}").as_bytes());
    }
    name.extend_from_slice(&ending);
    name
}

/// The folders above a path, the topmost first.
pub fn folders_above(path: &[u8]) -> Vec<&[u8]> {
    let slashes = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
    slashes.filter_map(|(at, _)| path.get(..at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_name_gets_the_time_of_its_last_change_before_the_ending_that_says_how_it_is_packed() {
        let time_ns = 1_784_727_901_000_000_000;
        let named = |path: &str, packing, number| {
            String::from_utf8(in_archive("logs", path.as_bytes(), packing, time_ns, number)).unwrap()
        };
        let cases = [
            ("a/app.log.1", Packing::None, 0, "/logs/a/app.log.1"),
            ("a/app.log.1", Packing::None, 1, "/logs/a/app.log.1.20260722T134501Z"),
            ("a/app.log.1", Packing::None, 2, "/logs/a/app.log.1.20260722T134501Z-2"),
            ("app.log.1.gz", Packing::None, 1, "/logs/app.log.1.20260722T134501Z.gz"),
            ("app.log", Packing::Zstd, 0, "/logs/app.log.zst"),
            ("app.log", Packing::Gzip, 3, "/logs/app.log.20260722T134501Z-3.gz"),
        ];
        for (path, packing, number, expected) in cases {
            assert_eq!(named(path, packing, number), expected);
        }
        assert_eq!(in_archive("x", b"\xff", Packing::None, i64::MAX, 0), b"/x/\xff");
        assert!(in_archive("x", b"y", Packing::None, -5, 1).starts_with(b"/x/y.19691231T"));
    }

    #[test]
    fn folders_are_made_from_the_top() {
        assert_eq!(folders_above(b"/a/b/c"), [&b"/a"[..], b"/a/b"]);
        assert!(folders_above(b"/a").is_empty());
    }
}
