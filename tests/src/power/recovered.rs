//! Looks at a disk after a power cut: mounts it, starts the real sftpd on it, and compares with what was acknowledged.

use std::path::Path;

use pair::client::Client;
use pair::wire::open_flag;

use super::crash::Cut;
use super::disk::LoggedDisk;
use super::mount::{Mounted, Workplace};
use super::story::{Done, Story};
use crate::load::{ACCOUNT, Account, Step, Tree, Version, folder_of};
use crate::machine::MachineBuilder;

/// What is wrong with a disk after a cut, before any program has seen it.
pub fn examine_disk(cut: &Cut, disk: &LoggedDisk, workplace: &Workplace, story: &Story) -> Vec<String> {
    let mounted = match mount(cut, disk, workplace) {
        Ok(mounted) => mounted,
        Err(sentence) => return vec![sentence],
    };
    faults(cut, &mounted.path().join("data").join(ACCOUNT), story)
}

/// What is wrong after a cut, once sftpd has started on the disk: names, contents, unfinished uploads, the journal, and
/// whether uploads go on.
pub async fn examine(
    cut: &Cut,
    disk: &LoggedDisk,
    workplace: &Workplace,
    story: &Story,
    account: &Account,
    machine: MachineBuilder,
) -> Vec<String> {
    let mounted = match mount(cut, disk, workplace) {
        Ok(mounted) => mounted,
        Err(sentence) => return vec![sentence],
    };
    let (data, state) = (mounted.path().join("data"), mounted.path().join("state"));
    // Files that only the page cache had are gone, and sftpd knows that by the boot's id.
    let boot = workplace.folder("boot").join("id");
    std::fs::write(&boot, format!("after a cut at {}\n", cut.position)).expect("another boot");
    let machine = machine.data(&data).setting("STATE", &state.display().to_string()).boot(&boot).start();

    let mut wrong = faults(cut, &data.join(ACCOUNT), story);
    wrong.extend(check_journal(&state));
    let client = account.connect(machine.address()).await;
    for (writer, steps) in story.writers.iter().enumerate() {
        if let Some(Done { step: Step::Put(path, version), begun, .. }) = steps.get(acknowledged(steps, cut))
            && *begun < cut.position
            && let Err(fault) = check_unfinished(&client, &data, path, version).await
        {
            wrong.push(format!("writer {writer}'s unfinished {path}: {fault}"));
        }
    }
    drop(client);
    wrong.extend(upload_one_more(&account.connect(machine.address()).await, &data).await.err());
    wrong
}

fn mount(cut: &Cut, disk: &LoggedDisk, workplace: &Workplace) -> Result<Mounted, String> {
    let image = workplace.folder("crash").join("image");
    cut.image(disk, &image);
    let mounted = Mounted::mount(&image, workplace.folder("crashed"));
    // The loop device holds it from here on.
    std::fs::remove_file(&image).expect("the image can go");
    mounted.map_err(|sentence| format!("ext4 does not mount: {sentence}"))
}

/// How many of a writer's steps were acknowledged before the cut.
fn acknowledged(steps: &[Done], cut: &Cut) -> usize {
    steps.partition_point(|done| done.acknowledged <= cut.position)
}

/// How an account's folder differs from everything that it may be.
fn faults(cut: &Cut, folder: &Path, story: &Story) -> Vec<String> {
    let (found, torn) = Tree::read(folder);
    let mut wrong: Vec<String> = torn.into_iter().map(|fault| format!("torn: {fault}")).collect();
    let mut rest = found;
    for (writer, steps) in story.writers.iter().enumerate() {
        let own = folder_of(writer);
        let inside = format!("{own}/");
        let is_own = |path: &String| *path == own || path.starts_with(&inside);
        let found = Tree(rest.0.extract_if(.., |path, _| is_own(path)).collect());

        let count = acknowledged(steps, cut);
        let mut wanted = Tree::default();
        steps[..count].iter().for_each(|done| wanted.apply(&done.step));
        let differences = wanted.differences(&found);
        if differences.is_empty() {
            continue;
        }
        if let Some(next) = steps.get(count).filter(|next| next.sent < cut.position) {
            wanted.apply(&next.step);
            if wanted.differences(&found).is_empty() {
                continue;
            }
        }
        let last = steps[..count].last();
        wrong.push(format!("writer {writer} after {last:?}, then {:?}: {differences:#?}", steps.get(count)));
    }
    wrong.extend(rest.0.keys().map(|path| format!("{path}: nobody made it")));
    wrong
}

/// An unfinished upload that the account sees must be the beginning of what was being sent.
async fn check_unfinished(client: &Client, data: &Path, path: &str, version: &Version) -> Result<(), String> {
    let complete = std::fs::metadata(data.join(ACCOUNT).join(path)).map(|metadata| metadata.len()).ok();
    let seen = match client.lstat(path.as_bytes()).await {
        Ok(attrs) => attrs.size,
        Err(error) if error.is_missing() => None,
        Err(error) => return Err(error.to_string()),
    };
    let (Some(arrived), true) = (seen, seen != complete) else { return Ok(()) };
    // The connection ends without a CLOSE, which would publish it.
    let flags = open_flag::READ | open_flag::WRITE;
    let handle = client.open(path.as_bytes(), flags, None).await.map_err(|error| format!("cannot go on: {error}"))?;
    let mut found = Vec::new();
    while let Some(bytes) =
        client.read(&handle, found.len() as u64, client.read_bytes_max()).await.map_err(|error| error.to_string())?
    {
        found.extend_from_slice(&bytes);
    }
    let sent = version.content();
    match found.len() as u64 == arrived && sent.starts_with(&found) {
        true => Ok(()),
        false => {
            let same = sent.iter().zip(&found).take_while(|(sent, found)| sent == found).count();
            Err(format!("{arrived} bytes are shown, {} come, {same} of them are right", found.len()))
        }
    }
}

async fn upload_one_more(client: &Client, data: &Path) -> Result<(), String> {
    let version = Version { writer: u32::MAX, number: 1, bytes: 10_000 };
    let upload = async {
        let flags = open_flag::WRITE | open_flag::CREAT | open_flag::TRUNC;
        let handle = client.open(b"after", flags, None).await?;
        client.write(&handle, 0, &version.content()).await?;
        client.close(handle).await
    };
    upload.await.map_err(|error| format!("a new upload: {error}"))?;
    let content = std::fs::read(data.join(ACCOUNT).join("after")).map_err(|error| error.to_string())?;
    Version::of(&content).map(|_| ()).map_err(|fault| format!("a new upload: {fault}"))
}

/// After recovery no intent is undecided. Where there is no journal there is nothing to check.
pub fn check_journal(state: &Path) -> Option<String> {
    let path = state.join("sftpd.db");
    if !path.exists() {
        return None;
    }
    let count = || {
        let db = rusqlite::Connection::open(&path)?;
        db.busy_timeout(std::time::Duration::from_secs(10))?;
        let table = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'journal'";
        match db.query_row(table, [], |row| row.get::<_, i64>(0))? {
            0 => Ok(0),
            _ => db.query_row("SELECT count(*) FROM journal WHERE outcome IS NULL", [], |row| row.get::<_, i64>(0)),
        }
    };
    match count() {
        Ok(0) => None,
        Ok(undecided) => Some(format!("{undecided} intents are undecided after recovery")),
        Err(error) => Some(format!("the journal cannot be read: {}", rusqlite::Error::to_string(&error))),
    }
}
