//! The login page, and the way out.
//!
//! The form carries a token as well, bound to a cookie of its own: nobody can log a browser in as somebody else. What was typed as a
//! name is shown again after a mistake, a password never. The doorkeeper is asked only while the limits of tries allow it.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};

use crate::caller::Caller;
use crate::door::{Door, cookie_token, field, form_of};
use crate::doorkeeper::{Password, Refusal};
use crate::sessions::Session;
use crate::token::Token;

/// Longest name and password that are looked at, in bytes. SSH itself takes no more.
const TEXT_BYTES_MAX: usize = 1024;

#[derive(Template)]
#[template(path = "login.html")]
struct Page<'a> {
    title: &'a str,
    home: &'a str,
    style: String,
    csrf: String,
    name: &'a str,
    mistake: &'a str,
    name_mistake: &'a str,
    password_mistake: &'a str,
}

/// What is wrong with a try, and beside which field it is said.
#[derive(Default)]
struct Mistakes<'a> {
    whole: &'a str,
    name: &'a str,
    password: &'a str,
}

/// Shows the form; who is logged in already goes on.
pub(crate) async fn show(State(door): State<Arc<Door>>, caller: Extension<Caller>, headers: HeaderMap) -> Response {
    if door.session_of(&headers).is_some() {
        return Redirect::to(door.settings.home).into_response();
    }
    page(&door, &caller, StatusCode::OK, "", Mistakes::default())
}

/// Takes the form.
pub(crate) async fn enter(State(door): State<Arc<Door>>, caller: Extension<Caller>, request: Request) -> Response {
    let (request, form) = match form_of(request, door.settings.behind_proxy).await {
        Ok(arrived) => arrived,
        Err(answer) => return answer,
    };
    let name = field(&form, "name").unwrap_or_default().trim().to_owned();
    let password = Password::new(field(&form, "password").unwrap_or_default());
    let refuse = |status, mistakes| page(&door, &caller, status, &name, mistakes);

    if !is_from_our_form(&door, request.headers(), &field(&form, "csrf").unwrap_or_default()) {
        let whole = "This form was out of date. Please try once more; cookies must be allowed.";
        return refuse(StatusCode::FORBIDDEN, Mistakes { whole, ..Mistakes::default() });
    }
    let missing = |text: &str, sentence| if text.is_empty() { sentence } else { "" };
    let mut mistakes = Mistakes {
        name: missing(&name, "Enter the name of an administrator."),
        password: missing(&password, "Enter the password."),
        ..Mistakes::default()
    };
    if name.len() > TEXT_BYTES_MAX || password.len() > TEXT_BYTES_MAX {
        mistakes.whole = "The name or the password is too long.";
    }
    if !(mistakes.whole.is_empty() && mistakes.name.is_empty() && mistakes.password.is_empty()) {
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, mistakes);
    }
    match admit(&door, &caller, &name, &password).await {
        Ok(response) => response,
        Err((status, sentence)) => refuse(status, Mistakes { whole: &sentence, ..Mistakes::default() }),
    }
}

/// Ends the session.
pub(crate) async fn leave(
    State(door): State<Arc<Door>>,
    caller: Extension<Caller>,
    session: Extension<Session>,
) -> Response {
    door.sessions.end(&session);
    tracing::info!(account = session.account, address = %caller.address, "logged out");
    let response = Redirect::to(&format!("{}login", door.settings.home)).into_response();
    let gone = door.no_cookie(door.settings.cookie, caller.https);
    with_cookies(response, [gone])
}

async fn admit(
    door: &Door,
    caller: &Caller,
    name: &str,
    password: &Password,
) -> Result<Response, (StatusCode, String)> {
    door.count_try(caller).map_err(|sentence| (StatusCode::TOO_MANY_REQUESTS, sentence))?;
    let failed = |text: &str| (StatusCode::INTERNAL_SERVER_ERROR, text.to_owned());
    // It is never closed.
    let _place = door.checks.acquire().await.map_err(|_| failed("The program is about to end."))?;
    let admission = door.doorkeeper.admit(name, password).await.map_err(|refusal| {
        tracing::warn!(name, address = %caller.address, ?refusal, "a login was refused");
        in_words(refusal)
    })?;
    let id = door.sessions.begin(&admission.account).map_err(|error| {
        tracing::error!("no session could begin: {error:#}");
        failed("The program cannot begin a session; its log says why.")
    })?;
    tracing::info!(account = admission.account, address = %caller.address, "logged in");
    let cookies =
        [door.cookie(door.settings.cookie, &id.hex(), caller.https), door.no_cookie(&form_cookie(door), caller.https)];
    Ok(with_cookies(Redirect::to(door.settings.home).into_response(), cookies))
}

fn in_words(refusal: Refusal) -> (StatusCode, String) {
    match refusal {
        Refusal::Wrong => (StatusCode::FORBIDDEN, "The name or the password is wrong.".to_owned()),
        Refusal::NoAdmin => {
            (StatusCode::FORBIDDEN, "This account is no administrator. Use one with admin: true in users.yaml.".into())
        }
        Refusal::Unknown(sentence) => (StatusCode::BAD_GATEWAY, sentence),
    }
}

fn form_cookie(door: &Door) -> String {
    format!("{}_form", door.settings.cookie)
}

/// What a login form must carry for a cookie.
fn sealed(door: &Door, token: &Token) -> Token {
    let key = door.seal.hash();
    let text = blake3::keyed_hash(key.as_bytes(), token.hash().as_bytes()).to_hex();
    Token::parse(&text).unwrap_or_else(|| door.seal.clone())
}

fn is_from_our_form(door: &Door, headers: &HeaderMap, csrf: &str) -> bool {
    let cookie = cookie_token(headers, &form_cookie(door));
    cookie.zip(Token::parse(csrf)).is_some_and(|(cookie, shown)| sealed(door, &cookie) == shown)
}

fn page(door: &Door, caller: &Caller, status: StatusCode, name: &str, mistakes: Mistakes) -> Response {
    let Ok(token) = Token::random() else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let page = Page {
        title: door.settings.title,
        home: door.settings.home,
        style: door.assets.url("base.css"),
        csrf: sealed(door, &token).hex(),
        name,
        mistake: mistakes.whole,
        name_mistake: mistakes.name,
        password_mistake: mistakes.password,
    };
    let Ok(html) = page.render() else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let cookie = door.cookie(&form_cookie(door), &token.hex(), caller.https);
    with_cookies((status, Html(html)).into_response(), [cookie])
}

fn with_cookies<const N: usize>(mut response: Response, cookies: [Option<HeaderValue>; N]) -> Response {
    for cookie in cookies.into_iter().flatten() {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}
