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
        let days = reader.by_day(filter)?;
        Ok(Answers {
            totals: days.iter().fold(Totals::default(), |totals, day| totals.and(&day.totals)),
            accounts: reader.by_account(filter, rows_max)?,
            days,
            week: reader.hours_of_week(filter)?,
            failures: reader.failures(filter, rows_max)?,
            slowest: reader.slowest(filter, rows_max)?,
            clients: reader.clients(filter, rows_max)?,
            failed_logins: reader.failed_logins(filter, rows_max)?,
        })
    }
}
