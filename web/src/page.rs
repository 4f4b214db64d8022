//! Answers that every program's pages give in the same way: a page from its template, and a stream of events for browsers that watch.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use askama::Template;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use futures::stream;
use tokio::sync::Semaphore;

/// A page, or a plain sentence where it cannot be made.
pub fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => {
            tracing::error!("a page could not be made: {error}");
            (StatusCode::INTERNAL_SERVER_ERROR, "This page could not be made; the log says why.\n").into_response()
        }
    }
}

/// What one browser is told.
pub trait Watcher: Send + 'static {
    /// The next event; none where the stream ends. It may wait.
    fn next(&mut self) -> impl Future<Output = Option<Event>> + Send;
}

/// Tells a browser until its watcher ends; refused where no place is free for one more.
pub fn tell(places: &Arc<Semaphore>, watcher: impl Watcher) -> Response {
    let Ok(place) = places.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "Too many browsers are watching.\n").into_response();
    };
    let stream = stream::unfold((watcher, place), |(mut watcher, place)| async move {
        let event = watcher.next().await?;
        Some((Ok::<Event, Infallible>(event), (watcher, place)))
    });
    Sse::new(stream).keep_alive(KeepAlive::default()).into_response()
}
