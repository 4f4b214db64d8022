//! `filesync verify`: both trees compared whole, every file by its content.
//!
//! It changes nothing. A difference counts if it stays while nothing changes there: what is on its way to the standby is
//! looked at again until it has arrived, for as long as the caller is patient. Times of folders are not compared: they
//! follow with the next pass.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use pair::client::ClientError;
use serde::Serialize;

use crate::fault::{Fault, blocking};
use crate::listing::{self, Problem};
use crate::remote::{Grade, Remote};
use crate::source::{Source, hash_of_file};
use crate::tree::{Entry, Kind, Path, Seen, shown};

/// Paths looked at at the same time.
const LOOKS_MAX: usize = 16;
/// From one look at what differed to the next.
const PAUSE: Duration = Duration::from_millis(500);

/// What a comparison has found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verification {
    /// The standby.
    pub standby: String,
    /// Paths on both sides together.
    pub entries: u64,
    /// Files whose contents were compared.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What differs, by path.
    pub differences: Vec<Difference>,
}

/// A path where the sides differ, or that could not be compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The path, as people read it.
    pub path: String,
    /// How.
    pub sentence: String,
}

/// How a look at one path ended.
enum Look {
    /// Equal, with so many bytes of content compared; none for what has no content.
    Equal(Option<u64>),
    Differs(String),
}

struct Verifier<'a> {
    source: Arc<Source>,
    remote: &'a Remote,
}

/// Compares everything. What differs is looked at again for as long as `patience`. The error is a lost connection.
pub async fn run(
    name: &str,
    source: Arc<Source>,
    remote: &Remote,
    patience: Duration,
) -> Result<Verification, ClientError> {
    let began = Instant::now();
    let verifier = Verifier { source: source.clone(), remote };
    let (ours, theirs) = futures::join!(blocking(move || Ok(listing::list(&source))), remote.list());
    let (ours, theirs) = (ours.unwrap_or_default(), theirs?);
    let unread = ours.problems.iter().chain(&theirs.problems).map(|problem| difference(problem.clone()));
    let mut found = Verification { standby: name.to_owned(), differences: unread.collect(), ..Verification::default() };
    let mut open: BTreeSet<Path> = ours.tree.into_keys().chain(theirs.image.into_keys()).collect();
    found.entries = open.len() as u64;
    loop {
        let differing = verifier.look_at_all(&open, &mut found).await?;
        if differing.is_empty() || began.elapsed() >= patience {
            found.differences.extend(differing.into_iter().map(difference));
            found.took_ms = began.elapsed().as_millis() as u64;
            return Ok(found);
        }
        open = differing.into_iter().map(|problem| problem.path).collect();
        tokio::time::sleep(PAUSE).await;
    }
}

fn difference(Problem { path, sentence }: Problem) -> Difference {
    Difference { path: shown(&path), sentence }
}

impl Verifier<'_> {
    /// Looks at paths, and tells those that differ.
    async fn look_at_all(&self, paths: &BTreeSet<Path>, found: &mut Verification) -> Result<Vec<Problem>, ClientError> {
        let looks = paths.iter().map(|path| async move { (path, self.look_at(path).await) });
        let mut looks = stream::iter(looks).buffer_unordered(LOOKS_MAX);
        let mut differing = Vec::new();
        while let Some((path, look)) = looks.next().await {
            match look? {
                Look::Equal(bytes) => {
                    found.files += u64::from(bytes.is_some());
                    found.bytes += bytes.unwrap_or_default();
                }
                Look::Differs(sentence) => differing.push(Problem { path: path.clone(), sentence }),
            }
        }
        differing.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(differing)
    }

    async fn look_at(&self, path: &Path) -> Result<Look, ClientError> {
        let ours = match self.ours(path).await {
            Ok(ours) => ours,
            Err(sentence) => return Ok(Look::Differs(sentence)),
        };
        let theirs = self.theirs(path).await?;
        let (ours, theirs) = match (ours, theirs) {
            (None, None) => return Ok(Look::Equal(None)),
            (Some(_), None) => return Ok(Look::Differs("is not on the standby".into())),
            (None, Some(_)) => return Ok(Look::Differs("is only on the standby".into())),
            (Some(ours), Some(theirs)) => (ours, theirs),
        };
        match unlike(&ours, &theirs, self.remote) {
            Some(sentence) => Ok(Look::Differs(sentence)),
            None if ours.kind == Kind::File => self.contents(path, ours.size).await,
            None => Ok(Look::Equal(None)),
        }
    }

    /// What is at a path here; the error says why that cannot be told.
    async fn ours(&self, path: &Path) -> Result<Option<Entry>, String> {
        let (source, path) = (self.source.clone(), path.clone());
        match blocking(move || Ok(source.look(&path)?)).await {
            Ok(entry) => Ok(Some(entry)),
            Err(Fault::Problem(sentence)) => Err(sentence),
            Err(_) => Ok(None),
        }
    }

    async fn theirs(&self, path: &[u8]) -> Result<Option<Seen>, ClientError> {
        let Some(mut seen) = self.remote.look(path).await? else { return Ok(None) };
        if seen.kind == Kind::Link {
            seen.target = match self.remote.client.readlink(&self.remote.at(path)).await {
                Err(error) if error.is_lost() => return Err(error),
                text => text.unwrap_or_default().into(),
            };
        }
        Ok(Some(seen))
    }

    async fn contents(&self, path: &Path, size: u64) -> Result<Look, ClientError> {
        let (source, at) = (self.source.clone(), path.clone());
        let ours = blocking(move || Ok(hash_of_file(&source.open_file(&at)?, u64::MAX)?));
        let (ours, theirs) = futures::join!(ours, self.remote.digest(path, size));
        Ok(match (ours, theirs) {
            (_, Err(error)) if error.is_lost() => return Err(error),
            (_, Err(error)) => Look::Differs(format!("cannot be read on the standby: {error}")),
            (Err(Fault::Problem(sentence)), _) => Look::Differs(sentence),
            (Err(_), _) => Look::Differs("changes while it is read".into()),
            (Ok(ours), Ok(theirs)) if ours == theirs => Look::Equal(Some(size)),
            (Ok(_), Ok(_)) => Look::Differs("has another content on the standby, with the same size and time".into()),
        })
    }
}

/// How two things differ that have one path; contents aside.
fn unlike(ours: &Entry, theirs: &Seen, remote: &Remote) -> Option<String> {
    let wanted = ours.seen();
    if wanted.kind != theirs.kind {
        return Some(format!("is a {} here and a {} on the standby", kind(wanted.kind), kind(theirs.kind)));
    }
    if wanted.size != theirs.size {
        return Some(format!("has {} bytes here and {} on the standby", wanted.size, theirs.size));
    }
    if wanted.target != theirs.target {
        return Some("is a link with another text on the standby".into());
    }
    // Plain servers keep what they can of modes and times.
    if remote.grade == Grade::Plain || wanted.kind == Kind::Link {
        return None;
    }
    if wanted.mode != theirs.mode {
        return Some(format!("has mode {:o} here and {:o} on the standby", wanted.mode, theirs.mode));
    }
    (wanted.kind == Kind::File && wanted.mtime_s != theirs.mtime_s)
        .then(|| "has another modification time on the standby".into())
}

/// A kind for people.
pub fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Folder => "folder",
        Kind::Link => "link",
    }
}
