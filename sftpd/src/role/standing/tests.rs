//! Every way is in the table, every way of the table is gone, and what must always hold does.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn epoch(counter: u64, id: &str, parent: Option<&str>) -> Epoch {
    Epoch { counter, id: id.into(), parent: parent.map(str::to_owned), from: None }
}

fn reached(epoch: &str, seq: u64) -> Reached {
    Reached { epoch: epoch.into(), run: "r".into(), seq }
}

fn master() -> Standing {
    let node = Node { epoch: Some(epoch(1, "one", None)), ..Node::new(Role::Master).unwrap() };
    Standing::new(node).after(Event::Asked).unwrap()
}

fn standby(seq: u64) -> Standing {
    let standing = Standing::new(Node::new(Role::Standby).unwrap());
    let follows = standing.after(Event::Heard(master().word(), false)).unwrap();
    follows.after(Event::Reached(reached("one", seq))).unwrap()
}

#[test]
fn a_master_asks_before_it_writes() {
    let node = Node { epoch: Some(epoch(1, "one", None)), ..Node::new(Role::Master).unwrap() };
    let standing = Standing::new(node);
    assert_eq!(standing.phase(), Phase::Asking);
    let newer = Word { node: "b".into(), role: Role::Master, epoch: Some(epoch(2, "two", Some("one"))) };
    assert_eq!(standing.after(Event::Heard(newer, false)).unwrap().phase(), Phase::Returning);
    assert_eq!(standing.after(Event::Asked).unwrap().phase(), Phase::Master);
}

#[test]
fn what_the_new_master_has_is_not_set_aside() {
    let from = Some(reached("one", 480));
    let two = Epoch { from, ..epoch(2, "two", Some("one")) };
    let word = Word { node: "b".into(), role: Role::Master, epoch: Some(two) };
    let fenced = master().after(Event::Heard(word.clone(), true)).unwrap();
    assert_eq!(fenced.node.returning, Some(Returning { epoch: "one".into(), after: Some(480) }));
    // A journal that does not know that place has lost something: everything is compared.
    let fenced = master().after(Event::Heard(word, false)).unwrap();
    assert_eq!(fenced.node.returning, Some(Returning { epoch: "one".into(), after: None }));
    assert_eq!(fenced.after(Event::SetAside).unwrap().phase(), Phase::Standby);
}

#[test]
fn a_switchover_takes_the_place_with_everything_or_not_at_all() {
    let draining = master().after(Event::Drain).unwrap();
    let handing = draining.after(Event::Offer("b".into(), "two".into(), reached("one", 7))).unwrap();
    let two = handing.node.handing.clone().unwrap().epoch;
    assert_eq!(handing.word().epoch.unwrap().id, "one", "nobody else hears of what is only offered");
    assert!(standby(6).after(Event::TakeOver(two.clone())).unwrap_err().contains("has not got everything"));
    let taken = standby(7).after(Event::TakeOver(two.clone())).unwrap();
    assert_eq!((taken.phase(), taken.node.epoch.as_ref()), (Phase::Master, Some(&two)));
    assert_eq!(taken.after(Event::TakeOver(two.clone())), Ok(taken.clone()), "an offer may come twice");
    for told in [Event::Taken, Event::Heard(taken.word(), true)] {
        let swapped = handing.after(told).unwrap();
        assert_eq!((swapped.phase(), swapped.node.follows.unwrap().epoch), (Phase::Standby, two.clone()));
    }
    // An offer that was taken back is not taken when it comes late.
    let told = standby(7).after(Event::TakeBack(two.clone())).unwrap();
    assert_eq!(told.after(Event::TakeBack(two.clone())), Ok(told.clone()), "it may be told twice");
    assert!(told.after(Event::TakeOver(two.clone())).unwrap_err().contains("taken back"));
    assert_eq!(handing.after(Event::Withdrawn).unwrap().phase(), Phase::Master);
    assert!(taken.after(Event::TakeBack(two.clone())).unwrap_err().contains("knows epoch 2 already"));
    // Also by one that has gone on since, and whose answer was lost.
    let restarted = Standing::new(taken.node.clone()).after(Event::Promote("three".into())).unwrap();
    assert!(restarted.after(Event::TakeBack(two)).is_err());
}

#[test]
fn two_masters_stop_until_one_is_chosen() {
    let [one, other] = ["two", "zwei"].map(|id| standby(5).after(Event::Promote(id.into())).unwrap());
    let stopped = one.after(Event::Heard(other.word(), false)).unwrap();
    assert_eq!(stopped.phase(), Phase::Stopped);
    assert!(stopped.node.stopped.as_ref().unwrap().contains("sftpd promote --force"));
    let again = Standing::new(stopped.node.clone()).after(Event::Asked).unwrap();
    assert_eq!(again.phase(), Phase::Stopped, "a restart changes nothing");
    let chosen = stopped.after(Event::Promote("three".into())).unwrap();
    assert_eq!((chosen.phase(), chosen.node.epoch.as_ref().unwrap().counter), (Phase::Master, 3));
    let other = other.after(Event::Heard(stopped.word(), false)).unwrap();
    let gave_way = other.after(Event::Heard(chosen.word(), false)).unwrap();
    assert_eq!(gave_way.phase(), Phase::Returning);
}

