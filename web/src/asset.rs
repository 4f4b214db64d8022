//! Styles and scripts that are part of the program. They are found by name in a list, never on a disk.
//!
//! An address carries the hash of the content, so that browsers may keep it for good and still see a new one at once.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
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
    /// The same, packed with gzip, where that is worth it.
    pub packed: Option<&'static [u8]>,
}

impl Asset {
    /// A style.
    pub const fn style(name: &'static str, text: &'static str) -> Asset {
        Asset { name, media_type: "text/css; charset=utf-8", text, packed: None }
    }

    /// A script.
    pub const fn script(name: &'static str, text: &'static str) -> Asset {
        Asset { name, media_type: "text/javascript; charset=utf-8", text, packed: None }
    }

    /// A drawing.
    pub const fn drawing(name: &'static str, text: &'static str) -> Asset {
        Asset { name, media_type: "image/svg+xml", text, packed: None }
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
        let serve = move |Path(name): Path<String>, headers: HeaderMap| async move { assets.answer(&name, &headers) };
        Router::new().route(&format!("{}{{name}}", self.folder), get(serve))
    }

    fn find(&self, name: &str) -> Option<&Asset> {
        self.listed.iter().find(|asset| asset.name == name)
    }

    fn answer(&self, name: &str, asked: &HeaderMap) -> Response {
        let Some(asset) = self.find(name) else { return StatusCode::NOT_FOUND.into_response() };
        let headers =
            [(header::CONTENT_TYPE, asset.media_type), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
        match asset.packed {
            Some(packed) if takes_gzip(asked) => {
                (headers, [(header::CONTENT_ENCODING, "gzip")], packed).into_response()
            }
            _ => (headers, asset.text).into_response(),
        }
    }
}

/// Whether a browser takes packed answers. All do; only programs do not.
fn takes_gzip(asked: &HeaderMap) -> bool {
    let named = asked.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    named.split(',').any(|coding| coding.trim() == "gzip")
}
