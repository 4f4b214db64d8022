//! The admin folder: where an uploaded users.yaml becomes accounts.
//!
//! Always holds: a wrong file changes nothing; a right one swaps all accounts at once; a plain password never reaches
//! the disk. users.yaml.result beside it says what happened, because some clients hide a failed upload. On a standby
//! nothing here is applied: its accounts come from the master.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pair::exit::usage;
use rustix::io::Errno;

use crate::accounts::mistake::Mistake;
use crate::accounts::users_file::{self, BYTES_MAX, Password, User};
use crate::accounts::{ADMIN_HOME, Account, Accounts, password, rendered};
use crate::daemon::Daemon;
use crate::fault::Fault;
use crate::storage::{Change, StorageError, file_content};

/// The file that makes accounts.
pub const USERS_NAME: &[u8] = b"users.yaml";
/// A file of this name is tried out only.
pub const CHECK_NAME: &[u8] = b"users.yaml.check";
/// What became of the last upload.
pub const RESULT_NAME: &[u8] = b"users.yaml.result";

/// How long an upload waits for its rename.
const DRAFT_AGE_MAX: Duration = Duration::from_secs(3600);

/// Uploads that wait in memory for their rename, at most; past it the first by name goes.
const DRAFTS_MAX: usize = 16;

/// Whether a name in the admin folder is treated as a users.yaml: also `users.yaml.filepart`, `.users.yaml.swp` or
/// `Users.yaml`, which hold the same passwords.
pub fn is_guarded_name(name: &[u8]) -> bool {
    name.to_ascii_lowercase().windows(USERS_NAME.len()).any(|part| part == USERS_NAME)
}

/// The admin folder's state.
#[derive(Debug, Default)]
pub struct AdminFolder {
    // Held for a few lines, never across an await.
    drafts: Mutex<BTreeMap<Vec<u8>, Waiting>>,
    /// Files are applied one at a time.
    turn: tokio::sync::Mutex<()>,
    /// The content that was last refused when it was found on the disk, so that it is refused once.
    refused: Mutex<Option<blake3::Hash>>,
}

/// An upload that waits in memory.
#[derive(Debug)]
struct Waiting {
    content: Bytes,
    since: Instant,
}

/// A users.yaml that was found right.
struct Verdict {
    accounts: Accounts,
    masked: String,
    /// Passwords that were drawn, by name.
    generated: Vec<(String, String)>,
}

impl AdminFolder {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Vec<u8>, Waiting>> {
        let mut drafts = self.drafts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        drafts.retain(|_, draft| draft.since.elapsed() < DRAFT_AGE_MAX);
        drafts
    }

    /// Whether any upload waits.
    pub fn has_drafts(&self) -> bool {
        !self.lock().is_empty()
    }

    /// Whether an upload waits for its rename onto users.yaml.
    pub fn has_upload_waiting(&self) -> bool {
        self.lock().keys().any(|name| name != CHECK_NAME)
    }

    /// A waiting upload.
    pub fn draft(&self, name: &[u8]) -> Option<Bytes> {
        self.lock().get(name).map(|draft| draft.content.clone())
    }

    /// All waiting uploads: name and size.
    pub fn drafts(&self) -> Vec<(Vec<u8>, u64)> {
        self.lock().iter().map(|(name, draft)| (name.clone(), draft.content.len() as u64)).collect()
    }

    /// Keeps an upload in memory until it is renamed, removed or old, or the daemon ends.
    pub fn keep_draft(&self, name: Vec<u8>, content: Bytes) {
        let mut drafts = self.lock();
        drafts.insert(name.clone(), Waiting { content, since: Instant::now() });
        if drafts.len() > DRAFTS_MAX {
            let other = drafts.keys().find(|other| **other != name).cloned();
            other.and_then(|other| drafts.remove(&other));
        }
    }

    /// Forgets a waiting upload; tells whether there was one.
    pub fn drop_draft(&self, name: &[u8]) -> bool {
        self.lock().remove(name).is_some()
    }

