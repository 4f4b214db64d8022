//! The door of a program's pages: who has a session passes, everybody else is shown the login.
//!
//! It stands around *all* pages of a program, so none can be forgotten. Whatever changes something is a form sent by POST that carries the
//! session's token; that is checked here, before any page sees it. Nothing else is accepted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Router, routing};
use cookie::{Cookie, SameSite};
use tokio::sync::Semaphore;
use tower_http::limit::RequestBodyLimitLayer;

use crate::asset::Assets;
use crate::attempts::Attempts;
use crate::caller::{Caller, OverTls, is_from_here};
use crate::doorkeeper::{Doorkeeper, Password, Refusal};
use crate::headers;
use crate::login;
use crate::sessions::{Session, Sessions};
use crate::token::Token;

/// Bytes of a form. The largest of ours is a page of the console's archive with each of its 200 rows ticked, whose names may be long.
pub const FORM_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a form of somebody without a session: a login needs a hundredth of it.
const STRANGERS_FORM_BYTES_MAX: usize = 64 * 1024;
/// How long a form may take to arrive.
const FORM_TIME_MAX: Duration = Duration::from_secs(10);
/// Logins that are looked at together; more wait.
const CHECKS_AT_ONCE: usize = 4;

/// What a program says about its door.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the login page is headed with.
    pub title: &'static str,
    /// The address below which everything lies; it ends with a slash.
    pub home: &'static str,
    /// The cookie's name. Each program needs another one: browsers do not tell ports of a host apart.
    pub cookie: &'static str,
    /// How long a session may go unused.
    pub idle_max: Duration,
    /// How long a session may last.
    pub age_max: Duration,
    /// Whether a proxy stands before us, whose headers say who asks and whether by https.
    pub behind_proxy: bool,
}

/// The door.
pub struct Door {
    pub(crate) settings: Settings,
    pub(crate) sessions: Sessions,
    pub(crate) attempts: Attempts,
    pub(crate) doorkeeper: Box<dyn Doorkeeper>,
    pub(crate) assets: Assets,
    pub(crate) checks: Semaphore,
    /// With what the login forms' tokens are made; a restart makes them void.
    pub(crate) seal: Token,
}

impl Door {
    /// A door that is closed for everybody so far. The assets need `base.css` among them.
    ///
    /// # Errors
    /// Where the kernel gives no random numbers.
    pub fn new(settings: Settings, doorkeeper: Box<dyn Doorkeeper>, assets: Assets) -> anyhow::Result<Arc<Door>> {
        let attempts = Attempts::new().ok_or_else(|| anyhow::anyhow!("a limit of logins has no length"))?;
        Ok(Arc::new(Door {
            sessions: Sessions::new(settings.idle_max, settings.age_max),
            settings,
            attempts,
            doorkeeper,
            assets,
            checks: Semaphore::new(CHECKS_AT_ONCE),
            seal: Token::random()?,
        }))
    }

    /// Puts the door around a program's pages, which have a fallback of their own for addresses that are none. They find the [`Session`] and the [`Caller`] in a request's extensions.
    pub fn house(self: &Arc<Door>, pages: Router) -> Router {
        let home = self.settings.home;
        let leave = Router::new().route(&format!("{home}logout"), routing::post(login::leave));
        let inside = pages.merge(leave.with_state(self.clone())).layer(from_fn_with_state(self.clone(), guard));
        let outside = Router::new()
            .route(&format!("{home}login"), routing::get(login::show).post(login::enter))
            .route("/", routing::get(move || async move { Redirect::to(home) }))
            .route(home.trim_end_matches('/'), routing::get(move || async move { Redirect::to(home) }))
            .route("/healthz", routing::get(async || "alive\n"))
            .route("/readyz", routing::get(async || "ready\n"))
            .with_state(self.clone());
        inside
            .merge(outside)
            .merge(self.assets.routes())
            .layer(RequestBodyLimitLayer::new(FORM_BYTES_MAX))
            .layer(from_fn(headers::secure))
            .layer(from_fn_with_state(self.clone(), introduce))
    }

    /// Counts a try of an account's password that a page passes on.
    ///
    /// # Errors
    /// Where this one is too many: the sentence that says how long to wait before the next.
    pub fn count_try(&self, caller: &Caller) -> Result<(), String> {
        self.attempts.count(caller.address).map_err(|wait| {
            let wait_s = wait.as_secs() + 1;
            tracing::warn!(address = %caller.address, wait_s, "too many tries to log in");
            format!("Too many tries. Please wait {wait_s} s and try again.")
        })
    }

