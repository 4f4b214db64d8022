//! What a person orders from the console of a real pair, through its forms: each is done by the machines, and asks for the password first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use pair::node::Phase;
use tests::raw::Answer;
use tests::step::NEW;
use tests::{ADMIN, Duo, Raw, USER, Visitor, console, eventually, within};

/// The page takes one password of an address every twelve seconds.
const PATIENCE: Duration = Duration::from_secs(90);

/// The form of an order in which something stands, as a browser would send it: the page's own hidden fields. Empty where there is none.
fn form(page: &str, order: &str, with: &str) -> String {
    let begin = format!("<form method=\"post\" action=\"/console/orders/{order}\"");
    let forms = page.split(&begin).skip(1).filter_map(|rest| rest.split("</form>").next());
    let Some(form) = forms.into_iter().find(|form| form.contains(with)) else { return String::new() };
    let field = |input: &str| {
        let value_of = |name: &str| {
            let (_, rest) = input.split_once(&format!(" {name}=\""))?;
            Some(rest.split('"').next()?.to_owned())
        };
        let name = value_of("name").filter(|name| name != "password")?;
        let value: String = value_of("value").unwrap_or_default().bytes().map(|byte| format!("%{byte:02X}")).collect();
        Some(format!("{name}={value}"))
    };
    form.split("<input").skip(1).filter_map(field).collect::<Vec<_>>().join("&")
}

/// Presses a button, reads what will happen, and types the password: what the page says then.
#[track_caller]
fn ordered(visitor: &mut Visitor, path: &str, order: &str, with: &str) -> String {
    let mut pressed = String::new();
    within(PATIENCE, &format!("the page has the button {order} {with}"), || {
        pressed = form(&visitor.get(path).text, order, with);
        !pressed.is_empty()
    });
    let address = format!("/console/orders/{order}");
    let words = visitor.post(&address, &pressed);
    assert!(words.status == 200 && words.text.contains("name=\"password\""), "{}", words.text);
    let confirmed = format!("{}&password={}", form(&words.text, order, ""), ADMIN.1);
    let mut done = String::new();
    within(PATIENCE, &format!("{order} is answered"), || {
        done = visitor.post(&address, &confirmed).text;
        !done.contains("Too many tries")
    });
    done
}

#[test]
fn a_person_lifts_a_ban_ends_a_connection_lets_removals_go_switches_over_and_promotes() {
    let mut duo = Duo::start_with(&[("GUARD__NEVER", "192.0.2.1")], &[]);
    let (program, address) = console(&duo.machines[0]);
    let mut visitor = Visitor::at(&address, "/console/");
    assert_eq!(visitor.log_in(ADMIN).header("location"), "/console/");
    let bans = |duo: &Duo| duo.machines[0].order(&["bans"]).1;

    let guess = duo.machines[0].sftp((USER.0, "wrong")).option("BindAddress=127.0.0.7");
    eventually("who guesses is banned", || {
        assert!(!guess.can_log_in());
        bans(&duo).contains("127.0.0.7")
    });
    let done = ordered(&mut visitor, "/console/", "unban", "127.0.0.7");
    assert!(done.contains("Lift a ban: done"), "{done}");
    assert!(!bans(&duo).contains("127.0.0.7"), "{}", bans(&duo));

    let (mut raw, mut other) = (Raw::greeted(&duo.machines[0], USER), Raw::greeted(&duo.machines[0], ADMIN));
    let handle = raw.open(b"<b>on-its-way", NEW, None).handle();
    assert!(raw.write(&handle, 0, &[7; 5000]) != Answer::Status(pair::wire::Code::Failure));
    let mut page = String::new();
    eventually("both are shown, with what is on its way", || {
        page = visitor.get("/console/connections").text;
        page.contains("EPuser") && page.contains("admin") && page.contains("&#60;b&#62;on-its-way")
    });
    assert!(!page.contains("<b>on-its-way"), "{page}");
    let done = ordered(&mut visitor, "/console/connections", "kick", "EPuser");
    assert!(done.contains("End connections: done"), "{done}");
    eventually("it is ended", || raw.has_ended());
    assert!(other.open(b"still-there", NEW, None) != Answer::Status(pair::wire::Code::Failure), "the others stay");
    drop((raw, other));

    removals_are_let_go(&duo, &mut visitor);

    let done = ordered(&mut visitor, "/console/", "switchover", "");
    assert!(done.contains("Switchover: done") && done.contains("in epoch 2"), "{done}");
    assert_eq!((duo.phase(0), duo.phase(1)), (Some(Phase::Standby), Some(Phase::Master)));
    assert!(duo.machines[1].put(USER, "after-the-switchover", "two"));
    duo.wait_until_follows(0);
    duo.wait_until_equal();

    duo.machines[1].kill();
    duo.mirrors[1].kill();
    let done = ordered(&mut visitor, "/console/", "promote", "");
    assert!(done.contains("Promote: done") && done.contains("in epoch 3"), "{done}");
    assert_eq!(duo.phase(0), Some(Phase::Master));
    assert!(duo.machines[0].put(USER, "after-the-promotion", "three"));

    for order in ["unban whom=", "kick connection=", "approve standby=", "switchover", "promote"] {
        let is_it = |line: &String| line.contains(&format!("order=\"{order}")) && line.contains("outcome=\"done: ");
        assert!(program.lines().iter().any(is_it), "{order} is in the log: {:#?}", program.lines());
    }
    assert!(!program.lines().iter().any(|line| line.contains(ADMIN.1)), "no password is");
}

/// A home that is emptied on the disk is held, and goes when a person says so.
fn removals_are_let_go(duo: &Duo, visitor: &mut Visitor) {
    let home = duo.machines[0].path("EPuser", "");
    for number in 0..20 {
        std::fs::write(home.join(format!("gone-{number}")), "x").unwrap();
    }
    duo.wait_until_equal();
    std::fs::remove_dir_all(&home).unwrap();
    std::fs::create_dir(&home).unwrap();
    let done = ordered(visitor, "/console/", "approve", "entries");
    assert!(done.contains("Let removals go: done"), "{done}");
    duo.wait_until_equal();
    assert!(!duo.machines[1].path("EPuser", "gone-7").exists());
}
