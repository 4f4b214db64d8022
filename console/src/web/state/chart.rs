//! How far each standby was behind, as a line over time, drawn on the server as SVG.

use std::fmt;

use charts_rs::{LineChart, Series};
use web::figures;
use web::line_chart::{self, DASHES, LINES_MAX};

use super::super::shown;
use super::text::Clock;
use crate::situation::Lines;
use crate::store::samples::{Course, Courses};

/// What stands on both sides of a label.
const PAD: &str = "\u{a0}\u{a0}\u{a0}\u{a0}";
/// Drawn width and height; the page stretches it.
const WIDTH: f32 = 640.0;
const HEIGHT: f32 = 210.0;
/// At the right end this part of the line has no labels: half of one, with what is around it, is not so wide.
const UNLABELLED: usize = 14;
/// The upper end of the axis at least, so that four lines have whole numbers.
const LARGEST_MIN: f32 = 4.0;

const UNITS: [(&str, f64); 4] = [("ms", 1.0), ("s", 1000.0), ("min", 60_000.0), ("h", 3_600_000.0)];

/// Over which span the line goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Over {
    /// The last hour.
    #[default]
    Hour,
    /// The last day.
    Day,
    /// The last seven days.
    Week,
}

impl Over {
    /// All of them.
    pub const ALL: [Over; 3] = [Over::Hour, Over::Day, Over::Week];

    /// What an address says.
    pub fn of_query(query: &str) -> Over {
        let said = super::field(query, "over");
        Over::ALL.into_iter().find(|over| said.as_deref() == Some(over.name())).unwrap_or_default()
    }

    /// Its name in an address.
    pub fn name(self) -> &'static str {
        match self {
            Over::Hour => "hour",
            Over::Day => "day",
            Over::Week => "week",
        }
    }

    fn labels(self) -> &'static str {
        match self {
            Over::Hour | Over::Day => "%H:%M",
            Over::Week => "%a %d",
        }
    }
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A line, for the legend.
pub struct Line {
    /// The standby.
    pub name: String,
    /// Its place in the palette, from 1.
    pub place: usize,
}

/// A chart, ready for a page.
pub struct Chart {
    /// What it shows, with the unit.
    pub title: String,
    /// What there is to see, for those who do not see it.
    pub summary: String,
    /// Its lines; none where there is only one.
    pub legend: Vec<Line>,
    /// The drawing.
    pub svg: String,
}

/// How far the standbys were behind; none where nothing is known of that time.
pub fn lag(lines: &Lines, over: Over, clock: &Clock) -> Option<Chart> {
    let courses = match over {
        Over::Hour => &lines.hour,
        Over::Day => &lines.day,
        Over::Week => &lines.week,
    };
    let standbys: Vec<&Course> = courses
        .courses
        .iter()
        .filter(|course| !course.standby.is_empty() && !course.points.is_empty())
        .take(LINES_MAX)
        .collect();
    let largest_ms = standbys.iter().flat_map(|course| &course.points).map(|point| point.lag_ms).max()? as f64;
    let (unit, size) = UNITS.iter().rfind(|(_, size)| largest_ms >= size * 2.0).or(UNITS.first())?;
    let series = standbys.iter().zip(DASHES).map(|(course, dashes)| {
        let mut data = vec![None; courses.spans];
        for point in &course.points {
            if let Some(place) = data.get_mut(point.place) {
                *place = Some((point.lag_ms as f64 / size) as f32);
            }
        }
        let mut series = Series::new_nullable(String::new(), data);
        series.stroke_dash_array = dashes.map(str::to_owned);
        series
    });
    let chart = over_time(LineChart::new(series.collect(), labels(courses, over, clock)), (largest_ms / size) as f32);
    let legend = standbys.iter().enumerate().map(|(at, course)| Line { name: shown(&course.standby), place: at + 1 });
    Some(Chart {
        title: format!("How far behind, {unit}"),
        summary: format!(
            "Line of the last {over}: how far the standby was behind, at most {}",
            figures::milliseconds(largest_ms)
        ),
        legend: if standbys.len() > 1 { legend.collect() } else { Vec::new() },
        svg: line_chart::svg(&chart)?,
    })
}

