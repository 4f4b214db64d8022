//! The charts of a run, drawn on the server as SVG. They need no script, and show the same in a kept page as in a live one.

use charts_rs::{LineChart, Series};
use web::line_chart::{self, DASHES};

use crate::progress::Point;

/// Drawn width and height; the page stretches it. So narrow that the labels can still be read on a telephone.
const WIDTH: f32 = 430.0;
const HEIGHT: f32 = 205.0;

/// A line, for the legend below a chart.
pub struct Line {
    /// What it shows.
    pub name: &'static str,
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

/// A line's name, and its value at a point; none where it has a gap.
type Course = (&'static str, fn(&Point) -> Option<f64>);

/// What is drawn.
struct Drawing<'a> {
    title: &'a str,
    lines: &'a [Course],
    /// Units with the number of basic units each is, the smallest first.
    units: &'a [(&'static str, f64)],
}

const BYTE_RATES: [(&str, f64); 4] =
    [("KiB/s", 1024.0), ("MiB/s", 1_048_576.0), ("GiB/s", 1_073_741_824.0), ("TiB/s", 1_099_511_627_776.0)];
const TIMES: [(&str, f64); 2] = [("ms", 1.0), ("s", 1000.0)];

/// Bytes per second, up and down.
pub fn throughput(points: &[Point], most: Option<f64>) -> Option<Chart> {
    let lines: [Course; 2] =
        [("uploaded", |point| Some(point.up_bytes_per_s)), ("downloaded", |point| Some(point.down_bytes_per_s))];
    let has_downloads = points.iter().any(|point| point.down_bytes_per_s > 0.0);
    let lines = if has_downloads { &lines[..] } else { lines.get(..1)? };
    Drawing { title: "Throughput", lines, units: &BYTE_RATES }.draw(points, most)
}

/// How long operations took.
pub fn latency(points: &[Point], most: Option<f64>) -> Option<Chart> {
    let lines: [Course; 3] = [
        ("p50 (half)", |point| (point.p50_ms > 0.0).then_some(point.p50_ms)),
        ("p95", |point| (point.p95_ms > 0.0).then_some(point.p95_ms)),
        ("p99", |point| (point.p99_ms > 0.0).then_some(point.p99_ms)),
    ];
    Drawing { title: "Latency of operations", lines: &lines, units: &TIMES }.draw(points, most)
}

/// How far the standby is behind; none where nobody looks.
pub fn lag(points: &[Point]) -> Option<Chart> {
    points.iter().find(|point| point.standby_lag_ms.is_some())?;
    let lines: [Course; 1] = [("lag", |point| point.standby_lag_ms)];
    Drawing { title: "How far the standby is behind", lines: &lines, units: &TIMES }.draw(points, None)
}

/// The largest throughput of a run, so that two runs can be drawn to one scale.
pub fn throughput_max(points: &[Point]) -> f64 {
    points.iter().map(|point| point.up_bytes_per_s.max(point.down_bytes_per_s)).fold(0.0, f64::max)
}

/// The largest latency of a run.
pub fn latency_max(points: &[Point]) -> f64 {
    points.iter().map(|point| point.p99_ms).fold(0.0, f64::max)
}

impl Drawing<'_> {
    /// None where there is nothing to draw, or it cannot be drawn.
    fn draw(&self, points: &[Point], most: Option<f64>) -> Option<Chart> {
        let values = self.lines.iter().flat_map(|(_, value)| points.iter().filter_map(value));
        let largest = values.fold(0.0, f64::max).max(most.unwrap_or(0.0));
        let fits = |(_, size): &&(&str, f64)| largest >= *size;
        let (unit, size) = self.units.iter().rfind(fits).or(self.units.first())?;
        let series = self.lines.iter().zip(DASHES).map(|((name, value), dashes)| {
            let data = points.iter().map(|point| value(point).map(|value| (value / size) as f32)).collect();
            let mut series = Series::new_nullable((*name).to_owned(), data);
            series.stroke_dash_array = dashes.map(str::to_owned);
            series
        });
        let times = points.iter().map(|point| point.t_s).collect();
        let chart = over_time(LineChart::new(series.collect(), Vec::new()), times, (largest / size) as f32);
        let names = self.lines.iter().enumerate().map(|(place, (name, _))| Line { name, place: place + 1 });
        let last_s = points.last().map_or(0.0, |point| point.t_s);
        Some(Chart {
            title: format!("{}, {unit}", self.title),
            summary: format!("{} over {last_s:.0} seconds, at most {:.1} {unit}", self.title, largest / size),
            legend: if self.lines.len() > 1 { names.collect() } else { Vec::new() },
            svg: line_chart::svg(&chart)?,
        })
    }
}

/// A chart over the seconds of a run.
fn over_time(chart: LineChart, times: Vec<f64>, largest: f32) -> LineChart {
    let mut chart = line_chart::styled(chart, largest);
    (chart.width, chart.height) = (WIDTH, HEIGHT);
    chart.margin = (4.0, 12.0, 2.0, 2.0).into();
    chart.x_axis.values = if times.is_empty() { vec![0.0] } else { times };
    chart.x_axis.min = Some(0.0);
    chart.x_axis.formatter = Some("{c} s".to_owned());
    chart
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points() -> Vec<Point> {
        (0..120)
            .map(|second| Point {
                t_s: f64::from(second),
                up_bytes_per_s: 80e6 + 30e6 * (f64::from(second) / 7.0).sin(),
                down_bytes_per_s: 20e6 + 9e6 * (f64::from(second) / 3.0).cos(),
                operations_per_s: 900.0,
                p50_ms: 4.0 + (f64::from(second) / 5.0).sin(),
                p95_ms: 9.0 + 2.0 * (f64::from(second) / 4.0).sin(),
                p99_ms: 18.0 + 6.0 * (f64::from(second) / 9.0).cos(),
                errors: 0,
                standby_lag_ms: (second > 10).then_some(140.0 + f64::from(second)),
            })
            .collect()
    }

    #[test]
    fn charts_have_no_style_and_no_colour_of_their_own() {
        let points = points();
        for chart in [throughput(&points, None), latency(&points, None), lag(&points)] {
            let svg = chart.unwrap().svg;
            for foreign in ["style", "<script", "#", "class="] {
                assert!(!svg.contains(foreign), "{foreign} in {svg}");
            }
            assert!(svg.contains("var(--line-1)") && svg.contains("viewBox"), "{svg}");
        }
    }

    #[test]
    fn an_empty_run_has_an_empty_chart_and_no_lag() {
        assert!(throughput(&[], None).is_some());
        assert!(latency(&[Point::default()], None).is_some());
        assert!(lag(&[Point::default()]).is_none());
    }

    #[test]
    fn units_follow_the_largest_value() {
        let slow = Point { up_bytes_per_s: 2048.0, ..Point::default() };
        assert_eq!(throughput(&[slow], None).unwrap().title, "Throughput, KiB/s");
        assert_eq!(throughput(&[slow], Some(5e9)).unwrap().title, "Throughput, GiB/s");
        assert_eq!(latency(&points(), None).unwrap().title, "Latency of operations, ms");
    }
}
