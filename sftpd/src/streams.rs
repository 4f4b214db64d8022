//! On which connections replication comes: all of one stream of filesync's. When it connects anew it begins another, and what is still on its way on
//! connections of before is refused.
//!
//! It is forgotten at a restart, and so are the connections.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Streams of before that are remembered.
const PAST_MAX: usize = 1000;

/// The stream that is taken, and those that are no longer.
#[derive(Debug, Default)]
pub struct Streams(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    current: String,
    past: VecDeque<String>,
}

impl Streams {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody speaks on a stream: it is the one of now, unless another has begun since it was. sftpd itself has none.
    pub fn begin(&self, stream: &str) -> bool {
        let mut state = self.lock();
        if stream.is_empty() || state.current == stream {
            return true;
        }
        if state.past.iter().any(|past| past == stream) {
            return false;
        }
        let before = std::mem::replace(&mut state.current, stream.to_owned());
        state.past.push_back(before);
        if state.past.len() > PAST_MAX {
            state.past.pop_front();
        }
        true
    }

    /// Whether it is the one of now.
    pub fn is_current(&self, stream: &str) -> bool {
        self.lock().current == stream
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_ends_when_another_begins_and_never_comes_back() {
        let streams = Streams::default();
        assert!(streams.begin("a") && streams.begin("a") && streams.is_current("a") && streams.begin(""));
        assert!(streams.begin("b") && !streams.is_current("a"));
        assert!(!streams.begin("a") && streams.is_current("b"));
    }
}
