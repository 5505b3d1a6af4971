//! McNemar's test: whether two classifiers have the same error rate on the same samples.

/// Smallest number of discordant samples for which the chi-squared approximation is used.
const MIN_APPROXIMATE: u64 = 25;

/// The result of [`mcnemar`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct McNemar {
    /// Number of samples that only the first classifier predicts correctly.
    pub only_first: u64,
    /// Number of samples that only the second classifier predicts correctly.
    pub only_second: u64,
    /// Whether the p-value is exact, of the binomial distribution. Otherwise, it is that of the
    /// chi-squared distribution with one degree of freedom.
    pub exact: bool,
    /// The smaller of the two numbers if `exact`, otherwise chi-squared with continuity correction.
    pub statistic: f64,
    /// Two-sided p-value: the probability of a difference of at least this size if the error rates are
    /// equal.
    pub p_value: f64,
}

/// McNemar's test for `only_first` and `only_second`, the numbers of samples that only one of two
/// classifiers predicts correctly.
///
/// With n = `only_first` + `only_second` below 25, the p-value is min(1, 2 P(X ≤ min(b, c))) for X ~
/// Binomial(n, 1/2). Otherwise, χ² = (|b − c| − 1)² / n, with one degree of freedom. These are the
/// values of `mcnemar` of statsmodels with `exact` and with `correction`.
///
/// Source: Edwards (1948), Psychometrika 13:185-187.
///
/// ```
/// let test = insight::mcnemar(1, 9);
/// assert!(test.exact && (test.p_value - 0.021484375).abs() < 1e-12);
/// ```
pub fn mcnemar(only_first: u64, only_second: u64) -> McNemar {
    let n = only_first.saturating_add(only_second);
    let (statistic, p_value) = if n < MIN_APPROXIMATE {
        let smaller = only_first.min(only_second);
        (smaller as f64, (2.0 * lower_tail(smaller, n)).min(1.0))
    } else {
        let difference = only_first.abs_diff(only_second) as f64 - 1.0;
        let statistic = difference * difference / n as f64;
        // The survival function of χ² with one degree of freedom.
        (statistic, libm::erfc((statistic / 2.0).sqrt()))
    };
    McNemar {
        only_first,
        only_second,
        exact: n < MIN_APPROXIMATE,
        statistic,
        p_value,
    }
}

/// P(X ≤ k) for X ~ Binomial(n, 1/2). The coefficients are exact for the small n of this file.
fn lower_tail(k: u64, n: u64) -> f64 {
    let (mut coefficient, mut sum) = (1.0, 1.0);
    for i in 1..=k {
        coefficient *= (n - i + 1) as f64 / i as f64;
        sum += coefficient;
    }
    sum * 0.5f64.powi(n as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of statsmodels 0.15: `mcnemar([[7, b], [c, 3]], exact=b + c < 25, correction=True)`.
    #[test]
    fn values_equal_those_of_statsmodels() {
        for (b, c, exact, statistic, p_value) in [
            (0, 0, true, 0.0, 1.0),
            (1, 0, true, 0.0, 1.0),
            (6, 0, true, 0.0, 0.03125),
            (3, 9, true, 3.0, 0.14599609375),
            (10, 10, true, 10.0, 1.0),
            (20, 4, true, 4.0, 0.001543879508972168),
            (13, 12, false, 0.0, 1.0),
            (5, 20, false, 7.84, 0.005110260660855866),
            (40, 20, false, 6.016666666666667, 0.014171388254012323),
            (300, 250, false, 4.365454545454545, 0.03667469760670498),
            (1000, 1300, false, 38.87, 4.5298895227616383e-10),
            (2, 60, false, 52.403225806451616, 4.5198090819801607e-13),
            (25, 0, false, 23.04, 1.5866563039511885e-06),
        ] {
            let test = mcnemar(b, c);
            assert_eq!(test.exact, exact, "{b} {c}");
            assert!(
                (test.statistic - statistic).abs() <= 1e-12 * f64::max(statistic, 1.0),
                "{b} {c}"
            );
            assert!(
                (test.p_value - p_value).abs() <= 1e-10 * p_value,
                "{b} {c}: {}",
                test.p_value
            );
        }
    }
}
