//! Which modes files and folders get: what the client asks for, or what the settings say.
//!
//! It does not concern replication, which gives a standby the modes that the master has.

use pair::wire::Attrs;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::storage::FileKind;

/// What a new thing's mode loses where the client chooses it, as with most systems' daemons.
const UMASK: u32 = 0o022;

/// A mode in the settings: octal digits in quotes, or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode(Option<u32>);

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Mode, D::Error> {
        const FORM: &str = "a mode is three or four octal digits in quotes, such as \"0640\"";
        let text = String::deserialize(deserializer).map_err(|_| D::Error::custom(FORM))?;
        if text.is_empty() {
            return Ok(Mode(None));
        }
        let mode = u32::from_str_radix(&text, 8).ok().filter(|_| matches!(text.len(), 3 | 4));
        Ok(Mode(Some(mode.ok_or_else(|| D::Error::custom(FORM))?)))
    }
}

/// The settings' modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// Of files.
    pub file: Mode,
    /// Of folders.
    pub folder: Mode,
}

impl Modes {
    /// The sentence that says what is wrong with them, if anything is: sftpd itself must be able to work with what it makes.
    pub fn check(&self) -> Result<(), String> {
        let lacks = |mode: Mode, needed: u32| mode.0.is_some_and(|mode| mode & needed != needed);
        if lacks(self.file, 0o600) || self.file.0.is_some_and(|mode| mode & 0o7000 != 0) {
            return Err("file_mode must let the owner read and write, and have no special bits: \"0640\", say".into());
        }
        if lacks(self.folder, 0o700) {
            return Err("folder_mode must let the owner read, write and enter: \"2750\", say".into());
        }
        Ok(())
    }

    /// The mode of a new file.
    pub fn of_new_file(&self, asked: &Attrs) -> u32 {
        self.file.0.unwrap_or(asked.mode.unwrap_or(0o666) & 0o7777 & !UMASK)
    }

    /// The mode of a new folder.
    pub fn of_new_folder(&self, asked: &Attrs) -> u32 {
        // Bits that make a folder give its group away are nobody's to choose.
        self.folder.0.unwrap_or(asked.mode.unwrap_or(0o777) & 0o1777 & !UMASK)
    }

    /// The mode of an account's own folder, which nobody asks for.
    pub fn of_home(&self) -> u32 {
        self.of_new_folder(&Attrs::default())
    }

    /// Whether a client may set the mode of such a thing. Where not, it is told OK and the mode stays: many clients set one
    /// after each upload, and take a refusal for a failed upload.
    pub fn are_settable(&self, kind: FileKind) -> bool {
        let fixed = if kind == FileKind::Folder { self.folder } else { self.file };
        fixed.0.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modes(file: &str, folder: &str) -> Modes {
        let mode = |text: &str| serde_yaml::from_str(&format!("{text:?}")).unwrap();
        Modes { file: mode(file), folder: mode(folder) }
    }

    #[test]
    fn without_a_setting_the_client_chooses_but_for_the_others_write_bits() {
        let asked = |mode| Attrs { mode, ..Attrs::default() };
        let modes = modes("", "");
        assert_eq!((modes.of_new_file(&asked(None)), modes.of_new_file(&asked(Some(0o100_667)))), (0o644, 0o645));
        assert_eq!((modes.of_home(), modes.of_new_folder(&asked(Some(0o777)))), (0o755, 0o755));
        assert!(modes.are_settable(FileKind::File) && modes.are_settable(FileKind::Folder));
    }

    #[test]
    fn a_setting_holds_whatever_the_client_asks_for() {
        let modes = modes("0660", "2770");
        let asked = Attrs { mode: Some(0o777), ..Attrs::default() };
        assert_eq!((modes.of_new_file(&asked), modes.of_new_folder(&asked), modes.of_home()), (0o660, 0o2770, 0o2770));
        assert!(!modes.are_settable(FileKind::File) && !modes.are_settable(FileKind::Folder));
        assert_eq!(modes.check(), Ok(()));
    }

    #[test]
    fn what_cannot_be_a_mode_is_refused_with_an_example() {
        for text in ["\"99\"", "\"rw\"", "\"06400\"", "[1]"] {
            let error = serde_yaml::from_str::<Mode>(text).unwrap_err().to_string();
            assert!(error.contains("\"0640\""), "{text}: {error}");
        }
        for (file, folder, key) in [("0440", "", "file_mode"), ("4750", "", "file_mode"), ("", "0600", "folder_mode")] {
            assert!(modes(file, folder).check().unwrap_err().contains(key));
        }
    }
}
