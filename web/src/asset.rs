//! Styles and scripts that are part of the program. They are found by name in a list, never on a disk.
//!
//! An address carries the hash of the content, so that browsers may keep it for good and still see a new one at once.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// Its name in the address.
    pub name: &'static str,
    /// Its media type.
    pub media_type: &'static str,
    /// What it says.
    pub text: &'static str,
}

impl Asset {
    /// A style.
    pub const fn style(name: &'static str, text: &'static str) -> Asset {
        Asset { name, media_type: "text/css; charset=utf-8", text }
    }

    /// A script.
    pub const fn script(name: &'static str, text: &'static str) -> Asset {
        Asset { name, media_type: "text/javascript; charset=utf-8", text }
    }

    /// A drawing.
    pub const fn drawing(name: &'static str, text: &'static str) -> Asset {
        Asset { name, media_type: "image/svg+xml", text }
    }
}

/// All of a program.
#[derive(Clone, Debug)]
pub struct Assets {
    folder: String,
    listed: Arc<[Asset]>,
}

impl Assets {
    /// These, below `home` (which ends with a slash).
    pub fn new(home: &str, listed: &[Asset]) -> Assets {
        Assets { folder: format!("{home}assets/"), listed: listed.into() }
    }

    /// The address of one; of its folder where there is none of that name.
    pub fn url(&self, name: &str) -> String {
        let version = self.find(name).map(|asset| blake3::hash(asset.text.as_bytes()).to_hex());
        let version = version.as_ref().and_then(|hash| hash.get(..12)).unwrap_or_default();
        format!("{}{name}?v={version}", self.folder)
    }

    /// Serves them.
    pub fn routes(&self) -> Router {
        let assets = self.clone();
        let serve = move |Path(name): Path<String>| async move { assets.answer(&name) };
        Router::new().route(&format!("{}{{name}}", self.folder), get(serve))
    }

    fn find(&self, name: &str) -> Option<&Asset> {
        self.listed.iter().find(|asset| asset.name == name)
    }

    fn answer(&self, name: &str) -> Response {
        let Some(asset) = self.find(name) else { return StatusCode::NOT_FOUND.into_response() };
        let headers =
            [(header::CONTENT_TYPE, asset.media_type), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
        (headers, asset.text).into_response()
    }
}