    /// Applies a users.yaml: all of it, or nothing and a fault that names the first mistake. The result file says more.
    pub async fn apply(&self, daemon: &Arc<Daemon>, content: Bytes, by: &str) -> Result<(), Fault> {
        let _turn = self.turn.lock().await;
        apply_in_turn(daemon, content, by).await
    }

    /// Notes that an upload of users.yaml was dropped before it could be looked at.
    pub async fn note_dropped(&self, daemon: &Arc<Daemon>, reason: &str, by: &str) {
        let _turn = self.turn.lock().await;
        write_result(daemon, &refusal(&[mistake(reason)], &daemon.accounts(), by)).await;
    }

    /// Tries a users.yaml out. Nothing changes but the result file.
    pub async fn try_out(&self, daemon: &Arc<Daemon>, content: Bytes, by: &str) -> Result<(), Fault> {
        let _turn = self.turn.lock().await;
        let before = daemon.accounts();
        match judge(&content, &before).await {
            Ok(verdict) => {
                let changes = verdict.accounts.changes_since(&before).join("\n");
                write_result(daemon, &format!("WOULD BE ACCEPTED {} from {by}\n{changes}\n", now())).await;
                Ok(())
            }
            Err(mistakes) => {
                write_result(daemon, &format!("WOULD BE {}", refusal(&mistakes, &before, by))).await;
                Err(Fault::failure(mistakes.first().map_or_else(String::new, Mistake::to_string)))
            }
        }
    }

    /// Seeds the accounts at a master's very first start. The error names every mistake.
    pub async fn seed(&self, daemon: &Arc<Daemon>, path: &std::path::Path) -> anyhow::Result<()> {
        let content = tokio::fs::read(path).await.map_err(|error| {
            usage(format!(
                "cannot read {} ({error}): a master's first start takes its accounts from there (key `users`)",
                path.display()
            ))
        })?;
        let _turn = self.turn.lock().await;
        let before = daemon.accounts();
        let verdict = judge(&content.into(), &before).await.map_err(|mistakes| {
            let lines: Vec<_> = mistakes.iter().map(|mistake| mistake.at(&path.display().to_string())).collect();
            usage(lines.join("\n"))
        })?;
        let installed = conclude(daemon, Ok(verdict), &before, "the first start").await;
        installed.map_err(|fault| anyhow::anyhow!("{}", fault.text))
    }

    /// Looks at the users.yaml on the volume and applies it where another hand has changed it.
    pub async fn look(&self, daemon: &Arc<Daemon>) {
        // Before the file is read: in the middle of an upload it is still the old one, and the accounts are the new ones.
        let _turn = self.turn.lock().await;
        let content = match read_users(daemon) {
            Ok(content) => content,
            Err(StorageError::System(Errno::NOENT)) => return restore(daemon).await,
            // Unreadable: the accounts stay as they are, and the next look may have more luck.
            Err(_) => return,
        };
        let hash = blake3::hash(&content);
        let known = daemon.accounts().users_yaml.as_deref() == Some(hash.to_hex().as_str());
        let mut refused = self.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if !known && refused != Some(hash) {
            tracing::info!("users.yaml was changed by another hand");
            refused = apply_in_turn(daemon, content, "another hand on the volume").await.is_err().then_some(hash);
        }
        *self.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = refused;
    }
}

/// Writes users.yaml anew where it is gone: the admin needs one to edit, and the accounts in force say what it said.
async fn restore(daemon: &Arc<Daemon>) {
    let text = rendered::rendered(&daemon.accounts());
    tracing::warn!("users.yaml is gone: it is written anew from the accounts in force");
    // A failure is in the result file, and the next look tries again.
    let _ = apply_in_turn(daemon, text.into(), "sftpd, because it was gone").await;
}

/// Judges and installs a file; the caller holds the turn.
async fn apply_in_turn(daemon: &Arc<Daemon>, content: Bytes, by: &str) -> Result<(), Fault> {
    let before = daemon.accounts();
    let judged = judge(&content, &before).await;
    conclude(daemon, judged, &before, by).await
}

