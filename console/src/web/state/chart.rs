//! How far each standby was behind, as a line over time, drawn on the server as SVG.
//!
//! The chart names its colours by CSS variables, so it follows the page's scheme; it carries no style of its own, since our policy for
//! browsers allows none. Lines differ in colour *and* in their dashes.

use std::fmt;

use charts_rs::{Color, LineChart, Series, Symbol};
use web::figures;

use super::super::shown;
use super::text::Clock;
use crate::situation::Lines;
use crate::store::samples::{Course, Courses};

/// What stands on both sides of a label.
const PAD: &str = "\u{a0}\u{a0}\u{a0}\u{a0}";
/// Drawn width and height; the page stretches it.
const WIDTH: f32 = 640.0;
const HEIGHT: f32 = 210.0;
const FONT_SIZE: f32 = 13.0;
/// The upper end of the axis at least, so that four lines have whole numbers.
const LARGEST_MIN: f32 = 4.0;

/// What stands for a variable of the page until the chart is drawn.
struct Ink {
    red: u8,
    variable: &'static str,
}

const TEXT: Ink = Ink { red: 17, variable: "var(--muted)" };
const GRID: Ink = Ink { red: 18, variable: "var(--line)" };
const LINES: [Ink; 3] = [
    Ink { red: 19, variable: "var(--line-1)" },
    Ink { red: 20, variable: "var(--line-2)" },
    Ink { red: 21, variable: "var(--line-3)" },
];
const DASHES: [Option<&str>; 3] = [None, Some("7 4"), Some("2 3")];

const UNITS: [(&str, f64); 4] = [("ms", 1.0), ("s", 1000.0), ("min", 60_000.0), ("h", 3_600_000.0)];

impl Ink {
    fn color(&self) -> Color {
        (self.red, 35, 52).into()
    }

    /// How charts-rs writes it.
    fn text(&self) -> String {
        format!("#{:02X}2334", self.red)
    }
}

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
        .take(LINES.len())
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
    let chart = styled(LineChart::new(series.collect(), labels(courses, over, clock)), (largest_ms / size) as f32);
    let legend = standbys.iter().enumerate().map(|(at, course)| Line { name: shown(&course.standby), place: at + 1 });
    Some(Chart {
        title: format!("How far behind, {unit}"),
        summary: format!(
            "Line of the last {over}: how far the standby was behind, at most {}",
            figures::milliseconds(largest_ms)
        ),
        legend: if standbys.len() > 1 { legend.collect() } else { Vec::new() },
        svg: in_page_colours(&chart.svg().ok()?),
    })
}

/// When each span begins. Of so many labels only those are drawn that have room.
fn labels(courses: &Courses, over: Over, clock: &Clock) -> Vec<String> {
    let label = |place: usize| clock.format(courses.from_ms + courses.span_ms * place as i64, over.labels());
    // Blanks that do not vanish keep labels apart.
    let label = |place| format!("{PAD}{}{PAD}", label(place));
    (0..courses.spans).map(label).collect()
}

/// A chart without ornaments: a light grid, small labels, thin lines.
fn styled(mut chart: LineChart, largest: f32) -> LineChart {
    (chart.width, chart.height) = (WIDTH, HEIGHT);
    chart.margin = (4.0, 26.0, 2.0, 2.0).into();
    chart.font_family = "inherit".to_owned();
    chart.background_color = (0, 0, 0, 0).into();
    chart.title.text = String::new();
    chart.legend.show = Some(false);
    chart.series.symbol = Some(Symbol::None);
    chart.series.stroke_width = 1.75;
    chart.series.smooth = false;
    chart.series.colors = LINES.iter().map(Ink::color).collect();
    chart.grid.stroke_color = GRID.color();
    chart.grid.stroke_width = 1.0;
    chart.x_axis.boundary_gap = Some(false);
    chart.x_axis.stroke_color = GRID.color();
    chart.x_axis.font.color = TEXT.color();
    chart.x_axis.font.size = FONT_SIZE;
    let mut axis = chart.y_axis_configs.first().cloned().unwrap_or_default();
    axis.font.color = TEXT.color();
    axis.font.size = FONT_SIZE;
    axis.stroke_color = (0, 0, 0, 0).into();
    axis.split_number = 4;
    axis.formatter = Some("{t}".to_owned());
    axis.min = Some(0.0);
    axis.max = Some(round_up(largest.max(LARGEST_MIN)));
    chart.y_axis_configs = vec![axis];
    chart
}

/// The next number that four lines divide well.
fn round_up(value: f32) -> f32 {
    if value <= 0.0 {
        return 1.0;
    }
    let decade = 10_f32.powf(value.log10().floor());
    let steps = [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 6.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * decade).find(|step| *step >= value).unwrap_or(value)
}

/// The colours' names instead of their values, and no size of its own.
fn in_page_colours(svg: &str) -> String {
    let mut svg = svg.to_owned();
    for ink in LINES.iter().chain([&TEXT, &GRID]) {
        svg = svg.replace(&ink.text(), ink.variable);
    }
    svg
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
