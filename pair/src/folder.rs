//! Folders that must be there and belong to the program. In containers they often belong to somebody else; then the sentence
//! names both.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, access};
use rustix::process::{getegid, geteuid};

use crate::exit::usage;

/// Makes sure that a state folder is there and can be written. The error says to whom it belongs and to whom it should.
pub fn claim_state(state: &Path) -> anyhow::Result<()> {
    let claim = || -> std::io::Result<()> {
        std::fs::create_dir_all(state)?;
        Ok(access(state, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)?)
    };
    claim().map_err(|error| not_writable("state folder", state, &error))
}

/// The sentence for a folder that cannot be written.
pub fn not_writable(what: &str, path: &Path, error: &dyn std::fmt::Display) -> anyhow::Error {
    let found = path.ancestors().find_map(|folder| Some((folder, std::fs::metadata(folder).ok()?)));
    let owner = found.map_or_else(
        || "nothing of it can be seen".to_owned(),
        |(folder, data)| format!("{} belongs to {}:{}", folder.display(), data.uid(), data.gid()),
    );
    let wanted = format!("{}:{}", geteuid().as_raw(), getegid().as_raw());
    usage(format!(
        "cannot write to the {what} {} ({error}): {owner}, and this program runs as {wanted}. Give it to {wanted} (chown), or run \
         the program as its owner (with the compose files: RUN_AS in .env)",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_folder_is_made_and_what_cannot_be_one_is_named_with_both_owners() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("deep/state");
        claim_state(&state).unwrap();
        assert!(state.is_dir());
        let file = folder.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let error = claim_state(&file.join("state")).unwrap_err();
        let text = error.to_string();
        let user = geteuid().as_raw().to_string();
        assert!(
            text.contains("file/state") && text.contains(&format!("runs as {user}:")) && text.contains("RUN_AS"),
            "{text}"
        );
        assert_eq!(crate::exit::code(&error), crate::exit::USAGE);
    }
}
