//! The form of a run: what was typed, kept for showing it again, and what is wrong with it.
//!
//! The page splits what a [`Wish`] has in one text (sizes, shares) into fields of its own, and puts it together here. The password is taken out
//! of what was typed at once and is never shown again.

use web::Password;

use crate::plan::{Mistake, Wish};

/// Longest text of a field, in bytes; more is cut off before anybody looks at it.
const TEXT_BYTES_MAX: usize = 256;

/// What was typed, by the names of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Typed {
    pub target: String,
    pub account: String,
    pub files: String,
    /// `fixed`, `range` or `realistic`.
    pub sizes: String,
    pub size: String,
    pub size_from: String,
    pub size_to: String,
    pub clients: String,
    pub in_flight: String,
    pub upload: String,
    pub download: String,
    pub list: String,
    pub rename: String,
    pub duration: String,
    pub ramp: String,
    pub verify: String,
    pub standbys: Vec<String>,
    pub seed: String,
    pub keep: bool,
}

impl Typed {
    /// What the form shows at first.
    pub fn usual(has_standbys: bool) -> Typed {
        Typed {
            target: String::new(),
            account: String::new(),
            files: "1000".into(),
            sizes: "range".into(),
            size: "64KiB".into(),
            size_from: "4KiB".into(),
            size_to: "1MiB".into(),
            clients: "8".into(),
            in_flight: "1".into(),
            upload: "70".into(),
            download: "20".into(),
            list: "5".into(),
            rename: "5".into(),
            duration: String::new(),
            ramp: "2s".into(),
            verify: if has_standbys { "standby" } else { "target" }.into(),
            standbys: Vec::new(),
            seed: String::new(),
            keep: false,
        }
    }

    /// Reads a form, and the password apart from it.
    pub fn read(form: &[u8]) -> (Typed, Password) {
        let mut typed = Typed::default();
        let mut password = Password::default();
        for (name, value) in form_urlencoded::parse(form) {
            if name == "password" {
                password = Password::new(value.into_owned());
                continue;
            }
            let value = cut(&value);
            match name.as_ref() {
                "standbys" => typed.standbys.push(value),
                "keep" => typed.keep = true,
                name => typed.set(name, value),
            }
        }
        (typed, password)
    }

    fn set(&mut self, name: &str, value: String) {
        let field = match name {
            "target" => &mut self.target,
            "account" => &mut self.account,
            "files" => &mut self.files,
            "sizes" => &mut self.sizes,
            "size" => &mut self.size,
            "size_from" => &mut self.size_from,
            "size_to" => &mut self.size_to,
            "clients" => &mut self.clients,
            "in_flight" => &mut self.in_flight,
            "upload" => &mut self.upload,
            "download" => &mut self.download,
            "list" => &mut self.list,
            "rename" => &mut self.rename,
            "duration" => &mut self.duration,
            "ramp" => &mut self.ramp,
            "verify" => &mut self.verify,
            "seed" => &mut self.seed,
            _ => return,
        };
        *field = value;
    }

    /// The shares; an empty one is 0.
    fn shares(&self) -> [&str; 4] {
        let typed = [&self.upload, &self.download, &self.list, &self.rename];
        typed.map(|share| if share.is_empty() { "0" } else { share.as_str() })
    }

    fn what_is_wrong_with_the_shares(&self) -> String {
        let shares: Result<Vec<u64>, _> =
            self.shares().iter().map(|share| share.parse::<u32>().map(u64::from)).collect();
        match shares.map(|shares| shares.iter().sum::<u64>()) {
            Ok(sum) => format!("The shares make {sum} together, and must make 100."),
            Err(_) => "A share is a whole number of percent; together they make 100.".to_owned(),
        }
    }

