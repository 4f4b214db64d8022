//! Each thing that can be wrong, alone: what the sentence says then.

use std::sync::Arc;

use filesync::remote::Grade;
use filesync::status::Report;
use filesync::store::{Held, Verified};
use pair::control::{Peer, Standby};
use pair::epoch::{Epoch, Reached};
use pair::extension::Hello;
use pair::node::Phase;

use super::*;
use crate::situation::Waiting;

const NOW_MS: i64 = 1_795_301_300_000;
const NAME: &str = "b:2222";

fn epoch() -> Epoch {
    Epoch { counter: 3, id: "e".into(), parent: None, from: None }
}

fn hello(role: Role) -> Hello {
    Hello {
        node: "bbbb".into(),
        role,
        phase: Some(if role == Role::Master { Phase::Master } else { Phase::Standby }),
        epoch: Some(epoch()),
        reached: Some(Reached { epoch: "e".into(), run: "r".into(), seq: 90 }),
        accounts_generation: 7,
        volume_bytes: Some(1000),
        volume_free_bytes: Some(600),
        ..Hello::default()
    }
}

fn status(role: Role) -> Status {
    let other = if role == Role::Master { Role::Standby } else { Role::Master };
    let peer = Peer {
        name: NAME.into(),
        hello: Some(hello(other)),
        heard_ms: Some(300),
        problem: None,
        has_our_host_keys: true,
    };
    let standby = Standby { name: NAME.into(), seq: Some(90), accounts_generation: Some(7), problem: None };
    Status {
        role,
        node: "aaaa".into(),
        pair: "p".into(),
        version: "1".into(),
        refuses_uploads: None,
        since: "2026-11-22T10:00:00Z".into(),
        connections: 1,
        accounts: 2,
        accounts_generation: 7,
        volume_bytes: 1000,
        volume_free_bytes: 500,
        last_seq: 90,
        phase: if role == Role::Master { Phase::Master } else { Phase::Standby },
        epoch: Some(3),
        stopped: None,
        reached: (role == Role::Standby).then_some(90),
        divergent: 0,
        peers: vec![peer],
        standbys: if role == Role::Master { vec![standby] } else { Vec::new() },
        activity_lost: 0,
        is_volatile: false,
    }
}

fn report() -> Report {
    let now_s = NOW_MS / 1000;
    Report {
        standby: NAME.into(),
        at_s: now_s,
        grade: Some(Grade::Pair),
        connected: true,
        followed: true,
        settled_at_s: Some(now_s - 60),
        ..Report::default()
    }
}

fn well(role: Role) -> Situation {
    let mirror = Mirror { name: NAME.into(), report: Some(report()), ..Mirror::default() };
    Situation {
        looked_ms: Some(NOW_MS),
        is_pair: true,
        status: Some(Arc::new(status(role))),
        mirrors: if role == Role::Master { vec![mirror] } else { Vec::new() },
        ..Situation::default()
    }
}

/// A situation that lasts for an hour.
fn lasting(mut situation: Situation) -> Judgement {
    situation.since = since(&situation, NOW_MS - 3_600_000);
    judge(&situation, NOW_MS)
}

fn of_status(role: Role, change: impl FnOnce(&mut Status)) -> Situation {
    let mut status = status(role);
    change(&mut status);
    Situation { status: Some(Arc::new(status)), ..well(role) }
}

fn of_hello(role: Role, change: impl FnOnce(&mut Hello)) -> Situation {
    of_status(role, |status| change(status.peers[0].hello.as_mut().unwrap()))
}

fn of_report(change: impl FnOnce(&mut Report)) -> Situation {
    let mut situation = well(Role::Master);
    change(situation.mirrors[0].report.as_mut().unwrap());
    situation
}

fn of_mirror(change: impl FnOnce(&mut Mirror)) -> Situation {
    let mut situation = well(Role::Master);
    change(&mut situation.mirrors[0]);
    situation
}

