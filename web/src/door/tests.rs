//! The door, asked through its router as a browser asks.

use axum::routing::{get, post};
use futures::future::BoxFuture;
use tower::ServiceExt;

use super::*;
use crate::doorkeeper::{Admission, Password, Refusal};
use crate::{Asset, BASE_STYLE, CONTENT_SECURITY_POLICY};

/// Lets `admin` in with `secret`; `alice` is nobody, and `later` cannot be asked about.
struct Keeper;

impl Doorkeeper for Keeper {
    fn admit<'a>(&'a self, name: &'a str, password: &'a Password) -> BoxFuture<'a, Result<Admission, Refusal>> {
        Box::pin(async move {
            match (name, password.as_str()) {
                ("admin", "secret") => Ok(Admission { account: name.to_owned() }),
                ("alice", "secret") => Err(Refusal::NoAdmin),
                ("later", _) => Err(Refusal::Unknown("The master could not be asked: <nobody> there.".into())),
                _ => Err(Refusal::Wrong),
            }
        })
    }
}

fn house_with(behind_proxy: bool) -> Router {
    let minute = Duration::from_secs(60);
    let settings = Settings {
        title: "A page",
        home: "/stress/",
        cookie: "test_session",
        idle_max: 10 * minute,
        age_max: 60 * minute,
        behind_proxy,
    };
    let assets = Assets::new("/stress/", &[Asset::style("base.css", BASE_STYLE)]);
    let pages = Router::new()
        .route("/stress/", get(|session: axum::Extension<Session>| async move { format!("csrf={}", session.csrf) }))
        .route("/stress/start", post(|body: String| async move { body }))
        .fallback(|| async { StatusCode::NOT_FOUND });
    Door::new(settings, Box::new(Keeper), assets).unwrap().house(pages)
}

fn house() -> Router {
    house_with(false)
}

/// A browser: it keeps cookies.
struct Browser {
    house: Router,
    cookies: std::collections::BTreeMap<String, String>,
    headers: Vec<(&'static str, &'static str)>,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The token of the form on a page.
    fn csrf(&self) -> &str {
        let (_, rest) = self.text.split_once("name=\"csrf\" value=\"").or(self.text.split_once("csrf=")).unwrap();
        &rest[..64]
    }
}

impl Browser {
    fn new(house: Router) -> Browser {
        Browser { house, cookies: Default::default(), headers: Vec::new() }
    }

    async fn send(&mut self, request: axum::http::request::Builder, body: String) -> Answer {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = request.header("cookie", cookies.join("; "));
        for (name, value) in &self.headers {
            request = request.header(*name, *value);
        }
        let response = self.house.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        for cookie in parts.headers.get_all(header::SET_COOKIE) {
            let cookie = Cookie::parse(cookie.to_str().unwrap().to_owned()).unwrap();
            self.cookies.insert(cookie.name().into(), cookie.value().into());
            self.cookies.retain(|_, value| !value.is_empty());
        }
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.send(Request::get(path), String::new()).await
    }

    async fn post(&mut self, path: &str, form: &str) -> Answer {
        let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
        self.send(request, form.to_owned()).await
    }

    async fn log_in(&mut self, name: &str, password: &str) -> Answer {
        let form = self.get("/stress/login").await;
        let body = format!("name={name}&password={password}&csrf={}", form.csrf());
        self.post("/stress/login", &body).await
    }
}

#[tokio::test]
async fn nobody_passes_without_a_session() {
    let mut browser = Browser::new(house());
    for path in ["/stress/", "/stress/start", "/stress/nothing-there"] {
        let answer = browser.get(path).await;
        assert_eq!((answer.status, answer.header("location")), (303, "/stress/login"), "{path}");
    }
    assert_eq!(browser.post("/stress/start", "x=1").await.header("location"), "/stress/login");
    browser.cookies.insert("test_session".into(), Token::random().unwrap().hex());
    assert_eq!(browser.get("/stress/").await.status, 303);
    browser.headers.push(("accept", "text/event-stream"));
    assert_eq!(browser.get("/stress/").await.status, 401);
}

#[tokio::test]
async fn an_admin_comes_in_and_goes_out_again() {
    let mut browser = Browser::new(house());
    let answer = browser.log_in("admin", "secret").await;
    assert_eq!((answer.status, answer.header("location")), (303, "/stress/"));
    let page = browser.get("/stress/").await;
    assert_eq!(page.status, 200);
    assert_eq!(browser.get("/stress/login").await.header("location"), "/stress/");
    let old = browser.cookies.clone();
    let gone = browser.post("/stress/logout", &format!("csrf={}", page.csrf())).await;
    assert_eq!((gone.status, gone.header("location")), (303, "/stress/login"));
    browser.cookies = old;
    assert_eq!(browser.get("/stress/").await.status, 303, "the old cookie is worth nothing");
}

#[tokio::test]
async fn the_cookie_is_for_our_pages_alone() {
    let mut browser = Browser::new(house());
    let answer = browser.log_in("admin", "secret").await;
    let cookie = answer.header("set-cookie");
    for part in ["test_session=", "HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Secure") && !cookie.contains("Max-Age"), "{cookie}");
}

#[tokio::test]
async fn behind_a_proxy_with_https_the_cookie_is_secure() {
    let mut browser = Browser::new(house_with(true));
    browser.headers.push(("x-forwarded-proto", "https"));
    let answer = browser.log_in("admin", "secret").await;
    assert!(answer.header("set-cookie").contains("Secure"), "{:?}", answer.headers);
    assert!(!answer.header("strict-transport-security").is_empty());
    // Nobody's word counts where no proxy is set.
    let mut browser = Browser::new(house());
    browser.headers.push(("x-forwarded-proto", "https"));
    assert!(!browser.log_in("admin", "secret").await.header("set-cookie").contains("Secure"));
}

