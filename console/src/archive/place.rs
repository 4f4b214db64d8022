//! A file or folder in the archive: whose it is, and its path beneath that agent's folder. Pure.
//!
//! In addresses and forms a place is one text, the agent's name and the path with `%XX` for what is not printable ASCII
//! ([`VolumePath`]): bytes go in and the same bytes come out. Whether something is there, and inside, only the kernel decides.

use pair::record::VolumePath;

/// A place.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The agent's login.
    pub agent: String,
    /// The path in its folder, as bytes, without slashes around it; empty for the folder itself.
    pub path: Vec<u8>,
}

impl Place {
    /// An agent's own folder.
    pub fn of(agent: &str) -> Place {
        Place { agent: agent.to_owned(), path: Vec::new() }
    }

    /// Reads what [`Place::text`] wrote. A path has one form: without empty names, `.` and `..`.
    pub fn parse(text: &str) -> Option<Place> {
        let VolumePath(whole) = text.parse().ok()?;
        let end = memchr::memchr(b'/', &whole).unwrap_or(whole.len());
        let (agent, rest) = whole.split_at_checked(end)?;
        let path = rest.strip_prefix(b"/").unwrap_or(rest);
        let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
        let agent = String::from_utf8(agent.to_vec()).ok().filter(|agent| is_name(agent.as_bytes()))?;
        let is_right = rest.is_empty() || path.split(|byte| *byte == b'/').all(is_name);
        is_right.then(|| Place { agent, path: path.to_vec() })
    }

    /// Agent and path as bytes.
    pub fn whole(&self) -> Vec<u8> {
        let mut whole = self.agent.clone().into_bytes();
        if !self.path.is_empty() {
            whole.push(b'/');
            whole.extend_from_slice(&self.path);
        }
        whole
    }

    /// As one text for addresses and forms.
    pub fn text(&self) -> String {
        VolumePath(self.whole()).to_string()
    }

    /// The last name: the agent's for its own folder.
    pub fn name(&self) -> &[u8] {
        match self.path.rsplit(|byte| *byte == b'/').next() {
            Some(name) if !name.is_empty() => name,
            _ => self.agent.as_bytes(),
        }
    }

    /// What is around it; none for an agent's own folder.
    pub fn parent(&self) -> Option<Place> {
        if self.path.is_empty() {
            return None;
        }
        let end = memchr::memrchr(b'/', &self.path).unwrap_or(0);
        Some(Place { agent: self.agent.clone(), path: self.path.get(..end)?.to_vec() })
    }

    /// Something in it.
    pub fn child(&self, name: &[u8]) -> Place {
        Place { agent: self.agent.clone(), path: joined(&self.path, name) }
    }
}

/// A folder's path and a name in it.
pub fn joined(folder: &[u8], name: &[u8]) -> Vec<u8> {
    match folder {
        b"" => name.to_vec(),
        folder => [folder, b"/", name].concat(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_place_has_one_text_and_leads_up_to_its_agent() {
        let place = Place { agent: "agent01".into(), path: b"var/log/a\xff b.log".to_vec() };
        assert_eq!(place.text(), "agent01/var/log/a%FF b.log");
        assert_eq!(Place::parse(&place.text()), Some(place.clone()));
        assert_eq!(place.name(), b"a\xff b.log");
        let up = place.parent().unwrap();
        assert_eq!(up.text(), "agent01/var/log");
        let top = up.parent().and_then(|up| up.parent()).unwrap();
        assert_eq!((top.text().as_str(), top.name(), top.parent()), ("agent01", b"agent01".as_slice(), None));
        assert_eq!(top.child(b"var").child(b"log"), up);
    }

    #[test]
    fn what_is_no_place_is_none() {
        for text in
            ["", "/", "a//b", "a/", "/a", "a/..", "../a", "..", ".", "a/./b", "a/%00", "a/%2", "a/\n", "%FF/x", "a/%41"]
        {
            assert_eq!(Place::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_the_text_gives_them_back(names in prop::collection::vec(prop::collection::vec(1_u8.., 1..12), 0..5)) {
            let is_name = |name: &Vec<u8>| !name.contains(&b'/') && name != b"." && name != b"..";
            prop_assume!(names.iter().all(is_name));
            let place = Place { agent: "a".into(), path: names.join(&b'/') };
            prop_assert_eq!(Place::parse(&place.text()), Some(place));
        }
    }
}
