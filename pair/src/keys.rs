//! SSH keys of a pair: the host keys that clients see and the key by which its machines know each other.
//!
//! Host keys come from the pair secret at the very first start and are then kept in `/state/keys`: so both machines
//! show the same ones with nothing copied by hand, and rotating the secret does not frighten clients. Keys that an
//! admin puts there are kept as they are.

use std::path::Path;

use anyhow::Context;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::{EcdsaKeypair, Ed25519Keypair, KeypairData};
use russh::keys::{HashAlg, PrivateKey, PublicKey};

use crate::exit::usage;
use crate::node::replace_file;
use crate::secret::PairSecret;

/// The login name of the other machine. No account can have it: account names do not begin with a dot.
pub const PEER_USER: &str = ".pair";

/// File names of the host keys, OpenSSH's own, in the order in which they are offered.
const HOST_KEY_FILES: [&str; 2] = ["ssh_host_ed25519_key", "ssh_host_ecdsa_key"];

/// Tells keys that came from the pair secret from those that an admin put there.
const DERIVED_NAME: &str = "derived";

/// The key by which the machines of this pair log in to each other.
pub fn peer_key(secret: &PairSecret) -> anyhow::Result<PrivateKey> {
    ed25519(secret.derive("peer key, ed25519"), "sftp-ha pair")
}

/// The host keys of a pair at its very first start: ed25519 and ECDSA P-256, in that order.
pub fn derived_host_keys(secret: &PairSecret) -> anyhow::Result<Vec<PrivateKey>> {
    Ok(vec![ed25519(secret.derive("host key, ed25519"), "sftp-ha")?, ecdsa(secret, "sftp-ha")?])
}

/// The host keys kept in `<state>/keys`. Where there are none, those of the pair secret are put there first.
pub fn host_keys(state: &Path, secret: &PairSecret) -> anyhow::Result<Vec<PrivateKey>> {
    let folder = state.join("keys");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // A first start that broke off is taken up again: the note is written first, and says whose the keys are.
    let kept = HOST_KEY_FILES.into_iter().filter(|name| folder.join(name).exists()).count();
    let is_broken_off = kept < HOST_KEY_FILES.len() && folder.join(DERIVED_NAME).exists();
    if kept == 0 || is_broken_off {
        replace_file(&folder.join(DERIVED_NAME), b"These host keys came from the pair secret.\n", 0o600)?;
        for (name, key) in HOST_KEY_FILES.into_iter().zip(derived_host_keys(secret)?) {
            keep(&folder, name, &key)?;
        }
    }
    HOST_KEY_FILES
        .into_iter()
        .map(|name| folder.join(name))
        .filter(|path| path.exists())
        .map(|path| read_host_key(&path))
        .collect()
}

/// The public halves of this machine's kept host keys; empty before its first start.
pub fn stored_host_keys(state: &Path) -> anyhow::Result<Vec<PublicKey>> {
    HOST_KEY_FILES
        .into_iter()
        .map(|name| state.join("keys").join(format!("{name}.pub")))
        .filter(|path| path.exists())
        .map(|path| {
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            PublicKey::from_openssh(text.trim()).map_err(|error| usage(format!("{}: {error}", path.display())))
        })
        .collect()
}

/// Whether this machine's host keys came from the pair secret: then a master's own replace them.
pub fn are_derived(state: &Path) -> bool {
    state.join("keys").join(DERIVED_NAME).exists()
}

/// This machine's host keys with their private halves, for its standby.
pub fn exportable_host_keys(state: &Path) -> anyhow::Result<Vec<String>> {
    let paths = HOST_KEY_FILES.into_iter().map(|name| state.join("keys").join(name)).filter(|path| path.exists());
    paths.map(|path| Ok(read_host_key(&path)?.to_openssh(LineEnding::LF)?.to_string())).collect()
}

/// Keeps a master's host keys in place of those that came from the pair secret, and gives them.
pub fn adopt_host_keys(state: &Path, texts: &[String]) -> anyhow::Result<Vec<PrivateKey>> {
    anyhow::ensure!(are_derived(state), "this machine has host keys of its own");
    let keys: Vec<PrivateKey> = texts.iter().map(PrivateKey::from_openssh).collect::<Result<_, _>>()?;
    let name = |key: &PrivateKey| match key.key_data() {
        KeypairData::Ed25519(_) => Some("ssh_host_ed25519_key"),
        KeypairData::Ecdsa(_) => Some("ssh_host_ecdsa_key"),
        _ => None,
    };
    let named: Vec<(&str, &PrivateKey)> = keys.iter().filter_map(|key| Some((name(key)?, key))).collect();
    anyhow::ensure!(!named.is_empty() && named.len() == keys.len(), "they are no ed25519 and ECDSA keys");
    let folder = state.join("keys");
    for (name, key) in &named {
        keep(&folder, name, key)?;
    }
    for other in HOST_KEY_FILES.into_iter().filter(|file| named.iter().all(|(name, _)| name != file)) {
        for path in [folder.join(other), folder.join(format!("{other}.pub"))] {
            if path.exists() {
                std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
    }
    // Last: a start that comes before takes the keys of the secret again, and is given these once more.
    std::fs::remove_file(folder.join(DERIVED_NAME)).context("cannot note that they are the master's")?;
    Ok(keys)
}

/// A key's fingerprint in the form of `ssh-keygen -l`.
pub fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn read_host_key(path: &Path) -> anyhow::Result<PrivateKey> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| usage(format!("cannot read the host key {}: {error}", path.display())))?;
    let key = PrivateKey::from_openssh(&text)
        .map_err(|error| usage(format!("{} is no OpenSSH private key without passphrase: {error}", path.display())))?;
    let public = path.with_extension("pub");
    if !public.exists() {
        std::fs::write(&public, key.public_key().to_openssh()? + "\n")
            .with_context(|| format!("cannot write {}", public.display()))?;
    }
    Ok(key)
}

