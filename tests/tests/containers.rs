//! Both compose files as they are shipped, on two projects with their own networks, and what can happen to them.
//!
//! The master reaches the standby as a machine of its own would: by this machine's address and the published port.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use tests::containers::{Project, docker, has_engine};
use tests::{ADMIN, SEED, Sftp, USER, Visitor, eventually, new_secret, run, within};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

/// A master and a standby of one pair, with the accounts of [`SEED`].
struct Pair {
    master: Project,
    standby: Project,
    folder: tempfile::TempDir,
}

/// This machine's own address, under which containers reach what others have published. Nothing is sent.
fn this_machine() -> std::net::IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let documentation = ("192.0.2.1", 9);
    // A machine without a way out has the engine's bridge at least, whose usual address this is.
    let own = socket.connect(documentation).and_then(|()| socket.local_addr());
    own.map_or([172, 17, 0, 1].into(), |own| own.ip())
}

impl Pair {
    /// Started, and the standby has all that the master has.
    fn start(settings: &[(&str, &str)]) -> Pair {
        let (folder, secret) = (tempfile::tempdir().unwrap(), new_secret());
        let users = folder.path().join("users.yaml");
        std::fs::write(&users, SEED).unwrap();
        // The container's user reads it, whoever runs the test.
        open_to_all(folder.path());
        std::fs::set_permissions(&users, PermissionsExt::from_mode(0o644)).unwrap();
        let standby = Project::new("standby", &[("PAIR_SECRET", &secret), ("MASTER_ADDRESS", "sftp.example.org:2222")]);
        standby.up_all();
        let standbys = format!("{}:{}", this_machine(), standby.sftp.port());
        let own = [("PAIR_SECRET", secret.as_str()), ("STANDBYS", &standbys), ("USERS", users.to_str().unwrap())];
        let master = Project::new("master", &[&own, settings].concat());
        master.up_all();
        master.until_healthy("filesync");
        Pair { master, standby, folder }
    }

    fn put(&self, name: &str) {
        put(self.master.sftp, self.folder.path(), name);
    }

    /// Waits until the standby shows a file to a reader.
    #[track_caller]
    fn until_followed(&self, name: &str) {
        let there = || get(self.standby.sftp, self.folder.path(), name).as_deref() == Some(name);
        within(PATIENCE, &format!("{name} is on the standby"), there);
    }
}

fn open_to_all(folder: &Path) {
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
}

/// Uploads a file that says its own name.
#[track_caller]
fn put(address: SocketAddr, folder: &Path, name: &str) {
    let file = folder.join("out");
    std::fs::write(&file, name).unwrap();
    Sftp::new(address, USER).run(&format!("put {} {name}\n", file.display())).expect_ok();
}

/// What a file says, if it is there.
fn get(address: SocketAddr, folder: &Path, name: &str) -> Option<String> {
    let file = folder.join("in");
    let got = Sftp::new(address, USER).option("ConnectTimeout=5").run(&format!("get {name} {}\n", file.display()));
    got.ok.then(|| std::fs::read_to_string(file).unwrap())
}

/// The host keys that a client sees.
fn host_keys(address: SocketAddr) -> Vec<String> {
    let port = address.port().to_string();
    let (_, text) = run(Command::new("ssh-keyscan").args(["-p", &port, "127.0.0.1"]));
    let keys = text.lines().filter(|line| !line.starts_with('#'));
    let mut keys: Vec<String> = keys.map(|line| line.split_once(' ').unwrap().1.to_owned()).collect();
    keys.sort();
    keys
}

