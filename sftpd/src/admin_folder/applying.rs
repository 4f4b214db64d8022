//! A users.yaml becomes accounts, or a refusal that names every mistake.
//!
//! Whoever calls this holds the admin folder's turn. Accounts and stored file change together or not at all.

use std::sync::Arc;

use bytes::Bytes;
use pair::activity::{Activity, Outcome, sender};

use super::{RESULT_NAME, USERS_NAME};
use crate::accounts::mistake::Mistake;
use crate::accounts::users_file::{self, BYTES_MAX, Password, User, UsersFile};
use crate::accounts::{ADMIN_HOME, Account, Accounts, password, rendered};
use crate::activity::{Actor, failed};
use crate::daemon::Daemon;
use crate::fault::Fault;
use crate::storage::{Change, StorageError, file_content};

/// A users.yaml that was found right.
struct Verdict {
    accounts: Accounts,
    masked: String,
    /// Passwords that were drawn, by name.
    generated: Vec<(String, String)>,
}

/// Who changes the accounts.
#[derive(Clone)]
pub struct By {
    /// For people: a login name, or how it came about.
    pub who: String,
    /// For the activity log, where somebody has logged in.
    pub actor: Option<Arc<Actor>>,
}

impl By {
    /// Nobody who has logged in.
    pub fn way(who: &str) -> By {
        By { who: who.into(), actor: None }
    }

    fn record(&self, outcome: Outcome, fault: Option<&Fault>) -> Activity {
        let mut activity = match &self.actor {
            Some(actor) => actor.activity(sender::ACCOUNTS),
            None => Activity { sender: sender::ACCOUNTS.into(), method: Some(self.who.clone()), ..Activity::default() },
        };
        activity.set_path(b"/users.yaml");
        match fault {
            Some(fault) => failed(activity, outcome, &fault.text),
            None => Activity { outcome: Some(outcome), ..activity },
        }
    }
}

/// What became of a users.yaml.
pub struct Told {
    /// What the result file says.
    pub text: String,
    /// What the client hears where it was refused.
    pub fault: Option<Fault>,
}

impl Told {
    /// The answer to a client.
    pub fn answer(self) -> Result<(), Fault> {
        self.fault.map_or(Ok(()), Err)
    }
}

/// Writes users.yaml anew where it is gone or older than the accounts: the admin needs one to edit, and the accounts in force say what it said.
pub async fn restore(daemon: &Arc<Daemon>, why: &str) {
    let text = rendered::rendered(&daemon.accounts());
    tracing::warn!("users.yaml {why}: it is written anew from the accounts in force");
    // A failure is in the result file, and the next look tries again.
    apply(daemon, text.into(), &By::way(&format!("sftpd, because it {why}"))).await;
}

/// Judges and installs a file.
pub async fn apply(daemon: &Arc<Daemon>, content: Bytes, by: &By) -> Told {
    let before = daemon.accounts();
    let judged = judge(&content, &before).await;
    let told = conclude(daemon, judged, &before, by).await;
    write_result(daemon, &told.text).await;
    told
}

/// Judges a file. Nothing changes but the result file.
pub async fn try_out(daemon: &Arc<Daemon>, content: &Bytes, by: &By) -> Told {
    let before = daemon.accounts();
    let told = match judge(content, &before).await {
        Ok(verdict) => {
            let changes = verdict.accounts.changes_since(&before);
            let changes = if changes.is_empty() { "nothing would change".into() } else { changes.join("\n") };
            Told { text: format!("WOULD BE ACCEPTED {} from {}\n{changes}\n", now(), by.who), fault: None }
        }
        Err(mistakes) => {
            let refused = refused(&mistakes, &before, by);
            Told { text: format!("WOULD BE {}", refused.text), ..refused }
        }
    };
    write_result(daemon, &told.text).await;
    told
}

/// Notes that an upload was dropped before it could be looked at.
pub async fn note_dropped(daemon: &Arc<Daemon>, reason: &str, by: &By) {
    let told = refused(&[mistake(reason)], &daemon.accounts(), by);
    daemon.activity.put(by.record(Outcome::Aborted, told.fault.as_ref()));
    write_result(daemon, &told.text).await;
}

