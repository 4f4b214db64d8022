//! One entry of the unfinished uploads: under which key it is found, and whether somebody writes it.
//!
//! It decides nothing: what may be done to an entry is [`super`]'s business.

use std::sync::Arc;

use super::super::upload::Upload;
use super::super::usage::Charge;
use super::super::{FolderId, Place, Result};

/// Where an upload is: its folder, and its name.
pub(super) type Key = (FolderId, Vec<u8>);

/// The key of a place.
pub(super) fn key_of(place: &Place) -> Result<Key> {
    Ok((place.folder_id()?, place.name.clone()))
}

/// An unfinished upload.
#[derive(Debug)]
pub(super) enum Entry {
    /// Somebody writes it.
    Live(Arc<Upload>),
    /// Nobody does.
    Left(Left),
}

/// An upload that nobody writes.
#[derive(Debug)]
pub(super) struct Left {
    /// The number of its stage.
    pub(super) number: u64,
    /// What it adds to a folder with a quota.
    pub(super) charge: Option<Charge>,
    /// So much of it arrived, in bytes, should its file be longer.
    pub(super) bytes_max: u64,
}

/// What an entry leads to, to be looked at without holding the entries.
pub(super) enum Found {
    Live(Arc<Upload>),
    Left { number: u64, bytes_max: u64 },
}

impl Entry {
    /// The entry of an upload that nobody writes any more.
    pub(super) fn left(upload: &Upload) -> Entry {
        let number = upload.lock().stage.number();
        Entry::Left(Left { number, charge: upload.take_charge(), bytes_max: upload.bytes_to_be_shown() })
    }

    pub(super) fn is(&self, upload: &Arc<Upload>) -> bool {
        matches!(self, Entry::Live(other) if Arc::ptr_eq(other, upload))
    }

    pub(super) fn found(&self) -> Found {
        match self {
            Entry::Live(upload) => Found::Live(upload.clone()),
            Entry::Left(left) => Found::Left { number: left.number, bytes_max: left.bytes_max },
        }
    }
}
