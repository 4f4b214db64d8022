//! The compose files as they are shipped, on the engine of this machine: a project with its own ports and settings.
//!
//! The image is the Dockerfile's last stage around the programs that cargo has built here; what it compiles itself is built
//! by `make image`. Whatever a test started ends with it, also when it fails; the image stays until the next one is made.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use crate::program::{binary, has_program, run};
use crate::wait::within;

/// Containers are slow to start on small machines.
const PATIENCE: Duration = Duration::from_secs(90);

/// What is in the image.
const PROGRAMS: [&str; 4] = ["sftpd", "filesync", "stresstest", "console"];
/// By this the images of tests are known.
const LABEL: &str = "sftp-ha.test=image";

/// The folder of the compose files.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Whether an engine answers and compose is there; says so where not.
pub fn has_engine() -> bool {
    let answers = Command::new("docker").arg("version").output().is_ok_and(|output| output.status.success());
    if !answers {
        println!("SKIPPED: no Docker engine answers");
        return false;
    }
    has_plugin() || has_program("docker-compose")
}

/// Whether compose is docker's own subcommand here and no program of its own.
fn has_plugin() -> bool {
    let is_there = |command: &mut Command| command.arg("version").output().is_ok_and(|output| output.status.success());
    !is_there(&mut Command::new("docker-compose")) && is_there(Command::new("docker").arg("compose"))
}

/// docker-compose, by whichever name.
fn compose() -> Command {
    static HAS_PLUGIN: LazyLock<bool> = LazyLock::new(has_plugin);
    let mut command = Command::new(if *HAS_PLUGIN { "docker" } else { "docker-compose" });
    command.args(HAS_PLUGIN.then_some("compose"));
    command
}

/// Runs docker and gives what it printed; the error too.
pub fn docker(arguments: &[&str]) -> (bool, String) {
    let (status, text) = run(Command::new("docker").args(arguments));
    (status.success(), text)
}

/// The image of the programs as they are now. All tests share it; that of an earlier build goes when the next is made.
fn image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let text = std::fs::read_to_string(root().join("docker/Dockerfile")).expect("the Dockerfile");
        let mut hasher = blake3::Hasher::new();
        hasher.update(text.as_bytes());
        for program in PROGRAMS {
            hasher.update(&std::fs::read(binary(program)).expect("the program"));
        }
        let name = format!("sftp-ha:test-{}", &hasher.finalize().to_hex()[..16]);
        let lock = std::fs::File::create(binary("sftpd").with_extension("image-lock")).expect("a file");
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("the lock");
        sweep();
        if !docker(&["image", "inspect", &name]).0 {
            let (_, before) = docker(&["images", "--quiet", "--filter", &format!("label={LABEL}")]);
            before.lines().for_each(|image| drop(docker(&["rmi", "--force", image])));
            build(&text, &name);
        }
        name
    })
}

/// Removes what tests have left that were killed.
fn sweep() {
    for (kind, list, remove) in [
        ("container", &["ps", "--all"][..], &["rm", "--force"][..]),
        ("volume", &["volume", "ls"], &["volume", "rm"]),
        ("network", &["network", "ls"], &["network", "rm"]),
    ] {
        let format = if kind == "container" { "{{.Names}}" } else { "{{.Name}}" };
        let (_, names) = docker(&[list, &["--format", format]].concat());
        for name in names.lines() {
            let owner: String =
                name.strip_prefix("sftpha").unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
            if !owner.is_empty() && !Path::new("/proc").join(owner).exists() {
                drop(docker(&[remove, &[name]].concat()));
            }
        }
    }
}

