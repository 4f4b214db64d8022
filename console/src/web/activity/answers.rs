//! What the activity page asks the store, all at once.

use crate::questions::{ClientUse, FailedLogin, Failure, Filter, Moved, Reader};

/// Everything that charts and tables show.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// What was moved, by whom and when, and who is slow.
    pub moved: Moved,
    /// What fails.
    pub failures: Vec<Failure>,
    /// With which programs people come.
    pub clients: Vec<ClientUse>,
    /// Who fails to log in.
    pub failed_logins: Vec<FailedLogin>,
}

impl Answers {
    /// Asks, for so many rows of each table at most.
    pub fn ask(reader: &Reader, filter: &Filter, rows_max: usize) -> anyhow::Result<Answers> {
        Ok(Answers::of_sums(reader, filter, rows_max)?.with_faults(Answers::of_faults(reader, filter, rows_max)?))
    }

    /// The first half: what was moved, by whom and when. Both take about the same time, so that they can be asked beside each other.
    pub fn of_sums(reader: &Reader, filter: &Filter, rows_max: usize) -> anyhow::Result<Answers> {
        Ok(Answers { moved: reader.moved(filter, rows_max)?, ..Answers::default() })
    }

    /// The second half: what fails, and with what people come.
    pub fn of_faults(reader: &Reader, filter: &Filter, rows_max: usize) -> anyhow::Result<Answers> {
        Ok(Answers {
            failures: reader.failures(filter, rows_max)?,
            clients: reader.clients(filter, rows_max)?,
            failed_logins: reader.failed_logins(filter, rows_max)?,
            ..Answers::default()
        })
    }

    /// The first half with the second.
    pub fn with_faults(self, other: Answers) -> Answers {
        Answers { moved: self.moved, ..other }
    }
}
