//! Goes to the places where something may be that only this machine has, and tells what stands there, in the order of paths.
//!
//! It holds the names of the folders on the way, and no content. What stands nowhere is not told.

use pair::record::Record;
use pair::volume::PRIVATE_FOLDER;

use super::candidates::Candidates;
use crate::accounts::ADMIN_HOME;
use crate::admin_folder::{CHECK_NAME, RESULT_NAME};
use crate::storage::{FileKind, Seen, Volume};

/// What stands at a path of this machine's.
#[derive(Debug)]
pub struct Local {
    /// The path, from the volume on.
    pub path: Vec<u8>,
    /// What stands there.
    pub seen: Seen,
    /// The last change of it, where the journal knows one.
    pub record: Option<Record>,
}

/// Tells what stands where, as long as it is wanted. Looks at the disk: not for an async thread.
pub fn walk(volume: &Volume, candidates: &Candidates, tell: &mut dyn FnMut(Local) -> bool) -> Result<(), String> {
    let starts = match candidates.everything {
        true => names_in(volume, b"")?,
        false => candidates.starts(),
    };
    // Folders on the way, with what is left in each.
    let mut left: Vec<(Vec<u8>, std::vec::IntoIter<Vec<u8>>)> = vec![(Vec::new(), starts.into_iter())];
    while let Some((folder, names)) = left.last_mut() {
        let Some(name) = names.next() else {
            left.pop();
            continue;
        };
        let path = join(folder, &name);
        if is_own(&path) {
            continue;
        }
        let cannot = |error: &dyn std::fmt::Display| {
            format!("{} cannot be looked at: {error}", pair::record::VolumePath(path.clone()))
        };
        let Some(seen) = volume.look_at(&path).map_err(|error| cannot(&error))? else { continue };
        let is_folder = seen.kind == FileKind::Folder;
        // In a folder that is walked through everything is met.
        if is_folder && (left.len() > 1 || candidates.goes_below(&path)) {
            left.push((path.clone(), names_in(volume, &path)?.into_iter()));
        }
        if seen.kind == FileKind::Other {
            continue;
        }
        let seq = candidates.seq(&path);
        let record = seq.map(|seq| volume.record(seq)).transpose().map_err(|error| cannot(&error))?.flatten();
        if !tell(Local { path, seen, record }) {
            return Ok(());
        }
    }
    Ok(())
}

fn names_in(volume: &Volume, folder: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    volume
        .names_in(folder)
        .map_err(|error| format!("the folder {} cannot be listed: {error}", pair::record::VolumePath(folder.to_vec())))
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

/// Whether a path is the pair's own, or a file that each server writes by itself and that differs always.
fn is_own(path: &[u8]) -> bool {
    let inside = |folder: &str| path.strip_prefix(folder.as_bytes()).and_then(|rest| rest.strip_prefix(b"/"));
    path == PRIVATE_FOLDER.as_bytes()
        || inside(PRIVATE_FOLDER).is_some()
        || inside(ADMIN_HOME).is_some_and(|name| name == RESULT_NAME || name == CHECK_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_writes_by_itself_is_left_out() {
        for path in [".pair", ".pair/stage/x", "admin/users.yaml.result", "admin/users.yaml.check"] {
            assert!(is_own(path.as_bytes()), "{path}");
        }
        for path in [".pairs", "admin/users.yaml", "alice/users.yaml.result", "admin/in/users.yaml.result", "admin"] {
            assert!(!is_own(path.as_bytes()), "{path}");
        }
    }
}