    /// Asks for the password of who is logged in once more, before something is done that cannot be taken back.
    ///
    /// # Errors
    /// Where it is wrong, or nobody can tell: the sentence for the person.
    pub async fn confirm(&self, caller: &Caller, session: &Session, password: &Password) -> Result<(), String> {
        if password.is_empty() {
            return Err("Enter your password: this is done only with it.".to_owned());
        }
        self.count_try(caller)?;
        // It is never closed.
        let _place = self.checks.acquire().await.map_err(|_| "The program is about to end.".to_owned())?;
        let admission = self.doorkeeper.admit(&session.account, password).await.map_err(|refusal| {
            tracing::warn!(account = session.account, address = %caller.address, ?refusal, "a password was refused");
            match refusal {
                Refusal::Wrong => "The password is wrong: nothing was done.".to_owned(),
                Refusal::NoAdmin => "This account is no administrator any more: nothing was done.".to_owned(),
                Refusal::Unknown(sentence) => {
                    format!("The password could not be looked at: nothing was done. {sentence}")
                }
            }
        })?;
        match admission.account == session.account {
            true => Ok(()),
            false => Err("The password is another account's: nothing was done.".to_owned()),
        }
    }

    /// Whether a session still holds; for answers that last.
    pub fn is_open(&self, session: &Session) -> bool {
        self.sessions.is_open(session)
    }

    /// The session of a request.
    pub(crate) fn session_of(&self, headers: &HeaderMap) -> Option<Session> {
        self.sessions.find(&cookie_token(headers, self.settings.cookie)?)
    }

    /// A `Set-Cookie` for as long as the browser runs.
    pub(crate) fn cookie(&self, name: &str, value: &str, https: bool) -> Option<HeaderValue> {
        let cookie = Cookie::build((name, value)).http_only(true).same_site(SameSite::Strict).path("/").secure(https);
        HeaderValue::from_str(&cookie.build().to_string()).ok()
    }

    /// A `Set-Cookie` that takes a cookie away.
    pub(crate) fn no_cookie(&self, name: &str, https: bool) -> Option<HeaderValue> {
        let cookie = Cookie::build((name, "")).http_only(true).same_site(SameSite::Strict).path("/").secure(https);
        HeaderValue::from_str(&cookie.max_age(cookie::time::Duration::ZERO).build().to_string()).ok()
    }
}

/// The token in a cookie.
pub(crate) fn cookie_token(headers: &HeaderMap, name: &str) -> Option<Token> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = texts.flat_map(Cookie::split_parse).flatten();
    cookies.find_map(|cookie| if cookie.name() == name { Token::parse(cookie.value()) } else { None })
}

/// A form that came whole and from one of our own pages.
///
/// # Errors
/// The answer to give, where it did not.
pub(crate) async fn form_of(request: Request, behind_proxy: bool) -> Result<(Request, Bytes), Response> {
    form_within(request, behind_proxy, STRANGERS_FORM_BYTES_MAX).await
}

async fn form_within(request: Request, behind_proxy: bool, bytes_max: usize) -> Result<(Request, Bytes), Response> {
    let refuse = |status: StatusCode, text: &'static str| (status, text).into_response();
    if !is_from_here(request.headers(), behind_proxy) {
        return Err(refuse(StatusCode::FORBIDDEN, "This form was sent from another site.\n"));
    }
    let media_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_form = media_type.is_some_and(|text| text.starts_with("application/x-www-form-urlencoded"));
    if !is_form {
        return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Only forms are accepted here.\n"));
    }
    let (parts, body) = request.into_parts();
    let arrived = tokio::time::timeout(FORM_TIME_MAX, axum::body::to_bytes(body, bytes_max)).await;
    let bytes = arrived
        .map_err(|_| refuse(StatusCode::REQUEST_TIMEOUT, "The form did not arrive in time.\n"))?
        .map_err(|_| refuse(StatusCode::PAYLOAD_TOO_LARGE, "The form is too large.\n"))?;
    Ok((Request::from_parts(parts, Body::from(bytes.clone())), bytes))
}

/// A field of a form.
pub(crate) fn field(form: &[u8], name: &str) -> Option<String> {
    form_urlencoded::parse(form).find_map(|(key, value)| (key == name).then(|| value.into_owned()))
}

async fn introduce(State(door): State<Arc<Door>>, mut request: Request, next: Next) -> Response {
    let connection = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let over_tls = request.extensions().get::<OverTls>().is_some();
    let caller = Caller::of(request.headers(), connection, over_tls, door.settings.behind_proxy);
    request.extensions_mut().insert(caller);
    next.run(request).await
}

async fn guard(State(door): State<Arc<Door>>, mut request: Request, next: Next) -> Response {
    let Some(session) = door.session_of(request.headers()) else {
        // A stream of events cannot show a login.
        let wants_events = request.headers().get(header::ACCEPT).is_some_and(|kind| kind == "text/event-stream");
        return match wants_events {
            true => StatusCode::UNAUTHORIZED.into_response(),
            false => Redirect::to(&format!("{}login", door.settings.home)).into_response(),
        };
    };
    if !request.method().is_safe() {
        let form;
        (request, form) = match form_within(request, door.settings.behind_proxy, FORM_BYTES_MAX).await {
            Ok(arrived) => arrived,
            Err(answer) => return answer,
        };
        if !field(&form, "csrf").is_some_and(|csrf| door.sessions.proves(&session, &csrf)) {
            let text = "This form is out of date. Go back, load the page again and send it once more.\n";
            return (StatusCode::FORBIDDEN, text).into_response();
        }
    }
    request.extensions_mut().insert(session);
    next.run(request).await
}

#[cfg(test)]
mod tests;
