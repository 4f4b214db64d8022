//! Where a request comes from: the browser's address, and whether it spoke https.
//!
//! Where the settings say that a proxy stands before us, its word counts (`X-Forwarded-For`, of which the last is what the proxy itself
//! saw, and `X-Forwarded-Proto`); else these headers count for nothing, since anybody can send them, and the connection alone tells.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, header};

/// In a request's extensions where its connection speaks TLS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OverTls;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The address that counts for limits.
    pub address: IpAddr,
    /// Whether the browser speaks https.
    pub https: bool,
}

impl Caller {
    /// Who sent a request with these headers over this connection.
    pub fn of(
        headers: &HeaderMap,
        connection: Option<&ConnectInfo<SocketAddr>>,
        over_tls: bool,
        behind_proxy: bool,
    ) -> Caller {
        // Tests have no connection.
        let peer = connection.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |connection| connection.0.ip());
        if !behind_proxy {
            return Caller { address: peer, https: over_tls };
        }
        let said = last_of(headers, "x-forwarded-for").and_then(|text| text.parse().ok());
        let scheme = last_of(headers, "x-forwarded-proto");
        // Between a proxy and us there may be TLS although the browser speaks http.
        let https = scheme.map_or(over_tls, |scheme| scheme.eq_ignore_ascii_case("https"));
        Caller { address: said.unwrap_or(peer), https }
    }
}

/// Whether a browser says that a form comes from one of our own pages, or says nothing at all.
///
/// Beside the tokens of forms, not instead of them: a page of another site cannot make a browser lie about this.
pub fn is_from_here(headers: &HeaderMap, behind_proxy: bool) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = text(header::ORIGIN.as_str()) else { return true };
    let forwarded = text("x-forwarded-host").filter(|_| behind_proxy);
    let host = forwarded.or_else(|| text(header::HOST.as_str()));
    let origin_host = origin.split_once("://").map(|(_, host)| host);
    origin_host.is_some() && origin_host == host
}

/// The last value of a list, which is what the nearest proxy has added.
fn last_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let last = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    last.rsplit(',').next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn peer() -> ConnectInfo<SocketAddr> {
        ConnectInfo("192.0.2.9:1000".parse().unwrap())
    }

    #[test]
    fn a_proxys_word_counts_only_where_there_is_one() {
        let said = headers(&[("x-forwarded-for", "203.0.113.5, 198.51.100.7"), ("x-forwarded-proto", "https")]);
        let direct = Caller::of(&said, Some(&peer()), false, false);
        assert_eq!(direct, Caller { address: "192.0.2.9".parse().unwrap(), https: false });
        let proxied = Caller::of(&said, Some(&peer()), false, true);
        assert_eq!(proxied, Caller { address: "198.51.100.7".parse().unwrap(), https: true });
        let silent = Caller::of(&headers(&[]), Some(&peer()), false, true);
        assert_eq!(silent, direct);
    }

    #[test]
    fn https_is_what_the_connection_speaks_unless_a_proxy_says_what_the_browser_does() {
        let plain = headers(&[("x-forwarded-proto", "http")]);
        for (said, behind_proxy, https) in
            [(&plain, false, true), (&headers(&[]), false, true), (&headers(&[]), true, true), (&plain, true, false)]
        {
            assert_eq!(Caller::of(said, Some(&peer()), true, behind_proxy).https, https, "{said:?} {behind_proxy}");
        }
    }

    #[test]
    fn forms_of_other_sites_are_known_by_what_the_browser_says() {
        let cases: [(&[(&str, &str)], bool); 8] = [
            (&[], true),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "cross-site"), ("origin", "http://here:2224"), ("host", "here:2224")], false),
            (&[("origin", "http://here:2224"), ("host", "here:2224")], true),
            (&[("origin", "http://here:2225"), ("host", "here:2224")], false),
            (&[("origin", "null"), ("host", "here:2224")], false),
            (&[("origin", "https://out"), ("host", "inner:1"), ("x-forwarded-host", "out")], false),
        ];
        for (pairs, expected) in cases {
            let pairs: HeaderMap =
                pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            assert_eq!(is_from_here(&pairs, false), expected, "{pairs:?}");
        }
        let proxied = headers(&[("origin", "https://out"), ("host", "inner:1"), ("x-forwarded-host", "out")]);
        assert!(is_from_here(&proxied, true));
    }
}
