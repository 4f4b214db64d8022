//! Clients use one address, and it leads to whichever machine is the master: by HAProxy and by keepalived, with the files that are shipped and
//! real clients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use pair::control::Ban;
use tests::matrix::{content, has_filezilla};
use tests::{
    ADMIN, Duo, Host, LFTP, LoadBalancer, Machine, Network, Outcome, SEED, Sftp, Site, USER, eventually, has_program,
    make_key, new_secret, own_address, run,
};

/// Two machines behind HAProxy, and a folder for files.
struct Front {
    duo: Duo,
    haproxy: LoadBalancer,
    folder: tempfile::TempDir,
}

impl Front {
    /// With settings for both sftpd. None where HAProxy is not installed.
    fn start(sftpd: &[(&str, &str)]) -> Option<Front> {
        if !has_program("haproxy") {
            return None;
        }
        let address = own_address();
        let proxies = address.ip().to_string();
        let duo = Duo::start_with(&[sftpd, &[("PROXIES", &proxies)]].concat(), &[]);
        let haproxy = LoadBalancer::start(address, &duo);
        Some(Front { duo, haproxy, folder: tempfile::tempdir().unwrap() })
    }

    fn address(&self) -> SocketAddr {
        self.haproxy.address()
    }

    fn sftp(&self, login: (&str, &str)) -> Sftp {
        Sftp::new(self.address(), login)
    }

    /// A file with this in it.
    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Uploads something under a name.
    fn put(&self, login: &Sftp, name: &str, content: &[u8]) -> Outcome {
        login.run(&format!("put {} {name}\n", self.file("put", content).display()))
    }

    fn on_disk(&self, index: usize, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.duo.machines[index].path(USER.0, name)).ok()
    }

    /// Hands over, and waits until the address leads to the other machine.
    #[track_caller]
    fn switch_over(&self) {
        let moved = self.duo.moved(0, &["switchover"]);
        println!("{moved:?}");
        self.wait_until_followed();
    }

    #[track_caller]
    fn wait_until_followed(&self) {
        eventually("HAProxy has left the old master", || {
            self.haproxy.program().lines().iter().any(|line| line.contains("Server pair/one is DOWN"))
        });
        eventually("it has found the new one", || {
            self.haproxy.program().lines().iter().any(|line| line.contains("Server pair/two is UP"))
        });
    }
}

/// What ssh-keyscan finds at an address, as a file of known hosts. `on` says where it runs.
fn known_hosts(address: SocketAddr, folder: &Path, on: impl Fn(&mut Command) -> Command) -> PathBuf {
    let (port, host) = (address.port().to_string(), address.ip().to_string());
    let found = on(Command::new("ssh-keyscan").args(["-p", &port, &host])).output().unwrap();
    assert!(!found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stderr));
    let path = folder.join("known_hosts");
    std::fs::write(&path, found.stdout).unwrap();
    path
}

/// The same command.
fn here(command: &mut Command) -> Command {
    let mut same = Command::new(command.get_program());
    same.args(command.get_args());
    same
}

#[test]
fn a_client_follows_the_master_under_one_address_and_one_host_key() {
    let Some(front) = Front::start(&[]) else { return };
    let nobody = front.file("nobody", b"");
    front.sftp(USER).knowing(&nobody).run("pwd\n").expect_failure("Host key verification failed");
    let known = known_hosts(front.address(), front.folder.path(), here);
    let login = front.sftp(USER).knowing(&known);
    front.put(&login, "before", b"one").expect_ok();
    assert_eq!(front.on_disk(0, "before").as_deref(), Some(&b"one"[..]));
    front.switch_over();
    front.put(&login, "after", b"two").expect_ok();
    assert_eq!(front.on_disk(1, "after").as_deref(), Some(&b"two"[..]));
    assert_eq!(front.on_disk(1, "before").as_deref(), Some(&b"one"[..]));
    // By its own address, and not HAProxy's.
    front.duo.machines[1].wait_for_activity("the login", |record| {
        record.sender == "login" && record.username == USER.0 && record.remote_addr.starts_with("127.0.0.1:")
    });
}

#[test]
fn passwords_and_keys_are_the_same_behind_the_address() {
    let Some(front) = Front::start(&[]) else { return };
    let (key, public) = make_key(front.folder.path());
    let users = SEED.replace("\"1234\"", &format!("\"another\"\n    public_keys: [\"{public}\"]"));
    front.put(&front.sftp(ADMIN), "users.yaml", users.as_bytes()).expect_ok();
    let machines = &front.duo.machines;
    let generation = machines[0].status().unwrap().accounts_generation;
    eventually("the standby has the accounts", || machines[1].status().unwrap().accounts_generation == generation);
    front.switch_over();
    assert!(front.sftp((USER.0, "another")).can_log_in());
    assert!(front.sftp((USER.0, "")).with_key(&key).can_log_in());
    assert!(!front.sftp(USER).can_log_in(), "the password of before");
    assert!(front.sftp(ADMIN).can_log_in());
}

