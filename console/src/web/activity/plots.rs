//! The charts, as plotly.js takes them. Pure.
//!
//! Always holds: names in them are text: what plotly.js would take for markup is written out. Colours are the page's, by their order;
//! the script sets them, so that dark and light both look right.

use std::collections::BTreeSet;

use plotly::common::{HoverInfo, Marker, Orientation};
use plotly::configuration::{DisplayModeBar, ModeBarButtonName};
use plotly::layout::{Axis, AxisType, BarMode, Legend, Margin, TraceOrder};
use plotly::{Bar, Configuration, Layout, Plot};
use web::figures;

use super::super::records::shown;
use super::answers::Answers;
use crate::questions::{HourFigures, Totals};

/// Bars in a chart at most; the table has more.
const BARS_MAX: usize = 20;
/// Letters of a name beside a bar at most.
const LABEL_LETTERS_MAX: usize = 28;
/// Height of a bar with its gap, and of what is around all bars, in pixels.
const BAR_HEIGHT: usize = 26;
const AROUND_HEIGHT: usize = 114;
const CHART_HEIGHT: usize = 344;
/// Above the bars, in pixels: the buttons, and the legend under them.
const LEGEND_HEIGHT: usize = 60;

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// What each chart is made with; none where there is nothing to draw.
pub type Draw = fn(&Answers, bool) -> Option<Plot>;

/// A row of a chart with a bar for each name.
struct Named {
    name: String,
    values: Vec<(u64, String)>,
}

/// Letters that plotly.js would take for markup, written out.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A name beside a bar, which no other bar has: plotly.js joins bars of one name.
fn label(name: &str, known: &mut BTreeSet<String>) -> String {
    let name = if name.is_empty() { "(nobody)".to_owned() } else { shown(name) };
    let mut short: String = name.chars().take(LABEL_LETTERS_MAX).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    let mut label = escaped(&short);
    let mut number = 2;
    while !known.insert(label.clone()) {
        label = format!("{} ({number})", escaped(&short));
        number += 1;
    }
    label
}

fn value_axis(is_log: bool) -> Axis {
    let axis = Axis::new().tick_format("~s").auto_margin(true);
    if is_log { axis.type_(AxisType::Log) } else { axis.range_mode(plotly::layout::RangeMode::ToZero) }
}

fn plot(layout: Layout) -> Plot {
    let mut plot = Plot::new();
    let legend = Legend::new()
        .trace_order(TraceOrder::Normal)
        .orientation(Orientation::Horizontal)
        .y(1.02)
        .y_anchor(plotly::common::Anchor::Bottom)
        .x(0.0);
    let margin = Margin::new().left(48).right(12).top(LEGEND_HEIGHT).bottom(40);
    plot.set_layout(layout.legend(legend).margin(margin).auto_size(true));
    let removed = vec![
        ModeBarButtonName::Select2d,
        ModeBarButtonName::Lasso2d,
        ModeBarButtonName::AutoScale2d,
        ModeBarButtonName::SendDataToCloud,
    ];
    let configuration = Configuration::new()
        .responsive(true)
        .display_logo(false)
        .typeset_math(false)
        .display_mode_bar(DisplayModeBar::Hover)
        .mode_bar_buttons_to_remove(removed);
    plot.set_configuration(configuration);
    plot
}

/// Bars that lie, one line for each name, one colour for each series.
fn lying(series: &[&str], mut rows: Vec<Named>, is_log: bool) -> Option<Plot> {
    rows.truncate(BARS_MAX);
    if rows.is_empty() {
        return None;
    }
    let mut known = BTreeSet::new();
    // The axis has its first name at the bottom.
    let labels: Vec<String> = rows.iter().map(|row| label(&row.name, &mut known)).collect();
    let (labels, rows): (Vec<String>, Vec<Named>) = labels.into_iter().zip(rows).rev().unzip();
    let height = rows.len() * BAR_HEIGHT + AROUND_HEIGHT;
    let names = Axis::new().type_(AxisType::Category).auto_margin(true);
    // Parts of a whole cannot be told from each other on a logarithmic axis.
    let mode = if is_log { BarMode::Group } else { BarMode::Stack };
    let layout = Layout::new().x_axis(value_axis(is_log)).y_axis(names).bar_mode(mode).height(height);
    let mut plot = plot(layout.show_legend(series.len() > 1));
    for (at, name) in series.iter().enumerate() {
        let values = rows.iter().filter_map(|row| row.values.get(at));
        let (numbers, texts): (Vec<u64>, Vec<String>) = values.cloned().unzip();
        let texts = labels.iter().zip(texts).map(|(label, text)| format!("{label}<br>{name}: {text}")).collect();
        let bar = Bar::new(numbers, labels.clone()).orientation(Orientation::Horizontal).name(*name);
        plot.add_trace(bar.hover_text_array(texts).hover_info(HoverInfo::Text));
    }
    Some(plot)
}