#[test]
fn a_pair_where_all_is_well_is_safe_on_either_side() {
    let master = judge(&well(Role::Master), NOW_MS);
    assert_eq!(
        (master.level, master.sentence.as_str()),
        (Level::Safe, "Safe: everything acknowledged is on both machines")
    );
    assert!(master.reasons.is_empty() && master.advice.is_none(), "{master:?}");
    let standby = judge(&well(Role::Standby), NOW_MS);
    let expected = "This is the standby: it follows the master b:2222 and has everything";
    assert_eq!((standby.level, standby.sentence.as_str()), (Level::Safe, expected));
    assert!(standby.advice.unwrap().contains("master's page"));
}

#[test]
fn what_is_on_its_way_for_a_moment_is_said_and_is_no_danger() {
    let busy = judge(&of_report(|report| (report.changes_behind, report.lag_ms) = (3, 40)), NOW_MS);
    let expected = "Safe: everything acknowledged is on both machines, but for the last 3 changes, 40 ms old";
    assert_eq!((busy.level, busy.sentence.as_str()), (Level::Safe, expected));
    let behind = judge(&of_status(Role::Standby, |status| status.reached = Some(88)), NOW_MS);
    assert_eq!(behind.sentence, "This is the standby: it follows the master b:2222, 2 changes behind");
}

#[test]
#[allow(clippy::too_many_lines, reason = "it is a table")]
fn each_thing_that_is_wrong_on_a_master_is_named() {
    use Role::Master;
    let now_s = NOW_MS / 1000;
    let held = || Held { path: b"a".to_vec(), entries: 12, reason: "r".into(), since_s: now_s - 60, approved: false };
    let trouble = |age_s: i64| Waiting { since_s: now_s - age_s, ..Waiting::default() };
    let cases: Vec<(Situation, Level, &str)> = vec![
        (
            of_status(Master, |it| it.stopped = Some("two masters".into())),
            Level::Danger,
            "chosen the master: two masters",
        ),
        (
            of_status(Master, |it| it.refuses_uploads = Some("no room".into())),
            Level::Danger,
            "uploads are refused: no room",
        ),
        (of_status(Master, |it| it.phase = Phase::Draining), Level::Attention, "takes no changes now"),
        (of_status(Master, |it| it.peers.clear()), Level::Danger, "knows of no other"),
        (
            of_status(Master, |it| it.peers[0].problem = Some("is away".into())),
            Level::Attention,
            "b:2222 does not answer",
        ),
        (of_status(Master, |it| it.peers[0].hello = None), Level::Attention, "nothing was heard of b:2222"),
        (of_status(Master, |it| it.peers[0].has_our_host_keys = false), Level::Attention, "other host keys"),
        (of_hello(Master, |it| it.role = Master), Level::Danger, "says that it is the master, too"),
        (
            of_hello(Master, |it| it.epoch = None),
            Level::Attention,
            "b:2222 is in no epoch, and this machine in epoch 3",
        ),
        (of_hello(Master, |it| it.refuses = Some("x".into())), Level::Attention, "could take no uploads as a master"),
        (of_hello(Master, |it| it.offers = 2), Level::Attention, "2 files that only b:2222 has"),
        (of_hello(Master, |it| it.volume_free_bytes = Some(20)), Level::Danger, "disk of b:2222 is nearly full"),
        (of_status(Master, |it| it.volume_free_bytes = 50), Level::Attention, "disk of this machine is nearly full"),
        (of_status(Master, |it| it.standbys[0].problem = Some("x".into())), Level::Attention, "newest accounts: x"),
        (of_status(Master, |it| it.standbys[0].accounts_generation = Some(6)), Level::Attention, "generation 6"),
        (of_status(Master, |it| it.divergent = 1), Level::Attention, "1 file is set aside on this machine"),
        (of_status(Master, |it| it.activity_lost = 4), Level::Attention, "lacks 4 records"),
        (of_status(Master, |it| it.is_volatile = true), Level::Attention, "may not survive a power failure"),
        (Situation { mirrors: Vec::new(), ..well(Master) }, Level::Danger, "filesync has not run"),
        (of_mirror(|it| it.report = None), Level::Danger, "nothing was heard of b:2222"),
        (of_report(|it| it.at_s = now_s - 31), Level::Danger, "filesync does not run"),
        (of_report(|it| it.connected = false), Level::Danger, "b:2222 is not connected"),
        (of_report(|it| it.followed = false), Level::Attention, "do not reach b:2222 at once"),
        (of_report(|it| (it.followed, it.settled_at_s) = (false, None)), Level::Danger, "no comparison has shown"),
        (of_report(|it| it.grade = Some(Grade::Plain)), Level::Attention, "plain SFTP server"),
        (
            of_report(|it| (it.changes_behind, it.lag_ms) = (1, 2_500)),
            Level::Attention,
            "lacks 1 change, the oldest of 2.50 s ago",
        ),
        (of_report(|it| (it.changes_behind, it.lag_ms) = (9, 400_000)), Level::Danger, "lacks 9 changes"),
        (of_report(|it| it.files_pending = 5), Level::Attention, "5 files (0 B) that b:2222 lacks"),
        (
            of_mirror(|it| (it.troubles, it.troubles_count) = (vec![trouble(5)], 1)),
            Level::Attention,
            "1 path cannot be brought",
        ),
        (
            of_mirror(|it| (it.troubles, it.troubles_count) = (vec![trouble(900)], 70)),
            Level::Danger,
            "70 paths cannot be brought",
        ),
        (
            of_mirror(|it| (it.held, it.held_paths, it.held_entries) = (vec![held()], 1, 12)),
            Level::Attention,
            "removal of 12 entries from b:2222 waits",
        ),
        (
            of_mirror(|it| it.verified = Some(Verified { differences: 2, ..Verified::default() })),
            Level::Attention,
            "2 paths that differ",
        ),
        (
            Situation { mirrors_fault: Some("locked".into()), ..well(Master) },
            Level::Attention,
            "cannot be read: locked",
        ),
        (
            Situation { status_fault: Some("hangs".into()), ..well(Master) },
            Level::Danger,
            "sftpd on this machine does not answer",
        ),
    ];
    for (situation, level, expected) in cases {
        let judged = lasting(situation);
        assert_eq!(judged.level, level, "{expected}: {judged:?}");
        assert!(judged.sentence.contains(expected), "{expected}: {}", judged.sentence);
        let beginning = if level == Level::Danger { "Not safe: " } else { "Attention: " };
        assert!(judged.sentence.starts_with(beginning) && judged.reasons.is_empty(), "{judged:?}");
        assert!(judged.since_ms.is_some(), "{judged:?}");
    }
}