fn bans(machine: &Machine) -> Vec<Ban> {
    let (done, text) = machine.order(&["bans", "--json"]);
    assert!(done, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn who_was_banned_stays_banned_behind_the_address() {
    let Some(front) = Front::start(&[("GUARD__NEVER", "192.0.2.1"), ("GUARD__FAILED_LOGIN", "5m")]) else { return };
    let from = |address: &str, login| front.sftp(login).option(&format!("BindAddress={address}"));
    assert!(!from("127.0.5.2", (USER.0, "wrong")).can_log_in());
    let is_banned = |index: usize| bans(&front.duo.machines[index]).iter().any(|ban| ban.whom == "127.0.5.2/32");
    assert!(is_banned(0));
    eventually("the standby has heard of it", || is_banned(1));
    front.switch_over();
    assert!(is_banned(1));
    assert!(!from("127.0.5.2", USER).can_log_in());
    assert!(from("127.0.5.1", USER).can_log_in(), "a neighbour behind the same load balancer");
}

#[test]
fn what_is_acknowledged_during_a_switchover_is_on_the_new_master() {
    let Some(front) = Front::start(&[]) else { return };
    let is_over = AtomicBool::new(false);
    let acknowledged = std::sync::Mutex::new(Vec::new());
    let text_of = |number: usize| format!("file {number}\n").repeat(1 + number % 700);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let login = front.sftp(USER);
            for number in 0.. {
                let done = front.put(&login, &format!("f{number}"), text_of(number).as_bytes()).ok;
                if done {
                    acknowledged.lock().unwrap().push((number, Instant::now()));
                }
                if is_over.load(Ordering::SeqCst) && done {
                    break;
                }
            }
        });
        let count = || acknowledged.lock().unwrap().len();
        eventually("some files are there", || count() > 5);
        front.switch_over();
        let before = count();
        eventually("more come to the new master", || count() > before + 5);
        is_over.store(true, Ordering::SeqCst);
    });
    let acknowledged = acknowledged.into_inner().unwrap();
    for (number, _) in &acknowledged {
        let there = front.on_disk(1, &format!("f{number}"));
        assert!(there.as_deref() == Some(text_of(*number).as_bytes()), "f{number} was acknowledged: {there:?}");
    }
    let gap = acknowledged.windows(2).map(|two| two[1].1 - two[0].1).max().unwrap_or_default();
    println!("{} files, the longest time without one: {} ms", acknowledged.len(), gap.as_millis());
}

#[test]
fn when_the_master_dies_clients_wait_for_the_promotion_and_never_reach_what_comes_back_as_a_standby() {
    let Some(mut front) = Front::start(&[]) else { return };
    let known = known_hosts(front.address(), front.folder.path(), here);
    let login = front.sftp(USER).knowing(&known);
    front.put(&login, "before", b"one").expect_ok();
    eventually("the standby has it", || front.on_disk(1, "before").is_some());
    front.duo.machines[0].kill();
    front.duo.mirrors[0].kill();
    assert!(!front.put(&login, "nowhere", b"x").ok, "there is no master");
    front.duo.moved(1, &["promote"]);
    front.wait_until_followed();
    front.put(&login, "after", b"two").expect_ok();
    assert_eq!(front.on_disk(1, "after").as_deref(), Some(&b"two"[..]));
    front.duo.machines[0].start();
    front.duo.mirrors[0].start();
    front.duo.wait_until_follows(0);
    for number in 0..6 {
        front.put(&login, &format!("again-{number}"), b"three").expect_ok();
        assert!(front.on_disk(1, &format!("again-{number}")).is_some());
    }
    front.duo.wait_until_equal();
    let lines = front.haproxy.program().lines();
    assert!(!lines.iter().any(|line| line.contains("Server pair/one is UP")), "{lines:#?}");
}

const NEW_BYTES: usize = 8_000_000;

/// An upload that breaks off when the master hands over.
struct Broken {
    front: Front,
    file: PathBuf,
    old: Option<usize>,
}

impl Broken {
    /// With a complete file of so many bytes under the name before. None where HAProxy is not installed.
    fn new(old: Option<usize>) -> Option<Broken> {
        Broken::with_users(SEED, old)
    }

    /// The same with other accounts.
    fn with_users(users: &str, old: Option<usize>) -> Option<Broken> {
        let front = Front::start(&[("USERS_YAML", users)])?;
        let file = front.file("new", &content(2, NEW_BYTES));
        if let Some(bytes) = old {
            front.put(&front.sftp(USER), "x", &content(1, bytes)).expect_ok();
        }
        eventually("the standby has what was there", || front.on_disk(0, "x") == front.on_disk(1, "x"));
        Some(Broken { front, file, old })
    }

