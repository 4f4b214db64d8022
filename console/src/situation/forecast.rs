//! When a disk will be full, by how its room has shrunk. Pure.

use crate::store::samples::{Courses, Point};

const DAY_MS: f64 = 86_400_000.0;
/// Less than this tells nothing.
const POINTS_MIN: usize = 30;
/// For how long it must have shrunk, in milliseconds: an upload of an hour is no trend.
const LENGTH_MIN_MS: f64 = 3.0 * 3_600_000.0;
/// What of the changes must be explained by a straight line.
const FIT_MIN: f64 = 0.7;
/// Nobody needs to know more than a year ahead.
const DAYS_MAX: f64 = 365.0;

/// In how many days there will be no room, where it shrinks clearly along a straight line.
pub fn days_until_full(courses: &Courses) -> Option<f64> {
    let points: Vec<(f64, f64)> =
        courses.courses.iter().flat_map(|course| &course.points).filter_map(|point| place(courses, point)).collect();
    let count = points.len() as f64;
    let (first, last) = (points.first()?, points.last()?);
    if points.len() < POINTS_MIN || (last.0 - first.0) * DAY_MS < LENGTH_MIN_MS {
        return None;
    }
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let sum = |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|(x, y)| of(x - mean_x, y - mean_y)).sum::<f64>();
    let (xx, yy, xy) = (sum(&|x, _| x * x), sum(&|_, y| y * y), sum(&|x, y| x * y));
    if xx <= 0.0 || yy <= 0.0 || xy * xy / (xx * yy) < FIT_MIN {
        return None;
    }
    let bytes_per_day = xy / xx;
    let days = -last.1 / bytes_per_day;
    (bytes_per_day < 0.0 && days <= DAYS_MAX).then_some(days.max(0.0))
}

/// A point as days and bytes; none where it does not tell of room.
fn place(courses: &Courses, point: &Point) -> Option<(f64, f64)> {
    Some((point.place as f64 * courses.span_ms as f64 / DAY_MS, point.free_bytes? as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::samples::Course;

    /// One point for each half hour of so many.
    fn courses(points: usize, free_bytes: impl Fn(usize) -> u64) -> Courses {
        let point = |place| Point { place, free_bytes: Some(free_bytes(place)), ..Point::default() };
        let own = Course { standby: String::new(), points: (0..points).map(point).collect() };
        let other = Course { standby: "b".into(), points: vec![Point { place: 1, ..Point::default() }] };
        Courses { span_ms: 1_800_000, spans: 300, courses: vec![own, other], ..Courses::default() }
    }

    #[test]
    fn room_that_shrinks_steadily_has_an_end() {
        let days = days_until_full(&courses(96, |half_hour| 10_000_000 - 48 * half_hour as u64 * 100)).unwrap();
        let left = (10_000_000.0 - 48.0 * 95.0 * 100.0) / (48.0 * 48.0 * 100.0);
        assert!((days - left).abs() < 0.1, "{days}");
    }

    #[test]
    fn nothing_is_foretold_where_the_slope_is_not_clear() {
        let noisy = |half_hour: usize| 10_000_000 + (half_hour as u64 * 7919) % 90_000;
        let cases = [
            ("it grows", courses(96, |half_hour| 1000 * half_hour as u64)),
            ("it stays", courses(96, |_| 5000)),
            ("it goes up and down", courses(96, noisy)),
            ("too short", courses(20, |half_hour| 10_000 - half_hour as u64)),
            ("more than a year", courses(96, |half_hour| 1_000_000_000_000 - half_hour as u64)),
            ("nothing", Courses::default()),
        ];
        for (case, courses) in cases {
            assert_eq!(days_until_full(&courses), None, "{case}");
        }
    }
}