#[test]
fn each_thing_that_is_wrong_on_a_standby_is_named() {
    use Role::Standby;
    let cases: Vec<(Situation, Level, &str)> = vec![
        (of_status(Standby, |it| it.stopped = Some("x".into())), Level::Danger, "chosen the master: x"),
        (of_status(Standby, |it| it.phase = Phase::Returning), Level::Attention, "sets aside what only it has"),
        (of_status(Standby, |it| it.peers.clear()), Level::Danger, "knows of no other machine"),
        (
            of_status(Standby, |it| it.peers[0].problem = Some("is away".into())),
            Level::Danger,
            "the master b:2222 does not answer",
        ),
        (of_status(Standby, |it| it.peers[0].heard_ms = Some(20_000)), Level::Danger, "nothing is heard of the master"),
        (
            of_hello(Standby, |it| it.role = Standby),
            Level::Danger,
            "no machine answers as the master: b:2222 is a standby",
        ),
        (of_hello(Standby, |it| it.refuses = Some("x".into())), Level::Danger, "takes no uploads: x"),
        (of_status(Standby, |it| it.reached = None), Level::Attention, "has not said yet"),
        (of_status(Standby, |it| it.peers[0].has_our_host_keys = false), Level::Attention, "other host keys"),
        (of_status(Standby, |it| it.volume_free_bytes = 1), Level::Danger, "disk of this machine"),
    ];
    for (situation, level, expected) in cases {
        let judged = lasting(situation);
        assert_eq!(judged.level, level, "{expected}: {judged:?}");
        assert!(judged.sentence.contains(expected), "{expected}: {}", judged.sentence);
    }
    let lost = lasting(of_status(Standby, |it| it.peers[0].problem = Some("is away".into())));
    assert!(lost.advice.unwrap().contains("promote this machine"));
}