fn build(dockerfile: &str, name: &str) {
    let (status, text) = run(&mut Command::new(root().join("tests/base-image")));
    assert!(status.success(), "{text}");
    let binaries = format!("{name}-binaries");
    import_binaries(&binaries);
    // Without the stage that compiles: the old builder would run it though nothing comes of it.
    let begin = dockerfile.find("FROM ${RUST_IMAGE}").expect("the stage that compiles");
    let end = dockerfile.find("# hadolint ignore").expect("the stage after it");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("Dockerfile");
    std::fs::write(&file, [&dockerfile[..begin], &dockerfile[end..]].concat()).expect("the file");
    let mut build = Command::new("docker");
    build.args(["build", "--quiet", "--label", LABEL, "--tag", name, "--build-arg"]);
    build.arg(format!("BINARIES={binaries}")).arg("--file").arg(&file).arg(root());
    let (status, text) = run(&mut build);
    drop(docker(&["rmi", "--force", &binaries]));
    assert!(status.success(), "{text}");
}

/// The programs as an image, without what debuggers read.
fn import_binaries(name: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    std::fs::create_dir(&out).expect("a folder");
    for program in PROGRAMS {
        let mut strip = Command::new("strip");
        let (status, text) = run(strip.arg("--strip-debug").arg("-o").arg(out.join(program)).arg(binary(program)));
        assert!(status.success(), "{text}");
    }
    let mut tar = Command::new("tar");
    tar.args(["--create", "--owner=0", "--group=0", "--directory"]).arg(folder.path()).arg("out");
    let mut tar = tar.stdout(Stdio::piped()).spawn().expect("tar");
    let archive = tar.stdout.take().expect("piped");
    let import = Command::new("docker").args(["import", "-", name]).stdin(archive).output().expect("docker");
    assert!(tar.wait().expect("tar").success() && import.status.success(), "{import:?}");
}

/// A port that is free now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// One machine: a compose file, started under a project name of its own with an `.env` of its own.
pub struct Project {
    role: &'static str,
    name: String,
    env: PathBuf,
    settings: Vec<(String, String)>,
    _folder: tempfile::TempDir,
    /// Where clients connect.
    pub sftp: SocketAddr,
    /// sftpd's health pages.
    pub health: SocketAddr,
    /// The console.
    pub console: SocketAddr,
    /// The stress page of a master.
    pub stress: SocketAddr,
}

impl Project {
    /// The master's or the standby's file, not started yet.
    pub fn new(role: &'static str, settings: &[(&str, &str)]) -> Project {
        let folder = tempfile::tempdir().expect("a folder");
        let name = format!("sftpha{}{role}{}", std::process::id(), free_port());
        let [sftp, health, console, stress] = [(); 4].map(|()| free_port());
        let names = match role {
            "master" => &["SFTP_PORT", "HEALTH_PORT", "FILESYNC_HEALTH_PORT", "CONSOLE_PORT", "STRESS_PORT"][..],
            _ => &["STANDBY_SFTP_PORT", "STANDBY_HEALTH_PORT", "STANDBY_FILESYNC_HEALTH_PORT", "STANDBY_CONSOLE_PORT"],
        };
        let ports = names.iter().zip([sftp, health, free_port(), console, stress]);
        let mut all: Vec<(String, String)> = ports.map(|(key, port)| (key.to_string(), port.to_string())).collect();
        all.extend(settings.iter().map(|(key, value)| (key.to_string(), value.to_string())));
        all.push(("IMAGE".into(), image().into()));
        let here = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let env = folder.path().join(".env");
        let project = Project {
            role,
            name,
            env,
            settings: all,
            _folder: folder,
            sftp: here(sftp),
            health: here(health),
            console: here(console),
            stress: here(stress),
        };
        project.write_env();
        project
    }

