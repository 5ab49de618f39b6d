//! Figures of a report in one form, whatever was measured: written as JSON, read again, compared.

use super::Spread;
use crate::json::read_bytes;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One figure of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// What was measured.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// Median and range.
    pub spread: Spread,
    /// Whether more is faster.
    pub more_is_faster: bool,
}

impl Measurement {
    /// Something per second.
    pub fn rate(name: impl Into<String>, unit: &str, spread: Spread) -> Self {
        Self { name: name.into(), unit: unit.to_owned(), spread, more_is_faster: true }
    }

    /// A time.
    pub fn time(name: impl Into<String>, unit: &str, spread: Spread) -> Self {
        Self { more_is_faster: false, ..Self::rate(name, unit, spread) }
    }
}

/// What a benchmark found.
pub trait Report: Serialize + std::fmt::Display {
    /// Name of the benchmark.
    const WHAT: &'static str;

    /// Adapter with its driver's version.
    fn adapter(&self) -> &str;

    /// The figures that another run can be compared by.
    fn measurements(&self) -> Vec<Measurement>;
}

/// The figures of one run or more of a benchmark, as they are stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Name of the benchmark.
    pub benchmark: String,
    /// Version of this crate.
    pub version: String,
    /// Adapter with its driver's version.
    pub measured_on: String,
    /// The figures.
    pub measurements: Vec<Measurement>,
}

/// A report as JSON: its own fields, and those of a [`Record`].
#[derive(Debug, Serialize)]
struct Document<'a, R> {
    #[serde(flatten)]
    record: &'a Record,
    #[serde(flatten)]
    report: &'a R,
}

/// Largest file of stored figures, in bytes.
const LARGEST: u64 = 64 << 20;

impl Record {
    /// The figures of a report.
    pub fn of<R: Report>(report: &R) -> Self {
        Self {
            benchmark: R::WHAT.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            measured_on: report.adapter().to_owned(),
            measurements: report.measurements(),
        }
    }

    /// A report with its figures as JSON, which [`read`](Self::read) reads.
    pub fn document<R: Report>(report: &R) -> Result<String> {
        let record = Self::of(report);
        serde_json::to_string_pretty(&Document { record: &record, report })
            .map_err(|error| Error::Request(format!("writing JSON: {error}")))
    }

    /// Fails unless the figures are of this benchmark.
    ///
    /// # Errors
    /// [`Error::Request`] with what they are of.
    pub fn expect_benchmark(&self, name: &str) -> Result<()> {
        if self.benchmark == name {
            return Ok(());
        }
        let old = &self.benchmark;
        Err(Error::Request(format!("the old figures are of `bench {old}`, these of `bench {name}`")))
    }

    /// Adds the figures of another run of the same benchmark.
    ///
    /// # Errors
    /// What differs, in words.
    fn join(&mut self, other: Self) -> Result<(), String> {
        if (&self.benchmark, &self.measured_on) != (&other.benchmark, &other.measured_on) {
            return Err(format!(
                "expected one benchmark on one adapter, got `{}` on {} and `{}` on {}",
                self.benchmark, self.measured_on, other.benchmark, other.measured_on
            ));
        }
        self.measurements.extend(other.measurements);
        Ok(())
    }

    /// Joins the figures of several runs of the same benchmark; none where there are no runs.
    ///
    /// # Errors
    /// What differs between them, in words.
    pub fn joined(records: impl IntoIterator<Item = Self>) -> Result<Option<Self>, String> {
        let mut records = records.into_iter();
        let Some(mut all) = records.next() else { return Ok(None) };
        for record in records {
            all.join(record)?;
        }
        Ok(Some(all))
    }

    /// Reads the figures of a file that the JSON of one report or several was written to.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::File`] where it holds something else.
    pub fn read(path: &Path) -> Result<Self> {
        let missing = || Error::file(path, "there is no such file");
        let bytes = read_bytes(path, LARGEST)?.ok_or_else(missing)?;
        let records = serde_json::Deserializer::from_slice(&bytes).into_iter::<Self>();
        let fail = |error: serde_json::Error| {
            Error::file(path, format!("expected JSON as `wginfer bench --json` writes it: {error}"))
        };
        let records = records.collect::<Result<Vec<_>, _>>().map_err(fail)?;
        let joined = Self::joined(records).map_err(|message| Error::file(path, message))?;
        joined.ok_or_else(|| Error::file(path, "expected figures of `wginfer bench`, got an empty file"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report of two figures.
    #[derive(Serialize)]
    struct Two {
        note: &'static str,
        first: f64,
    }

    impl std::fmt::Display for Two {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.note)
        }
    }

    impl Report for Two {
        const WHAT: &'static str = "two";

        fn adapter(&self) -> &str {
            "an adapter"
        }

        fn measurements(&self) -> Vec<Measurement> {
            let spread = Spread::of(&[self.first, 2.0, 3.0]);
            vec![Measurement::rate("a", "GB/s", spread), Measurement::time("b", "us", spread.scaled(2.0))]
        }
    }

    #[test]
    fn figures_come_back_from_their_json() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.json");
        let (report, again) = (Two { note: "kept", first: 1.25 }, Two { note: "kept", first: 7.0 });
        let text = Record::document(&report).unwrap();
        assert!(text.contains("\"note\": \"kept\""), "{text}");
        std::fs::write(&path, &text).unwrap();
        assert_eq!(Record::read(&path).unwrap(), Record::of(&report));
        std::fs::write(&path, format!("{text}\n{}\n", Record::document(&again).unwrap())).unwrap();
        let both = Record::read(&path).unwrap();
        assert_eq!(both.measurements.len(), 4);
        assert_eq!(both.measurements[3], again.measurements()[1]);
    }

    #[test]
    fn other_files_are_refused_with_reasons() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.json");
        let refused = |text: &str, part: &str| {
            std::fs::write(&path, text).unwrap();
            let message = Record::read(&path).unwrap_err().to_string();
            assert!(message.contains(part) && message.contains("old.json"), "{text}: {message}");
        };
        refused("", "an empty file");
        refused("{}", "missing field `benchmark`");
        refused("[1, 2", "expected JSON as `wginfer bench --json` writes it");
        let one = Record::document(&Two { note: "", first: 1.0 }).unwrap();
        refused(
            &format!("{one}{}", one.replace("\"two\"", "\"three\"")),
            "got `two` on an adapter and `three`",
        );
        let error = Record::read(&folder.path().join("absent.json")).unwrap_err().to_string();
        assert!(error.contains("absent.json: there is no such file"), "{error}");
    }
}