#[test]
fn the_worst_stands_in_the_sentence_and_the_others_beside_it() {
    let mut situation = of_report(|report| report.connected = false);
    situation.mirrors[0].verified = Some(Verified { differences: 1, at_s: 5, ..Verified::default() });
    let judged = lasting(situation);
    assert!(judged.sentence.starts_with("Not safe: b:2222 is not connected"), "{}", judged.sentence);
    assert!(judged.reasons[0].sentence.contains("1 path that differ"), "{judged:?}");
    assert_eq!(judged.reasons[0].since_ms, Some(5_000));
    let mut situation = of_status(Role::Master, |status| (status.divergent, status.volume_free_bytes) = (3, 1));
    situation.mirrors[0].report.as_mut().unwrap().files_pending = 1;
    let judged = lasting(situation);
    let levels: Vec<_> = judged.reasons.iter().map(|reason| reason.level).collect();
    assert!(judged.sentence.contains("disk of this machine"), "{}", judged.sentence);
    assert_eq!(levels, [Level::Attention, Level::Attention]);
}

#[test]
fn since_when_is_kept_from_look_to_look_and_forgotten_when_it_is_over() {
    let mut situation = of_status(Role::Master, |status| status.divergent = 1);
    situation.since = since(&situation, NOW_MS - 50_000);
    situation.since = since(&situation, NOW_MS);
    assert_eq!(judge(&situation, NOW_MS).since_ms, Some(NOW_MS - 50_000));
    let over = Situation { since: situation.since, ..well(Role::Master) };
    assert!(since(&over, NOW_MS).is_empty());
    // Who tells of it may know better.
    let away = of_report(|report| (report.connected, report.since_s) = (false, NOW_MS / 1000 - 900));
    assert_eq!(judge(&away, NOW_MS).since_ms, Some(NOW_MS - 900_000));
}

#[test]
fn what_passes_by_itself_counts_only_when_it_stays() {
    let mut moment = of_status(Role::Master, |status| status.standbys[0].accounts_generation = Some(6));
    moment.since = since(&moment, NOW_MS - 3_000);
    assert_eq!(judge(&moment, NOW_MS).level, Level::Safe);
    assert_eq!(judge(&moment, NOW_MS + 60_000).level, Level::Danger, "the report is old by then");
    moment.since.clear();
    assert_eq!(lasting(moment).level, Level::Attention);
}

#[test]
fn a_folder_of_logs_alone_is_no_danger_and_a_silent_sftpd_is_one() {
    let before = judge(&Situation::default(), NOW_MS);
    assert_eq!((before.level, before.reasons.len()), (Level::Unknown, 0));
    let fault = Some("nobody listens".to_owned());
    let alone = Situation { looked_ms: Some(NOW_MS), status_fault: fault.clone(), ..Situation::default() };
    let judged = judge(&alone, NOW_MS);
    assert_eq!(judged.sentence, "Unknown: no sftpd answers beside this console");
    assert_eq!(judged.level, Level::Unknown);
    let silent = judge(&Situation { is_pair: true, ..alone }, NOW_MS);
    assert_eq!(silent.level, Level::Danger);
    assert_eq!(silent.sentence, "Not safe: sftpd on this machine does not answer");
    assert!(silent.advice.unwrap().contains("nobody listens"));
}

#[test]
fn a_standby_of_former_settings_does_not_count_while_another_is_followed() {
    let mut situation = well(Role::Master);
    let former = Report { standby: "old:22".into(), at_s: 5, ..report() };
    situation.mirrors.push(Mirror { name: "old:22".into(), report: Some(former), ..Mirror::default() });
    assert_eq!(judge(&situation, NOW_MS).level, Level::Safe);
    situation.mirrors.remove(0);
    assert_eq!(judge(&situation, NOW_MS).level, Level::Danger);
}
