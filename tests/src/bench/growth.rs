//! What something costs while the work grows: curves, how steep each step of them is, and the table that says so.
//!
//! A step's exponent is log(cost ratio) / log(work ratio): 1 is linear, 0 is flat. A step is only called bad where the rounds of both
//! its ends leave no doubt. It measures nothing itself and draws nothing.

use super::Sample;

/// Steps up to this exponent are linear: what is measured is never exact.
const LINEAR_EXPONENT_MAX: f64 = 1.15;

/// What stays within this of the step before is flat.
const FLAT_RATIO_MAX: f64 = 1.25;

/// The kernel counts work in these, in seconds.
const TICK_S: f64 = 0.01;

/// What figures are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Pieces of something.
    Count,
    /// Seconds.
    Seconds,
    /// Bytes, in thousands as on disks.
    Bytes,
}

impl Unit {
    /// The names of a thousand each, the smallest first.
    fn scale(self) -> &'static [(f64, &'static str)] {
        match self {
            Unit::Count => &[(1.0, ""), (1e3, " k"), (1e6, " M"), (1e9, " G")],
            Unit::Seconds => &[(1e-6, " µs"), (1e-3, " ms"), (1.0, " s")],
            Unit::Bytes => &[(1.0, " B"), (1e3, " kB"), (1e6, " MB"), (1e9, " GB"), (1e12, " TB")],
        }
    }

    /// A figure in words, with three digits.
    pub fn shown(self, figure: f64) -> String {
        let scale = self.scale();
        // What would be rounded up to a thousand is one of the next.
        let fits = |(size, _): &&(f64, &str)| figure >= size * 0.9995;
        let (size, name) = scale.iter().rfind(fits).unwrap_or(&scale[0]);
        let digits = match figure / size {
            value if value.fract() == 0.0 || value >= 99.95 => 0,
            value if value >= 9.995 => 1,
            _ => 2,
        };
        format!("{:.digits$}{name}", figure / size)
    }
}

/// How a cost may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// As the work does, or slower.
    Linear,
    /// Not at all.
    Flat,
}

/// What was measured at one amount of work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// How much there was to do.
    pub work: f64,
    /// What it has cost, in the middle of the rounds.
    pub cost: f64,
    /// What it may have cost at the least.
    pub least: f64,
    /// What it may have cost at the most.
    pub most: f64,
}

impl Point {
    /// From the figures of the rounds, each exact to `grain`. A cost is never less than that.
    pub fn of(work: f64, rounds: &[f64], grain: f64) -> Point {
        let cost = crate::measure::median(rounds.to_vec()).max(grain);
        let least = rounds.iter().fold(f64::INFINITY, |least, round| least.min(round - grain));
        let most = rounds.iter().fold(cost, |most, round| most.max(round + grain));
        Point { work, cost, least: least.max(grain), most }
    }

    fn exponent(&self, before: &Point) -> f64 {
        steepness(self, self.cost / before.cost, before)
    }

    /// The exponent that the rounds cannot talk away.
    fn exponent_at_least(&self, before: &Point) -> f64 {
        steepness(self, self.least / before.most, before)
    }
}

fn steepness(after: &Point, cost_ratio: f64, before: &Point) -> f64 {
    cost_ratio.ln() / (after.work / before.work).ln()
}

/// What one thing costs while the work grows.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// What it is.
    pub name: String,
    /// What it is counted in.
    pub unit: Unit,
    /// How it may grow.
    pub wanted: Wanted,
    /// The steps, the least work first.
    pub points: Vec<Point>,
}

impl Curve {
    /// One without points yet.
    pub fn new(name: &str, unit: Unit, wanted: Wanted) -> Curve {
        Curve { name: name.to_owned(), unit, wanted, points: Vec::new() }
    }