    /// Hands over in the middle of an upload, and gives its client.
    fn hand_over_during(&self, mut upload: Command) -> Child {
        let client = upload.stdin(Stdio::null()).spawn().unwrap();
        let stages = self.front.duo.machines[0].data().join(".pair/stage");
        let has_some = |stages: &Path| {
            let mut stages = std::fs::read_dir(stages).unwrap().flatten();
            stages.any(|stage| stage.metadata().is_ok_and(|stage| stage.len() > 2_000_000))
        };
        eventually("some of it has arrived", || has_some(&stages));
        self.front.switch_over();
        client
    }

    fn sftp(&self, verb: &str, options: &[&str]) -> (Command, Sftp) {
        let client = self.front.sftp(USER);
        let batch = self.front.file(verb, format!("{verb} {} x\n", self.file.display()).as_bytes());
        let mut command = client.command("sftp");
        command.args(options).arg("-b").arg(batch).arg(client.target());
        (command, client)
    }

    fn lftp(&self, verb: &str, settings: &str) -> Command {
        let mut command = Command::new("lftp");
        let put = format!("{LFTP}; {settings}; {verb} {} -o x; exit", self.file.display());
        let server = format!("sftp://{}", self.front.address());
        command.args(["-u", &format!("{},{}", USER.0, USER.1), "-e", &put, &server]);
        command
    }

    /// FileZilla in its window; it tries again where a connection is lost, and sends a file under the name that it has.
    fn filezilla(&self, action: &str) -> Command {
        let file = self.front.folder.path().join("up/x");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::copy(&self.file, &file).unwrap();
        let mut command = Command::new("/usr/bin/python3");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/filezilla.py")).args(["--tries", "5"]);
        let (host, port) = (self.front.address().ip().to_string(), self.front.address().port().to_string());
        command.args([&host, &port, USER.0, USER.1, action]).arg(file).arg("x");
        command
    }

    /// What is under the name at the new master is the file of before, if there was one.
    #[track_caller]
    fn check_nothing_has_changed(&self) {
        let there = self.front.on_disk(1, "x");
        assert!(there == self.old.map(|bytes| content(1, bytes)), "{:?} bytes", there.map(|there| there.len()));
    }

    #[track_caller]
    fn check_whole(&self) {
        let there = self.front.on_disk(1, "x").unwrap_or_default();
        let joined = there.len() == NEW_BYTES;
        assert!(there == content(2, NEW_BYTES), "{} bytes, not what was sent; joined: {joined}", there.len());
    }
}

/// Breaks an upload of OpenSSH's sftp off and goes on with it at the new master.
fn reput(broken: &Broken) -> Outcome {
    let (upload, _client) = broken.sftp("put", &["-l", "3000"]);
    let mut client = broken.hand_over_during(upload);
    assert!(!client.wait().unwrap().success(), "it hears that it has not arrived");
    broken.check_nothing_has_changed();
    let (mut again, _client) = broken.sftp("reput", &[]);
    let (status, text) = run(&mut again);
    Outcome { ok: status.success(), text }
}

#[test]
fn sftp_sees_that_nothing_of_its_broken_upload_is_at_the_new_master() {
    let Some(broken) = Broken::new(None) else { return };
    reput(&broken).expect_failure("No such file or directory");
    broken.check_nothing_has_changed();
    assert!(run(&mut broken.sftp("put", &[]).0).0.success());
    broken.check_whole();
}

const SLOWLY: &str = "set net:limit-rate 0:1000000";

#[test]
fn lftp_begins_again_at_the_new_master_by_itself_and_when_it_is_asked_to() {
    if !has_program("lftp") {
        return;
    }
    let Some(broken) = Broken::new(None) else { return };
    let mut client = broken.hand_over_during(broken.lftp("put", SLOWLY));
    assert!(client.wait().unwrap().success());
    broken.check_whole();
    let Some(broken) = Broken::new(None) else { return };
    let mut client = broken.hand_over_during(broken.lftp("put", SLOWLY));
    client.kill().unwrap();
    client.wait().unwrap();
    let (status, text) = run(&mut broken.lftp("put -c", "set net:max-retries 5"));
    assert!(status.success(), "{text}");
    broken.check_whole();
}

#[test]
fn an_upload_under_a_temporary_name_replaces_the_older_file_whole() {
    if !has_program("lftp") {
        return;
    }
    let Some(broken) = Broken::new(Some(1_000_000)) else { return };
    let temporary = format!("{SLOWLY}; set xfer:use-temp-file yes; set xfer:temp-file-name .in.*");
    let mut client = broken.hand_over_during(broken.lftp("put", &temporary));
    assert!(client.wait().unwrap().success());
    broken.check_whole();
}

