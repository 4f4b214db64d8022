//! Files that should be here by a time of the day: rules, what has become of each today, and who is told of those that are missed.
//!
//! Always holds: a rule is met by an upload with a good outcome, or a rename to such a name, since midnight of the console's zone. Who is
//! to be told hears of each missed rule once on a day, also across a restart, unless the console is killed while it tells.

mod alarm;
mod rule;

use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::calendar::Calendar;
use crate::config::Config;
use crate::questions::{Came, Filter, How, Reader, Readers, Record, Search};
use crate::record::Operation;
use alarm::Alarm;

pub use rule::Rule;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(60);
/// Records that are looked at for a rule, a thousand each time.
const PAGES_MAX: usize = 30;

/// What has become of a rule today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not of this day.
    NotToday,
    /// Its time has not come.
    Awaited,
    /// The file is here, and came in time.
    Here,
    /// The file is here, and came late.
    Late,
    /// Its time has passed and the file is not here.
    Missed,
}

/// A rule, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// The rule, as it is in the settings.
    pub rule: String,
    /// The day.
    pub date: Date,
    /// What has become of it.
    pub verdict: Verdict,
    /// More of it, in a sentence. It may hold a file's name.
    pub sentence: String,
}

/// All rules, in the order of the settings.
pub type Outlooks = Arc<Vec<Outlook>>;

