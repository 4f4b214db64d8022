//! Tells somebody when a standby is gone or lags too far, and once more when it is well again.
//!
//! Always holds: one message for each turn, however often filesync is started in between: what was told last is in the
//! store. A message that cannot be delivered is tried again for as long as it is true. Where filesync is killed while it tells
//! something, it may tell it twice, but never leaves it out.

use std::sync::Arc;
use std::time::Duration;

use pair::webhook::post;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::status::{Board, Report, now_s};

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);
/// How long after a message could not be delivered.
const AGAIN: Duration = Duration::from_secs(30);

/// A message, as JSON in the body of a POST.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The standby, named as in the settings.
    pub standby: String,
    /// Whether something is wrong; else it is well again.
    pub alarm: bool,
    /// What, in a sentence; under this name chat programs take it.
    pub text: String,
    /// How far the standby is behind, in seconds.
    pub lag_s: f64,
    /// When this was noticed, in seconds since 1970.
    pub at_s: i64,
}

/// Who is told of one standby, and when.
pub struct Alarm {
    board: Arc<Board>,
    lag_max: Duration,
    url: Option<String>,
}

/// What was told last.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Told {
    /// That all is well, or nothing yet.
    #[default]
    Well,
    /// That something is wrong.
    Alarm,
    /// Something else than before was about to be told; who was to hear it may have it or not.
    Unsure,
}

/// Where it is remembered what was told last.
pub trait Memory {
    /// What was told last.
    async fn told(&self) -> Result<Told, String>;
    /// Remembers what was told.
    async fn keep_told(&self, told: Told) -> Result<(), String>;
}

/// What is to be told, where that is something else than before. A standby that is away gets as long as one that lags.
fn news(report: &Report, lag_max: Duration, told: Told) -> Option<Message> {
    let away_s = now_s().saturating_sub(report.since_s).max(0) as u64;
    let is_briefly_away = !report.connected && Duration::from_secs(away_s) <= lag_max;
    let wrong = report.alarm(lag_max).filter(|_| !is_briefly_away);
    // A filesync that was just started knows nothing yet.
    let is_well = wrong.is_none() && !is_briefly_away && (report.followed || report.settled_at_s.is_some());
    let (alarm, text) = match wrong {
        Some(sentence) if told != Told::Alarm => (true, sentence),
        None if is_well && told != Told::Well => (false, format!("{}: well again", report.standby)),
        _ => return None,
    };
    let lag_s = Duration::from_millis(report.lag_ms).as_secs_f64();
    Some(Message { standby: report.standby.clone(), alarm, text, lag_s, at_s: now_s() })
}

impl Alarm {
    /// The alarm for one standby's board.
    pub fn new(config: &Config, board: Arc<Board>) -> Alarm {
        let url = Some(config.alarm_url.clone()).filter(|url| !url.is_empty());
        Alarm { board, lag_max: config.alarm_lag.get(), url }
    }

    /// Looks for ever.
    pub async fn watch(&self, memory: &impl Memory) {
        let mut told = loop {
            match memory.told().await {
                Ok(told) => break told,
                Err(sentence) => tracing::warn!("{sentence}"),
            }
            tokio::time::sleep(AGAIN).await;
        };
        let mut failed = None;
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(message) = news(&self.board.report(), self.lag_max, told) else {
                failed = None;
                continue;
            };
            keep(memory, Told::Unsure).await;
            match self.tell(&message, failed.is_some()).await {
                Ok(()) => {
                    (told, failed) = (if message.alarm { Told::Alarm } else { Told::Well }, None);
                    keep(memory, told).await;
                    tracing::debug!("told: {}", message.text);
                }
                Err(reason) => {
                    keep(memory, told).await;
                    if failed.replace(reason.clone()) != Some(reason.clone()) {
                        tracing::warn!("alarm_url: a message cannot be delivered, it is tried again: {reason}");
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn tell(&self, message: &Message, is_again: bool) -> Result<(), String> {
        match message.alarm {
            _ if is_again => {}
            true => tracing::warn!("ALARM: {}", message.text),
            false => tracing::info!("{}", message.text),
        }
        let Some(url) = self.url.clone() else { return Ok(()) };
        let body = serde_json::to_string(message).map_err(|error| error.to_string())?;
        let posted = tokio::task::spawn_blocking(move || post(&url, &body)).await;
        posted.map_err(|error| format!("sending it broke off: {error}"))?
    }
}

async fn keep(memory: &impl Memory, told: Told) {
    if let Err(sentence) = memory.keep_told(told).await {
        tracing::warn!("{sentence}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(60);

    fn report(connected: bool, lag_s: u64, away_s: i64) -> Report {
        let (lag_ms, since_s) = (lag_s * 1000, now_s() - away_s);
        let report = Report { standby: "b:1".into(), at_s: now_s(), connected, ..Report::default() };
        Report { followed: connected, lag_ms, since_s, ..report }
    }

    #[test]
    fn each_turn_is_told_once() {
        let told = |report: Report, told| news(&report, MAX, told).map(|message| message.alarm);
        assert_eq!(told(report(true, 0, 900), Told::Well), None);
        assert_eq!(told(report(true, 60, 900), Told::Well), None);
        assert_eq!(told(report(true, 61, 900), Told::Well), Some(true));
        assert_eq!(told(report(true, 61, 900), Told::Alarm), None);
        assert_eq!(told(report(true, 60, 900), Told::Alarm), Some(false));
        assert_eq!(told(report(true, 61, 900), Told::Unsure), Some(true), "rather twice than never");
        assert_eq!(told(report(true, 60, 900), Told::Unsure), Some(false));
        let just_started = Report { followed: false, ..report(true, 3, 3) };
        assert_eq!(told(just_started, Told::Alarm), None, "nothing is compared yet");
        let text = news(&report(true, 61, 900), MAX, Told::Well).unwrap().text;
        assert_eq!(text, "b:1: lags by 61 s, more than 60 s");
    }

    #[test]
    fn a_problem_that_stays_is_told_too() {
        let problem = |since_s: i64| {
            let report = report(true, 0, 900);
            let report = Report { problems: 2, problems_since_s: Some(now_s() - since_s), ..report };
            news(&report, MAX, Told::Well).map(|message| message.text)
        };
        assert_eq!(problem(60), None);
        let told = problem(70).unwrap();
        assert!(told.contains("2 paths have problems, the oldest for 70 s"), "{told}");
    }

    #[test]
    fn who_is_away_gets_as_long_as_who_lags_and_being_away_is_not_being_well() {
        let told = |report: Report, told| news(&report, MAX, told).map(|message| message.alarm);
        assert_eq!(told(report(false, 500, 30), Told::Well), None);
        assert_eq!(told(report(false, 500, 61), Told::Well), Some(true));
        assert_eq!(told(report(false, 500, 61), Told::Alarm), None);
        assert_eq!(told(report(false, 0, 30), Told::Alarm), None, "away again before it was well");
    }
}