    /// Changes a setting, for the next start.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.to_owned()));
        self.write_env();
    }

    /// The shipped example, filled in.
    fn write_env(&self) {
        let mut text = std::fs::read_to_string(root().join(".env.example")).expect("the example");
        for (key, value) in &self.settings {
            let empty = format!("\n{key}=\n");
            assert!(text.contains(&empty), "{key} is not in .env.example");
            text = text.replace(&empty, &format!("\n{key}={value}\n"));
        }
        std::fs::write(&self.env, text).expect("the file");
    }

    /// docker-compose with this project's file.
    pub fn compose(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = compose();
        // What the caller's own environment says would beat the file.
        for (key, _) in &self.settings {
            command.env_remove(key);
        }
        command.current_dir(root()).arg("--env-file").arg(&self.env);
        command.args(["-p", &self.name, "-f", &format!("docker-compose-{}.yaml", self.role)]).args(arguments);
        let (status, text) = run(&mut command);
        (status.success(), text)
    }

    /// Starts it; comes back when its sftpd is healthy.
    #[track_caller]
    pub fn up(&self) {
        self.up_unwell();
        self.until_healthy("sftpd");
    }

    /// Starts it, whatever comes of it.
    #[track_caller]
    pub fn up_unwell(&self) {
        let (ok, text) = self.compose(&["up", "-d", "--no-build", &format!("{}-sftpd", self.role)]);
        assert!(ok, "{text}");
    }

    /// Starts the rest of it.
    #[track_caller]
    pub fn up_all(&self) {
        let (ok, text) = self.compose(&["up", "-d", "--no-build"]);
        assert!(ok, "{text}");
        self.until_healthy("sftpd");
    }

    /// The container of a program.
    #[track_caller]
    pub fn container(&self, program: &str) -> String {
        // By the labels that compose gives: asking compose itself takes a second.
        let (project, service) = (&self.name, format!("{}-{program}", self.role));
        let labels = [format!("project={project}"), format!("service={service}")];
        let filters = labels.map(|label| format!("--filter=label=com.docker.compose.{label}"));
        let (ok, text) = docker(&["ps", "--all", "--quiet", "--no-trunc", &filters[0], &filters[1]]);
        assert!(ok && text.trim().len() == 64, "no container of {program}: {text}");
        text.trim().to_owned()
    }

    /// What the engine says of a container.
    #[track_caller]
    pub fn inspect(&self, program: &str, format: &str) -> String {
        let (ok, text) = docker(&["inspect", "--format", format, &self.container(program)]);
        assert!(ok, "{text}");
        text.trim().to_owned()
    }

    /// Whether a program's container is healthy.
    pub fn is_healthy(&self, program: &str) -> bool {
        self.inspect(program, "{{.State.Health.Status}}") == "healthy"
    }

    /// Waits until it is.
    #[track_caller]
    pub fn until_healthy(&self, program: &str) {
        within(PATIENCE, &format!("{program} of the {} is healthy", self.role), || self.is_healthy(program));
    }

    /// Waits until the engine says that it is not. Failures in a container's first minute do not count for that.
    #[track_caller]
    pub fn until_unhealthy(&self, program: &str) {
        let is_unhealthy = || self.inspect(program, "{{.State.Health.Status}}") == "unhealthy";
        within(2 * PATIENCE, &format!("{program} of the {} is unhealthy", self.role), is_unhealthy);
    }

    /// Runs a program in a container and gives what it printed.
    pub fn exec(&self, program: &str, arguments: &[&str]) -> (bool, String) {
        let container = self.container(program);
        docker(&[&["exec", container.as_str()], arguments].concat())
    }

    /// Everything that a program has printed.
    pub fn logs(&self, program: &str) -> String {
        self.compose(&["logs", "--no-color", &format!("{}-{program}", self.role)]).1
    }

    /// The network that its containers are in.
    pub fn network(&self) -> String {
        format!("{}_default", self.name)
    }

    /// Ends it and keeps its volumes.
    #[track_caller]
    pub fn down(&self) {
        let (ok, text) = self.compose(&["down"]);
        assert!(ok, "{text}");
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for program in PROGRAMS {
                println!("---- {program} of the {}:\n{}", self.role, self.logs(program));
            }
        }
        // What a test has paused cannot be stopped.
        let of_project = format!("label=com.docker.compose.project={}", self.name);
        let (_, paused) = docker(&["ps", "--quiet", "--filter", "status=paused", "--filter", &of_project]);
        paused.lines().for_each(|container| drop(docker(&["unpause", container])));
        let _ = self.compose(&["down", "--volumes", "--timeout", "5"]);
    }
}
