//! OPEN of a complete file by an agent: it is continued at its end, in place, and nothing of it is altered.
//!
//! A log grows for days, and a copy of it for each line that comes would cost all of it. The journal is told before and after, as for
//! everything that is written in place.

use std::sync::Arc;

use pair::wire::open_flag;

use super::content::open_later;
use crate::fault::Fault;
use crate::handles::{Direct, Handle};
use crate::pending::plain;
use crate::sftp::{Reply, Sftp, Stop};
use crate::transfer::{Direction, Transfer};

/// Opens what is there, which only grows by the handle.
pub fn open(sftp: &mut Sftp, path: &[u8], flags: u32) -> Result<Reply, Stop> {
    if let Some(reason) = sftp.daemon.volume.failure() {
        return Err(Fault::failure(reason).into());
    }
    let (file, _) = sftp.looked_up(path, sftp.root.open_in_place(path, None, false))?;
    let volume = &sftp.daemon.volume;
    let (file, told) = volume.write_in_place(file, None, sftp.quota.clone(), sftp.author.clone())?;
    let file = Arc::new(file.that_only_grows());
    let append = flags & open_flag::APPEND != 0;
    let transfer = Transfer { is_resumed: true, ..Transfer::new(Direction::Up, plain(path)) };
    let read = Transfer::new(Direction::Down, plain(path));
    let handle = Handle::Direct(Direct { file: file.clone(), transfer, read, append });
    Ok(open_later(sftp, handle, path, async move {
        if let Some(told) = told {
            told.await?;
        }
        Ok(file.begin(false)?)
    }))
}
