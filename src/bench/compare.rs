//! Two runs of a benchmark side by side.

use super::{Record, Spread};
use crate::Result;
use serde::Serialize;

/// One figure in two runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparedRow {
    /// What was measured.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// As it was.
    pub old: Spread,
    /// As it is.
    pub new: Spread,
    /// How many times as fast it is now, by the medians.
    pub speed: f64,
    /// Whether the ranges overlap: the difference may be chance.
    pub within_noise: bool,
}

/// Two runs of a benchmark.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The adapter then, where it is another one now.
    pub other_adapter: Option<String>,
    /// The version then.
    pub old_version: String,
    /// What both runs have.
    pub rows: Vec<ComparedRow>,
    /// Names of what only the old run has.
    pub only_old: Vec<String>,
    /// Names of what only the new run has.
    pub only_new: Vec<String>,
}

impl Comparison {
    /// Compares two runs. A name that a run has more than once is taken in order.
    ///
    /// # Errors
    /// [`Error::Request`](crate::Error::Request) where they are of different benchmarks.
    pub fn new(old: &Record, new: &Record) -> Result<Self> {
        old.expect_benchmark(&new.benchmark)?;
        let mut waiting: Vec<_> = old.measurements.iter().collect();
        let (mut rows, mut only_new) = (Vec::new(), Vec::new());
        for measured in &new.measurements {
            let known = |it: &&super::Measurement| it.name == measured.name && it.unit == measured.unit;
            let Some(position) = waiting.iter().position(known) else {
                only_new.push(measured.name.clone());
                continue;
            };
            let (old, new) = (waiting.remove(position).spread, measured.spread);
            let ratio = new.median / old.median;
            rows.push(ComparedRow {
                name: measured.name.clone(),
                unit: measured.unit.clone(),
                old,
                new,
                speed: if measured.more_is_faster { ratio } else { 1.0 / ratio },
                within_noise: old.least <= new.most && new.least <= old.most,
            });
        }
        let other = old.measured_on != new.measured_on;
        Ok(Self {
            other_adapter: other.then(|| old.measured_on.clone()),
            old_version: old.version.clone(),
            rows,
            only_old: waiting.into_iter().map(|it| it.name.clone()).collect(),
            only_new,
        })
    }
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(adapter) = &self.other_adapter {
            writeln!(f, "the old figures are of another adapter or driver: {adapter}")?;
        }
        let widest = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(8);
        let old = format!("old ({})", self.old_version);
        writeln!(f, "{:widest$}  {old:26}{:26}{:9} speed", "", "new", "")?;
        for row in &self.rows {
            let (old, new) = (row.old.to_string(), row.new.to_string());
            let mark = if row.within_noise { "  within noise" } else { "" };
            let (name, unit, speed) = (&row.name, &row.unit, row.speed);
            writeln!(f, "{name:widest$}  {old:26}{new:26}{unit:9}{speed:>5.2}x{mark}")?;
        }
        for (what, names) in [("old", &self.only_old), ("new", &self.only_new)] {
            if !names.is_empty() {
                writeln!(f, "only in the {what} run: {}", names.join("; "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Measurement;
    use super::*;

    fn record(measurements: Vec<Measurement>) -> Record {
        Record {
            benchmark: "kernels".into(),
            version: "0.1.0".into(),
            measured_on: "an adapter".into(),
            measurements,
        }
    }

    #[test]
    fn rows_have_a_speed_and_a_mark() {
        let time = |name: &str, values: &[f64]| Measurement::time(name, "us", Spread::of(values));
        let rate = |name: &str, values: &[f64]| Measurement::rate(name, "GB/s", Spread::of(values));
        let old = record(vec![
            time("softmax", &[90.0, 100.0, 110.0]),
            rate("copy", &[4.0, 5.0, 6.0]),
            time("gone", &[1.0]),
        ]);
        let new = record(vec![
            rate("copy", &[5.5, 6.0, 6.5]),
            time("softmax", &[45.0, 50.0, 55.0]),
            time("fresh", &[1.0]),
        ]);
        let compared = Comparison::new(&old, &new).unwrap();
        let found: Vec<_> =
            compared.rows.iter().map(|row| (row.name.as_str(), row.speed, row.within_noise)).collect();
        assert_eq!(found, [("copy", 1.2, true), ("softmax", 2.0, false)]);
        let text = compared.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["old", "(0.1.0)", "new", "speed"]);
        let expected = "\
copy      5.00 [4.00-6.00]          6.00 [5.50-6.50]          GB/s      1.20x  within noise
softmax   100 [90-110]              50.0 [45.0-55.0]          us        2.00x
only in the old run: gone
only in the new run: fresh
";
        assert_eq!(format!("{}\n", lines[1..].join("\n")), expected);
    }

    #[test]
    fn other_adapters_are_named_and_other_benchmarks_refused() {
        let (old, new) = (record(Vec::new()), record(Vec::new()));
        let elsewhere = Record { measured_on: "a card".into(), ..old.clone() };
        let text = Comparison::new(&elsewhere, &new).unwrap().to_string();
        assert!(text.starts_with("the old figures are of another adapter or driver: a card\n"), "{text}");
        let text_run = Record { benchmark: "text".into(), ..old };
        let error = Comparison::new(&text_run, &new).unwrap_err().to_string();
        assert_eq!(error, "the old figures are of `bench text`, these of `bench kernels`");
    }
}
