//! Looks at everything that a run has made on one server: what its folders list, and every file, read whole over new connections.
//!
//! It trusts no hash that a server tells: the bytes come here and are judged here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::StreamExt;
use pair::client::{Client, Name};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::content::Contents;
use crate::files::{File, Files, State, name, parse_name};
use crate::report::{FaultKind, Finding};
use crate::server::Server;
use crate::trouble::Trouble;

/// Connections that read at a time, and files at a time on each.
const CONNECTIONS_MAX: u64 = 4;
const FILES_AT_A_TIME: usize = 8;
/// How often a folder is begun anew on another connection, when one was lost.
const ATTEMPTS_MAX: usize = 4;

/// Findings with the name of the file in all its lives.
pub type Findings = Vec<(String, Finding)>;

/// What a folder lists: names and sizes.
type Listed<'a> = BTreeMap<&'a [u8], Option<u64>>;

/// Looks at one server.
pub struct Inspection {
    server: Server,
    files: Arc<Files>,
    contents: Arc<Contents>,
    /// Which files were found right; they are not read again.
    right: Vec<AtomicBool>,
    right_count: AtomicU64,
    /// Whether a folder was given up; then the others are tried once.
    gave_up: AtomicBool,
    /// Where it is shown how many were.
    shown: Box<dyn Fn() + Send + Sync>,
}

impl Inspection {
    /// Of a server; `shown` is called for every file that was found right.
    pub fn new(
        server: Server,
        files: Arc<Files>,
        contents: Arc<Contents>,
        shown: impl Fn() + Send + Sync + 'static,
    ) -> Inspection {
        let right = (0..files.count()).map(|_| AtomicBool::new(false)).collect();
        Inspection {
            server,
            files,
            contents,
            right,
            right_count: AtomicU64::new(0),
            gave_up: AtomicBool::new(false),
            shown: Box::new(shown),
        }
    }

    /// How many files were found right.
    pub fn right(&self) -> u64 {
        self.right_count.load(Ordering::Relaxed)
    }

    /// Looks at these folders; gives what is wrong in each. What was not looked at when `abandoned` comes is left out.
    pub async fn look(
        self: &Arc<Inspection>,
        folders: impl IntoIterator<Item = u64>,
        abandoned: &CancellationToken,
    ) -> BTreeMap<u64, Findings> {
        let queue: Arc<Mutex<Vec<u64>>> = Arc::new(Mutex::new(folders.into_iter().collect()));
        let mut readers = tokio::task::JoinSet::new();
        for _ in 0..CONNECTIONS_MAX.min(queue.lock().await.len() as u64) {
            let (inspection, queue, abandoned) = (self.clone(), queue.clone(), abandoned.clone());
            readers.spawn(async move {
                let mut found = BTreeMap::new();
                let mut client = None;
                loop {
                    // Taken in an own statement: nothing is held while a folder is read.
                    let folder = queue.lock().await.pop();
                    let Some(folder) = folder.filter(|_| !abandoned.is_cancelled()) else { return found };
                    tokio::select! {
                        findings = inspection.persistently(folder, &mut client) => found.insert(folder, findings),
                        () = abandoned.cancelled() => return found,
                    };
                }
            });
        }
        let mut found = BTreeMap::new();
        while let Some(reader) = readers.join_next().await {
            found.extend(reader.unwrap_or_default());
        }
        found
    }

