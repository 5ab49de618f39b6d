//! Selection: which of several ways computes a shape on a device, and why.
//!
//! An operator with more than one way to compute a shape has a [`Family`]: a table of its choices
//! by name, each with the devices and shapes that it fits, and a table of rules, of which the first
//! that holds picks. [`Overrides`] of a device go before the rules: choices that tests and benches
//! force, and those that were measured as faster there. No override picks what does not fit.

use super::Caps;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;

/// The choices of an operator and the rules that pick one.
///
/// `S` is what is known of a shape; its text is the class by which measurements are kept
/// ("1x4096x4096 f16": sizes that call for the same choice share one). `C` says how to compute it.
#[derive(Debug)]
pub struct Family<S: 'static, C: 'static> {
    /// Name of the operator, and of the part of it that is chosen.
    pub name: &'static str,
    /// Everything that can be picked. For each shape and device, one at least must fit.
    pub choices: &'static [Candidate<S, C>],
    /// In order: the first that holds, and whose choice fits, picks.
    pub rules: &'static [Rule<S, C>],
}

/// A way to compute shapes.
#[derive(Debug)]
pub struct Candidate<S, C> {
    name: &'static str,
    choice: C,
    fits: fn(&Caps, &S) -> bool,
}

impl<S, C> Candidate<S, C> {
    /// A choice by name, and whether a device can compute a shape with it.
    pub const fn new(name: &'static str, choice: C, fits: fn(&Caps, &S) -> bool) -> Self {
        Self { name, choice, fits }
    }
}

/// Which choice to take when.
#[derive(Debug)]
pub struct Rule<S, C> {
    choice: C,
    holds: fn(&Caps, &S) -> bool,
    reason: &'static str,
}

impl<S, C> Rule<S, C> {
    /// The choice to take where `holds`, and the reason in a few words.
    pub const fn new(choice: C, holds: fn(&Caps, &S) -> bool, reason: &'static str) -> Self {
        Self { choice, holds, reason }
    }
}

/// What was picked for a shape, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Selected {
    /// Name of the family.
    pub family: &'static str,
    /// Class of the shape.
    pub class: String,
    /// Name of the choice.
    pub choice: &'static str,
    /// Why it was picked.
    pub why: Why,
    /// Names of all choices that could have been, in the order of the family's table.
    pub candidates: Vec<&'static str>,
}

/// Why something was picked.
#[derive(Debug, Clone, PartialEq)]
pub enum Why {
    /// A rule of the family, with its reason.
    Rule(&'static str),
    /// It was measured on this device.
    Tuned(Tuned),
    /// A test, a bench or an option asked for it.
    Forced,
}

impl Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rule(reason) => write!(f, "rule: {reason}"),
            Self::Tuned(tuned) => write!(f, "tuned: {:.2}x faster than {}", tuned.ratio, tuned.than),
            Self::Forced => f.write_str("forced"),
        }
    }
}

/// A choice that was measured as faster than the one that rules pick.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuned {
    /// Name of the faster choice.
    pub choice: String,
    /// Name of the choice that rules picked.
    pub than: String,
    /// Time of that one as a multiple of its own.
    pub ratio: f64,
}

/// Measured choices of a device by family and class of shape.
pub type Tuning = BTreeMap<(String, String), Tuned>;

/// What goes before the rules on a device.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Overrides {
    /// Choices by family that tests and benches force.
    pub forced: BTreeMap<String, String>,
    /// Pairs of family and choice that compute wrong results on the device.
    pub demoted: BTreeSet<(String, String)>,
    /// What was measured on the device.
    pub tuning: Option<Arc<Tuning>>,
}

impl Overrides {
    /// None of them.
    pub const NONE: Self = Self { forced: BTreeMap::new(), demoted: BTreeSet::new(), tuning: None };
}

impl<S: Display, C: Copy + PartialEq> Family<S, C> {
    /// Picks the choice for a shape on a device: a forced one, else a measured one, else what the
    /// rules say. Forced and measured choices that do not fit, and demoted ones, are passed over.
    pub fn select(&self, caps: &Caps, shape: &S) -> (C, Selected) {
        let fitting: Vec<_> = self.choices.iter().filter(|it| (it.fits)(caps, shape)).collect();
        let is_sound = |it: &&&Candidate<S, C>| {
            !caps.overrides.demoted.iter().any(|(family, name)| family == self.name && name == it.name)
        };
        let sound: Vec<_> = fitting.iter().filter(is_sound).copied().collect();
        let candidates = if sound.is_empty() { fitting } else { sound };
        let class = shape.to_string();
        let named = |name: &str| candidates.iter().copied().find(|it| it.name == name);
        let (picked, why) = (self.forced(caps).and_then(|name| Some((named(name)?, Why::Forced))))
            .or_else(|| {
                let tuned = self.tuned(caps, &class)?;
                let picked = named(&tuned.choice);
                if picked.is_none() {
                    log::info!("{} {class}: the measured choice {} is passed over", self.name, tuned.choice);
                }
                Some((picked?, Why::Tuned(tuned.clone())))
            })
            .unwrap_or_else(|| self.by_rule(caps, shape, &candidates));
        let names = candidates.iter().map(|it| it.name).collect();
        let selected = Selected { family: self.name, class, choice: picked.name, why, candidates: names };
        (picked.choice, selected)
    }

