//! The text of a listing's entry, in the form of `ls -l`. FileZilla reads folders out of it and nothing else.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::owners::Owners;
use crate::storage::Attributes;

/// Half a year: older entries show the year, others the time, as `ls` does.
const RECENT_S: i64 = 183 * 24 * 3600;

/// The line for an entry. Owners without a name show their number.
pub fn longname(name: &[u8], attributes: &Attributes, owners: &Owners, now_s: i64) -> Vec<u8> {
    let shown = |name: Option<&str>, id: u32| name.map_or_else(|| id.to_string(), str::to_owned);
    let mut line = format!(
        "{} {:>3} {:<8} {:<8} {:>8} {} ",
        mode_text(attributes.mode),
        attributes.links,
        shown(owners.user(attributes.user), attributes.user),
        shown(owners.group(attributes.group), attributes.group),
        attributes.size,
        date(attributes.modified_s, now_s)
    )
    .into_bytes();
    line.extend_from_slice(name);
    line
}

fn mode_text(mode: u32) -> String {
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o100_000 => '-',
        0o140_000 => 's',
        0o010_000 => 'p',
        0o020_000 => 'c',
        0o060_000 => 'b',
        _ => '?',
    };
    let mut text = String::from(kind);
    // Each third of the mode, with the special bit that replaces its `x`.
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

fn date(time_s: i64, now_s: i64) -> String {
    let Ok(time) = Timestamp::from_second(time_s) else {
        return "Jan  1  1970".into();
    };
    let recent = (now_s - RECENT_S..=now_s + 3600).contains(&time_s);
    let form = if recent { "%b %e %H:%M" } else { "%b %e  %Y" };
    time.to_zoned(TimeZone::UTC).strftime(form).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::FileKind;

    #[test]
    fn entries_read_as_ls_writes_them() {
        let attributes = Attributes {
            kind: FileKind::Folder,
            size: 4096,
            mode: 0o041_755,
            user: rustix::process::geteuid().as_raw(),
            group: 4_000_000_000,
            accessed_s: 0,
            modified_s: 1_000_000_000,
            links: 2,
            identity: (0, 0),
        };
        let line = |attributes: &Attributes, now_s| {
            String::from_utf8(longname(b"in", attributes, &Owners::of("alice"), now_s)).unwrap()
        };
        assert_eq!(line(&attributes, 1_000_000_100), "drwxr-xr-t   2 alice    4000000000     4096 Sep  9 01:46 in");
        assert_eq!(line(&attributes, 2_000_000_000), "drwxr-xr-t   2 alice    4000000000     4096 Sep  9  2001 in");
        let file = Attributes { mode: 0o104_640, ..attributes };
        assert!(line(&file, 0).starts_with("-rwSr----- "));
    }
}