/// Installs the very first users.yaml. The standbys come later.
pub async fn seed(daemon: &Arc<Daemon>, content: Bytes) -> Result<Result<(), Fault>, Vec<Mistake>> {
    let before = daemon.accounts();
    let verdict = judge(&content, &before).await?;
    let by = By::way("the first start");
    let told = match install(daemon, verdict, &before, &by).await {
        Ok(text) => Told { text, fault: None },
        Err(fault) => refused(&[mistake(&fault.text)], &before, &by),
    };
    write_result(daemon, &told.text).await;
    Ok(told.answer())
}

/// Installs a file that was found right, and has the standbys take it.
async fn conclude(daemon: &Arc<Daemon>, judged: Result<Verdict, Vec<Mistake>>, before: &Accounts, by: &By) -> Told {
    let installed = match judged {
        Ok(verdict) => install(daemon, verdict, before, by).await.map_err(|fault| vec![mistake(&fault.text)]),
        Err(mistakes) => Err(mistakes),
    };
    match installed {
        Ok(mut text) => {
            daemon.activity.put(by.record(Outcome::Complete, None));
            for sentence in daemon.standbys.wait_for(daemon.accounts().generation).await {
                text += &format!("{sentence}\n");
            }
            Told { text, fault: None }
        }
        Err(mistakes) => {
            let told = refused(&mistakes, before, by);
            let first = mistakes.first().map_or_else(String::new, Mistake::to_string);
            tracing::warn!(by = by.who, first, "users.yaml refused: the accounts stay as they are");
            daemon.activity.put(by.record(Outcome::Refused, told.fault.as_ref()));
            told
        }
    }
}

/// Puts a right file in force, and its masked text in place. If the second fails, the accounts of before come back.
async fn install(daemon: &Arc<Daemon>, verdict: Verdict, before: &Accounts, by: &By) -> Result<String, Fault> {
    let place = daemon.volume.root(ADMIN_HOME)?.place(USERS_NAME)?;
    // Its bytes are on the volume before anything changes: a full disk refuses the file and not half of the work.
    let staged = daemon.volume.stage_file(verdict.masked.as_bytes(), place)?;
    let changes = verdict.accounts.changes_since(before);
    let acceptance = acceptance(&verdict, &changes, &by.who);
    let generation = verdict.accounts.generation;
    set_accounts(daemon, verdict.accounts).await?;
    let published = daemon.volume.commit_own(Change::Publish(staged)).await;
    if let Err(error) = published {
        set_accounts(daemon, before.clone()).await?;
        return Err(error.into());
    }
    tracing::info!(by = by.who, generation, changes = changes.len(), "users.yaml accepted");
    for (name, password) in &verdict.generated {
        daemon.announce(&format!("password of {name}, shown only this once: {password}"));
    }
    Ok(acceptance)
}

/// Draws a new password for an account and puts it in force. Whoever asked gets it, and nobody else.
pub async fn reset_password(daemon: &Arc<Daemon>, name: &str, by: &By) -> Result<(String, Told), Fault> {
    let before = daemon.accounts();
    let account = before.get(name).ok_or_else(|| Fault::failure(format!("there is no account {name}")))?;
    if account.password_hash.is_none() {
        let text = format!("{name} logs in by key and has no password: give it `password: generate` in users.yaml");
        return Err(Fault::failure(text));
    }
    let content = read_users(daemon)?;
    if before.users_yaml.as_deref() != Some(blake3::hash(&content).to_hex().as_str()) {
        return Err(Fault::failure("users.yaml has just been changed by another hand: try again in a moment"));
    }
    let text = std::str::from_utf8(&content).map_err(|_| Fault::failure("users.yaml is not UTF-8"))?;
    // A hash that stands in the file would come back with its next upload.
    let masked =
        users_file::with_password_masked(text, &before, name).map_err(|mistake| Fault::failure(mistake.text))?;
    let drawn = password::generate().map_err(|_| Fault::failure("no password can be drawn"))?;
    let to_hash = drawn.clone();
    let hash = tokio::task::spawn_blocking(move || password::hash(&to_hash)).await;
    let hash = hash.ok().and_then(Result::ok).ok_or_else(|| Fault::failure("the password cannot be hashed"))?;
    let accounts = before.iter().map(|account| match account.name == name {
        true => Account { password_hash: Some(hash.clone()), ..Account::clone(account) },
        false => Account::clone(account),
    });
    let mut accounts = Accounts::new(before.generation + 1, accounts).from_users_yaml(&masked, &before);
    accounts.trusted_ca.clone_from(&before.trusted_ca);
    let verdict = Verdict { accounts, masked, generated: Vec::new() };
    let told = conclude(daemon, Ok(verdict), &before, by).await;
    write_result(daemon, &told.text).await;
    match told.fault {
        Some(fault) => Err(fault),
        None => Ok((drawn, told)),
    }
}