/// Both clients take the size that they are shown for what has arrived: were that the older file's, they would join their tail to its head.
#[test]
fn sftp_begins_again_where_an_older_file_is_at_the_new_master() {
    for bytes in [1_000_000, NEW_BYTES + 1] {
        let Some(broken) = Broken::new(Some(bytes)) else { return };
        reput(&broken).expect_ok();
        broken.check_whole();
    }
}

#[test]
fn lftp_begins_again_by_itself_where_an_older_file_is_at_the_new_master() {
    if !has_program("lftp") {
        return;
    }
    for bytes in [1_000_000, NEW_BYTES + 1] {
        let Some(broken) = Broken::new(Some(bytes)) else { return };
        let mut client = broken.hand_over_during(broken.lftp("put", SLOWLY));
        assert!(client.wait().unwrap().success());
        broken.check_whole();
    }
}

/// FileZilla comes back by itself, at once and some times over: it must not use up its tries at a machine that is no master any more.
#[test]
fn filezilla_begins_again_at_the_new_master_by_itself() {
    if !has_filezilla() {
        println!("SKIPPED: FileZilla, Xvfb and xdotool are not all installed");
        return;
    }
    // To go on with an older file would be what the person has asked for.
    for (action, old) in [("put", None), ("resume", None), ("put", Some(1_000_000))] {
        // So that it is still under way when the master hands over.
        let users = SEED.replace("\"1234\"", "\"1234\"\n    upload_limit: 2MB/s");
        let Some(broken) = Broken::with_users(&users, old) else { return };
        let mut client = broken.hand_over_during(broken.filezilla(action));
        assert!(client.wait().unwrap().success(), "{action} over {old:?}");
        broken.check_whole();
    }
}

/// Where clients connect, as in `docs/examples/keepalived.conf`.
const VIRTUAL: &str = "192.0.2.30";

/// Uploads a file from a host of the test's network to the address that moves.
fn put_from(host: &Host, folder: &Path, known: &Path, name: &str) -> bool {
    let login = Sftp::new(SocketAddr::new(VIRTUAL.parse().unwrap(), 2222), USER).knowing(known);
    std::fs::write(folder.join("file"), name).unwrap();
    std::fs::write(folder.join("batch"), format!("put {} {name}\n", folder.join("file").display())).unwrap();
    let mut command = login.command("sftp");
    command.args(["-o", "ConnectTimeout=5", "-b"]).arg(folder.join("batch")).arg(login.target());
    run(&mut host.command(&command)).0.success()
}

#[test]
fn the_address_that_keepalived_moves_is_on_the_master() {
    if !Network::is_possible() || !["keepalived", "curl", "ip"].into_iter().all(has_program) {
        return;
    }
    let (mut network, secret, folder) = (Network::new(), new_secret(), tempfile::tempdir().unwrap());
    let mut sites = [0, 1].map(|index| Site::prepare(&mut network, &secret, index));
    let client = network.host("192.0.2.100/24");
    sites.iter_mut().rev().for_each(Site::start);
    sites[1].wait_until_follows();
    // The standby's first: it must not take what nobody has yet.
    sites.iter_mut().rev().for_each(Site::start_keepalived);
    let is_on = |sites: &[Site; 2], index: usize| {
        eventually(&format!("the address is on machine {index} alone"), || {
            sites[index].has_address(VIRTUAL) && !sites[1 - index].has_address(VIRTUAL)
        });
    };
    let content = |site: &Site, name: &str| std::fs::read_to_string(site.machine().path(USER.0, name)).ok();
    is_on(&sites, 0);
    let front = SocketAddr::new(VIRTUAL.parse().unwrap(), 2222);
    let known = known_hosts(front, folder.path(), |command| client.command(command));
    assert!(put_from(&client, folder.path(), &known, "before"));
    assert_eq!(content(&sites[0], "before").as_deref(), Some("before"));
    let begun = Instant::now();
    let (done, text) = sites[0].machine().order(&["switchover"]);
    assert!(done, "{text}");
    is_on(&sites, 1);
    println!("the address has moved {} ms after the order", begun.elapsed().as_millis());
    assert!(put_from(&client, folder.path(), &known, "after"));
    assert_eq!(content(&sites[1], "after").as_deref(), Some("after"));
    // A master that dies takes the address along, and nobody has it until a person says who is the next.
    sites[0].wait_until_follows();
    eventually("the standby has it", || content(&sites[0], "after").is_some());
    sites[1].kill();
    eventually("the address is nowhere", || !sites.iter().any(|site| site.has_address(VIRTUAL)));
    let (done, text) = sites[0].machine().order(&["promote"]);
    assert!(done, "{text}");
    is_on(&sites, 0);
    assert!(put_from(&client, folder.path(), &known, "again"));
    assert_eq!(content(&sites[0], "again").as_deref(), Some("again"));
}