/// When each span begins. Of so many labels only those are drawn that have room.
fn labels(courses: &Courses, over: Over, clock: &Clock) -> Vec<String> {
    let label = |place: usize| clock.format(courses.from_ms + courses.span_ms * place as i64, over.labels());
    // One that would stick out at the end is moved in by charts-rs, and takes the place of the one before it.
    let end = courses.spans - courses.spans / UNLABELLED;
    // Blanks that do not vanish keep labels apart.
    let label = |place| if place < end { format!("{PAD}{}{PAD}", label(place)) } else { String::new() };
    (0..courses.spans).map(label).collect()
}

/// A chart with times of the day below it.
fn over_time(chart: LineChart, largest: f32) -> LineChart {
    let mut chart = line_chart::styled(chart, largest.max(LARGEST_MIN));
    (chart.width, chart.height) = (WIDTH, HEIGHT);
    chart.margin = (4.0, 26.0, 2.0, 2.0).into();
    chart.x_axis.boundary_gap = Some(false);
    if let Some(axis) = chart.y_axis_configs.first_mut() {
        axis.formatter = Some("{t}".to_owned());
    }
    chart
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::tz::TimeZone;

    use super::*;
    use crate::store::samples::Point;

    fn lines(largest_ms: u64) -> Arc<Lines> {
        let point = |place| Point { place, lag_ms: largest_ms * (place as u64 % 10 + 1) / 10, free_bytes: None };
        let course = |name: &str| Course { standby: name.into(), points: (0..200).map(point).collect() };
        let own = Course { standby: String::new(), points: vec![Point::default()] };
        let courses = vec![own, course("b:22"), course("</svg><script>")];
        let hour = Courses { from_ms: 1_795_301_300_000, span_ms: 12_000, spans: 300, courses };
        Arc::new(Lines { hour, ..Lines::default() })
    }

    #[test]
    fn the_chart_has_no_style_no_colour_and_no_text_of_others() {
        let chart = lag(&lines(900), Over::Hour, &Clock::now(TimeZone::UTC)).unwrap();
        for foreign in ["style", "<script", "#", "class=", "b:22"] {
            assert!(!chart.svg.contains(foreign), "{foreign} in {}", chart.svg);
        }
        assert!(chart.svg.contains("var(--line-2)") && chart.svg.contains("viewBox"), "{}", chart.svg);
        assert_eq!((chart.title.as_str(), chart.legend.len()), ("How far behind, ms", 2));
        assert!(chart.svg.contains("22:4") || chart.svg.contains("22:5"), "{}", chart.svg);
    }

    #[test]
    fn no_time_is_missing_below_the_line() {
        for minute in 0..60 {
            let mut lines = Lines { ..lines(900).as_ref().clone() };
            lines.hour.from_ms += minute * 60_000;
            let chart = lag(&lines, Over::Hour, &Clock::now(TimeZone::UTC)).unwrap();
            let texts = chart.svg.split("</text>").filter_map(|text| text.rsplit_once('>'));
            let digits = |text: &str| text.trim_matches(|letter: char| !letter.is_ascii_digit()).parse::<i64>().ok();
            let times = texts.filter_map(|(_, text)| text.split_once(':'));
            let minutes: Vec<i64> =
                times.filter_map(|(hour, minute)| Some(digits(hour)? * 60 + digits(minute)?)).collect();
            assert!(minutes.len() > 5, "{minutes:?}");
            let steps: Vec<i64> = minutes.windows(2).map(|pair| (pair[1] - pair[0]).rem_euclid(24 * 60)).collect();
            let (least, most) = (steps.iter().min().unwrap(), steps.iter().max().unwrap());
            assert!(most - least <= 1, "{minutes:?}");
        }
    }

    #[test]
    fn the_unit_follows_the_largest_lag_and_unknown_times_have_no_chart() {
        let clock = Clock::now(TimeZone::UTC);
        for (largest_ms, expected) in [(3_000, "s"), (150_000, "min"), (9_000_000, "h")] {
            let chart = lag(&lines(largest_ms), Over::Hour, &clock).unwrap();
            assert_eq!(chart.title, format!("How far behind, {expected}"));
        }
        assert!(lag(&lines(1), Over::Week, &clock).is_none());
    }

    #[test]
    fn an_address_says_over_which_span() {
        let cases =
            [("over=week", Over::Week), ("x=1&over=day", Over::Day), ("over=year", Over::Hour), ("", Over::Hour)];
        for (query, expected) in cases {
            assert_eq!(Over::of_query(query), expected, "{query}");
        }
    }
}
