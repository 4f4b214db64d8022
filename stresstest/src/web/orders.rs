//! What a person orders by a form: start, stop, clean up. The door has checked the form's token before.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use pair::client::{ConnectError, Login};
use web::{Caller, Password, Session};

use super::form::{Mistakes, Typed};
use super::overview::{self, Notice};
use super::{HOME, Site};
use crate::plan::{Plan, Target};
use crate::runner::Busy;

/// Starts a run and shows it, or shows the form again with what is wrong.
pub async fn start(
    State(site): State<Site>,
    session: Extension<Session>,
    caller: Extension<Caller>,
    form: Bytes,
) -> Response {
    let (typed, password) = Typed::read(&form);
    let mut checked = typed.wish().check(&site.config).map_err(|found| Mistakes::of_wish(found, &typed));
    if password.is_empty() {
        let missing = Mistakes::one("password", "Enter the password of the account.");
        checked = Err(match checked {
            Ok(_) => missing,
            Err(Mistakes(found)) => Mistakes(found.into_iter().chain(missing.0).collect()),
        });
    }
    let started = match checked {
        Ok(plan) => begin(&site, &caller, plan, &password).await,
        Err(mistakes) => Err(mistakes),
    };
    match started {
        Ok(run) => {
            tracing::info!(run, admin = session.account, address = %caller.address, "a run was started from the page");
            Redirect::to(&format!("{HOME}runs/{run}")).into_response()
        }
        Err(mistakes) => {
            overview::answer(&site, &session, StatusCode::UNPROCESSABLE_ENTITY, typed, mistakes, None).await
        }
    }
}

/// Tries the login first, so that a wrong password is said beside its field and not as the end of a run.
async fn begin(site: &Site, caller: &Caller, plan: Plan, password: &Password) -> Result<String, Mistakes> {
    let under_way = site.runner.watch().borrow().clone();
    if let Some(run) = under_way.run.clone().filter(|_| under_way.is_running()) {
        return Err(Mistakes::one("run", Busy { run }.to_string()));
    }
    site.door.count_try(caller).map_err(|sentence| Mistakes::one("password", sentence))?;
    let login = Login::with_password(plan.account.clone(), password.as_str());
    site.runner.connect(&plan.target, login.clone()).await.map_err(|error| match error {
        ConnectError::Refused => {
            Mistakes::one("password", format!("{} does not accept this account with this password.", plan.target.name))
        }
        error => Mistakes::one("target", format!("{} cannot be used: {error}.", plan.target.name)),
    })?;
    let run = site.runner.start(plan, login).map_err(|busy| Mistakes::one("run", busy.to_string()))?;
    Ok(run.to_string())
}

/// Stops the run that is under way; what it has made is still verified. A second time leaves that out.
pub async fn stop(State(site): State<Site>, session: Extension<Session>) -> Response {
    site.runner.stop();
    tracing::info!(admin = session.account, "a run was stopped from the page");
    let run = site.runner.watch().borrow().run.clone();
    Redirect::to(&run.map_or(HOME.to_owned(), |run| format!("{HOME}runs/{run}"))).into_response()
}

/// Removes what earlier runs have left at a server.
pub async fn clean(
    State(site): State<Site>,
    session: Extension<Session>,
    caller: Extension<Caller>,
    form: Bytes,
) -> Response {
    let (typed, password) = Typed::read(&form);
    let (status, notice) = match remove(&site, &caller, &typed, &password).await {
        Ok(sentence) => (StatusCode::OK, Notice { good: true, sentence }),
        Err(sentence) => (StatusCode::UNPROCESSABLE_ENTITY, Notice { good: false, sentence }),
    };
    let form = Typed::usual(!site.config.standbys.is_empty());
    overview::answer(&site, &session, status, form, Mistakes::default(), Some(notice)).await
}

async fn remove(site: &Site, caller: &Caller, typed: &Typed, password: &Password) -> Result<String, String> {
    if site.runner.watch().borrow().is_running() {
        return Err("A run is under way: clean up when it is over.".to_owned());
    }
    let known = site.config.targets().map_err(|error| error.to_string())?;
    let target: Option<&Target> = known.iter().find(|target| target.name == typed.target);
    let target = target.ok_or("Choose one of the configured targets.")?;
    site.door.count_try(caller)?;
    let login = Login::with_password(typed.account.clone(), password.as_str());
    let removed = site.runner.clean(target, login, typed.keep).await;
    let files = removed.map_err(|error| format!("Nothing more could be removed at {}: {error:#}.", target.name))?;
    let removed = super::figures::of(files, "file was", "files were");
    Ok(format!("{removed} removed at {}.", target.name))
}
