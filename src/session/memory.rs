//! Bytes on a device: what plans need besides what is resident.

use crate::gpu::Gpu;
use crate::graph::{Plan, PlannedWeight, WeightData, WeightSource, buffer_bytes};
use crate::kernel::{Caps, DeviceKind, Layout, row_parts, row_pitch};
use crate::tensor::Spec;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Identity of resident data: the same weight in the same form is uploaded once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum WeightKey {
    File(WeightSource, Spec, Layout),
    Constant(String, Spec, Layout),
    Prepared(String, Vec<Self>, Spec, Layout),
}

impl WeightKey {
    pub(super) fn of(weight: &PlannedWeight, caps: &Caps) -> Self {
        let (spec, layout) = (weight.spec.clone(), same_layout(weight, caps));
        match &weight.data {
            WeightData::File(source) => Self::File(source.clone(), spec, layout),
            WeightData::Constant(_) => Self::Constant(weight.name.clone(), spec, layout),
            WeightData::Prepared(rule, inputs) => {
                let inputs = inputs.iter().map(|input| Self::of(input, caps)).collect();
                Self::Prepared(format!("{rule:?}"), inputs, spec, layout)
            }
        }
    }
}

/// The layout, plain where rows lie the same way: tightly packed, in one buffer.
fn same_layout(weight: &PlannedWeight, caps: &Caps) -> Layout {
    let (_, cols) = weight.spec.shape.rows_and_cols();
    let packed = row_pitch(cols, weight.spec.dtype) == cols && row_parts(&weight.spec, caps).len() == 1;
    if packed { Layout::Plain } else { weight.layout }
}

/// Bytes that plans need on a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlannedMemory {
    /// Weights and constants.
    pub weights: u64,
    /// States: the cache of keys and values, counts of tokens.
    pub states: u64,
    /// Values between the steps, inputs and outputs.
    pub buffers: u64,
}

impl PlannedMemory {
    /// Bytes that plans need on a device with nothing resident yet. Asks no device.
    pub fn of(plans: &[Plan], caps: &Caps) -> Self {
        Resident::default().grow(plans, caps)
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.weights + self.states + self.buffers
    }
}

/// What lies on a device already: weights, states, and the sizes of the pool's buffers.
#[derive(Default)]
pub(super) struct Resident<'a> {
    pub(super) weights: HashSet<&'a WeightKey>,
    pub(super) states: HashSet<&'a str>,
    pub(super) slots: Vec<u64>,
}

impl Resident<'_> {
    /// Bytes that plans need besides.
    pub(super) fn grow(mut self, plans: &[Plan], caps: &Caps) -> PlannedMemory {
        let (mut weights, mut states, mut buffers) = (HashMap::new(), BTreeMap::new(), 0);
        for plan in plans {
            for weight in &plan.weights {
                let key = WeightKey::of(weight, caps);
                if !self.weights.contains(&key) {
                    weights.insert(key, weight.part_bytes(caps).iter().sum::<u64>());
                }
            }
            let new = plan.states.iter().filter(|(name, _)| !self.states.contains(name.as_str()));
            states.extend(new.map(|(name, spec)| (name, buffer_bytes(spec))));
            for (slot, bytes) in sorted_slots(plan).into_iter().enumerate() {
                let have = self.slots.get(slot).copied().unwrap_or(0);
                if bytes > have {
                    buffers += bytes;
                    self.slots.resize(self.slots.len().max(slot + 1), 0);
                    self.slots[slot] = bytes;
                }
            }
            buffers += plan.io_bytes();
        }
        PlannedMemory { weights: weights.values().sum(), states: states.values().sum(), buffers }
    }
}

/// Physical memory of this machine in bytes, where it can be told.
pub fn physical_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The budget used where none is given: physical memory on adapters that share it.
pub fn default_budget(gpu: &Gpu) -> Option<u64> {
    matches!(gpu.caps().kind, DeviceKind::Software | DeviceKind::Integrated).then(physical_memory).flatten()
}

fn sorted_slots(plan: &Plan) -> Vec<u64> {
    let mut sizes = plan.slots.clone();
    sizes.sort_unstable_by_key(|&bytes| std::cmp::Reverse(bytes));
    sizes
}
