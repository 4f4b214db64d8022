//! Connections between processes: in order on each, in any order between them, and lost whole or in part.

use std::collections::BTreeMap;

use pair::epoch::{Epoch, Reached};

use super::dice::Dice;
use super::machine::Said;
use super::world::{Task, World};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Line {
    Hello,
    Mirror,
    Handover,
    Return,
}

/// Who has opened a connection, to whom and what for.
pub type Key = (usize, usize, Line);

/// What is said on connections. Each request has its answer behind it.
#[derive(Clone, Debug)]
pub enum Body {
    Hello(Said),
    HelloBack(Said),
    Where(String),
    Here(Option<Option<Reached>>),
    Copy(String, Vec<(u8, Option<u32>)>),
    Copied(bool),
    Reached(Reached),
    Told(bool),
    TakeOver(Epoch),
    TakenOver(String, bool),
    TakeBack(Epoch),
    /// The id, and whether it is never taken now.
    TakenBack(String, bool),
    Compare,
    Values(String, BTreeMap<u8, u32>),
    Give(String, u8, u32),
    Given(u8, u32),
}

/// Something on its way.
#[derive(Clone, Debug)]
pub struct Letter {
    pub from: usize,
    pub to: usize,
    pub key: Key,
    /// Which of the connections of this key.
    pub number: u64,
    /// The asker's process: only that one gets the answer.
    pub asker: u64,
    pub body: Body,
}

/// The connections of a key: the one that is open and what has become of those before.
#[derive(Default)]
struct Connection {
    number: u64,
    /// When the last letter of each direction arrives.
    busy: [u64; 2],
    /// Of each connection before: whether what was asked on it still arrives.
    arrives: Vec<bool>,
}

#[derive(Default)]
pub struct Network {
    connections: BTreeMap<Key, Connection>,
    /// Until when nothing gets from one machine to another.
    pub cuts: BTreeMap<(usize, usize), u64>,
}

impl Network {
    /// Loses a connection; the next letter opens another.
    fn lose(&mut self, key: Key, dice: &mut Dice) {
        let connection = self.connections.entry(key).or_default();
        connection.number += 1;
        connection.busy = [0, 0];
        connection.arrives.push(dice.chance(40));
    }

    /// Which connection of a key is open.
    pub fn number(&self, key: Key) -> u64 {
        self.connections.get(&key).map_or(0, |connection| connection.number)
    }

    /// Loses all connections between two machines.
    pub fn lose_all(&mut self, one: usize, other: usize, dice: &mut Dice) {
        let between = |key: &&Key| (key.0, key.1) == (one, other) || (key.1, key.0) == (one, other);
        for key in self.connections.keys().filter(between).copied().collect::<Vec<_>>() {
            self.lose(key, dice);
        }
    }

    pub fn is_cut(&self, from: usize, to: usize, now: u64) -> bool {
        self.cuts.get(&(from, to)).is_some_and(|until| *until > now)
    }

    /// Whether a letter gets through now that it is due.
    pub fn arrives(&self, letter: &Letter) -> bool {
        let Some(connection) = self.connections.get(&letter.key) else { return false };
        let is_answer = letter.from == letter.key.1;
        let old = || connection.arrives.get(letter.number as usize).is_some_and(|arrives| *arrives);
        letter.number == connection.number || (!is_answer && old())
    }
}

impl World {
    /// Opens a connection anew: the sender has given up the one before.
    pub fn reconnect(&mut self, key: Key) {
        self.network.lose(key, &mut self.dice);
    }

    /// Asks another machine something.
    pub fn ask(&mut self, from: usize, to: usize, line: Line, body: Body) {
        let key = (from, to, line);
        let number = self.network.number(key);
        let asker = self.machines[from].instance;
        self.send(Letter { from, to, key, number, asker, body });
    }

    /// Answers on the connection on which it was asked.
    pub fn answer(&mut self, asked: &Letter, body: Body) {
        let (from, to) = (asked.to, asked.from);
        if self.machines[to].instance == asked.asker {
            self.send(Letter { from, to, key: asked.key, number: asked.number, asker: asked.asker, body });
        }
    }

    fn send(&mut self, letter: Letter) {
        let (from, to, key) = (letter.from, letter.to, letter.key);
        let is_answer = from == key.1;
        let is_cut = self.network.is_cut(from, to, self.now);
        let connection = self.network.connections.entry(key).or_default();
        if letter.number != connection.number || !self.machines[to].is_up {
            return;
        }
        if is_cut {
            self.network.lose(key, &mut self.dice);
            return;
        }
        let delay = match self.dice.below(100) {
            0..80 => self.dice.between(1, 40),
            80..95 => self.dice.between(40, 800),
            _ => self.dice.between(800, 6000),
        };
        let busy = &mut connection.busy[usize::from(is_answer)];
        *busy = (*busy).max(self.now + delay);
        let (at, instance) = (*busy, self.machines[to].instance);
        self.at(at, Some((to, instance)), Task::Letter(Box::new(letter)));
    }
}
