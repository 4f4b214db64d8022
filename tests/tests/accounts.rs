//! users.yaml, uploaded by an admin: accepted or refused, never half, and no plain password on the disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use tempfile::TempDir;
use tests::{ADMIN, Machine, SEED, USER, eventually};

/// The seed with one more user, its other passwords masked as an admin finds them in the stored file.
fn with_alice() -> String {
    masked_seed() + "  2:\n    name: alice # new\n    password: \"wonder land\"\n"
}

fn masked_seed() -> String {
    SEED.replace("35oi3g4l3he", "^^^^^^^^^^^").replace("1234", "^^^^")
}

fn upload(machine: &Machine, content: &str, name: &str) -> tests::Outcome {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("upload");
    std::fs::write(&file, content).unwrap();
    machine.sftp(ADMIN).run(&format!("put {} {name}\n", file.display()))
}

/// Whether a text stands in any file of a machine.
fn is_anywhere(text: &str, folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder {
            return is_anywhere(text, &path);
        }
        std::fs::read(&path).is_ok_and(|content| content.windows(text.len()).any(|part| part == text.as_bytes()))
    })
}

#[test]
fn an_uploaded_user_logs_in_at_once() {
    let master = Machine::master().start();
    upload(&master, &with_alice(), "users.yaml").expect_ok();
    assert!(master.sftp(("alice", "wonder land")).can_log_in());
    assert!(master.sftp(USER).can_log_in(), "a mask leaves the password as it was");
    let result = master.result();
    assert!(result.starts_with("ACCEPTED ") && result.contains("\n+ alice\n"), "{result}");
}

#[test]
fn no_plain_password_reaches_the_disk_and_the_file_keeps_its_size_and_comments() {
    let master = Machine::master().start();
    upload(&master, &with_alice(), "users.yaml").expect_ok();
    let stored = std::fs::read_to_string(master.path("admin", "users.yaml")).unwrap();
    assert_eq!(stored, with_alice().replace("wonder land", "^^^^^^^^^^^"));
    for password in ["wonder land", "35oi3g4l3he"] {
        assert!(!is_anywhere(password, master.data()) && !is_anywhere(password, &master.state()), "{password}");
    }
}

#[test]
fn a_wrong_file_is_refused_with_line_and_reason_and_changes_nothing() {
    let master = Machine::master().start();
    let before = std::fs::read_to_string(master.path("admin", "users.yaml")).unwrap();
    let cases = [
        (with_alice().replace("alice", "EPuser"), "users.yaml:10:11: two accounts have the name \"EPuser\""),
        (
            with_alice().replace("password: \"w", "pasword: \"w"),
            "users.yaml:11:5: user 2: unknown field: did you mean `password`?",
        ),
        ("users:\n  1: {name: a, password: b}\n".into(), "no admin is left"),
        ("users: [".into(), "users.yaml:"),
        (String::new(), "missing field `users`"),
        ("#".repeat(5 * 1024 * 1024), "larger than 4194304 bytes"),
    ];
    for (content, reason) in cases {
        assert!(!upload(&master, &content, "users.yaml").ok, "{reason}");
        assert_eq!(std::fs::read_to_string(master.path("admin", "users.yaml")).unwrap(), before);
        assert!(master.sftp(USER).can_log_in() && !master.sftp(("alice", "wonder land")).can_log_in());
        let result = master.result();
        assert!(result.starts_with("REFUSED ") && result.contains(reason), "{reason}: {result}");
    }
}