/// Installs a file that was found right. Whatever was found and whatever happens is in the result file.
async fn conclude(
    daemon: &Arc<Daemon>,
    judged: Result<Verdict, Vec<Mistake>>,
    before: &Accounts,
    by: &str,
) -> Result<(), Fault> {
    let installed = match judged {
        Ok(verdict) => install(daemon, verdict, before, by).await.map_err(|fault| vec![mistake(&fault.text)]),
        Err(mistakes) => Err(mistakes),
    };
    match installed {
        Ok(acceptance) => {
            write_result(daemon, &acceptance).await;
            Ok(())
        }
        Err(mistakes) => {
            let first = mistakes.first().map_or_else(String::new, Mistake::to_string);
            tracing::warn!(by, first, "users.yaml refused: the accounts stay as they are");
            write_result(daemon, &refusal(&mistakes, before, by)).await;
            Err(Fault::failure(first))
        }
    }
}

/// Puts a right file in force, and its masked text in place. If the second fails, the accounts of before come back.
async fn install(daemon: &Arc<Daemon>, verdict: Verdict, before: &Accounts, by: &str) -> Result<String, Fault> {
    let place = daemon.volume.root(ADMIN_HOME)?.place(USERS_NAME)?;
    // Its bytes are on the volume before anything changes: a full disk refuses the file and not half of the work.
    let staged = daemon.volume.stage_file(verdict.masked.as_bytes(), place)?;
    let changes = verdict.accounts.changes_since(before);
    let acceptance = acceptance(&verdict, &changes, by);
    let generation = verdict.accounts.generation;
    set_accounts(daemon, verdict.accounts).await?;
    let published = daemon.volume.commit_own(Change::Publish(staged)).await;
    if let Err(error) = published {
        set_accounts(daemon, before.clone()).await?;
        return Err(error.into());
    }
    tracing::info!(by, generation, changes = changes.len(), "users.yaml accepted");
    for (name, password) in &verdict.generated {
        daemon.announce(&format!("password of {name}, shown only this once: {password}"));
    }
    Ok(acceptance)
}

async fn set_accounts(daemon: &Arc<Daemon>, accounts: Accounts) -> Result<(), Fault> {
    let keeper = daemon.clone();
    tokio::task::spawn_blocking(move || keeper.set_accounts(accounts))
        .await
        .map_err(|_| Fault::failure("the accounts could not be kept"))?
        .map_err(|error| Fault::failure(format!("{error:#}")))
}

fn read_users(daemon: &Daemon) -> Result<Bytes, StorageError> {
    let (file, attributes) = daemon.volume.root(ADMIN_HOME)?.open_file(USERS_NAME)?;
    if attributes.size > BYTES_MAX as u64 {
        return Err(StorageError::Refused("too large".into()));
    }
    Ok(file_content::read_whole(&file)?.into())
}

/// Parses, checks, masks and hashes, off the async threads: hashing takes its time.
async fn judge(content: &Bytes, before: &Arc<Accounts>) -> Result<Verdict, Vec<Mistake>> {
    let (content, before) = (content.clone(), before.clone());
    tokio::task::spawn_blocking(move || judge_now(&content, &before))
        .await
        .unwrap_or_else(|_| Err(vec![mistake("the check failed by itself: this is a bug in sftpd")]))
}

fn mistake(text: &str) -> Mistake {
    let position = crate::accounts::Position { line: 1, column: 1 };
    Mistake { position, text: text.into() }
}

