//! A load whose result can be judged: writers that change their own folders by random steps, and a model of what must be
//! there afterwards. Contents tell which version they are, and whether they are whole.

mod account;
mod chance;
mod content;
mod tree;
mod writer;

pub use account::{ACCOUNT, Account};
pub use chance::Chance;
pub use content::Version;
pub use tree::{Step, Thing, Tree};
pub use writer::{Writer, folder_of};
