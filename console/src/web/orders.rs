//! What the buttons of the state page do: each order is shown in words first, and carried out only with the password.
//!
//! Always holds: nothing is done by an address alone, without the session's token, or without the password of who is logged in, asked for
//! again each time. Every order is logged with the account, the address and its outcome, refused ones too. What comes from the browser is
//! one of the orders of a list and names that are looked up; sftpd and filesync decide whether it may be done.

mod act;
mod wish;

use askama::Template;
use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use web::{Caller, Password, Session};

use self::act::Done;
use self::wish::{Field, Wish};
use super::{Frame, HOME, Site, page};
use crate::situation::Situation;

pub(super) use act::filesync_config;

#[derive(Template)]
#[template(path = "order.html")]
struct Confirm {
    frame: Frame,
    style: String,
    order: &'static str,
    title: &'static str,
    button: &'static str,
    is_dangerous: bool,
    words: Vec<String>,
    hidden: Vec<(&'static str, String)>,
    fields: Vec<Field>,
    mistake: String,
}

#[derive(Template)]
#[template(path = "order_done.html")]
struct Outcome {
    frame: Frame,
    style: String,
    title: String,
    is_done: bool,
    sentence: String,
    steps: Vec<(String, String)>,
    remarks: Vec<String>,
}

/// Takes an order: without a password it is shown in words, with it it is carried out.
pub async fn take(
    State(site): State<Site>,
    Path(name): Path<String>,
    session: Extension<Session>,
    caller: Extension<Caller>,
    body: Bytes,
) -> Response {
    let form = Form::of(&body);
    let Some(wish) = Wish::of(&name, &form) else {
        return site.fault(&session, StatusCode::NOT_FOUND, "Nothing here", "There is no such order.");
    };
    let situation = site.situation.borrow().clone();
    let Some(password) = form.get("password").map(|text| Password::new(text.to_owned())) else {
        return confirm(&site, &session, &situation, &wish, StatusCode::OK, String::new());
    };
    let refused = match wish.mistake(&situation) {
        Some(sentence) => Err((StatusCode::UNPROCESSABLE_ENTITY, sentence)),
        None => {
            site.door.confirm(&caller, &session, &password).await.map_err(|sentence| (StatusCode::FORBIDDEN, sentence))
        }
    };
    if let Err((status, sentence)) = refused {
        log(&session, &caller, &wish, &format!("refused: {sentence}"));
        return confirm(&site, &session, &situation, &wish, status, sentence);
    }
    log(&session, &caller, &wish, "begins");
    carry_out(&site, &session, &caller, wish).await
}

/// A form's fields.
pub struct Form(Vec<(String, String)>);

impl Form {
    fn of(body: &[u8]) -> Form {
        Form(form_urlencoded::parse(body).into_owned().collect())
    }

    /// A field, as it came.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A field without what is around it; empty where there is none.
    fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().trim().to_owned()
    }
}

fn confirm(
    site: &Site,
    session: &Session,
    situation: &Situation,
    wish: &Wish,
    status: StatusCode,
    mistake: String,
) -> Response {
    let offer = wish.offer();
    let confirm = Confirm {
        frame: site.frame(session, HOME),
        style: site.assets.url("state.css"),
        order: offer.name,
        title: offer.title,
        button: offer.button,
        is_dangerous: offer.is_dangerous,
        words: wish.words(situation),
        hidden: wish.hidden(),
        fields: wish.fields(situation),
        mistake,
    };
    page(status, &confirm)
}

/// It goes on to its end also where the browser goes away.
async fn carry_out(site: &Site, session: &Session, caller: &Caller, wish: Wish) -> Response {
    let (config, known, on_whose) = (site.config.clone(), site.situation.borrow().clone(), (session.clone(), *caller));
    let title = wish.offer().title;
    let carried_out = tokio::spawn(async move {
        let outcome = act::carry_out(&config, &known, &wish).await;
        match &outcome {
            Ok(done) => log(&on_whose.0, &on_whose.1, &wish, &format!("done: {}", done.sentence)),
            Err(sentence) => log(&on_whose.0, &on_whose.1, &wish, &format!("not done: {sentence}")),
        }
        outcome
    });
    let outcome = carried_out.await.unwrap_or_else(|_| Err("a bug ended the order; the log says which".to_owned()));
    let (frame, style) = (site.frame(session, HOME), site.assets.url("state.css"));
    match outcome {
        Ok(Done { sentence, steps, remarks }) => {
            let title = format!("{title}: done");
            page(StatusCode::OK, &Outcome { frame, style, title, is_done: true, sentence, steps, remarks })
        }
        Err(sentence) => {
            let (title, steps, remarks) = (format!("{title}: not done"), Vec::new(), Vec::new());
            let status = StatusCode::CONFLICT;
            page(status, &Outcome { frame, style, title, is_done: false, sentence, steps, remarks })
        }
    }
}

/// Who wants what, and what became of it. Texts are written so that a line stays a line.
fn log(session: &Session, caller: &Caller, wish: &Wish, outcome: &str) {
    let (account, address, order) = (&session.account, caller.address, wish.in_the_log());
    tracing::info!(?account, %address, ?order, ?outcome, "an order");
}

#[cfg(test)]
mod tests;