    fn forced<'a>(&self, caps: &'a Caps) -> Option<&'a str> {
        caps.overrides.forced.get(self.name).map(String::as_str)
    }

    fn tuned<'a>(&self, caps: &'a Caps, class: &str) -> Option<&'a Tuned> {
        caps.overrides.tuning.as_ref()?.get(&(self.name.to_owned(), class.to_owned()))
    }

    fn by_rule<'a>(
        &self,
        caps: &Caps,
        shape: &S,
        candidates: &[&'a Candidate<S, C>],
    ) -> (&'a Candidate<S, C>, Why) {
        let of_rule = |rule: &Rule<S, C>| {
            let picked =
                candidates.iter().find(|it| it.choice == rule.choice && (rule.holds)(caps, shape))?;
            Some((*picked, Why::Rule(rule.reason)))
        };
        let first = || (candidates[0], Why::Rule("nothing else is left"));
        self.rules.iter().find_map(of_rule).unwrap_or_else(first)
    }
}

/// A number of rows or keys as classes of shapes count it: rounded up to a power of two.
pub fn size_class(size: usize) -> usize {
    size.next_power_of_two()
}

/// A device for every way to select among what `selections` reports of it: each has a choice
/// forced for every family that is reported, and together they cover all combinations.
///
/// # Errors
/// What `selections` says.
pub fn all_choices<E>(
    caps: &Caps,
    selections: &mut dyn FnMut(&Caps) -> Result<Vec<Selected>, E>,
) -> Result<Vec<Caps>, E> {
    let found = selections(caps)?;
    let is_free = |it: &&Selected| !caps.overrides.forced.contains_key(it.family);
    let Some(free) = found.iter().find(is_free) else {
        return Ok(vec![caps.clone()]);
    };
    let mut devices = Vec::new();
    for candidate in &free.candidates {
        let mut caps = caps.clone();
        caps.overrides.forced.insert(free.family.to_owned(), (*candidate).to_owned());
        devices.extend(all_choices(&caps, selections)?);
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows and whether the wide choice fits.
    struct Rows(usize);

    impl Display for Rows {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{} rows", size_class(self.0))
        }
    }

    static FAMILY: Family<Rows, u32> = Family {
        name: "family",
        choices: &[
            Candidate::new("one", 1, |_, _| true),
            Candidate::new("four", 4, |_, _| true),
            Candidate::new("matrix", 16, |caps, _| caps.cooperative_matrix.is_some()),
        ],
        rules: &[
            Rule::new(16, |_, rows| rows.0 > 8, "many rows"),
            Rule::new(4, |_, rows| rows.0 > 1, "several rows"),
            Rule::new(1, |_, _| true, "one row"),
        ],
    };

    fn caps(matrix: bool) -> Caps {
        Caps { cooperative_matrix: matrix.then_some(16), ..Caps::webgpu_minimum() }
    }

    fn tuning(choice: &str) -> Option<Arc<Tuning>> {
        let tuned = Tuned { choice: choice.into(), than: "four".into(), ratio: 1.341 };
        Some(Arc::new(Tuning::from([(("family".into(), "4 rows".into()), tuned)])))
    }

    fn picked(caps: &Caps, rows: usize) -> (u32, String) {
        let (choice, selected) = FAMILY.select(caps, &Rows(rows));
        (choice, format!("{} {}: {} ({})", selected.family, selected.class, selected.choice, selected.why))
    }

    #[test]
    fn the_first_rule_picks_whose_choice_fits() {
        assert_eq!(picked(&caps(true), 9), (16, "family 16 rows: matrix (rule: many rows)".into()));
        assert_eq!(picked(&caps(false), 9), (4, "family 16 rows: four (rule: several rows)".into()));
        assert_eq!(picked(&caps(true), 1), (1, "family 1 rows: one (rule: one row)".into()));
        assert_eq!(FAMILY.select(&caps(false), &Rows(9)).1.candidates, ["one", "four"]);
    }

    #[test]
    fn a_measured_choice_goes_before_rules_where_it_fits() {
        let mut caps = caps(false);
        caps.overrides.tuning = tuning("one");
        assert_eq!(picked(&caps, 3), (1, "family 4 rows: one (tuned: 1.34x faster than four)".into()));
        assert_eq!(picked(&caps, 5).0, 4, "another class");
        for foreign in ["matrix", "unknown", ""] {
            caps.overrides.tuning = tuning(foreign);
            assert_eq!(picked(&caps, 3), (4, "family 4 rows: four (rule: several rows)".into()));
        }
    }

    #[test]
    fn a_forced_choice_goes_before_all_where_it_fits() {
        let mut caps = caps(false);
        caps.overrides.tuning = tuning("one");
        caps.overrides.forced.insert("family".into(), "four".into());
        assert_eq!(picked(&caps, 3), (4, "family 4 rows: four (forced)".into()));
        caps.overrides.forced.insert("family".into(), "matrix".into());
        assert_eq!(picked(&caps, 3).0, 1, "what does not fit is passed over");
    }

    #[test]
    fn demoted_choices_are_never_picked_while_another_fits() {
        let mut caps = caps(false);
        caps.overrides.tuning = tuning("four");
        caps.overrides.demoted.insert(("family".into(), "four".into()));
        assert_eq!(picked(&caps, 3), (1, "family 4 rows: one (rule: one row)".into()));
        caps.overrides.demoted.insert(("family".into(), "one".into()));
        assert_eq!(picked(&caps, 3).0, 4);
    }

    #[test]
    fn all_choices_are_forced_in_turn() {
        let selections = &mut |caps: &Caps| Ok::<_, ()>(vec![FAMILY.select(caps, &Rows(1)).1]);
        let devices = all_choices(&caps(true), selections).unwrap();
        let picked: Vec<_> = devices.iter().map(|caps| picked(caps, 1).0).collect();
        assert_eq!(picked, [1, 4, 16]);
    }
}