    /// What is wished for.
    pub fn wish(&self) -> Wish {
        let sizes = match self.sizes.as_str() {
            "fixed" => self.size.clone(),
            "realistic" => "realistic".to_owned(),
            _ => format!("{}..{}", self.size_from, self.size_to),
        };
        let [upload, download, list, rename] = self.shares();
        Wish {
            target: self.target.clone(),
            standbys: self.standbys.clone(),
            account: self.account.clone(),
            files: self.files.clone(),
            sizes,
            clients: self.clients.clone(),
            in_flight: self.in_flight.clone(),
            mix: format!("upload={upload},download={download},list={list},rename={rename}"),
            duration: self.duration.clone(),
            ramp: self.ramp.clone(),
            verify: self.verify.clone(),
            seed: self.seed.clone(),
            keep: self.keep,
        }
    }
}

fn capitalised(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().trim().to_owned()
}

/// What is wrong, found by field.
#[derive(Clone, Debug, Default)]
pub struct Mistakes(pub Vec<Mistake>);

impl Mistakes {
    /// One mistake.
    pub fn one(field: &'static str, sentence: impl Into<String>) -> Mistakes {
        Mistakes(vec![Mistake { field, sentence: sentence.into() }])
    }

    /// What a wish's check has found, in the words of the page: its shares are four fields and not one text.
    pub fn of_wish(found: Vec<Mistake>, typed: &Typed) -> Mistakes {
        let in_our_words = |mistake: Mistake| {
            let sentence = match mistake.field {
                "mix" => typed.what_is_wrong_with_the_shares(),
                _ => capitalised(&mistake.sentence),
            };
            Mistake { sentence, ..mistake }
        };
        Mistakes(found.into_iter().map(in_our_words).collect())
    }

    /// What is wrong with a field; nothing where it is right.
    pub fn of(&self, field: &str) -> &str {
        self.0.iter().find(|mistake| mistake.field == field).map_or("", |mistake| &mistake.sentence)
    }

    /// Whether a field is wrong.
    pub fn has(&self, field: &str) -> bool {
        self.0.iter().any(|mistake| mistake.field == field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_shares_are_put_together_and_the_password_is_kept_apart() {
        let form = b"target=a&account=alice&password=p%26w&files=10&sizes=range&size_from=1KiB&size_to=2KiB&upload=60\
            &download=40&list=&rename=&verify=standby&standbys=b&standbys=c&keep=1&other=x";
        let (typed, password) = Typed::read(form);
        let wish = typed.wish();
        assert_eq!(password.as_str(), "p&w");
        assert_eq!((wish.sizes.as_str(), wish.mix.as_str()), ("1KiB..2KiB", "upload=60,download=40,list=0,rename=0"));
        assert_eq!((wish.standbys.len(), wish.keep), (2, true));
        assert!(!format!("{typed:?}").contains("p&w"));
        let sizes = |form: &[u8]| Typed::read(form).0.wish().sizes;
        assert_eq!(sizes(b"sizes=fixed&size=7MiB&size_from=1"), "7MiB");
        assert_eq!(sizes(b"sizes=realistic&size=7MiB"), "realistic");
    }

    #[test]
    fn shares_that_make_no_sense_are_told_as_shares() {
        let said = |upload: &str| {
            let typed = Typed { upload: upload.into(), ..Typed::usual(true) };
            let found = vec![Mistake { field: "mix", sentence: "other words".into() }];
            Mistakes::of_wish(found, &typed).of("mix").to_owned()
        };
        assert_eq!(said("50"), "The shares make 80 together, and must make 100.");
        assert_eq!(said(""), "The shares make 30 together, and must make 100.");
        for wrong in ["x", "-5", "7.5"] {
            assert!(said(wrong).starts_with("A share is a whole number"), "{wrong}");
        }
        let found = vec![Mistake { field: "files", sentence: "too many".into() }];
        assert_eq!(Mistakes::of_wish(found, &Typed::default()).of("files"), "Too many");
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_letters() {
        let (typed, _) = Typed::read(format!("account={}", "%C3%A4".repeat(500)).as_bytes());
        assert_eq!(typed.account, "ä".repeat(TEXT_BYTES_MAX / 2));
    }
}
