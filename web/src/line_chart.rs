//! How lines over time look in our pages, drawn on the server as SVG: no script, no ornaments.
//!
//! A chart names its colours by CSS variables, so it follows the page's scheme; it carries no style of its own, since our policy for
//! browsers allows none. Lines differ in colour *and* in their dashes.

use charts_rs::{Color, LineChart, Symbol};

const FONT_SIZE: f32 = 13.0;

/// How many lines can be told apart.
pub const LINES_MAX: usize = 3;

/// The dashes of each line.
pub const DASHES: [Option<&str>; LINES_MAX] = [None, Some("7 4"), Some("2 3")];

/// What stands for a variable of the page until the chart is drawn.
struct Ink {
    red: u8,
    variable: &'static str,
}

const TEXT: Ink = Ink { red: 17, variable: "var(--muted)" };
const GRID: Ink = Ink { red: 18, variable: "var(--line)" };
const LINES: [Ink; LINES_MAX] = [
    Ink { red: 19, variable: "var(--line-1)" },
    Ink { red: 20, variable: "var(--line-2)" },
    Ink { red: 21, variable: "var(--line-3)" },
];

impl Ink {
    fn color(&self) -> Color {
        (self.red, 35, 52).into()
    }

    /// How charts-rs writes it.
    fn text(&self) -> String {
        format!("#{:02X}2334", self.red)
    }
}

/// A chart with a light grid, small labels and thin lines, whose values go from zero to `largest` or a little more.
pub fn styled(mut chart: LineChart, largest: f32) -> LineChart {
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
    chart.x_axis.stroke_color = GRID.color();
    chart.x_axis.font.color = TEXT.color();
    chart.x_axis.font.size = FONT_SIZE;
    let mut axis = chart.y_axis_configs.first().cloned().unwrap_or_default();
    axis.font.color = TEXT.color();
    axis.font.size = FONT_SIZE;
    axis.stroke_color = (0, 0, 0, 0).into();
    axis.split_number = 4;
    axis.min = Some(0.0);
    axis.max = Some(round_up(largest));
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

/// The drawing, with the colours' names instead of their values; none where it cannot be drawn.
pub fn svg(chart: &LineChart) -> Option<String> {
    let mut svg = chart.svg().ok()?;
    for ink in LINES.iter().chain([&TEXT, &GRID]) {
        svg = svg.replace(&ink.text(), ink.variable);
    }
    Some(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_end_of_the_axis_is_a_round_number_not_below_the_values() {
        for (value, expected) in [(0.0, 1.0), (0.9, 1.0), (11.0, 12.0), (101.0, 120.0), (650.0, 800.0)] {
            assert!((round_up(value) - expected).abs() < 0.01, "{value}: {}", round_up(value));
        }
    }
}
