//! Expectations: `--expect "latency_ms.p50<=12"` makes a figure of the report a condition of success.

use std::str::FromStr;

use serde_json::Value;

/// How a figure is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    AtLeast,
    AtMost,
    Above,
    Below,
    Equal,
}

/// The comparisons, longer signs before those they start with.
const SIGNS: [(&str, Comparison); 6] = [
    (">=", Comparison::AtLeast),
    ("<=", Comparison::AtMost),
    ("==", Comparison::Equal),
    (">", Comparison::Above),
    ("<", Comparison::Below),
    ("=", Comparison::Equal),
];

/// One condition: a figure's name in the JSON report (dots lead inside), a comparison and a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    text: String,
    figure: String,
    comparison: Comparison,
    bound: f64,
}

/// Why an expectation cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}`: write FIGURE>=NUMBER (or <=, >, <, ==) with a figure of the --json report, such as latency_ms.p50<=12"
)]
pub struct BadExpectation(String);

impl FromStr for Expectation {
    type Err = BadExpectation;

    fn from_str(text: &str) -> Result<Expectation, BadExpectation> {
        let bad = || BadExpectation(text.to_owned());
        let at = text.find(['<', '>', '=']).ok_or_else(bad)?;
        let (figure, rest) = text.split_at(at);
        let (sign, comparison) =
            SIGNS.into_iter().find(|(sign, _)| rest.starts_with(sign)).ok_or_else(bad)?;
        let bound: f64 = rest[sign.len()..].trim().parse().map_err(|_| bad())?;
        let figure = figure.trim().to_owned();
        if figure.is_empty() || !bound.is_finite() {
            return Err(bad());
        }
        Ok(Expectation { text: text.to_owned(), figure, comparison, bound })
    }
}

impl Expectation {
    /// `None` when the report meets it, else what is wrong. A figure that is not there fails.
    pub fn failure(&self, report: &Value) -> Option<String> {
        let found = self.figure.split('.').try_fold(report, |value, key| value.get(key));
        let Some(value) = found.and_then(Value::as_f64) else {
            return Some(format!("expected {}, but the report has no number `{}`", self.text, self.figure));
        };
        let holds = match self.comparison {
            Comparison::AtLeast => value >= self.bound,
            Comparison::AtMost => value <= self.bound,
            Comparison::Above => value > self.bound,
            Comparison::Below => value < self.bound,
            Comparison::Equal => value == self.bound,
        };
        (!holds).then(|| format!("expected {}, but it is {value}", self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn failure(text: &str) -> Option<String> {
        let report = json!({ "packets_back": 0.999, "latency_ms": { "p50": 11.5 }, "answered": 10, "backend": "epoll", "server": null });
        text.parse::<Expectation>().expect(text).failure(&report)
    }

    #[test]
    fn compares_figures_wherever_they_are() {
        for holds in [
            "packets_back>=0.999",
            "latency_ms.p50 <= 12",
            "answered==10",
            "answered = 10",
            "answered<10.5",
            "latency_ms.p50>11",
        ] {
            assert_eq!(failure(holds), None, "{holds}");
        }
        for fails in ["packets_back>0.999", "latency_ms.p50<=11", "answered==9", "answered<10"] {
            assert!(failure(fails).is_some(), "{fails}");
        }
    }

    #[test]
    fn a_missing_figure_is_a_failure() {
        for fails in ["latency_ms.p51<=12", "backend==1", "server.cpu>=0", "nothing>=0"] {
            assert!(failure(fails).is_some(), "{fails}");
        }
    }

    #[test]
    fn refuses_what_is_no_condition() {
        for text in ["", "a", "a>", ">=1", "a>=x", "a>=NaN", "a=>1"] {
            assert!(text.parse::<Expectation>().is_err(), "{text}");
        }
    }
}
