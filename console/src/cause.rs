//! Why something failed, as few causes as there are: sentences without what differs from case to case. Pure.

/// The longest cause, in bytes.
const CAUSE_BYTES_MAX: usize = 160;

/// What sftpd adds to a refusal for those before it.
const AND_MORE: &str = " (and ";

/// A sentence without its names, paths and numbers: `quota exceeded: # GiB of # GiB used`.
pub fn cause_of(sentence: &str) -> String {
    let sentence = sentence.find(AND_MORE).and_then(|at| sentence.get(..at)).unwrap_or(sentence);
    let mut cause = String::new();
    for (number, part) in sentence.split('"').enumerate() {
        if number % 2 == 1 {
            cause.push('…');
            continue;
        }
        for (at, word) in part.split(' ').enumerate() {
            if at > 0 {
                cause.push(' ');
            }
            push_word(&mut cause, word);
        }
        if cause.len() > CAUSE_BYTES_MAX {
            break;
        }
    }
    if cause.len() > CAUSE_BYTES_MAX {
        cause.truncate(cause.floor_char_boundary(CAUSE_BYTES_MAX));
        cause.push('…');
    }
    cause
}

fn push_word(cause: &mut String, word: &str) {
    let is_path = word.len() > 1 && word.trim_start_matches('\'').starts_with('/');
    if is_path {
        cause.push('…');
        cause.push_str(if word.ends_with(':') { ":" } else { "" });
        return;
    }
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    // A number, an address, or something with a number of its own; not a name like aes128-ctr.
    if digits == 0 || (digits * 2 < word.len() && word.starts_with(|letter: char| letter.is_ascii_alphabetic())) {
        cause.push_str(word);
        return;
    }
    let unit = word.trim_start_matches(|letter: char| !letter.is_ascii_alphabetic());
    cause.push('#');
    cause.push_str(if unit.bytes().any(|byte| byte.is_ascii_digit()) { "" } else { unit });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_that_differ_in_names_and_numbers_have_one_cause() {
        let cases = [
            ("quota exceeded: 10 GiB of 10 GiB used", "quota exceeded: # GiB of # GiB used"),
            ("quota exceeded: 3.5MiB of 4MiB used", "quota exceeded: #MiB of #MiB used"),
            ("not found: username \"bob\" does not exist", "not found: username … does not exist"),
            ("not found: username \"al ice 7\" does not exist", "not found: username … does not exist"),
            ("the connection was lost", "the connection was lost"),
            ("permission denied (and 17 refusals before this one that are not recorded)", "permission denied"),
            ("open /srv/data/x y: no such file", "open … y: no such file"),
            ("banned 198.51.100.7 for 600 s", "banned # for # s"),
            ("its client needs aes128-ctr, for which", "its client needs aes128-ctr, for which"),
            ("", ""),
        ];
        for (sentence, cause) in cases {
            assert_eq!(cause_of(sentence), cause);
        }
        assert!(cause_of(&"é ".repeat(100_000)).len() < 200);
    }
}
