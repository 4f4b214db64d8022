//! Whether an OpenSSH user certificate lets somebody in: OpenSSH's PROTOCOL.certkeys, as its server reads it.
//!
//! Pure. That the client has the certificate's key, and that the certificate's signature is right, russh has checked before.

use std::net::IpAddr;

use russh::keys::{Certificate, PublicKey, ssh_key::certificate::CertType};

use super::network;

/// What a certificate may demand of the command, where it demands one: nothing else runs here.
const COMMAND: &str = "internal-sftp";

/// Refuses a certificate, with a sentence for the log, unless it lets `name` in from an address at a time (in seconds since
/// 1970). As with OpenSSH one without names lets nobody in, and one that demands what is not known here neither.
pub fn check(
    certificate: &Certificate,
    name: &str,
    from: IpAddr,
    now_s: u64,
    trusted: &[PublicKey],
) -> Result<(), String> {
    if certificate.cert_type() != CertType::User {
        return Err("the certificate is a host's".into());
    }
    if !trusted.iter().any(|known| known.key_data() == certificate.signature_key()) {
        return Err("the certificate's authority is not trusted".into());
    }
    if now_s < certificate.valid_after() || now_s >= certificate.valid_before() {
        return Err("the certificate is not valid now".into());
    }
    if !certificate.valid_principals().iter().any(|principal| principal == name) {
        return Err(format!("the certificate does not name {name}"));
    }
    for (option, demand) in certificate.critical_options().iter() {
        let is_met = match option.as_str() {
            "force-command" => demand.split_ascii_whitespace().next() == Some(COMMAND),
            "source-address" => demand.split(',').any(|net| holds(net.trim(), from)),
            _ => false,
        };
        if !is_met {
            return Err(format!("the certificate demands {option:?}, which is not met"));
        }
    }
    Ok(())
}

fn holds(net: &str, address: IpAddr) -> bool {
    network(net).is_some_and(|net| net.contains(&address.to_canonical()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use russh::keys::PrivateKey;
    use russh::keys::ssh_key::certificate::Builder;

    fn key() -> PrivateKey {
        pair::keys::peer_key(&pair::secret::PairSecret::generate().unwrap()).unwrap()
    }

    /// A certificate that is right for alice from 100 to 200, but for what `change` does to it.
    fn certificate(authority: &PrivateKey, change: impl FnOnce(&mut Builder)) -> Certificate {
        let mut builder = Builder::new(vec![7; 16], key().public_key().key_data().clone(), 100, 200).unwrap();
        builder.key_id("alice's").unwrap();
        change(&mut builder);
        builder.sign(authority).unwrap()
    }

    #[test]
    fn a_certificate_lets_in_whom_it_names_and_only_as_it_demands() {
        let (authority, other) = (key(), key());
        let trusted = [authority.public_key().clone()];
        let here: IpAddr = "192.0.2.7".parse().unwrap();
        let checked = |certificate: &Certificate, now| check(certificate, "alice", here, now, &trusted);
        let for_alice = |builder: &mut Builder| drop(builder.valid_principal("alice").map(|_| ()));
        let right = certificate(&authority, for_alice);
        assert_eq!(checked(&right, 150), Ok(()));
        assert!(checked(&right, 99).is_err() && checked(&right, 200).is_err());
        assert!(check(&right, "bob", here, 150, &trusted).unwrap_err().contains("does not name bob"));
        assert!(check(&right, "alice", here, 150, &[]).unwrap_err().contains("not trusted"));
        assert!(checked(&certificate(&other, for_alice), 150).unwrap_err().contains("not trusted"));
        let host = certificate(&authority, |builder| {
            for_alice(builder);
            builder.cert_type(CertType::Host).unwrap();
        });
        assert!(checked(&host, 150).unwrap_err().contains("host"));
        let everybody = certificate(&authority, |builder| drop(builder.all_principals_valid().map(|_| ())));
        assert!(checked(&everybody, 150).is_err(), "one that names nobody lets nobody in");
        let demands = [
            ("source-address", "192.0.2.0/24,2001:db8::/32", true),
            ("source-address", "198.51.100.7", false),
            ("source-address", "", false),
            ("force-command", "internal-sftp -R", true),
            ("force-command", "/bin/sh", false),
            ("verify-required", "", false),
            ("new-option", "x", false),
        ];
        for (option, demand, is_met) in demands {
            let demanding = certificate(&authority, |builder| {
                for_alice(builder);
                builder.critical_option(option, demand).unwrap();
            });
            assert_eq!(checked(&demanding, 150).is_ok(), is_met, "{option} {demand}");
        }
    }
}