#[test]
fn an_upload_under_another_name_waits_in_memory_for_its_rename() {
    let master = Machine::master().start();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("upload");
    std::fs::write(&file, with_alice()).unwrap();
    // WinSCP's way: a temporary name, the target removed, the rename.
    let batch = format!(
        "put {} users.yaml.filepart\nls -l\nrm users.yaml\nrename users.yaml.filepart users.yaml\nls -l\n",
        file.display()
    );
    let listing = master.sftp(ADMIN).run(&batch).expect_ok();
    assert!(listing.contains("users.yaml.filepart"), "{listing}");
    assert!(!is_anywhere("wonder land", master.data()));
    assert!(master.sftp(("alice", "wonder land")).can_log_in());
    let names: Vec<_> =
        std::fs::read_dir(master.path("admin", "")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    std::fs::write(&file, with_alice().replace("alice", "EPuser")).unwrap();
    let batch = format!("put {} users.yaml.filepart\nrename users.yaml.filepart users.yaml\n", file.display());
    assert!(!master.sftp(ADMIN).run(&batch).ok, "a wrong file is refused at the rename");
    assert!(master.sftp(("alice", "wonder land")).can_log_in());
}

#[test]
fn users_yaml_cannot_be_removed_renamed_linked_or_changed_in_place() {
    let master = Machine::master().start();
    let before = std::fs::read_to_string(master.path("admin", "users.yaml")).unwrap();
    let commands = [
        "rm users.yaml",
        "rename users.yaml other",
        "ln users.yaml other",
        "mkdir users.yaml.d",
        "symlink /x users.yaml.link",
        "put /dev/null users.yaml.result",
        "rm users.yaml.result",
    ];
    for command in commands {
        assert!(!master.sftp(ADMIN).run(&format!("{command}\n")).ok, "{command}");
    }
    assert_eq!(std::fs::read_to_string(master.path("admin", "users.yaml")).unwrap(), before);
    master.sftp(ADMIN).run("chmod 600 users.yaml\n").expect_ok();
}

#[test]
fn a_try_changes_nothing_and_tells_what_would_happen() {
    let master = Machine::master().start();
    upload(&master, &with_alice(), "users.yaml.check").expect_ok();
    assert!(master.result().starts_with("WOULD BE ACCEPTED") && master.result().contains("+ alice"));
    assert!(!master.sftp(("alice", "wonder land")).can_log_in());
    assert!(!upload(&master, "users: 7\n", "users.yaml.check").ok);
    assert!(master.result().starts_with("WOULD BE REFUSED"), "{}", master.result());
    let listing = master.sftp(ADMIN).run("ls -l\n").expect_ok();
    assert!(!listing.contains("check"), "a refused try is not found by clients that look: {listing}");
}

#[test]
fn a_password_in_the_wrong_place_is_repeated_nowhere() {
    let master = Machine::master().start();
    assert!(!upload(&master, &(with_alice() + "  bob: s3cret\n"), "users.yaml").ok);
    assert!(master.result().contains("user bob: something else stands here, expected a user"), "{}", master.result());
    assert!(!is_anywhere("s3cret", master.data()));
    assert!(!master.program().lines().iter().any(|line| line.contains("s3cret")));
}

#[test]
fn a_waiting_upload_is_listed_as_a_file_and_protects_users_yaml_from_other_sessions() {
    let master = Machine::master().start();
    upload(&master, &with_alice(), "users.yaml.new").expect_ok();
    let listing = master.sftp(ADMIN).run("ls -l\n").expect_ok();
    let line = listing.lines().find(|line| line.ends_with("users.yaml.new")).unwrap();
    assert!(line.starts_with("-rw-------") && line.contains(&with_alice().len().to_string()), "{line}");
    assert!(!master.sftp(ADMIN).run("rm users.yaml\n").ok, "only the session that uploads may work around");
    master.sftp(ADMIN).run("rename users.yaml.new users.yaml\n").expect_ok();
    assert!(master.sftp(("alice", "wonder land")).can_log_in());
}

#[test]
fn many_uploads_in_a_row_are_all_kept() {
    let master = Machine::master().start();
    for number in 0..40 {
        let users = masked_seed() + &format!("  2: {{name: user{number}, password: secret}}\n");
        upload(&master, &users, "users.yaml").expect_ok();
        let stored = std::fs::read_to_string(master.path("admin", "users.yaml")).unwrap();
        assert!(stored.contains(&format!("user{number},")), "upload {number} was undone: {stored}");
    }
    let lines = master.program().lines();
    assert!(
        !lines.iter().any(|line| line.contains("another hand")),
        "its own changes are not another hand's: {lines:?}"
    );
}

#[test]
fn a_users_yaml_that_cannot_be_stored_changes_nothing() {
    let master = Machine::master().start();
    let file = master.path("admin", "users.yaml");
    std::fs::rename(&file, master.path("admin", "aside")).unwrap();
    std::fs::create_dir(&file).unwrap();
    upload(&master, &with_alice(), "users.yaml.new").expect_ok();
    assert!(!master.sftp(ADMIN).run("rename users.yaml.new users.yaml\n").ok);
    assert!(!master.sftp(("alice", "wonder land")).can_log_in());
    assert!(master.sftp(USER).can_log_in());
    eventually("the result says no", || master.result().starts_with("REFUSED "));
}

#[test]
fn a_demoted_admin_loses_the_session_that_was_one() {
    let master =
        Machine::master().users(&(SEED.to_owned() + "  2: {name: boss, password: second, admin: true}\n")).start();
    let mut session = master.sftp(("boss", "second")).start_endless_upload("endless");
    // A connection alone may log in after the change, with the rights of then.
    master.wait_for_activity("the login", |record| record.sender == "login" && record.username == "boss");
    upload(&master, &(masked_seed() + "  2: {name: boss, password: ^^^^, home: elsewhere}\n"), "users.yaml")
        .expect_ok();
    session.wait_for_line("given other rights");
}

#[test]
fn a_password_is_rotated_by_writing_it_into_the_stored_file() {
    let master = Machine::master().start();
    upload(&master, &masked_seed().replace("\"^^^^\"", "next"), "users.yaml").expect_ok();
    assert!(master.result().contains("~ EPuser: new password"), "{}", master.result());
    assert!(master.sftp(("EPuser", "next")).can_log_in() && !master.sftp(USER).can_log_in());
}

#[test]
fn a_change_by_another_hand_on_the_volume_is_noticed_checked_and_masked() {
    let master = Machine::master().start();
    let file = master.path("admin", "users.yaml");
    std::fs::write(&file, with_alice()).unwrap();
    eventually("alice can log in", || master.sftp(("alice", "wonder land")).can_log_in());
    eventually("the password is masked", || !is_anywhere("wonder land", master.data()));
    std::fs::write(&file, "users: {").unwrap();
    eventually("the result says no", || master.result().starts_with("REFUSED "));
    assert!(master.sftp(("alice", "wonder land")).can_log_in());
}

#[test]
fn a_users_yaml_that_another_hand_removed_is_written_anew() {
    let master = Machine::master().start();
    upload(&master, &with_alice(), "users.yaml").expect_ok();
    std::fs::remove_file(master.path("admin", "users.yaml")).unwrap();
    eventually("it is back", || master.path("admin", "users.yaml").exists());
    assert!(master.sftp(("alice", "wonder land")).can_log_in() && master.sftp(USER).can_log_in());
    assert!(std::fs::read_to_string(master.path("admin", "users.yaml")).unwrap().contains("alice"));
}

#[test]
fn the_last_good_accounts_outlive_a_restart_with_a_broken_file() {
    let mut master = Machine::master().start();
    upload(&master, &with_alice(), "users.yaml").expect_ok();
    master.kill();
    std::fs::write(master.path("admin", "users.yaml"), "broken: [").unwrap();
    master.start();
    assert!(master.sftp(("alice", "wonder land")).can_log_in());
}

#[test]
fn a_generated_password_is_shown_once_and_stored_nowhere() {
    let master = Machine::master().users("users: {A: {name: admin, password: generate, admin: true}}\n").start();
    let shown = master.program().lines().into_iter().find(|line| line.contains("shown only this once")).unwrap();
    let password = shown.rsplit(' ').next().unwrap();
    assert!(master.sftp(("admin", password)).can_log_in());
    assert!(!is_anywhere(password, master.data()) && !is_anywhere(password, &master.state()));
}

#[test]
fn an_account_without_admin_has_no_special_users_yaml() {
    let master = Machine::master().start();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("upload");
    std::fs::write(&file, "anything").unwrap();
    master.sftp(USER).run(&format!("put {} users.yaml\nrm users.yaml\n", file.display())).expect_ok();
    assert!(master.sftp(ADMIN).can_log_in());
}
