//! What `condition_variable` and `condition_datetime` ask.

use super::action::{Comparison, DatetimeCondition, Expected, VariableCondition};
use super::variables::Variables;
use crate::time::Timestamp;

/// Seconds in a day, an hour and a minute.
const DAY_S: i64 = 86_400;
const HOUR_S: i64 = 3600;
const MINUTE_S: i64 = 60;

impl Comparison {
    /// Whether `ordering`, of what is to what is asked for, satisfies it.
    fn holds(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Comparison::Equal => ordering.is_eq(),
            Comparison::NotEqual => ordering.is_ne(),
            Comparison::Greater => ordering.is_gt(),
            Comparison::GreaterOrEqual => ordering.is_ge(),
            Comparison::Less => ordering.is_lt(),
            Comparison::LessOrEqual => ordering.is_le(),
        }
    }
}

impl VariableCondition {
    /// Whether it holds. What is no number is neither equal to one nor on any side of it.
    pub(in crate::bridge) fn holds(&self, variables: &Variables) -> bool {
        let value = variables.named(&self.variable);
        match &self.expected {
            Expected::Text(text) => self.comparison.holds(value.as_str().cmp(&variables.fill(text))),
            Expected::Number(number) => match value.trim().parse::<f64>().ok() {
                Some(value) => value.partial_cmp(number).is_some_and(|o| self.comparison.holds(o)),
                None => self.comparison == Comparison::NotEqual,
            },
            Expected::Length(length) => self.comparison.holds((value.chars().count() as u64).cmp(length)),
        }
    }
}

impl DatetimeCondition {
    /// Whether it holds at this time, in UTC. The parts that are given are compared as one value,
    /// the month first; the day of the week has to be among those listed, if any are.
    pub(in crate::bridge) fn holds(&self, now: Timestamp) -> bool {
        let text = now.to_string();
        let part =
            |from: usize| text.get(from..from + 2).and_then(|part| part.parse::<u8>().ok()).unwrap_or(0);
        let of_day = now.as_secs().rem_euclid(DAY_S);
        let (hour, minute) = ((of_day / HOUR_S) as u8, (of_day % HOUR_S / MINUTE_S) as u8);
        // 1970-01-01 was a Thursday; Sunday is 0.
        let weekday = (now.as_secs().div_euclid(DAY_S) + 4).rem_euclid(7) as u8;
        if !self.weekdays.is_empty() && !self.weekdays.contains(&weekday) {
            return false;
        }
        let parts = [(self.month, part(5)), (self.day, part(8)), (self.hour, hour), (self.minute, minute)];
        let given = parts.iter().filter_map(|(wanted, is)| wanted.map(|wanted| (is, wanted)));
        let ordering =
            given.fold(std::cmp::Ordering::Equal, |so_far, (is, wanted)| so_far.then(is.cmp(&wanted)));
        let nothing_given = parts.iter().all(|(wanted, _)| wanted.is_none());
        nothing_given || self.comparison.holds(ordering)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(comparison: Comparison, expected: Expected) -> bool {
        let mut variables = Variables::default();
        variables.set("v", "12").expect("room");
        VariableCondition { comparison, variable: "v".to_owned(), expected }.holds(&variables)
    }

    #[test]
    fn texts_numbers_and_lengths_are_compared() {
        assert!(variable(Comparison::Equal, Expected::Text("${v}".to_owned())));
        assert!(variable(Comparison::Less, Expected::Text("2".to_owned())), "as texts");
        assert!(variable(Comparison::Greater, Expected::Number(2.0)), "as numbers");
        assert!(!variable(Comparison::NotEqual, Expected::Number(12.0)));
        assert!(variable(Comparison::LessOrEqual, Expected::Length(2)));
        let nothing = Variables::default();
        for (comparison, holds) in
            [(Comparison::Equal, false), (Comparison::NotEqual, true), (Comparison::Less, false)]
        {
            let condition =
                VariableCondition { comparison, variable: "x".to_owned(), expected: Expected::Number(1.0) };
            assert_eq!(condition.holds(&nothing), holds, "{comparison:?}");
        }
    }

    #[test]
    fn times_are_compared_from_the_month_down_and_by_the_day_of_the_week() {
        // 2022-02-03 was a Thursday.
        let now = Timestamp::parse("2022-02-03 06:08:56.000000").expect("a time");
        let at = |comparison, hour, minute, weekdays: &[u8]| {
            DatetimeCondition {
                comparison,
                month: None,
                day: None,
                hour,
                minute,
                weekdays: weekdays.to_vec(),
            }
            .holds(now)
        };
        assert!(at(Comparison::GreaterOrEqual, Some(6), Some(8), &[]));
        assert!(!at(Comparison::GreaterOrEqual, Some(6), Some(9), &[]));
        assert!(at(Comparison::Less, Some(7), Some(0), &[]), "06:08 is before 07:00");
        assert!(at(Comparison::Equal, None, None, &[4]) && !at(Comparison::Equal, None, None, &[0, 6]));
        assert!(at(Comparison::NotEqual, Some(9), None, &[]));
    }
}
