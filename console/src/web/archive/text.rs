//! Names and lines as text for people: what is no UTF-8 or is not seen is written out. Pure; templates escape HTML.

use super::super::shown;

/// A name or a path.
pub fn name(bytes: &[u8]) -> String {
    pieces(bytes, shown)
}

/// A line of a log: tabulators stay.
pub fn line(bytes: &[u8]) -> String {
    pieces(bytes, |text| text.split('\t').map(shown).collect::<Vec<_>>().join("\t"))
}

fn pieces(bytes: &[u8], shown: impl Fn(&str) -> String) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&shown(chunk.valid()));
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

/// The header for a file that is to be kept under a name: as RFC 6266 has it, for browsers that read only the plain form and for others.
pub fn attachment(name: &[u8]) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~+@ ,()=".contains(byte);
    let safe: String = name.iter().map(|byte| if is_plain(byte) { char::from(*byte) } else { '_' }).collect();
    let text = String::from_utf8_lossy(name).replace(['/', '\\'], "_");
    let text: String = text.chars().map(|letter| if letter.is_control() { '_' } else { letter }).collect();
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte);
    let encoded: String = text
        .bytes()
        .map(|byte| if is_unreserved(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    format!("attachment; filename=\"{safe}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_bytes_the_text_is_seen_as_it_is() {
        assert_eq!(name(b"a\tb\xff\xc3\xbc\r\n\0"), "a\\tb\\xff\u{fc}\\r\\n\\0");
        assert_eq!(line(b"a\tb\x1b[31m\xe2\x80\xae"), "a\tb\\u{1b}[31m\\u{202e}");
    }

    #[test]
    fn a_name_in_a_header_breaks_nothing_and_survives() {
        let header = attachment("\u{fc}b\"er;\r\nx: y/../z.log".as_bytes());
        assert_eq!(
            header,
            "attachment; filename=\"__b_er___x_ y_.._z.log\"; filename*=UTF-8''%C3%BCb%22er%3B__x%3A%20y_.._z.log"
        );
        assert!(attachment(b"a\xff.log").ends_with("UTF-8''a%EF%BF%BD.log"));
    }
}