fn counted(number: u64) -> (u64, String) {
    (number, figures::count(number))
}

fn sized(number: u64) -> (u64, String) {
    (number, figures::bytes(number))
}

fn by_account(answers: &Answers, of: impl Fn(&Totals) -> Vec<(u64, String)>) -> Vec<Named> {
    let row = |one: &crate::questions::AccountFigures| Named { name: one.account.clone(), values: of(&one.totals) };
    let mut rows: Vec<Named> = answers.moved.accounts.iter().map(row).collect();
    let sum = |row: &Named| row.values.iter().map(|(number, _)| number).sum::<u64>();
    rows.retain(|row| sum(row) > 0);
    rows.sort_by_key(|row| std::cmp::Reverse(sum(row)));
    rows
}

/// Transfers by account.
pub fn transfers(answers: &Answers, is_log: bool) -> Option<Plot> {
    let of = |all: &Totals| [all.uploads, all.downloads, all.failed_transfers].map(counted).to_vec();
    lying(&["Uploads", "Downloads", "Failed"], by_account(answers, of), is_log)
}

/// Bytes by account.
pub fn bytes_of(answers: &Answers, is_log: bool) -> Option<Plot> {
    let of = |all: &Totals| [all.uploaded_bytes, all.downloaded_bytes].map(sized).to_vec();
    lying(&["Uploaded", "Downloaded"], by_account(answers, of), is_log)
}

/// Bytes of a transfer on the average by account.
pub fn average(answers: &Answers, is_log: bool) -> Option<Plot> {
    lying(&["Average"], by_account(answers, |all| vec![sized(all.average_bytes())]), is_log)
}

/// What fails.
pub fn failures(answers: &Answers, is_log: bool) -> Option<Plot> {
    let named = |one: &crate::questions::Failure| {
        let cause = if one.cause.is_empty() { "nothing was said" } else { &one.cause };
        Named { name: format!("{}: {cause}", one.operation.name()), values: vec![counted(one.records)] }
    };
    lying(&["Times"], answers.failures.iter().map(named).collect(), is_log)
}

/// Who is slow.
pub fn slowest(answers: &Answers, is_log: bool) -> Option<Plot> {
    let rows = answers.moved.slowest.iter().map(|one| {
        let text = figures::rate(one.bytes_per_s as f64);
        Named { name: one.account.clone(), values: vec![(one.bytes_per_s, text)] }
    });
    lying(&["Bytes per second"], rows.collect(), is_log)
}

/// Programs with which people come.
pub fn clients(answers: &Answers, is_log: bool) -> Option<Plot> {
    let rows = answers.clients.iter().map(|one| {
        let name = if one.client.is_empty() { "(not said)" } else { &one.client };
        Named { name: name.to_owned(), values: vec![counted(one.logins)] }
    });
    lying(&["Logins"], rows.collect(), is_log)
}

/// Who fails to log in.
pub fn failed_logins(answers: &Answers, is_log: bool) -> Option<Plot> {
    let rows = answers.failed_logins.iter().map(|one| {
        let name = if one.account.is_empty() { "(nobody)" } else { &one.account };
        Named { name: format!("{name} from {}", one.address), values: vec![counted(one.records)] }
    });
    lying(&["Times"], rows.collect(), is_log)
}