#[test]
fn the_pair_works_as_it_is_shipped_and_is_the_same_after_its_containers_were_made_anew() {
    if !has_engine() {
        return;
    }
    let pair = Pair::start(&[]);
    pair.put("first");
    pair.until_followed("first");
    let out = pair.folder.path().join("out");
    let refused = Sftp::new(pair.standby.sftp, USER).run(&format!("put {} x\n", out.display()));
    refused.expect_failure("Failure");
    let settings = pair.standby.inspect("sftpd", "{{.Config.Env}}");
    assert!(settings.contains("SFTPD_MASTER_ADDRESS=sftp.example.org:2222"), "{settings}");
    for project in [&pair.master, &pair.standby] {
        for program in ["sftpd", "filesync", "console"] {
            project.until_healthy(program);
            is_confined(project, program);
        }
        let (_, text) = run(Command::new("curl").args(["-sL", &format!("http://{}/console/", project.console)]));
        assert!(text.contains("sftp-ha console") && text.contains("password"), "{text}");
    }
    let mut visitor = Visitor::at(&pair.master.console.to_string(), "/console/");
    assert_eq!(visitor.log_in(ADMIN).header("location"), "/console/");
    within(PATIENCE, "the console says that all is safe", || {
        visitor.get("/console/").text.contains("Safe: everything acknowledged is on both machines")
    });
    within(PATIENCE, "the console has read the log", || visitor.get("/console/records").text.contains("/first"));
    pair.master.until_healthy("stresstest");
    is_confined(&pair.master, "stresstest");
    let page = format!("http://{}/stress/", pair.master.stress);
    let (_, text) = run(Command::new("curl").args(["-sL", &page]));
    assert!(text.contains("<form") && text.contains("password"), "{text}");
    let page = |project: &Project, path: &str| {
        let (_, text) = run(Command::new("curl").args(["-s", &format!("http://{}{path}", project.health)]));
        text
    };
    assert_eq!(
        (page(&pair.master, "/primary"), page(&pair.standby, "/primary")),
        ("primary\n".into(), "not primary\n".into())
    );
    assert!(page(&pair.standby, "/metrics").contains("sftpd_"));
    let keys = host_keys(pair.master.sftp);
    assert!(keys.len() == 2 && host_keys(pair.standby.sftp) == keys, "a client that fails over sees the same keys");
    for project in [&pair.master, &pair.standby] {
        project.down();
        project.up_all();
    }
    assert_eq!((host_keys(pair.master.sftp), host_keys(pair.standby.sftp)), (keys.clone(), keys));
    assert_eq!(get(pair.master.sftp, pair.folder.path(), "first").as_deref(), Some("first"));
    Sftp::new(pair.master.sftp, ADMIN).run("ls users.yaml\n").expect_ok();
    pair.put("second");
    pair.until_followed("second");
}

/// What the compose files promise of every container.
fn is_confined(project: &Project, program: &str) {
    let (_, status) = project.exec(program, &["cat", "/proc/1/status"]);
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    assert_eq!(field("CapEff:"), "0000000000000000", "{program}");
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1".into(), "2".into()), "{program}");
    assert_eq!(field("Uid:").split_whitespace().next(), Some("10001"), "{program}");
    let (ok, text) = project.exec(program, &["touch", "/usr/local/bin/x"]);
    assert!(!ok && text.contains("Read-only file system"), "{text}");
    let limits = project.inspect(program, "{{.HostConfig.Memory}} {{.HostConfig.LogConfig.Config}}");
    assert!(!limits.starts_with('0') && limits.contains("max-size:10m"), "{limits}");
    for folder in [("filesync", "/data"), ("console", "/data"), ("console", "/logs"), ("console", "/tls")] {
        if program == folder.0 {
            let (ok, text) = project.exec(program, &["touch", &format!("{}/x", folder.1)]);
            assert!(!ok && text.contains("Read-only file system"), "{text}");
        }
    }
}

#[test]
fn whatever_happens_to_the_standby_the_master_takes_uploads_and_they_arrive_afterwards() {
    if !has_engine() {
        return;
    }
    let pair = Pair::start(&[]);
    let (master, standby) = (pair.master.container("filesync"), pair.standby.container("sftpd"));
    let network = pair.master.network();
    pair.put("before");
    pair.until_followed("before");

    assert!(docker(&["network", "disconnect", &network, &master]).0);
    pair.put("while-cut");
    pair.master.until_unhealthy("filesync");
    assert!(pair.master.is_healthy("sftpd"), "the master alone is well");
    assert!(docker(&["network", "connect", &network, &master]).0);
    pair.until_followed("while-cut");

    assert!(docker(&["pause", &standby]).0);
    pair.put("while-paused");
    assert!(docker(&["unpause", &standby]).0);
    pair.until_followed("while-paused");

    assert!(docker(&["kill", &standby]).0);
    pair.put("while-dead");
    assert!(docker(&["start", &standby]).0);
    pair.until_followed("while-dead");

    let cut = OneWay::cut(&pair.master);
    pair.put("while-half-cut");
    if cut.is_some() {
        let is_well = || pair.master.exec("filesync", &["filesync", "healthcheck"]).0;
        within(PATIENCE, "filesync sees that nothing is answered", || !is_well());
    }
    drop(cut);
    pair.until_followed("while-half-cut");
}

/// What comes from a master's filesync to this machine is lost; what goes there arrives.
struct OneWay(String);