fn keep(folder: &Path, name: &str, key: &PrivateKey) -> anyhow::Result<()> {
    let public = key.public_key().to_openssh()? + "\n";
    replace_file(&folder.join(format!("{name}.pub")), public.as_bytes(), 0o644)?;
    replace_file(&folder.join(name), key.to_openssh(LineEnding::LF)?.as_bytes(), 0o600)
}

fn ed25519(seed: [u8; 32], comment: &str) -> anyhow::Result<PrivateKey> {
    Ok(PrivateKey::new(KeypairData::from(Ed25519Keypair::from_seed(&seed)), comment)?)
}

fn ecdsa(secret: &PairSecret, comment: &str) -> anyhow::Result<PrivateKey> {
    // A number that is zero or past the curve's order is no key (chance 2^-32): then the next label's turn.
    let scalar = (0..8)
        .find_map(|attempt| {
            let bytes = secret.derive(&format!("host key, ecdsa p256, {attempt}"));
            p256::SecretKey::from_slice(&bytes).ok()
        })
        .context("no ECDSA key comes out of the pair secret")?;
    let public = scalar.public_key();
    let pair = EcdsaKeypair::NistP256 { public: public.into(), private: scalar.into() };
    Ok(PrivateKey::new(KeypairData::from(pair), comment)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_machines_derive_the_same_keys_and_no_two_are_equal() {
        let secret =
            PairSecret::parse("0123456789abcdeffedcba98765432100f1e2d3c4b5a69788796a5b4c3d2e1f0", "x").unwrap();
        let prints = || -> Vec<String> {
            let mut keys = derived_host_keys(&secret).unwrap();
            keys.push(peer_key(&secret).unwrap());
            keys.iter().map(|key| fingerprint(key.public_key())).collect()
        };
        assert_eq!(prints(), prints());
        let different: std::collections::BTreeSet<String> = prints().into_iter().collect();
        assert_eq!(different.len(), 3);
    }

    #[test]
    fn kept_host_keys_stay_when_the_secret_changes() {
        let state = tempfile::tempdir().unwrap();
        let first = host_keys(state.path(), &PairSecret::generate().unwrap()).unwrap();
        let second = host_keys(state.path(), &PairSecret::generate().unwrap()).unwrap();
        assert_eq!(first.len(), 2);
        assert_eq!(first[0].public_key(), second[0].public_key());
        assert_eq!(stored_host_keys(state.path()).unwrap().len(), 2);
    }

    #[test]
    fn a_standby_takes_its_masters_own_host_keys_once() {
        let (master, standby) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let own = host_keys(master.path(), &PairSecret::generate().unwrap()).unwrap();
        std::fs::remove_file(master.path().join("keys").join(DERIVED_NAME)).unwrap();
        let secret = PairSecret::generate().unwrap();
        host_keys(standby.path(), &secret).unwrap();
        assert!(are_derived(standby.path()) && !are_derived(master.path()));
        let texts = exportable_host_keys(master.path()).unwrap();
        let only_one = texts.get(..1).unwrap();
        let taken = adopt_host_keys(standby.path(), only_one).unwrap();
        assert_eq!(taken.len(), 1);
        let kept = host_keys(standby.path(), &secret).unwrap();
        assert_eq!((kept.len(), kept[0].public_key()), (1, own[0].public_key()));
        assert_eq!(stored_host_keys(standby.path()).unwrap().len(), 1);
        let again = adopt_host_keys(standby.path(), &texts).unwrap_err().to_string();
        assert!(again.contains("host keys of its own"), "{again}");
    }

    #[test]
    fn a_garbled_host_key_is_named_with_its_path() {
        let state = tempfile::tempdir().unwrap();
        std::fs::create_dir(state.path().join("keys")).unwrap();
        std::fs::write(state.path().join("keys/ssh_host_ed25519_key"), "nonsense").unwrap();
        let error = host_keys(state.path(), &PairSecret::generate().unwrap()).unwrap_err();
        assert_eq!(crate::exit::code(&error), 2);
        assert!(error.to_string().contains("ssh_host_ed25519_key"), "{error}");
    }
}