    /// Whether the step to a point is worse than what is wanted, beyond doubt.
    fn is_bad(&self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1).and_then(|before| self.points.get(before)) else { return false };
        let point = &self.points[at];
        match self.wanted {
            Wanted::Linear => point.exponent(before) > LINEAR_EXPONENT_MAX && point.exponent_at_least(before) > 1.0,
            Wanted::Flat => point.cost > before.cost * FLAT_RATIO_MAX && point.least > before.most,
        }
    }

    fn cell(&self, at: usize) -> String {
        let point = &self.points[at];
        let figure = self.unit.shown(point.cost);
        let Some(before) = at.checked_sub(1).and_then(|before| self.points.get(before)) else { return figure };
        // Where nothing was measured there is no sign before the nought.
        let exponent = format!("{:.2}", point.exponent(before)).replace("-0.00", "0.00");
        let cell = format!("{figure} ({exponent})");
        if self.is_bad(at) { format!("**{cell}**") } else { cell }
    }

    /// The steps that are worse than what is wanted, as sentences.
    pub fn bad_steps(&self, work: Unit) -> Vec<String> {
        let bad = (0..self.points.len()).filter(|at| self.is_bad(*at));
        let shown = |at: usize| format!("{} at {}: {}", self.name, work.shown(self.points[at].work), self.cell(at));
        bad.map(shown).collect()
    }
}

/// The time and the work of a server, each for one of `times` equal pieces.
pub struct Spent {
    /// Seconds by the clock.
    pub wall: Curve,
    /// Seconds of one core.
    pub cpu: Curve,
}

impl Spent {
    /// Without points yet.
    pub fn new(name: &str) -> Spent {
        let curve = |what: &str| Curve::new(&format!("{name}, {what}"), Unit::Seconds, Wanted::Linear);
        Spent { wall: curve("time"), cpu: curve("server CPU") }
    }

    /// Adds a step.
    pub fn add(&mut self, work: f64, times: usize, rounds: &[Sample]) {
        let each = |figure: fn(&Sample) -> f64| -> Vec<f64> {
            rounds.iter().map(|sample| figure(sample) / times as f64).collect()
        };
        self.wall.points.push(Point::of(work, &each(|sample| sample.wall_s), f64::MIN_POSITIVE));
        self.cpu.points.push(Point::of(work, &each(|sample| sample.cpu_s), TICK_S / times as f64));
    }
}

/// A table of curves of the same steps, in Markdown.
pub fn table(head: &str, work: Unit, curves: &[Curve]) -> String {
    let steps: Vec<String> =
        curves.first().map_or(&[][..], |curve| &curve.points).iter().map(|point| work.shown(point.work)).collect();
    let mut text = format!("| {head} | {} |\n|{}\n", steps.join(" | "), "---|".repeat(steps.len() + 1));
    for curve in curves {
        let cells: Vec<String> = (0..curve.points.len()).map(|at| curve.cell(at)).collect();
        text.push_str(&format!("| {} | {} |\n", curve.name, cells.join(" | ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(wanted: Wanted, rounds: &[&[f64]]) -> Curve {
        let points = rounds.iter().zip(0..).map(|(rounds, step)| Point::of(10_f64.powi(step), rounds, 1e-6));
        Curve { points: points.collect(), ..Curve::new("it", Unit::Seconds, wanted) }
    }

    #[test]
    fn a_step_worse_than_linear_is_bold_unless_it_may_be_noise() {
        let text = table("files", Unit::Count, &[curve(Wanted::Linear, &[&[1.0], &[10.0], &[200.0]])]);
        assert!(text.contains("| it | 1 s | 10 s (1.00) | **200 s (1.30)** |"), "{text}");
        let noisy = curve(Wanted::Linear, &[&[1.0, 1.0, 2.5], &[9.0, 16.0, 16.0]]);
        assert!(noisy.bad_steps(Unit::Count).is_empty(), "{noisy:?}");
    }

    #[test]
    fn what_is_to_be_flat_may_not_grow_with_the_work() {
        let grows = curve(Wanted::Flat, &[&[30.0], &[33.0], &[60.0]]);
        assert_eq!(grows.bad_steps(Unit::Count), ["it at 100: **60 s (0.26)**"]);
    }

    #[test]
    fn figures_have_three_digits_and_a_unit_that_fits() {
        let shown = [(0.000_25, "250 µs"), (1.2345, "1.23 s"), (123.4, "123 s"), (0.9999, "1.00 s")];
        for (seconds, expected) in shown {
            assert_eq!(Unit::Seconds.shown(seconds), expected);
        }
        assert_eq!([Unit::Count.shown(100_000.0), Unit::Bytes.shown(1_048_576.0)], ["100 k", "1.05 MB"]);
    }
}