#[test]
fn a_promotion_says_how_much_of_the_old_epoch_it_has() {
    let promoted = standby(480).after(Event::Promote("two".into())).unwrap();
    let two = promoted.node.epoch.as_ref().unwrap();
    assert_eq!((two.counter, two.parent.as_deref(), two.from.clone()), (2, Some("one"), Some(reached("one", 480))));
    assert!(promoted.after(Event::Promote("x".into())).unwrap_err().contains("already"));
}

fn events() -> impl Strategy<Value = Event> {
    let ids = || prop::sample::select(vec!["one", "two", "three", "zwei", "drei"]).prop_map(str::to_owned);
    let epochs = || {
        (1..5_u64, ids(), ids(), prop::option::of((ids(), 0..4_u64))).prop_map(|(counter, id, parent, from)| {
            let from = from.map(|(epoch, seq)| reached(&epoch, seq));
            Epoch { counter, id, parent: Some(parent), from }
        })
    };
    let roles = prop::sample::select(vec![Role::Master, Role::Standby]);
    let words = (roles, prop::option::of(epochs())).prop_map(|(role, epoch)| Word { node: "b".into(), role, epoch });
    prop_oneof![
        Just(Event::Asked),
        (words, any::<bool>()).prop_map(|(word, has)| Event::Heard(word, has)),
        ids().prop_map(Event::Promote),
        Just(Event::Drain),
        Just(Event::Resume),
        (ids(), 0..4_u64).prop_map(|(id, seq)| Event::Offer("b".into(), id, reached("one", seq))),
        Just(Event::Taken),
        Just(Event::Withdrawn),
        epochs().prop_map(Event::TakeOver),
        epochs().prop_map(Event::TakeBack),
        (ids(), 0..4_u64).prop_map(|(id, seq)| Event::Reached(reached(&id, seq))),
        Just(Event::SetAside),
        Just(Event::Behind("behind".into())),
    ]
}

/// What holds between a standing and the next, whatever has happened.
fn check(before: &Standing, event: &Event, after: &Standing) {
    let way = (before.phase(), event.trigger(), after.phase());
    let is_other = way.0 != way.2;
    assert!(!is_other || WAYS.contains(&way), "{way:?} is not in the table");
    let counter = |standing: &Standing| standing.word().epoch.map_or(0, |epoch| epoch.counter);
    assert!(counter(after) >= counter(before), "the newest epoch grew older by {event:?}");
    if after.phase() == Phase::Master && before.phase() != Phase::Master {
        let own = after.node.epoch.as_ref().expect("a master has an epoch");
        assert!(Some(own) == after.word().epoch.as_ref(), "a master knows of no newer epoch");
    }
    let drawn = after.node.epoch != before.node.epoch;
    assert!(!drawn || matches!(event, Event::Promote(_) | Event::TakeOver(_)), "{event:?} gave an epoch");
}

proptest! {
    #[test]
    fn whatever_happens_the_table_holds(story in prop::collection::vec(events(), 1..30), is_master: bool) {
        let mut standing = if is_master { master() } else { standby(2) };
        for event in story {
            if let Ok(after) = standing.after(event.clone()) {
                check(&standing, &event, &after);
                standing = after;
            }
            let again = Standing::new(standing.node.clone()).phase();
            let writes = |phase| phase == Phase::Master;
            prop_assert!(!writes(again), "a restart never writes before it has asked");
        }
    }
}

#[test]
fn every_way_of_the_table_can_be_gone() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut gone, all) = (BTreeSet::new(), WAYS.into_iter().collect::<BTreeSet<_>>());
    assert_eq!(all.len(), WAYS.len(), "no way is there twice");
    for round in 0..4000 {
        let story = prop::collection::vec(events(), 20).new_tree(&mut runner).unwrap().current();
        let mut standing = if round % 2 == 0 { master() } else { standby(2) };
        for (number, event) in story.into_iter().enumerate() {
            if number % 7 == 6 {
                standing = Standing::new(standing.node.clone());
            }
            if let Ok(after) = standing.after(event.clone()) {
                gone.insert((standing.phase(), event.trigger(), after.phase()));
                standing = after;
            }
        }
    }
    let never: Vec<_> = all.difference(&gone).collect();
    assert!(never.is_empty(), "{never:?}");
}