fn judge_now(content: &[u8], before: &Accounts) -> Result<Verdict, Vec<Mistake>> {
    if content.len() > BYTES_MAX {
        return Err(vec![mistake(&format!("the file is larger than {BYTES_MAX} bytes"))]);
    }
    let text = std::str::from_utf8(content).map_err(|error| {
        let line = content.get(..error.valid_up_to()).unwrap_or_default().split(|&byte| byte == b'\n').count();
        vec![mistake(&format!("the file is not UTF-8 (first on line {line}): save it as UTF-8"))]
    })?;
    let users = users_file::parse(text, before)?;
    let masked = users_file::masked(text, &users)?;
    let mut generated = Vec::new();
    let mut accounts = Vec::with_capacity(users.len());
    for user in users {
        accounts
            .push(with_hash(user, before, &mut generated).map_err(|_| vec![mistake("a password cannot be hashed")])?);
    }
    let mut accounts = Accounts::new(before.generation + 1, accounts);
    accounts.users_yaml = Some(blake3::hash(masked.as_bytes()).to_hex().to_string());
    Ok(Verdict { accounts, masked, generated })
}

fn with_hash(
    user: User,
    before: &Accounts,
    generated: &mut Vec<(String, String)>,
) -> Result<Account, password::Unusable> {
    let name = user.account.name.clone();
    let kept = before.get(&name).and_then(|account| account.password_hash.clone());
    let password_hash = match user.password {
        Password::None => None,
        Password::Unchanged => kept,
        Password::Hash(hash) => Some(hash),
        // The same password again keeps its hash, so that the result does not speak of a new one.
        Password::Plain(text) => match kept.filter(|hash| password::matches(&text, hash)) {
            Some(hash) => Some(hash),
            None => Some(password::hash(&text)?),
        },
        Password::Generate => {
            let drawn = password::generate()?;
            let hash = password::hash(&drawn)?;
            generated.push((name, drawn));
            Some(hash)
        }
    };
    Ok(Account { password_hash, ..user.account })
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn acceptance(verdict: &Verdict, changes: &[String], by: &str) -> String {
    let mut text = format!("ACCEPTED {} from {by}: generation {}\n", now(), verdict.accounts.generation);
    for change in changes {
        text += &format!("{change}\n");
    }
    if changes.is_empty() {
        text += "nothing changed\n";
    }
    for (name, _) in &verdict.generated {
        text += &format!("the password of {name} was generated: sftpd's output shows it once\n");
    }
    text
}

fn refusal(mistakes: &[Mistake], before: &Accounts, by: &str) -> String {
    let mut text = format!("REFUSED {} from {by}: generation {} stays in force\n", now(), before.generation);
    for mistake in mistakes {
        text += &format!("{mistake}\n");
    }
    text
}

/// Writes the result file. A failure is only logged: the upload itself is answered either way.
async fn write_result(daemon: &Daemon, text: &str) {
    let write = async {
        let place = daemon.volume.root(ADMIN_HOME)?.place(RESULT_NAME)?;
        let staged = daemon.volume.stage_file(text.as_bytes(), place)?;
        daemon.volume.commit_own(Change::Publish(staged)).await
    };
    if let Err(error) = write.await {
        tracing::warn!(%error, "users.yaml.result could not be written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_may_hold_the_passwords_is_guarded() {
        for name in ["users.yaml", "users.yaml.filepart", ".users.yaml.swp", "USERS.YAML", "old-users.yaml~"] {
            assert!(is_guarded_name(name.as_bytes()), "{name}");
        }
        for name in ["users.yml", "user.yaml", "users", ""] {
            assert!(!is_guarded_name(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn waiting_uploads_are_bounded() {
        let folder = AdminFolder::default();
        for number in 0..100 {
            folder.keep_draft(format!("users.yaml.{number}").into(), Bytes::from_static(b"x"));
        }
        assert_eq!(folder.drafts().len(), DRAFTS_MAX);
        assert!(folder.draft(b"users.yaml.99").is_some(), "the newest stays");
    }

    #[test]
    fn a_file_that_is_not_text_names_the_line() {
        let Err(mistakes) = judge_now(b"users:\n\xff", &Accounts::default()) else { panic!("accepted") };
        assert!(mistakes[0].text.contains("line 2"), "{:?}", mistakes);
    }
}
