//! Charts of growth with logarithms on both axes, as SVG with a background of their own: they look the same on light and dark pages.
//!
//! A straight line as steep as the grey one is linear. charts-rs has no such axis across, so it is given logarithms, and its labels are
//! put into words afterwards.

use charts_rs::{Color, LineChart, Position, Series, Symbol};

use super::growth::{Curve, Unit};

const WIDTH: f32 = 720.0;
const HEIGHT: f32 = 420.0;
const FONT_SIZE: f32 = 13.0;

const TEXT: &str = "#333333";
const GRID: &str = "#e4e4e4";
const GUIDE: &str = "#9a9a9a";

/// Room for the labels of the axis that goes up.
const LABELS_WIDTH: f32 = 62.0;

/// A dark and a light colour of each server, and dashes. The legend shows only the colours.
const LINES: [(&str, Option<&str>); 6] = [
    ("#0b4f9e", None),
    ("#5aa9e6", Some("6 4")),
    ("#b3440a", None),
    ("#f2a35e", Some("6 4")),
    ("#156b3e", None),
    ("#6cc494", Some("6 4")),
];

/// The exponents that labels are made for.
const EXPONENTS: std::ops::RangeInclusive<i32> = -7..=13;

/// The looks of so many lines: where each is of another thing, no two are alike.
fn looks(curves: usize) -> impl Iterator<Item = &'static (&'static str, Option<&'static str>)> {
    LINES.iter().step_by(if curves <= 2 { 2 } else { 1 })
}

/// Draws curves of one unit over the work.
pub fn draw(title: &str, work: (&str, Unit), curves: &[&Curve]) -> String {
    let unit = curves.first().map_or(Unit::Count, |curve| curve.unit);
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let [left, right] = ends(points().map(|point| point.work));
    let [bottom, top] = ends(points().map(|point| point.cost));
    let mut series: Vec<Series> =
        curves.iter().zip(looks(curves.len())).map(|(curve, (_, dashes))| line(curve, *dashes)).collect();
    series.extend(guide(curves, bottom.floor()));
    let mut chart = LineChart::new(series, Vec::new());
    style(&mut chart, title, curves.len());
    chart.x_axis.title = work.0.to_owned();
    // A little room, so that no point lies on the edge.
    (chart.x_axis.min, chart.x_axis.max) = (Some(left - 0.08), Some(right + 0.08));
    let mut axis = chart.y_axis_configs.first().cloned().unwrap_or_default();
    let decades = (top.ceil() - bottom.floor()).max(1.0);
    (axis.min, axis.max) = (Some(bottom.floor() as f32), Some((bottom.floor() + decades) as f32));
    axis.split_number = decades as usize;
    // As wide as a figure in words: it is placed by its width.
    axis.formatter = Some("[y WM{c}]".to_owned());
    axis.font.color = TEXT.into();
    axis.font.size = FONT_SIZE;
    axis.stroke_color = GRID.into();
    axis.width = Some(LABELS_WIDTH);
    chart.y_axis_configs = vec![axis];
    in_words(chart.svg().expect("a chart"), work.1, unit)
}

/// The logarithms of the least and the largest.
fn ends(figures: impl Iterator<Item = f64>) -> [f64; 2] {
    let logs = figures.map(f64::log10);
    logs.fold([f64::INFINITY, f64::NEG_INFINITY], |[least, most], log| [least.min(log), most.max(log)])
}

fn line(curve: &Curve, dashes: Option<&str>) -> Series {
    let costs = curve.points.iter().map(|point| point.cost.log10() as f32).collect();
    // The legend leaves no room between its entries.
    let mut series = Series::new(format!("{}\u{a0}\u{a0}", curve.name), costs);
    series.x_values = Some(curve.points.iter().map(|point| point.work.log10()).collect());
    series.stroke_dash_array = dashes.map(str::to_owned);
    series
}

/// Down from the first curve's last point, as steep as linear is, until it leaves the chart.
fn guide(curves: &[&Curve], bottom: f64) -> Option<Series> {
    let (first, last) = (curves.first()?.points.first()?, curves.first()?.points.last()?);
    let (work, cost) = (last.work.log10(), last.cost.log10());
    let length = (cost - bottom).min(work - first.work.log10());
    let mut series = Series::new("as steep as linear".to_owned(), vec![(cost - length) as f32, cost as f32]);
    series.x_values = Some(vec![work - length, work]);
    series.stroke_dash_array = Some("2 3".to_owned());
    series.symbol = Some(Symbol::None);
    Some(series)
}

fn style(chart: &mut LineChart, title: &str, curves: usize) {
    (chart.width, chart.height) = (WIDTH, HEIGHT);
    chart.margin = (12.0, 24.0, 10.0, 12.0).into();
    chart.background_color = "#ffffff".into();
    chart.title.text = title.to_owned();
    chart.title.font.color = TEXT.into();
    chart.title.font.size = 15.0;
    chart.legend.position = Some(Position::Bottom);
    chart.legend.font.color = TEXT.into();
    chart.legend.font.size = FONT_SIZE;
    chart.series.symbol = Some(Symbol::Circle(3.5, None));
    chart.series.stroke_width = 2.0;
    chart.series.smooth = false;
    let colours = looks(curves).take(curves).map(|(colour, _)| *colour).chain([GUIDE]);
    chart.series.colors = colours.map(Color::from).collect();
    chart.grid.stroke_color = GRID.into();
    chart.x_axis.formatter = Some("[x{c}]".to_owned());
    chart.x_axis.stroke_color = GUIDE.into();
    chart.x_axis.font.color = TEXT.into();
    chart.x_axis.font.size = FONT_SIZE;
}

/// Figures instead of their logarithms.
fn in_words(mut svg: String, work: Unit, cost: Unit) -> String {
    for exponent in EXPONENTS {
        for (axis, unit) in [("x", work), ("y WM", cost)] {
            svg = svg.replace(&format!("[{axis}{exponent}]"), &unit.shown(10_f64.powi(exponent)));
            // Between two decades stands no figure.
            svg = svg.replace(&format!("[{axis}{exponent}.5]"), "");
        }
    }
    svg
}
