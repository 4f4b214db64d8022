//! Which files of an agent go because they are too old, or because its folder holds too much: the oldest first. Pure.
//!
//! The age of a file is the time since its last byte came, by this machine's clock: what a log says of its own age is its sender's word.

use pair::control::Expiry;

use super::ledger::{Known, Totals};
use crate::accounts::Keep;

/// Looks at the files of one folder, the oldest first.
#[derive(Debug)]
pub struct Picker {
    /// What came before this goes.
    before_ms: Option<i64>,
    /// So many bytes must go.
    surplus_bytes: u64,
}

impl Picker {
    /// For a folder that holds so much, at a moment.
    pub fn new(keep: &Keep, totals: &Totals, at_ms: i64) -> Picker {
        let age_ms = |seconds: u64| i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
        Picker {
            before_ms: keep.for_s.map(|seconds| at_ms.saturating_sub(age_ms(seconds))),
            surplus_bytes: keep.bytes.map_or(0, |most| totals.bytes.saturating_sub(most)),
        }
    }

    /// Whether the next file goes, and why. Where one stays all behind it stay.
    pub fn look(&mut self, file: &Known) -> Option<Expiry> {
        let is_old = self.before_ms.is_some_and(|before_ms| file.time_ms <= before_ms);
        let why = match (is_old, self.surplus_bytes) {
            (true, _) => Expiry::Age,
            (false, 0) => return None,
            (false, _) => Expiry::Size,
        };
        self.surplus_bytes = self.surplus_bytes.saturating_sub(file.size);
        Some(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes of files with so many bytes, that came at 1 s, 2 s and so on.
    fn picked(keep: Keep, at_s: i64, sizes: &[u64]) -> Vec<Expiry> {
        let totals = Totals { files: sizes.len() as u64, bytes: sizes.iter().sum(), last_ms: None };
        let mut picker = Picker::new(&keep, &totals, at_s * 1000);
        let file = |(number, size): (usize, &u64)| Known {
            path: Vec::new(),
            size: *size,
            time_ms: (number as i64 + 1) * 1000,
            expired_ms: None,
        };
        sizes.iter().enumerate().map_while(|one| picker.look(&file(one))).collect()
    }

    #[test]
    fn what_is_older_than_keep_goes_and_nothing_else() {
        let keep = Keep { for_s: Some(10), bytes: None };
        assert_eq!(picked(keep, 12, &[1, 1, 1]), [Expiry::Age; 2]);
        assert_eq!(picked(keep, 10, &[1, 1, 1]), []);
        assert_eq!(picked(Keep::default(), 1_000_000, &[1, 1, 1]), []);
        assert_eq!(picked(Keep { for_s: Some(u64::MAX), bytes: None }, 12, &[1]), []);
    }

    #[test]
    fn of_a_folder_that_holds_too_much_the_oldest_go_until_it_fits() {
        let keep = |bytes| Keep { for_s: None, bytes: Some(bytes) };
        assert_eq!(picked(keep(30), 1, &[10, 10, 10]), []);
        assert_eq!(picked(keep(29), 1, &[10, 10, 10]), [Expiry::Size]);
        assert_eq!(picked(keep(15), 1, &[10, 10, 10]), [Expiry::Size; 2]);
        assert_eq!(picked(keep(5), 1, &[0, 10]), [Expiry::Size; 2], "also what is larger than all that may be there");
    }

    #[test]
    fn what_goes_by_age_counts_against_what_is_too_much() {
        let keep = Keep { for_s: Some(10), bytes: Some(20) };
        assert_eq!(picked(keep, 11, &[10, 10, 10]), [Expiry::Age]);
        let keep = Keep { bytes: Some(15), ..keep };
        assert_eq!(picked(keep, 11, &[5, 10, 10]), [Expiry::Age, Expiry::Size]);
    }
}