async fn set_accounts(daemon: &Arc<Daemon>, accounts: Accounts) -> Result<(), Fault> {
    let keeper = daemon.clone();
    tokio::task::spawn_blocking(move || keeper.set_accounts(accounts))
        .await
        .map_err(|_| Fault::failure("the accounts could not be kept"))?
        .map_err(|error| Fault::failure(format!("{error:#}")))
}

pub fn read_users(daemon: &Daemon) -> Result<Bytes, StorageError> {
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
    let UsersFile { users, trusted_ca } = users_file::parse(text, before)?;
    let masked = users_file::masked(text, &users)?;
    let hashed = with_hashes(users, before).map_err(|_| vec![mistake("a password cannot be hashed")])?;
    let mut generated = Vec::new();
    let accounts: Vec<_> = hashed
        .into_iter()
        .map(|(account, drawn)| {
            generated.extend(drawn.map(|drawn| (account.name.clone(), drawn)));
            account
        })
        .collect();
    let mut accounts = Accounts::new(before.generation + 1, accounts).from_users_yaml(&masked, before);
    accounts.trusted_ca = trusted_ca;
    Ok(Verdict { accounts, masked, generated })
}

/// An account, and its password where one was drawn.
type Hashed = (Account, Option<String>);

/// Hashes what is new on all cores: a first file may have a thousand passwords, each of which takes its time on purpose.
fn with_hashes(users: Vec<User>, before: &Accounts) -> Result<Vec<Hashed>, password::Unusable> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = users.len().div_ceil(cores).max(1);
    std::thread::scope(|scope| {
        let hash = |users: Vec<User>| users.into_iter().map(|user| with_hash(user, before)).collect::<Vec<_>>();
        let shares: Vec<_> = users.chunks(share).map(|users| scope.spawn(move || hash(users.to_vec()))).collect();
        let hashed =
            shares.into_iter().flat_map(|share| share.join().unwrap_or_else(|_| vec![Err(password::Unusable)]));
        hashed.collect()
    })
}

fn with_hash(user: User, before: &Accounts) -> Result<Hashed, password::Unusable> {
    let kept = before.get(&user.account.name).and_then(|account| account.password_hash.clone());
    let mut drawn = None;
    let password_hash = match user.password {
        Password::None => None,
        Password::Unchanged => kept,
        Password::Hash(hash) => Some(hash),
        // The same password again keeps its hash, so that the result does not speak of a new one.
        Password::Plain(text) => {
            match kept.filter(|hash| password::matches(&mut password::Memory::default(), &text, hash)) {
                Some(hash) => Some(hash),
                None => Some(password::hash(&text)?),
            }
        }
        Password::Generate => Some(password::hash(drawn.insert(password::generate()?))?),
    };
    Ok((Account { password_hash, ..user.account }, drawn))
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

fn refused(mistakes: &[Mistake], before: &Accounts, by: &By) -> Told {
    let mut text = format!("REFUSED {} from {}: generation {} stays in force\n", now(), by.who, before.generation);
    for mistake in mistakes {
        text += &format!("{mistake}\n");
    }
    Told { text, fault: Some(Fault::failure(mistakes.first().map_or_else(String::new, Mistake::to_string))) }
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
    fn a_file_that_is_not_text_names_the_line() {
        let Err(mistakes) = judge_now(b"users:\n\xff", &Accounts::default()) else { panic!("accepted") };
        assert!(mistakes[0].text.contains("line 2"), "{:?}", mistakes);
    }
}
