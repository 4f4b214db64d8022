//! Orders, sent as forms; and what reaches an sftpd of the test's own.

use std::sync::{Arc, Mutex};

use filesync::store::Store;
use pair::control::{Answer, Move, Order, Step};
use pair::node::Role;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;

use crate::web::state::tests::{Visit, pair};

/// An sftpd that notes what it is told, and answers always the same.
fn sftpd(visit: &Visit, answer: Answer) -> Arc<Mutex<Vec<Order>>> {
    let listener = UnixListener::bind(pair::control::path(visit.folder.path())).unwrap();
    let told: Arc<Mutex<Vec<Order>>> = Arc::default();
    let keeping = told.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (read, mut write) = stream.into_split();
            let line = BufReader::new(read).lines().next_line().await.unwrap().unwrap();
            keeping.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            write.write_all((serde_json::to_string(&answer).unwrap() + "\n").as_bytes()).await.unwrap();
        }
    });
    told
}

fn moved() -> Answer {
    let steps = vec![Step { name: "the standby is <ready>".into(), elapsed_ms: 12 }];
    let moved =
        Move { what: "switchover".into(), master: "bbbb".into(), epoch: 4, elapsed_ms: 300, steps, ..Move::default() };
    Answer::Moved(Box::new(Move { gap_ms: Some(90), remarks: vec!["kept as x".into()], ..moved }))
}

#[tokio::test]
async fn an_order_is_shown_first_and_done_with_the_password() {
    let visit = Visit::begin(pair(Role::Master)).await;
    let told = sftpd(&visit, moved());
    let asked = visit.order("switchover", "").await;
    assert_eq!(asked.status, 200);
    assert!(asked.text.contains("hands its place over") && asked.text.contains("Password of admin"), "{}", asked.text);
    assert!(told.lock().unwrap().is_empty(), "nothing is done without a password");
    let done = visit.order("switchover", "password=right").await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!(*told.lock().unwrap(), [Order::Switchover { to: None }]);
    for part in ["The master is bbbb, in epoch 4", "for 90 ms", "the standby is &#60;ready&#62;", "kept as x"] {
        assert!(done.text.contains(part), "{part}: {}", done.text);
    }
}

#[tokio::test]
async fn a_wrong_or_missing_password_does_nothing() {
    let visit = Visit::begin(pair(Role::Master)).await;
    let told = sftpd(&visit, moved());
    for form in ["password=wrong", "password="] {
        let page = visit.order("drill", form).await;
        assert_eq!(page.status, 403, "{form}: {}", page.text);
        assert!(page.text.contains("role=\"alert\"") && !page.text.contains("wrong\""), "{}", page.text);
    }
    assert!(told.lock().unwrap().is_empty());
}

#[tokio::test]
async fn without_the_sessions_token_or_by_get_nothing_is_done() {
    let visit = Visit::begin(pair(Role::Master)).await;
    let told = sftpd(&visit, moved());
    let forged = visit.post("/console/orders/drill", "password=right").await;
    assert_eq!(forged.status, 403, "{}", forged.text);
    let stale = visit.post("/console/orders/drill", &format!("password=right&csrf={}", "0".repeat(64))).await;
    assert_eq!(stale.status, 403);
    assert_eq!(visit.get("/console/orders/drill?password=right").await.status, 405);
    assert!(told.lock().unwrap().is_empty());
}

#[tokio::test]
async fn promoting_against_another_master_needs_its_name_typed() {
    let visit = Visit::begin(pair(Role::Standby)).await;
    let told = sftpd(&visit, moved());
    let wrong = visit.order("promote", "password=right&given_up=c%3A22").await;
    assert_eq!(wrong.status, 422);
    assert!(wrong.text.contains("No other machine is called c:22"), "{}", wrong.text);
    assert!(told.lock().unwrap().is_empty());
    assert_eq!(visit.order("promote", "password=right&given_up=b%3A22").await.status, 200);
    assert_eq!(*told.lock().unwrap(), [Order::Promote { force: Some("b:22".into()) }]);
}

#[tokio::test]
async fn what_sftpd_refuses_is_said_in_its_words() {
    let visit = Visit::begin(pair(Role::Master)).await;
    sftpd(&visit, Answer::Refused { text: "<b> is not banned\n".into() });
    let page = visit.order("unban", "password=right&whom=192.0.2.1").await;
    assert_eq!(page.status, 409);
    assert!(
        page.text.contains("Lift a ban: not done") && page.text.contains("&#60;b&#62; is not banned"),
        "{}",
        page.text
    );
}

#[tokio::test]
async fn what_is_no_order_or_has_no_target_is_refused() {
    let visit = Visit::begin(pair(Role::Master)).await;
    for name in ["apply_users", "PROMOTE", "%2e%2e", "reset_password"] {
        assert_eq!(visit.order(name, "password=right").await.status, 404, "{name}");
    }
    let cases = [
        ("kick", "whom="),
        ("approve", "standby=c%3A22&entries=5"),
        ("restore", "standby=c%3A22&path=61&version=x"),
        ("restore", "standby=b%3A22&path=2e2e2f61&version=x"),
        ("restore", "standby=b%3A22&path=../a&version=x"),
    ];
    for (name, form) in cases {
        let page = visit.order(name, &format!("password=right&{form}")).await;
        assert_eq!(page.status, 422, "{name} {form}: {}", page.text);
    }
}

#[tokio::test]
async fn removals_go_only_if_they_are_those_that_were_looked_at() {
    for (entries, status, expected, says) in
        [(11, 409, 0, "has changed meanwhile"), (12, 200, 1, "12 entries below 1 path")]
    {
        let visit = Visit::begin(pair(Role::Master)).await;
        let file = visit.folder.path().join("filesync.db");
        drop(Store::open(&file, "b:22").unwrap());
        let db = rusqlite::Connection::open(&file).unwrap();
        db.execute("INSERT INTO held VALUES (1, X'61', 12, 'too many', 5, 0)", []).unwrap();
        let page = visit.order("approve", &format!("password=right&standby=b%3A22&entries={entries}")).await;
        assert!(page.status == status && page.text.contains(says), "{} {}", page.status, page.text);
        let approved: i64 = db.query_row("SELECT sum(approved) FROM held", [], |row| row.get(0)).unwrap();
        assert_eq!(approved, expected);
    }
}
