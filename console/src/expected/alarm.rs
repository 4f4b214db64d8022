//! Tells somebody that an expected file is not here, once for each rule and day, and once more when it came late.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pair::webhook::post;
use serde::{Deserialize, Serialize};

use super::{Outlook, Verdict};
use crate::config::Config;

/// What was told, in the state folder.
const FILE: &str = "console-expected.json";

/// A message, as JSON in the body of a POST.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The rule, as it is in the settings.
    pub expected: String,
    /// The day.
    pub date: String,
    /// Whether the file is not here; else it came late.
    pub alarm: bool,
    /// What, in a sentence; under this name chat programs take it.
    pub text: String,
}

/// What was told last of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    date: String,
    /// Whether that was cleared.
    cleared: bool,
}

/// Who is told, and what was told.
pub struct Alarm {
    url: String,
    path: PathBuf,
    told: BTreeMap<String, Told>,
    failed: Option<String>,
}

impl Alarm {
    /// With what was told before the start.
    pub fn new(config: &Config) -> Alarm {
        let path = config.state.join(FILE);
        let told = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Alarm { url: config.alarm_url.clone(), path, told, failed: None }
    }

    /// Tells what is new. What cannot be delivered is tried again at the next look, as long as it is true.
    pub async fn tell(&mut self, outlooks: &[Outlook]) {
        for outlook in outlooks {
            let Some((message, told)) = news(outlook, self.told.get(&outlook.rule)) else { continue };
            let (url, body) = (self.url.clone(), serde_json::to_string(&message).unwrap_or_default());
            let posted =
                if url.is_empty() { Ok(Ok(())) } else { tokio::task::spawn_blocking(move || post(&url, &body)).await };
            match posted.unwrap_or_else(|error| Err(format!("sending it broke off: {error}"))) {
                Ok(()) => {
                    self.failed = None;
                    let text = crate::web::shown(&message.text);
                    if message.alarm {
                        tracing::warn!("ALARM: {text}")
                    } else {
                        tracing::info!("{text}")
                    }
                    self.told.insert(outlook.rule.clone(), told);
                    self.keep();
                }
                Err(reason) => {
                    if self.failed.replace(reason.clone()) != Some(reason.clone()) {
                        tracing::warn!("alarm_url: a message cannot be delivered, it is tried again: {reason}");
                    }
                }
            }
        }
    }

    fn keep(&self) {
        let new = self.path.with_extension("json.new");
        let bytes = serde_json::to_vec(&self.told).unwrap_or_default();
        let kept = std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, &self.path));
        if let Err(error) = kept {
            tracing::warn!("cannot write {}: {error}; after a restart a message may come twice", self.path.display());
        }
    }
}

/// What is to be told of a rule, where that is something else than before. Pure.
fn news(outlook: &Outlook, told: Option<&Told>) -> Option<(Message, Told)> {
    let date = outlook.date.to_string();
    let told = told.filter(|told| told.date == date);
    let alarm = match (outlook.verdict, told) {
        (Verdict::Missed, None) => true,
        (Verdict::Here | Verdict::Late, Some(told)) if !told.cleared => false,
        _ => return None,
    };
    let text = match alarm {
        true => format!("expected and not here: {} ({})", outlook.rule, outlook.sentence),
        false => format!("came late: {} ({})", outlook.rule, outlook.sentence),
    };
    let message = Message { expected: outlook.rule.clone(), date: date.clone(), alarm, text };
    Some((message, Told { date, cleared: !alarm }))
}

#[cfg(test)]
mod tests {
    use jiff::civil::Date;

    use super::*;

    fn outlook(day: i8, verdict: Verdict) -> Outlook {
        let date = Date::constant(2026, 11, day);
        Outlook { rule: "a /x by 06:00".into(), date, verdict, sentence: "so".into() }
    }

    #[test]
    fn each_rule_is_told_once_a_day_and_cleared_once() {
        let (missed, told) = news(&outlook(20, Verdict::Missed), None).unwrap();
        assert!(missed.alarm && missed.text.contains("not here: a /x by 06:00"));
        assert_eq!(news(&outlook(20, Verdict::Missed), Some(&told)), None);
        assert!(news(&outlook(21, Verdict::Missed), Some(&told)).is_some(), "another day");
        let (late, cleared) = news(&outlook(20, Verdict::Late), Some(&told)).unwrap();
        assert!(!late.alarm);
        assert_eq!(news(&outlook(20, Verdict::Late), Some(&cleared)), None);
        assert_eq!(news(&outlook(21, Verdict::Here), Some(&told)), None, "nobody was told on that day");
        assert_eq!(news(&outlook(20, Verdict::Awaited), None), None);
    }

    #[tokio::test]
    async fn it_is_posted_and_remembered_across_a_restart() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let receiver = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut text, mut piece) = (String::new(), [0; 4096]);
            while !text.contains("\"text\"") {
                let read = stream.read(&mut piece).unwrap();
                assert!(read > 0, "{text}");
                text.push_str(std::str::from_utf8(&piece[..read]).unwrap());
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            text
        });
        let state = tempfile::tempdir().unwrap();
        let alarm_url = format!("http://{address}/hook");
        let config = Config { state: state.path().into(), alarm_url, ..Config::default() };
        let mut alarm = Alarm::new(&config);
        alarm.tell(&[outlook(20, Verdict::Missed)]).await;
        assert!(receiver.join().unwrap().contains("\"alarm\":true"));
        assert_eq!(Alarm::new(&config).told, alarm.told);
        assert_eq!(alarm.told.len(), 1);
    }
}
