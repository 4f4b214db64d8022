//! What an operator orders about what was set aside.

use pair::client::Client;
use pair::control::{Order, ask};
use pair::node::Role;

use super::*;
use crate::role::tests::{Machine, two, until};

async fn listed(machine: &Machine) -> Vec<Shown> {
    match ask(&machine.state(), &Order::Divergent { behind: None }).await.unwrap() {
        Answer::Divergent(things) => things,
        other => panic!("{other:?}"),
    }
}

async fn ordered(machine: &Machine, order: Order) -> Result<String, String> {
    match ask(&machine.state(), &order).await.unwrap() {
        Answer::Done { text } => Ok(text),
        Answer::Refused { text } => Err(text),
        other => panic!("{other:?}"),
    }
}

fn restoring(id: &str, to: Option<&str>, replace: bool) -> Order {
    let to = to.map(|to| VolumePath(to.as_bytes().to_vec()));
    Order::DivergentRestore { id: id.into(), to, replace }
}

async fn taken(new: &Machine, peer: &Client) -> u64 {
    offers::take(&new.daemon(), peer).await.unwrap()
}

/// A standby that has set two files and a link aside.
async fn story() -> (Machine, Machine) {
    let (mut old, new) = two().await;
    for machine in [&old, &new] {
        machine.write(b"alice/base", b"of before");
    }
    let after = old.last().await;
    old.put(b"alice/base", b"newer there").await;
    old.put(b"alice/other\xff", b"x").await;
    old.symlink(b"alice/third", b"x").await;
    old.comes_back_to(&new, Some(after)).await.unwrap();
    old.restart_as(Role::Standby).await;
    (old, new)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_aside_is_listed_with_what_has_become_of_it() {
    let (old, new) = story().await;
    let things = listed(&old).await;
    let epoch = old.aside()[0].0.epoch.clone();
    let ids: Vec<_> = things.iter().map(|thing| thing.id.clone()).collect();
    assert_eq!(ids, [1, 2, 3].map(|number| format!("{}-{number}", &epoch[..8])));
    let first = &things[0];
    assert_eq!((first.path.to_string().as_str(), first.kind.as_str(), first.size), ("alice/base", "file", 11));
    assert_eq!((first.account.as_str(), first.state.as_str(), first.detail.as_deref()), ("alice", "offered", None));
    assert!(first.written.starts_with("20") && first.written.ends_with('Z'));
    let behind = Order::Divergent { behind: Some(ids[1].clone()) };
    assert_eq!(ask(&old.state(), &behind).await.unwrap(), Answer::Divergent(vec![things[2].clone()]));
    let json = serde_json::to_value(&things).unwrap();
    assert_eq!(json[1]["path"], "alice/other%FF");
    new.put(b"alice/base", b"newer here").await;
    assert_eq!(taken(&new, &old.peer().await).await, 2);
    let states: Vec<_> = listed(&old).await.into_iter().map(|thing| thing.state).collect();
    assert_eq!(states, ["kept", "restored", "restored"]);
    assert!(listed(&new).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_has_it_restored_elsewhere_and_it_is_written_down() {
    let (old, new) = story().await;
    new.put(b"alice/base", b"newer here").await;
    let peer = old.peer().await;
    taken(&new, &peer).await;
    let ids: Vec<_> = listed(&old).await.into_iter().map(|thing| thing.id).collect();
    assert!(ordered(&old, restoring("00000000-1", None, false)).await.unwrap_err().contains("has the id"));
    assert!(ordered(&old, restoring("x\u{1b}", None, false)).await.unwrap_err().contains("x\\u{1b}"));
    assert!(ordered(&old, restoring(&ids[1], None, false)).await.unwrap_err().contains("restored already"));
    assert!(ordered(&old, restoring(&ids[0], Some(".pair/x"), false)).await.unwrap_err().contains("is no path"));
    let text = ordered(&old, restoring(&ids[0], Some("alice/copy"), false)).await.unwrap();
    assert!(text.starts_with("asked for as alice/copy"), "{text}");
    let wanted = &listed(&old).await[0];
    assert_eq!((wanted.state.as_str(), wanted.detail.as_deref()), ("wanted", Some("as alice/copy")));
    assert_eq!(taken(&new, &peer).await, 1);
    assert_eq!(new.content(b"alice/copy").unwrap(), b"newer there");
    assert_eq!(new.content(b"alice/base").unwrap(), b"newer here");
    let log = || std::fs::read_to_string(old.logs().join("activity.log")).unwrap_or_default();
    let said = format!("divergent restore {} --as alice/copy", ids[0]);
    until("the order is written down", || log().contains(&said)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_restored_is_released_only_by_who_is_sure() {
    let (old, new) = story().await;
    new.put(b"alice/base", b"newer here").await;
    taken(&new, &old.peer().await).await;
    let id = listed(&old).await[0].id.clone();
    let release = |which: &Release, is_sure| ordered(&old, Order::DivergentRelease { which: which.clone(), is_sure });
    for which in [Release::One(id), Release::All] {
        assert!(release(&which, false).await.unwrap_err().contains("add --yes"));
        assert_eq!(listed(&old).await.len(), 3);
    }
    assert_eq!(release(&Release::Restored, false).await.unwrap(), "released: 2");
    assert_eq!(listed(&old).await.len(), 1);
    assert_eq!(release(&Release::All, true).await.unwrap(), "released: 1");
    assert!(listed(&old).await.is_empty());
    assert_eq!(std::fs::read_dir(old.at(b".pair/divergent")).unwrap().count(), 0);
    assert_eq!(release(&Release::All, false).await.unwrap(), "released: 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_restores_what_it_has_set_aside_itself() {
    let (mut old, _new) = story().await;
    old.restart_as(Role::Master).await;
    old.put(b"alice/base", b"newer").await;
    let ids: Vec<_> = listed(&old).await.into_iter().map(|thing| thing.id).collect();
    assert_eq!(ordered(&old, restoring(&ids[0], None, false)).await.unwrap_err(), "something else has that name");
    assert_eq!(ordered(&old, restoring(&ids[0], None, true)).await.unwrap(), "restored as alice/base");
    assert_eq!(old.content(b"alice/base").unwrap(), b"newer there");
    ordered(&old, restoring(&ids[2], Some("alice/link"), false)).await.unwrap();
    assert_eq!(std::fs::read_link(old.at(b"alice/link")).unwrap().as_os_str(), "x");
    let states: Vec<_> = listed(&old).await.into_iter().map(|thing| thing.state).collect();
    assert_eq!(states, ["restored", "offered", "restored"]);
}