impl OneWay {
    fn cut(master: &Project) -> Option<OneWay> {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let address = master.inspect("filesync", format);
        let cut = Command::new("iptables").args(["-I", "INPUT", "-s", &address, "-j", "DROP"]).output();
        if cut.is_ok_and(|output| output.status.success()) {
            return Some(OneWay(address));
        }
        println!("SKIPPED: no right to cut one way (iptables)");
        None
    }
}

impl Drop for OneWay {
    fn drop(&mut self) {
        let _ = Command::new("iptables").args(["-D", "INPUT", "-s", &self.0, "-j", "DROP"]).output();
    }
}

#[test]
fn a_killed_program_is_started_again_and_nothing_acknowledged_is_lost() {
    if !has_engine() {
        return;
    }
    let pair = Pair::start(&[]);
    for (project, program) in [(&pair.master, "sftpd"), (&pair.master, "filesync"), (&pair.standby, "sftpd")] {
        let name = format!("before-{program}-{}", project.sftp.port());
        pair.put(&name);
        let restarts = || project.inspect(program, "{{.RestartCount}}").parse::<u32>().unwrap();
        let before = restarts();
        let process = project.inspect(program, "{{.State.Pid}}");
        if !run(Command::new("kill").args(["-9", &process])).0.success() {
            println!("SKIPPED: no right to kill a container's process");
            return;
        }
        within(PATIENCE, "the engine starts it again", || restarts() > before);
        project.until_healthy(program);
        pair.until_followed(&name);
        assert_eq!(get(pair.master.sftp, pair.folder.path(), &name).as_deref(), Some(name.as_str()));
    }
}

#[test]
fn a_master_that_is_started_with_nothing_says_what_the_standby_needs_and_who_may_log_in() {
    if !has_engine() {
        return;
    }
    let master = Project::new("master", &[]);
    master.up_all();
    let said = |text: &str| {
        let logs = master.logs("sftpd");
        logs.lines().find_map(|line| line.split_once(text).map(|(_, rest)| rest.trim().to_owned()))
    };
    eventually("the secret and the password are shown", || {
        said("PAIR_SECRET=").is_some() && said("password of admin").is_some()
    });
    let password = said("password of admin").unwrap();
    let password = password.rsplit(": ").next().unwrap();
    Sftp::new(master.sftp, ("admin", password)).run("ls users.yaml\n").expect_ok();
    let standby = Project::new("standby", &[]);
    standby.up_unwell();
    eventually("a standby without the secret says so", || {
        standby.logs("sftpd").contains("this machine has no PAIR_SECRET")
    });
    assert!(!standby.is_healthy("sftpd"));
    let asked = || master.exec("filesync", &["filesync", "healthcheck"]);
    eventually("filesync says what it lacks", || !asked().0 && asked().1.contains("no standby is configured"));
}

