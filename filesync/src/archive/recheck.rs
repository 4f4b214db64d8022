//! After a change of master: whether all that had arrived lately is on the new one, too. What replication had not brought over is sent again.

use std::sync::Arc;

use futures::stream::{self, StreamExt};

use super::door::Session;
use super::folders::Selection;
use super::judge::{inode, shown};
use super::record::{Note, Scribe, Text};
use super::sight::{Proof, Sight};
use crate::source::{Source, read_at};

/// How far back is looked from the last arrival, in seconds: replication is behind by seconds, and by a day where something was very wrong.
const BACK_S: i64 = 86_400;
/// Looks at the server at the same time.
const LOOKS_MAX: usize = 32;

/// Compares the record with what the master has. What is missing there is sent again from `sights`, the files that are not settled, or those that
/// the record knows; tells of how many texts the files are gone here, too. The error says that this is to be done again.
pub async fn recheck(
    session: &Session,
    scribe: &Scribe,
    selections: &Arc<Vec<Selection>>,
    sights: Vec<Sight>,
) -> Result<u64, String> {
    let (known, sights) = (scribe.clone(), Arc::new(sights));
    let texts = tokio::task::spawn_blocking(move || known.record().last_texts(BACK_S));
    let texts = texts.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let looks = texts.into_iter().map(|text| async move {
        let there = match session.client.lstat(&text.remote).await {
            Ok(attrs) => attrs.size.unwrap_or(0),
            Err(error) if error.is_missing() => 0,
            Err(error) => return Err(error.to_string()),
        };
        Ok((there < text.stored).then_some((text, there)))
    });
    let looks: Vec<Result<Option<(Text, u64)>, String>> =
        stream::iter(looks).buffer_unordered(LOOKS_MAX).collect().await;
    let mut lost = 0;
    for look in looks {
        let Some((text, mut there)) = look? else { continue };
        if there == 0 && session.adds_only {
            // Perhaps only an upload that was on its way hides what is there.
            let _none = session.client.remove(&text.remote).await;
            there = session.client.lstat(&text.remote).await.map_or(0, |attrs| attrs.size.unwrap_or(0));
            if there >= text.stored {
                continue;
            }
        }
        let (selections, known, sights) = (selections.clone(), scribe.clone(), sights.clone());
        let id = text.id;
        let name = shown(&text.remote).display().to_string();
        let found = tokio::task::spawn_blocking(move || what_is_left(&known, &selections, &sights, &text, there));
        match found.await.map_err(|error| error.to_string())?? {
            Some(left) => {
                tracing::warn!("{name} has not all arrived on {}: it is sent again", session.address);
                scribe.note(Note::Back(id, left)).await?;
            }
            None => {
                tracing::warn!(
                    "{name} is not whole on {}, and the file is gone here: look at the old master",
                    session.address
                );
                lost += 1;
            }
        }
    }
    Ok(lost)
}

/// The proof of what the server has of a text, and how long its file there is; `Some(None)`: all of it is sent again. None: no file here
/// holds the text any more.
#[allow(clippy::type_complexity, reason = "three outcomes that the caller tells apart at once")]
fn what_is_left(
    scribe: &Scribe,
    selections: &[Selection],
    sights: &[Sight],
    text: &Text,
    there: u64,
) -> Result<Option<Option<(Proof, u64)>>, String> {
    let files = scribe.record().files_of_text(text.id).map_err(|error| error.to_string())?;
    let noted = files.iter().filter_map(|(folder, noted)| {
        Some((selections.iter().find(|selection| selection.name == *folder)?, &noted.path))
    });
    // One that is always written to is never noted as a whole.
    let written = sights.iter().filter(|sight| inode(sight) == text.file);
    let written = written.filter_map(|sight| Some((selections.get(sight.folder)?, &sight.path)));
    for (folder, path) in noted.chain(written) {
        let Ok(file) = Source::open(&folder.root).and_then(|source| Ok(source.open_file(path)?)) else {
            continue;
        };
        let mut read = |at: u64, length: usize| read_at(&file, at, length);
        if !text.proof.holds(text.proof.sent, &mut read).unwrap_or(false) {
            continue;
        }
        let is_plain = text.stored == text.proof.sent.saturating_sub(text.base);
        let sent = text.base + there;
        if !is_plain || sent == 0 {
            return Ok(Some(None));
        }
        let proof = Proof::of(sent, None, &mut read).map_err(|error| error.to_string())?;
        return Ok(Some(proof.map(|proof| (proof, there))));
    }
    Ok(None)
}
