//! How large files are. The size of each follows from the seed and its number, so nobody needs to remember it.

use pair::units;

/// How large files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// All the same, in bytes.
    Fixed(u64),
    /// Evenly between these two, in bytes, both included.
    Range(u64, u64),
    /// Many small ones and few large ones, as partners and machines send them.
    Realistic,
}

/// The realistic mix: files per thousand, and from how many to how many bytes. Within a row every doubling is as likely.
const REALISTIC: [(u64, u64, u64); 5] = [
    (600, 1 << 10, 16 << 10),
    (300, 16 << 10, 256 << 10),
    (90, 256 << 10, 2 << 20),
    (9, 2 << 20, 16 << 20),
    (1, 16 << 20, 64 << 20),
];

impl Sizes {
    /// The size of a file, in bytes.
    pub fn of(&self, seed: u64, number: u64) -> u64 {
        let chance = scattered(seed ^ scattered(number));
        match *self {
            Sizes::Fixed(bytes) => bytes,
            Sizes::Range(least, most) => {
                let span = u128::from(most.saturating_sub(least)) + 1;
                least + ((u128::from(chance) * span) >> 64) as u64
            }
            Sizes::Realistic => realistic(chance),
        }
    }

    /// The sizes of the first `files` together, in bytes.
    pub fn sum(&self, seed: u64, files: u64) -> u64 {
        match *self {
            Sizes::Fixed(bytes) => bytes.saturating_mul(files),
            _ => (0..files).fold(0, |sum, number| u64::saturating_add(sum, self.of(seed, number))),
        }
    }

    /// The largest size that can come, in bytes.
    pub fn largest(&self) -> u64 {
        match *self {
            Sizes::Fixed(bytes) => bytes,
            Sizes::Range(_, most) => most,
            Sizes::Realistic => REALISTIC.iter().map(|(_, _, most)| *most).max().unwrap_or_default(),
        }
    }
}

fn realistic(chance: u64) -> u64 {
    let mut place = chance % 1000;
    let within = (scattered(chance) >> 11) as f64 / (1_u64 << 53) as f64;
    for (share, least, most) in REALISTIC {
        if place < share {
            return (least as f64 * (most as f64 / least as f64).powf(within)) as u64;
        }
        place -= share;
    }
    0
}

/// Bits that look like chance and follow from `seed` (the output function of SplitMix64).
pub(crate) fn scattered(seed: u64) -> u64 {
    let mut bits = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl std::str::FromStr for Sizes {
    type Err = String;

    /// `4KiB`, `4KiB..1MiB` or `realistic`.
    fn from_str(text: &str) -> Result<Sizes, String> {
        let text = text.trim();
        let size = |text: &str| match text.trim() {
            "0" | "0B" => Some(0),
            text => units::bytes(text),
        };
        let form = || format!("\"{text}\": sizes are written as 4KiB, 4KiB..1MiB or realistic");
        if text == "realistic" {
            return Ok(Sizes::Realistic);
        }
        let Some((least, most)) = text.split_once("..") else {
            return size(text).map(Sizes::Fixed).ok_or_else(form);
        };
        match (size(least), size(most)) {
            (Some(least), Some(most)) if least <= most => Ok(Sizes::Range(least, most)),
            (Some(_), Some(_)) => Err(format!("\"{text}\": the first size is the smaller one")),
            _ => Err(form()),
        }
    }
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Sizes::Fixed(bytes) => f.write_str(&exactly(*bytes)),
            Sizes::Range(least, most) => write!(f, "{}..{}", exactly(*least), exactly(*most)),
            Sizes::Realistic => f.write_str("realistic"),
        }
    }
}

/// A size in the largest unit that needs no fraction.
fn exactly(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}