#[test]
fn folders_of_this_machine_keep_the_modes_and_group_that_the_settings_ask_for() {
    if !has_engine() || !rustix::process::geteuid().is_root() {
        println!("SKIPPED: folders are given away by root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    open_to_all(folder.path());
    let at = |name: &str| folder.path().join(name);
    for name in ["data", "state", "logs"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    let users = at("users.yaml");
    std::fs::write(&users, SEED).unwrap();
    let paths = ["data", "state", "logs", "users.yaml"].map(|name| at(name).to_str().unwrap().to_owned());
    let settings = [
        ("DATA", paths[0].as_str()),
        ("STATE", &paths[1]),
        ("LOGS", &paths[2]),
        ("USERS", &paths[3]),
        ("RUN_AS", "12345:500"),
        ("FILE_MODE", "0640"),
        ("FOLDER_MODE", "2750"),
    ];
    let master = Project::new("master", &settings);
    master.up_unwell();
    let refused = || master.logs("sftpd");
    eventually("the wrong owner is named", || refused().contains("belongs to 0:0, and this program runs as 12345:500"));
    assert!(refused().contains("state folder /state") && refused().contains("RUN_AS"), "{}", refused());
    for name in ["data", "state", "logs"] {
        std::os::unix::fs::chown(at(name), Some(12345), Some(500)).unwrap();
    }
    master.until_healthy("sftpd");
    let client = Sftp::new(master.sftp, USER);
    let out = at("out");
    std::fs::write(&out, b"content").unwrap();
    std::fs::set_permissions(&out, PermissionsExt::from_mode(0o777)).unwrap();
    client.run(&format!("mkdir in\nput -p {} in/file\nchmod 777 in/file\nchmod 700 in\n", out.display())).expect_ok();
    let found = |path: &str| {
        let data = std::fs::metadata(at("data/EPuser").join(path)).unwrap();
        (data.uid(), data.gid(), data.mode() & 0o7777)
    };
    assert_eq!(found("in/file"), (12345, 500, 0o640));
    assert_eq!((found("in"), found("")), ((12345, 500, 0o2750), (12345, 500, 0o2750)));
}

#[test]
fn a_full_volume_refuses_uploads_with_a_sentence_and_keeps_what_was_acknowledged() {
    if !has_engine() || !rustix::process::geteuid().is_root() {
        println!("SKIPPED: a small disk is mounted by root");
        return;
    }
    let disk = SmallDisk::mount();
    let folder = tempfile::tempdir().unwrap();
    open_to_all(folder.path());
    let users = folder.path().join("users.yaml");
    std::fs::write(&users, SEED).unwrap();
    let settings = [("DATA", disk.path()), ("USERS", users.to_str().unwrap())];
    let master = Project::new("master", &settings);
    master.up();
    put(master.sftp, folder.path(), "kept");
    let large = folder.path().join("large");
    std::fs::write(&large, vec![7; 64 << 20]).unwrap();
    assert!(!Sftp::new(master.sftp, USER).run(&format!("put {} large\n", large.display())).ok);
    eventually("the log says why", || master.logs("sftpd").contains("the volume is full"));
    assert_eq!(get(master.sftp, folder.path(), "kept").as_deref(), Some("kept"));
    put(master.sftp, folder.path(), "afterwards");
    // Somebody else fills the disk: an upload would fail now, and health says so.
    let filler = Path::new(disk.path()).join("filler");
    assert!(std::fs::write(&filler, vec![7; 64 << 20]).is_err());
    let is_well = || master.exec("sftpd", &["sftpd", "healthcheck"]).0;
    within(PATIENCE, "health says that the disk is full", || !is_well());
    std::fs::remove_file(filler).unwrap();
    within(PATIENCE, "health says that there is room", is_well);
}

/// A disk of 32 MB in memory, mounted while this lives.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> SmallDisk {
        let folder = tempfile::tempdir().unwrap();
        let options = "size=32m,mode=0750,uid=10001,gid=10001";
        let mut mount = Command::new("mount");
        let (status, text) = run(mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder.path()));
        assert!(status.success(), "{text}");
        SmallDisk(folder)
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).output();
    }
}

#[test]
fn a_drill_goes_there_and_back_between_two_compose_projects_and_the_standby_takes_over_from_a_dead_master() {
    if !has_engine() {
        return;
    }
    let (folder, secret) = (tempfile::tempdir().unwrap(), new_secret());
    let users = folder.path().join("users.yaml");
    std::fs::write(&users, SEED).unwrap();
    open_to_all(folder.path());
    std::fs::set_permissions(&users, PermissionsExt::from_mode(0o644)).unwrap();
    let settings = [("PAIR_SECRET", secret.as_str()), ("USERS", users.to_str().unwrap())];
    let mut standby = Project::new("standby", &settings);
    let mut master = Project::new("master", &settings);
    let reached = |project: &Project| format!("{}:{}", this_machine(), project.sftp.port());
    // As the README says: each knows the other.
    standby.set("STANDBYS", &reached(&master));
    master.set("STANDBYS", &reached(&standby));
    standby.up_all();
    master.up_all();
    master.until_healthy("filesync");
    let pair = Pair { master, standby, folder };
    pair.put("before");
    pair.until_followed("before");
    let status = |project: &Project| project.exec("sftpd", &["sftpd", "status"]).1;
    within(PATIENCE, "the standby knows how far it has come", || {
        status(&pair.standby).contains("has the master's changes up to")
    });
    let (done, text) = pair.master.exec("sftpd", &["sftpd", "drill"]);
    assert!(done && text.contains("drill done") && text.contains("and back"), "{text}");
    println!("{text}");
    pair.put("after");
    pair.until_followed("after");
    assert!(docker(&["kill", &pair.master.container("sftpd"), &pair.master.container("filesync")]).0);
    let (done, text) = pair.standby.exec("sftpd", &["sftpd", "promote"]);
    assert!(done, "{text}");
    put(pair.standby.sftp, pair.folder.path(), "promoted");
    pair.master.up_all();
    within(PATIENCE, "the old master is a standby", || status(&pair.master).starts_with("standby of pair"));
    within(PATIENCE, "it has the new master's files", || {
        get(pair.master.sftp, pair.folder.path(), "promoted").as_deref() == Some("promoted")
    });
}
