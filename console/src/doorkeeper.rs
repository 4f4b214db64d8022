//! Who may log in: an administrator of the pair's own accounts. No password is kept here; sftpd is asked.

use std::path::PathBuf;
use std::sync::Arc;

use pair::client::{HostKeyCheck, connect};
use pair::exit::usage;
use pair::keys::{fingerprint, stored_host_keys};
use web::{Gate, SftpDoorkeeper};

use crate::config::Config;

/// Asks the machines of the settings. Both have the host keys that lie in this machine's state folder, so no other server is told a password.
///
/// # Errors
/// Where one of them is no address.
pub fn doorkeeper(config: &Config) -> anyhow::Result<SftpDoorkeeper> {
    let gates = config.nodes()?.into_iter().map(|(name, address)| gate(name, address, config.state.clone()));
    Ok(SftpDoorkeeper::new(gates.collect()))
}

fn gate(name: String, address: String, state: PathBuf) -> Gate {
    let connect = move |login| {
        let (address, check) = (address.clone(), is_ours(state.clone()));
        Box::pin(async move { connect(&address, login, check).await }) as _
    };
    Gate { name, connect: Arc::new(connect) }
}

/// Takes the host keys of this machine's sftpd, as they are now, and no other.
fn is_ours(state: PathBuf) -> HostKeyCheck {
    Arc::new(move |shown| {
        let known =
            stored_host_keys(&state).map_err(|error| format!("this machine's host keys cannot be read: {error:#}"))?;
        if known.iter().any(|key| key.key_data() == shown.key_data()) {
            return Ok(());
        }
        let folder = state.display();
        Err(format!("its host key {} is none of this pair's, which {folder} has", fingerprint(shown)))
    })
}

/// `[name=]host:port`.
pub fn parse_node(text: &str) -> anyhow::Result<(String, String)> {
    let (name, address) = text.split_once('=').unwrap_or((text, text));
    let port = address.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>().ok()));
    match port.flatten() {
        Some(_) if !name.is_empty() => Ok((name.to_owned(), address.to_owned())),
        _ => Err(usage(format!(
            "nodes: {text:?} is no address; one is written as master=10.0.0.1:2222 or 10.0.0.1:2222"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_a_name_or_is_called_by_its_address() {
        assert_eq!(parse_node("a=b:22").unwrap(), ("a".into(), "b:22".into()));
        assert_eq!(parse_node("[::1]:2222").unwrap(), ("[::1]:2222".into(), "[::1]:2222".into()));
        for wrong in ["", "a", "a:", ":22", "a=:22", "=b:22", "a=b", "a:99999"] {
            assert!(parse_node(wrong).unwrap_err().to_string().contains("nodes: "), "{wrong}");
        }
    }
}