#[tokio::test]
async fn who_is_refused_reads_why_and_types_the_name_once() {
    let cases = [
        ("admin", "wrong", 403, "The name or the password is wrong."),
        ("nobody", "secret", 403, "The name or the password is wrong."),
        ("alice", "secret", 403, "no administrator"),
        ("later", "secret", 502, "&#60;nobody&#62; there"),
        ("", "secret", 422, "Enter the name"),
        ("admin", "", 422, "Enter the password"),
    ];
    for (name, password, status, sentence) in cases {
        let mut browser = Browser::new(house());
        let answer = browser.log_in(name, password).await;
        assert_eq!(answer.status, status, "{name}");
        assert!(answer.text.contains(sentence), "{name}: {}", answer.text);
        assert!(answer.text.contains(&format!("value=\"{name}\"")), "{}", answer.text);
        assert!(!answer.text.contains("value=\"secret\""));
        assert_eq!(browser.get("/stress/").await.status, 303);
    }
}

#[tokio::test]
async fn a_login_form_counts_only_with_its_cookie() {
    let mut browser = Browser::new(house());
    let csrf = browser.get("/stress/login").await.csrf().to_owned();
    browser.cookies.clear();
    let answer = browser.post("/stress/login", &format!("name=admin&password=secret&csrf={csrf}")).await;
    assert_eq!(answer.status, 403);
    assert!(answer.text.contains("out of date"), "{}", answer.text);
    let answer = browser.post("/stress/login", "name=admin&password=secret").await;
    assert_eq!(answer.status, 403);
}

#[tokio::test]
async fn who_tries_too_often_has_to_wait_even_with_the_right_password() {
    let mut browser = Browser::new(house());
    let mut statuses = Vec::new();
    for _ in 0..crate::attempts::PER_ADDRESS_BURST.get() {
        statuses.push(browser.log_in("admin", "wrong").await.status);
    }
    assert!(statuses.iter().all(|status| *status == 403), "{statuses:?}");
    let answer = browser.log_in("admin", "secret").await;
    assert_eq!(answer.status, 429);
    assert!(answer.text.contains("Please wait"), "{}", answer.text);
}

#[tokio::test]
async fn a_form_without_the_sessions_token_changes_nothing() {
    let (mut browser, mut other) = (Browser::new(house()), Browser::new(house()));
    browser.log_in("admin", "secret").await;
    other.log_in("admin", "secret").await;
    let mine = browser.get("/stress/").await.csrf().to_owned();
    let foreign = other.get("/stress/").await.csrf().to_owned();
    for form in ["files=1".to_owned(), format!("files=1&csrf={foreign}"), "csrf=".to_owned()] {
        assert_eq!(browser.post("/stress/start", &form).await.status, 403, "{form}");
    }
    let form = format!("files=1&csrf={mine}");
    let answer = browser.post("/stress/start", &form).await;
    assert_eq!((answer.status, answer.text), (200, form), "the page gets the form whole");
}

#[tokio::test]
async fn a_form_of_another_site_is_refused_even_with_the_token() {
    for (name, value) in [("sec-fetch-site", "cross-site"), ("origin", "http://elsewhere")] {
        let mut browser = Browser::new(house());
        browser.log_in("admin", "secret").await;
        let csrf = browser.get("/stress/").await.csrf().to_owned();
        browser.headers = vec![(name, value), ("host", "here:2224")];
        let answer = browser.post("/stress/start", &format!("csrf={csrf}")).await;
        assert_eq!(answer.status, 403, "{name}");
        assert_eq!(browser.post("/stress/login", "name=admin").await.status, 403, "{name}");
    }
}

#[tokio::test]
async fn only_forms_of_bounded_size_are_taken() {
    let mut browser = Browser::new(house());
    browser.log_in("admin", "secret").await;
    let csrf = browser.get("/stress/").await.csrf().to_owned();
    let large = format!("csrf={csrf}&x={}", "x".repeat(FORM_BYTES_MAX));
    assert_eq!(browser.post("/stress/start", &large).await.status, 413);
    let json = Request::post("/stress/start").header("content-type", "application/json");
    assert_eq!(browser.send(json, format!("{{\"csrf\":\"{csrf}\"}}")).await.status, 415);
}

#[tokio::test]
async fn every_answer_holds_the_browser_in_check() {
    let mut browser = Browser::new(house());
    for path in ["/stress/", "/stress/login", "/stress/assets/base.css", "/stress/assets/../../etc/passwd", "/other"] {
        let answer = browser.get(path).await;
        assert_eq!(answer.header("content-security-policy"), CONTENT_SECURITY_POLICY, "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
        assert!(!answer.header("cache-control").is_empty(), "{path}");
    }
    assert_eq!(browser.get("/stress/login").await.header("cache-control"), "no-store");
    assert!(!CONTENT_SECURITY_POLICY.contains("unsafe"));
}

#[tokio::test]
async fn styles_come_without_a_login_and_only_those_that_are_listed() {
    let mut browser = Browser::new(house());
    let style = browser.get("/stress/assets/base.css?v=1").await;
    assert_eq!((style.status, style.text.as_str()), (200, BASE_STYLE));
    assert!(style.header("cache-control").contains("immutable"));
    assert_eq!(browser.get("/stress/assets/other.css").await.status, 404);
    for address in ["/", "/stress"] {
        assert_eq!(browser.get(address).await.header("location"), "/stress/");
    }
    let page = browser.get("/stress/login").await.text;
    assert!(page.contains("/stress/assets/base.css?v="), "{page}");
}
