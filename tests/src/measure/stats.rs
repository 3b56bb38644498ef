//! Medians, and how far they can be trusted.

use serde::Serialize;

/// Several measurements of one thing.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) count: usize,
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// An interval of the median, from order statistics: no distribution is assumed.
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// How often such an interval holds the median; at least 0.95 where there are six measurements or more.
    pub(crate) coverage: f64,
}

impl Summary {
    /// None of nothing.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let count = sorted.len();
        let (rank, coverage) = widest_rank(count);
        let (low, high) = (sorted[rank], sorted[count - 1 - rank]);
        Some(Self { count, median: median_of(&sorted), min, max, low, high, coverage })
    }
}

/// The middle value; the mean of the two middle ones of an even number. NaN of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    median_of(&sorted(values))
}

/// The value that `share` (0 to 1) of the others do not exceed (nearest rank). NaN of nothing.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let sorted = sorted(values);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

/// The median of the slopes between all pairs of points (Theil and Sen): a few wild points do not move it.
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let mut slopes = Vec::new();
    for (index, &(x, y)) in points.iter().enumerate() {
        slopes
            .extend(points[index + 1..].iter().filter(|later| later.0 > x).map(|later| (later.1 - y) / (later.0 - x)));
    }
    (!slopes.is_empty()).then(|| median(&slopes))
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn median_of(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// How many values may be cut off at either end so that the rest still spans the median with a probability of 0.95, and
/// that probability: the number of values below the median is binomial with p = 1/2.
fn widest_rank(count: usize) -> (usize, f64) {
    let coverage = |rank: usize| 1.0 - 2.0 * (0..=rank).map(|below| at_most_half(count, below)).sum::<f64>();
    let ranks = 0..count.div_ceil(2);
    let rank = ranks.take_while(|&rank| coverage(rank) >= 0.95).last().unwrap_or(0);
    (rank, coverage(rank).max(0.0))
}

/// The probability that exactly `below` of `count` values are below the median.
fn at_most_half(count: usize, below: usize) -> f64 {
    (0..below).fold(0.5_f64.powf(count as f64), |ways, step| ways * (count - step) as f64 / (step + 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::{Summary, median, quantile, slope};

    #[test]
    fn the_interval_is_that_of_the_tables() {
        // Order-statistic intervals of the median, from the binomial: n = 9 takes the 2nd and the 8th value, 96.1 %.
        let nine = Summary::of(&[9.0, 1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0]).expect("values");
        assert_eq!((nine.median, nine.low, nine.high), (5.0, 2.0, 8.0));
        assert!((nine.coverage - 0.961).abs() < 0.001, "{}", nine.coverage);
        // With three values there is nothing better than their range, and it is no 95 %.
        let three = Summary::of(&[1.0, 3.0, 2.0]).expect("values");
        assert_eq!((three.low, three.high, three.coverage), (1.0, 3.0, 0.75));
        assert!(Summary::of(&[]).is_none());
    }

    #[test]
    fn medians_and_quantiles_are_nearest_ranks() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((quantile(&hundred, 0.5), quantile(&hundred, 0.99)), (50.0, 99.0));
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn one_wild_point_does_not_tilt_the_slope() {
        let mut points: Vec<(f64, f64)> = (0..20).map(|x| (f64::from(x), 2.0 * f64::from(x))).collect();
        points[7].1 = 1e6;
        assert!((slope(&points).expect("points") - 2.0).abs() < 1e-9);
        assert!(slope(&points[..1]).is_none());
    }
}