/// Looks again and again until `shutdown`.
///
/// # Errors
/// Where a rule or the zone is wrong.
pub fn watch(
    config: &Config,
    readers: Arc<Readers>,
    shutdown: CancellationToken,
) -> anyhow::Result<watch::Receiver<Outlooks>> {
    let (sender, receiver) = watch::channel(Outlooks::default());
    let (rules, zone) = (Arc::new(config.rules()?), config.zone()?);
    if rules.is_empty() {
        return Ok(receiver);
    }
    let mut alarm = Alarm::new(config);
    let looking = async move {
        loop {
            let (readers, rules, zone) = (readers.clone(), rules.clone(), zone.clone());
            let asked = tokio::task::spawn_blocking(move || {
                readers.ask(|reader| look(reader, &rules, &zone, Timestamp::now()))
            });
            match asked.await {
                Ok(Ok(outlooks)) => {
                    sender.send_replace(Arc::new(outlooks.clone()));
                    alarm.tell(&outlooks).await;
                }
                Ok(Err(error)) => tracing::warn!("expected: the records cannot be asked: {error:#}"),
                Err(error) => tracing::warn!("expected: a bug ended a look: {error}"),
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::spawn(async move { shutdown.run_until_cancelled_owned(looking).await });
    Ok(receiver)
}

/// How each rule stands at a moment.
fn look(reader: &Reader, rules: &[Rule], zone: &TimeZone, now: Timestamp) -> anyhow::Result<Vec<Outlook>> {
    let now = now.to_zoned(zone.clone());
    let one = |rule: &Rule| {
        let came = if rule.is_of(now.date()) { first_arrival(reader, rule, now.date())? } else { None };
        Ok(outlook(rule, &now, came.as_ref().map(|(time_ms, path)| (*time_ms, path.as_str()))))
    };
    rules.iter().map(one).collect()
}

/// How a rule stands, where the first file that meets it came at this time under this path. Pure.
fn outlook(rule: &Rule, now: &Zoned, came: Option<(i64, &str)>) -> Outlook {
    let due_ms = Calendar::new(now.time_zone().clone()).start_ms(now.date());
    let due_ms = now
        .date()
        .to_datetime(rule.by)
        .to_zoned(now.time_zone().clone())
        .map_or(due_ms, |due| due.timestamp().as_millisecond());
    let at = |ms: i64| {
        let time = Timestamp::from_millisecond(ms).unwrap_or_default();
        time.to_zoned(now.time_zone().clone()).strftime("%H:%M:%S").to_string()
    };
    let (verdict, sentence) = match came {
        _ if !rule.is_of(now.date()) => (Verdict::NotToday, String::new()),
        Some((ms, path)) if ms <= due_ms => (Verdict::Here, format!("{path} came at {}", at(ms))),
        Some((ms, path)) => (Verdict::Late, format!("{path} came at {}", at(ms))),
        None if now.timestamp().as_millisecond() < due_ms => (Verdict::Awaited, String::new()),
        None => (Verdict::Missed, "no such file has come since midnight".to_owned()),
    };
    Outlook { rule: rule.text.clone(), date: now.date(), verdict, sentence }
}

/// When the first file came that meets a rule on a day, and under which path.
fn first_arrival(reader: &Reader, rule: &Rule, date: Date) -> anyhow::Result<Option<(i64, String)>> {
    let filter = Filter {
        from: Some(date),
        to: Some(date),
        account: Some(rule.account.clone()),
        came: Some(Came::Done),
        ..Filter::default()
    };
    let search = Search { text: rule.literal().to_owned(), how: How::Prefix };
    let (mut before, mut first) = (None, None);
    for _ in 0..PAGES_MAX {
        let page = reader.find(&filter, &search, before, crate::questions::PAGE_RECORDS_MAX)?;
        for record in page.records {
            if let Some(path) = arrived_as(&record).filter(|path| rule.is_met_by(path)) {
                first = Some((record.time_ms, path.to_owned()));
            }
        }
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    Ok(first)
}

/// Under which name a record brought a file.
fn arrived_as(record: &Record) -> Option<&str> {
    match record.operation {
        Operation::Upload => record.path.as_deref(),
        Operation::Rename => record.target.as_deref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Zoned {
        text.parse::<Zoned>().unwrap()
    }

    #[test]
    fn a_rule_is_awaited_met_late_or_missed() {
        let rule = Rule::parse("EPuser /in/daily-*.csv by 06:00 on mon-fri").unwrap();
        let verdict = |now: &str, came: Option<&str>| {
            let came = came.map(|came| at(came).timestamp().as_millisecond());
            outlook(&rule, &at(now), came.map(|ms| (ms, "/in/daily-1.csv"))).verdict
        };
        let friday = |time: &str| format!("2026-11-20T{time}[Europe/Berlin]");
        assert_eq!(verdict(&friday("05:59"), None), Verdict::Awaited);
        assert_eq!(verdict(&friday("06:00"), None), Verdict::Missed);
        assert_eq!(verdict(&friday("07:00"), Some(&friday("06:00"))), Verdict::Here);
        assert_eq!(verdict(&friday("07:00"), Some(&friday("06:00:01"))), Verdict::Late);
        assert_eq!(verdict("2026-11-21T07:00[Europe/Berlin]", None), Verdict::NotToday);
    }

    #[test]
    fn uploads_and_renames_bring_files_and_nothing_else_does() {
        use crate::record::{Entry, Outcome};
        use crate::store::{Batch, Store, Stream};
        let folder = tempfile::tempdir().unwrap();
        let zone = TimeZone::UTC;
        let mut store = Store::open(folder.path(), zone.clone()).unwrap();
        let now: Timestamp = "2026-11-20T07:00:00Z".parse().unwrap();
        let entry = |hour: i64, operation, outcome, path: &str, target: Option<&str>| Entry {
            time_ms: now.as_millisecond() - hour * 3_600_000,
            operation: Some(operation),
            outcome,
            account: "a".into(),
            path: Some(path.into()),
            target: target.map(str::to_owned),
            ..Entry::default()
        };
        let entries = vec![
            entry(9, Operation::Upload, Outcome::Complete, "/in/a.csv", None),
            entry(5, Operation::Upload, Outcome::Aborted, "/in/b.csv", None),
            entry(4, Operation::Download, Outcome::Complete, "/in/c.csv", None),
            entry(3, Operation::Upload, Outcome::Complete, "/in/deep/d.csv", None),
            entry(2, Operation::Rename, Outcome::Complete, "/tmp/e.part", Some("/in/e.csv")),
        ];
        let reader = Reader::open(folder.path(), zone.clone()).unwrap();
        let rules = [Rule::parse("a /in/*.csv by 06:00").unwrap()];
        let mut stream = Stream::default();
        let mut verdicts = Vec::new();
        for (consumed, entry) in entries.into_iter().enumerate() {
            let batch = Batch { entries: vec![entry], lines: 1, consumed: consumed as u64 + 1, ..Batch::default() };
            store.take(&mut stream, &batch, 0).unwrap();
            verdicts.push(look(&reader, &rules, &zone, now).unwrap()[0].verdict);
        }
        use Verdict::{Here, Missed};
        assert_eq!(verdicts, [Missed, Missed, Missed, Missed, Here]);
    }
}