type Series = (&'static str, fn(&Totals) -> (u64, String));

fn standing(answers: &Answers, series: &[Series], is_log: bool) -> Option<Plot> {
    if answers.moved.days.is_empty() {
        return None;
    }
    let days: Vec<String> = answers.moved.days.iter().map(|day| day.date.to_string()).collect();
    let mode = if is_log { BarMode::Group } else { BarMode::Stack };
    let dates = Axis::new().type_(AxisType::Date);
    let layout = Layout::new().x_axis(dates).y_axis(value_axis(is_log)).bar_mode(mode).height(CHART_HEIGHT);
    let mut plot = plot(layout.show_legend(true));
    for (name, of) in series {
        let (numbers, texts): (Vec<u64>, Vec<String>) = answers.moved.days.iter().map(|day| of(&day.totals)).unzip();
        let texts = days.iter().zip(texts).map(|(day, text)| format!("{day}<br>{name}: {text}")).collect();
        let bar = Bar::new(days.clone(), numbers).name(*name).hover_text_array(texts).hover_info(HoverInfo::Text);
        plot.add_trace(bar);
    }
    Some(plot)
}

/// Transfers by day.
pub fn days(answers: &Answers, is_log: bool) -> Option<Plot> {
    let series: [Series; 3] = [
        ("Uploads", |all| counted(all.uploads)),
        ("Downloads", |all| counted(all.downloads)),
        ("Failed", |all| counted(all.failed_transfers)),
    ];
    standing(answers, &series, is_log)
}

/// Bytes by day.
pub fn bytes_by_day(answers: &Answers, is_log: bool) -> Option<Plot> {
    let series: [Series; 2] =
        [("Uploaded", |all| sized(all.uploaded_bytes)), ("Downloaded", |all| sized(all.downloaded_bytes))];
    standing(answers, &series, is_log)
}

/// A square for each hour of the week, as bars of one height on each other: plotly.js draws its own heat maps as images, which the policy
/// for browsers forbids.
fn week(answers: &Answers, of: fn(&HourFigures) -> u64) -> Option<Plot> {
    let most = answers.moved.week.iter().flatten().map(of).max().unwrap_or_default();
    if most == 0 {
        return None;
    }
    let hours: Vec<String> = (0..24).map(|hour| format!("{hour:02}")).collect();
    let middles = (0..WEEKDAYS.len()).map(|day| day as f64 + 0.5).collect();
    // The first bar is at the bottom.
    let names: Vec<&str> = WEEKDAYS.iter().rev().copied().collect();
    let days = Axis::new().tick_values(middles).tick_text(names.clone()).show_grid(false).zero_line(false);
    let layout = Layout::new().x_axis(Axis::new().type_(AxisType::Category)).y_axis(days).height(CHART_HEIGHT);
    let mut plot = plot(layout.bar_mode(BarMode::Stack).bar_gap(0.06).show_legend(false));
    for (name, day) in names.into_iter().zip(answers.moved.week.iter().rev()) {
        let numbers: Vec<u64> = day.iter().map(of).collect();
        let texts =
            hours.iter().zip(&numbers).map(|(hour, number)| format!("{name} {hour}:00: {}", figures::count(*number)));
        let marker = Marker::new().color_array(numbers.clone()).cmin(0.0).cmax(most as f64);
        let bar = Bar::new(hours.clone(), vec![1; hours.len()]).name(name).marker(marker);
        plot.add_trace(bar.hover_text_array(texts.collect()).hover_info(HoverInfo::Text));
    }
    Some(plot)
}

/// Uploads over the hours of the week. Its colours are linear in any case.
pub fn upload_hours(answers: &Answers, _: bool) -> Option<Plot> {
    week(answers, |hour| hour.uploads)
}

/// Downloads over the hours of the week.
pub fn download_hours(answers: &Answers, _: bool) -> Option<Plot> {
    week(answers, |hour| hour.downloads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::questions::{AccountFigures, Moved};

    fn answers(names: &[&str]) -> Answers {
        let totals = Totals { uploads: 3, uploaded_bytes: 1000, failed_transfers: 1, ..Totals::default() };
        let account = |name: &&str| AccountFigures { account: (*name).into(), totals, average_bytes: 250 };
        let moved = Moved { accounts: names.iter().map(account).collect(), ..Moved::default() };
        Answers { moved, ..Answers::default() }
    }

    #[test]
    fn names_are_text_and_no_two_bars_have_one_name() {
        let long = "x".repeat(40);
        let hostile =
            ["<b>a</b>", "<a href=\"javascript:x\">", "&lt;", &long, &format!("{long}y"), "", "1e3", "\u{202e}z"];
        let json = transfers(&answers(&hostile), false).unwrap().to_json();
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        let labels: Vec<&str> =
            parsed["data"][0]["y"].as_array().unwrap().iter().map(|y| y.as_str().unwrap()).collect();
        assert_eq!(labels.len(), 8);
        assert_eq!(labels.iter().collect::<BTreeSet<_>>().len(), 8, "{labels:?}");
        assert!(labels.contains(&"&lt;b&gt;a&lt;/b&gt;") && labels.contains(&"&amp;lt;"), "{labels:?}");
        assert!(!json.contains("<b>") && !json.contains("<a "), "{json}");
        assert_eq!(parsed["layout"]["yaxis"]["type"], "category");
        assert_eq!(parsed["config"]["displaylogo"], false);
    }

    #[test]
    fn a_logarithmic_axis_stacks_nothing() {
        let of = |is_log| {
            let json = bytes_of(&answers(&["a"]), is_log).unwrap().to_json();
            let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
            (parsed["layout"]["xaxis"]["type"].clone(), parsed["layout"]["barmode"].clone())
        };
        assert_eq!(of(true), ("log".into(), "group".into()));
        assert_eq!(of(false).1, "stack");
        assert!(transfers(&Answers::default(), false).is_none() && days(&Answers::default(), true).is_none());
    }
}
