//! What the activity page asks the store, all at once.

use crate::questions::{
    AccountFigures, ClientUse, DayFigures, FailedLogin, Failure, Filter, HourFigures, Reader, Speed, Totals,
};

/// Everything that charts and tables show.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// What all of it comes to.
    pub totals: Totals,
    /// The same by account, most bytes first.
    pub accounts: Vec<AccountFigures>,
    /// And by day.
    pub days: Vec<DayFigures>,
    /// Transfers by weekday and hour.
    pub week: [[HourFigures; 24]; 7],
    /// What fails.
    pub failures: Vec<Failure>,
    /// Who is slow.
    pub slowest: Vec<Speed>,
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
        let days = reader.by_day(filter)?;
        Ok(Answers {
            totals: days.iter().fold(Totals::default(), |totals, day| totals.and(&day.totals)),
            accounts: reader.by_account(filter, rows_max)?,
            days,
            week: reader.hours_of_week(filter)?,
            ..Answers::default()
        })
    }

    /// The second half: what fails, who is slow, and with what people come.
    pub fn of_faults(reader: &Reader, filter: &Filter, rows_max: usize) -> anyhow::Result<Answers> {
        Ok(Answers {
            failures: reader.failures(filter, rows_max)?,
            slowest: reader.slowest(filter, rows_max)?,
            clients: reader.clients(filter, rows_max)?,
            failed_logins: reader.failed_logins(filter, rows_max)?,
            ..Answers::default()
        })
    }

    /// The first half with the second.
    pub fn with_faults(self, other: Answers) -> Answers {
        let Answers { failures, slowest, clients, failed_logins, .. } = other;
        Answers { failures, slowest, clients, failed_logins, ..self }
    }
}
