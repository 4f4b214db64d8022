//! plotly.js, taken out of the crate that brings it, and packed once.
//!
//! Always holds: it is that script alone. What the crate offers beside it (formulas) is left out.

use std::io::Write;
use std::sync::OnceLock;

use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;
use web::Asset;

/// Its name in addresses.
pub const NAME: &str = "plotly.js";
const OPENING: &str = "<script type=\"text/javascript\">";
const CLOSING: &str = "</script>";

/// An image by which the script finds out at once whether a browser knows a format of maps. We have no maps, and the policy for browsers
/// forbids such images; without it, it is taken that the format is not known.
const PROBE: &str = "data:image/webp;base64,UklGRh4AAABXRUJQVlA4TBEAAAAvAQAAAAfQ//73v/+BiOh/AAA=";

/// The script, and the same packed.
static SCRIPT: OnceLock<(String, Vec<u8>)> = OnceLock::new();

/// The script that draws charts.
///
/// # Errors
/// Where the crate brings something else than is expected.
pub fn plotly() -> anyhow::Result<Asset> {
    if SCRIPT.get().is_none() {
        let text = script_of(&plotly::Plot::offline_js_sources())?.replace(PROBE, "");
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        packer.write_all(text.as_bytes())?;
        // Where another was faster, his is the same.
        let _ = SCRIPT.set((text, packer.finish()?));
    }
    let (text, packed) = SCRIPT.get().context("plotly.js was not kept")?;
    Ok(Asset { packed: Some(packed), ..Asset::script(NAME, text) })
}

/// The first script of a page's piece.
fn script_of(sources: &str) -> anyhow::Result<&str> {
    let inner = sources.trim_start().strip_prefix(OPENING).context("the plotly crate brings no script")?;
    let end = inner.find(CLOSING).context("the script of the plotly crate has no end")?;
    let text = inner.get(..end).unwrap_or_default().trim_start();
    anyhow::ensure!(text.starts_with("/**\n* plotly.js v3."), "the script of the plotly crate is not plotly.js 3");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn it_is_plotly_alone_and_packed_the_same() {
        let asset = plotly().unwrap();
        assert!(asset.text.starts_with("/**\n* plotly.js v3.") && !asset.text.contains("</script"));
        assert!(!asset.text.contains("data:image/webp"), "the policy forbids it");
        assert!(asset.text.contains("no-inline-styles"), "else it inserts styles, which the policy forbids");
        assert!((4_000_000..5_500_000).contains(&asset.text.len()), "{}", asset.text.len());
        let packed = asset.packed.unwrap();
        assert!(packed.len() < asset.text.len() / 2);
        let mut text = String::new();
        flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
        assert!(text == asset.text);
        assert!(std::ptr::eq(plotly().unwrap().text, asset.text), "it is kept once");
    }

    #[test]
    fn another_script_is_an_error() {
        for wrong in ["", "<script>x</script>", "<script type=\"text/javascript\">alert(1)</script>\n"] {
            assert!(script_of(wrong).is_err(), "{wrong}");
        }
    }
}