    /// What is wrong in a folder, on as many connections as it takes.
    async fn persistently(&self, folder: u64, kept: &mut Option<Client>) -> Findings {
        let mut attempt = 1;
        loop {
            let looked = match kept.take() {
                Some(client) => self.folder(&client, folder).await.map(|findings| (client, findings)),
                None => match self.server.connect().await {
                    Ok(client) => self.folder(&client, folder).await.map(|findings| (client, findings)),
                    Err(trouble) => Err(trouble),
                },
            };
            match looked {
                Ok((client, findings)) => {
                    *kept = Some(client);
                    return findings;
                }
                Err(trouble)
                    if attempt == ATTEMPTS_MAX || trouble.is_final() || self.gave_up.load(Ordering::Relaxed) =>
                {
                    self.gave_up.store(true, Ordering::Relaxed);
                    return self.unreadable(folder, &trouble);
                }
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(500)).await,
            }
            attempt += 1;
        }
    }

    /// A folder that cannot be looked at: none of its files can be read.
    fn unreadable(&self, folder: u64, trouble: &Trouble) -> Findings {
        let mut findings = Findings::new();
        for (number, file) in self.files.of_folder(folder) {
            if file.state == State::Acknowledged && !self.is_right(number) {
                findings.push(self.finding(number, file.renames, FaultKind::Unreadable, trouble.to_string()));
            }
        }
        findings
    }

    /// What is wrong in a folder. An error means that the connection is of no use.
    async fn folder(&self, client: &Client, folder: u64) -> Result<Findings, Trouble> {
        let path = self.files.folder(folder);
        let (listed, mut findings) = match self.server.list(client, &path).await {
            Ok(entries) => (Some(entries), Findings::new()),
            Err(trouble) if trouble.is_lost() => return Err(trouble),
            // Each file tells by itself then whether it is there.
            Err(trouble) => {
                let (file, server) = (path.clone(), self.server.name().to_owned());
                let detail = format!("the folder cannot be listed: {trouble}");
                (None, vec![(path.clone(), Finding { file, server, kind: FaultKind::NotListed, detail })])
            }
        };
        let files = self.files.of_folder(folder);
        if let Some(entries) = &listed {
            findings.extend(self.unexpected(&path, &files, entries));
        }
        let names: Option<Listed<'_>> = listed
            .as_ref()
            .map(|entries| entries.iter().map(|entry| (entry.name.as_slice(), entry.attrs.size)).collect());
        let (names, mut reads) = (names.as_ref(), Vec::new());
        for (number, file) in files.into_iter().filter(|(_, file)| file.state == State::Acknowledged) {
            reads.push(self.file(client, number, file, names));
        }
        let (mut reads, mut timeouts) = (futures::stream::iter(reads).buffer_unordered(FILES_AT_A_TIME), 0);
        while let Some(found) = reads.next().await {
            let (found, trouble) = found?;
            findings.extend(found);
            timeouts += usize::from(matches!(trouble, Some(Trouble::Timeout(_))));
            // A server that answers nothing at all is not asked for every file.
            if let Some(trouble) = trouble.filter(|_| timeouts >= FILES_AT_A_TIME) {
                return Err(trouble);
            }
        }
        Ok(findings)
    }

    /// Entries of a folder that nobody has made, or that are there under an old name as well.
    fn unexpected(&self, path: &str, files: &[(u64, File)], entries: &[Name]) -> Findings {
        let known: BTreeMap<u64, File> = files.iter().copied().collect();
        let present: BTreeSet<&[u8]> = entries.iter().map(|entry| entry.name.as_slice()).collect();
        let judge = |entry: &Name| {
            let shown = format!("{path}/{}", String::from_utf8_lossy(&entry.name).escape_debug());
            let whose =
                parse_name(&entry.name).and_then(|(number, renames)| Some((number, renames, known.get(&number)?)));
            let (number, kind, detail) = match whose {
                Some((_, _, file)) if file.state == State::Unsure => return None,
                Some((_, renames, file)) if file.state == State::Acknowledged && is_name_of(file, renames) => {
                    return None;
                }
                Some((number, renames, file)) if file.state == State::Acknowledged && renames < file.renames => {
                    let new = name(number, file.renames);
                    if !present.contains(new.as_bytes()) {
                        return None;
                    }
                    (Some(number), FaultKind::Duplicate, format!("it was renamed to {new}, which is there, too"))
                }
                _ => (None, FaultKind::Unexpected, "nobody in this run has made it".to_owned()),
            };
            let name = number.map_or_else(|| shown.clone(), |number| name(number, 0));
            Some((name, Finding { file: shown, server: self.server.name().to_owned(), kind, detail }))
        };
        entries.iter().filter_map(judge).collect()
    }

    /// What is wrong with a file, and why it could not be read where it could not. An error means that the connection is lost.
    async fn file(
        &self,
        client: &Client,
        number: u64,
        file: File,
        names: Option<&Listed<'_>>,
    ) -> Result<(Findings, Option<Trouble>), Trouble> {
        let listed_as = |renames: u16| names.and_then(|names| names.get(name(number, renames).as_bytes()));
        let mut findings = Findings::new();
        let mut renames = file.renames;
        let mut read = Ok(Ok(()));
        if !self.is_right(number) {
            read = self.read(client, number, renames).await;
            if file.either_name && read.as_ref().is_err_and(Trouble::is_missing) {
                renames += 1;
                read = self.read(client, number, renames).await;
            }
        } else if file.either_name && listed_as(renames).is_none() {
            renames += 1;
        }
        let mut add = |kind, detail| findings.push(self.finding(number, renames, kind, detail));
        let mut why = None;
        match read {
            Err(trouble) if trouble.is_lost() && !matches!(trouble, Trouble::Timeout(_)) => return Err(trouble),
            Err(trouble) if trouble.is_missing() => {
                let old = (0..renames).rev().find(|renames| listed_as(*renames).is_some());
                let old = old.map(|renames| name(number, renames));
                add(FaultKind::Lost, story(&file, listed_as(renames).is_some(), old));
            }
            Err(trouble) => {
                add(FaultKind::Unreadable, trouble.to_string());
                why = Some(trouble);
            }
            Ok(Err(wrong)) => add(wrong.kind(), wrong.to_string()),
            Ok(Ok(())) => {
                self.note_right(number);
                match (names.is_some(), listed_as(renames)) {
                    (true, None) => {
                        add(FaultKind::NotListed, "it can be read by its name, but its folder does not list it".into());
                    }
                    (_, Some(Some(size))) if *size != self.contents.size(number) => add(
                        FaultKind::WrongSize,
                        format!("its folder says {size} bytes, and it has {}", self.contents.size(number)),
                    ),
                    _ => {}
                }
            }
        }
        Ok((findings, why))
    }

    async fn read(
        &self,
        client: &Client,
        number: u64,
        renames: u16,
    ) -> Result<Result<(), crate::content::Wrong>, Trouble> {
        let (path, size) = (self.files.path(number, renames), self.contents.size(number));
        let uncounted = AtomicU64::new(0);
        self.server.read(client, &path, size, self.contents.judge(number), &uncounted).await
    }

    fn finding(&self, number: u64, renames: u16, kind: FaultKind, detail: String) -> (String, Finding) {
        let file = self.files.path(number, renames);
        (name(number, 0), Finding { file, server: self.server.name().to_owned(), kind, detail })
    }

    fn is_right(&self, number: u64) -> bool {
        self.right.get(number as usize).is_some_and(|right| right.load(Ordering::Relaxed))
    }

    fn note_right(&self, number: u64) {
        if self.right.get(number as usize).is_some_and(|right| !right.swap(true, Ordering::Relaxed)) {
            self.right_count.fetch_add(1, Ordering::Relaxed);
            (self.shown)();
        }
    }
}

fn is_name_of(file: &File, renames: u16) -> bool {
    renames == file.renames || (file.either_name && renames == file.renames + 1)
}

/// What is known of a file that was acknowledged and is not there.
fn story(file: &File, is_listed: bool, old_name: Option<String>) -> String {
    let closed_s = file.closed_us as f64 / 1e6;
    if let Some(old) = old_name {
        return format!("RENAME was answered with OK, and it is still there as {old}");
    }
    let listed = if is_listed { "; its folder lists it, but it cannot be opened" } else { "" };
    let renamed = if file.renames > 0 { ", then renamed with OK" } else { "" };
    format!("CLOSE was answered with OK {closed_s:.3} s after the run began{renamed}, and it is not there{listed}")
}
