//! What people take away: the report as JSON, the files as CSV.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use web::Session;

use super::{Site, nothing_here};
use crate::identity::RunId;

/// The report of a run.
pub async fn json(site: State<Site>, session: Extension<Session>, Path(run): Path<String>) -> Response {
    give(&site, &session, &run, "json", "application/json", |site, run| {
        let report = site.runner.reports().read(run)?;
        Ok(report.map(|report| serde_json::to_vec_pretty(&report)).transpose()?)
    })
    .await
}

/// The files of a run, one a line.
pub async fn csv(site: State<Site>, session: Extension<Session>, Path(run): Path<String>) -> Response {
    give(&site, &session, &run, "csv", "text/csv; charset=utf-8", |site, run| site.runner.reports().csv(run)).await
}

async fn give(
    site: &Site,
    session: &Session,
    run: &str,
    ending: &str,
    media_type: &'static str,
    read: impl FnOnce(&Site, &RunId) -> anyhow::Result<Option<Vec<u8>>> + Send + 'static,
) -> Response {
    let Ok(run) = run.parse::<RunId>() else { return nothing_here(site, session, "That is not the name of a run.") };
    let (inner, wanted) = (site.clone(), run.clone());
    let content = match tokio::task::spawn_blocking(move || read(&inner, &wanted)).await {
        Ok(Ok(Some(content))) => content,
        Ok(Ok(None)) => return nothing_here(site, session, "There is no report of that run."),
        Ok(Err(error)) => {
            tracing::error!(%run, "a report cannot be read: {error:#}");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    // A run's name has digits, letters and hyphens only.
    let name = HeaderValue::from_str(&format!("attachment; filename=\"stress-{run}.{ending}\""));
    let mut response = ([(header::CONTENT_TYPE, media_type)], content).into_response();
    response.headers_mut().extend(name.ok().map(|name| (header::CONTENT_DISPOSITION, name)));
    response
}
