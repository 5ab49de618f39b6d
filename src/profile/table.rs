//! The kernels that took longest, as a table.

use super::{Dispatched, NodeInfo, Profile, Rates};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Kernels that the table shows where nothing else is asked for.
const SHOWN: usize = 10;

/// All runs of one operator with the same kernels and shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelTotal {
    /// The operator.
    pub op: &'static str,
    /// Its kernels with their variants: "linear_rows rows=16 value=f32".
    pub kernels: String,
    /// Shapes of its inputs and outputs.
    pub shapes: String,
    /// How often it ran.
    pub count: usize,
    /// Time of all runs.
    pub time: Duration,
    /// That, as a part of the time of all dispatches.
    pub share: f64,
    /// Time of the runs with a pipeline that was never dispatched before: some drivers compile it
    /// then.
    pub first: Duration,
    /// Speed of the other runs, or of all where there are no others; none where what it takes
    /// depends on the values.
    pub rates: Option<Rates>,
}

/// Runs of nodes that are summed.
struct Sum<'a> {
    node: &'a NodeInfo,
    kernels: String,
    shapes: String,
    count: usize,
    time: Duration,
    first_count: usize,
    first: Duration,
}

impl<'a> Sum<'a> {
    fn new(node: &'a NodeInfo) -> Self {
        let kernel = |kernel: &super::KernelInfo| format!("{} {}", kernel.kernel, kernel.variant);
        let kernels: Vec<String> = node.kernels.iter().map(|it| kernel(it).trim_end().to_owned()).collect();
        let (kernels, shapes) = (kernels.join(" + "), node.applied.shapes());
        let zero = Duration::ZERO;
        Self { node, kernels, shapes, count: 0, time: zero, first_count: 0, first: zero }
    }

    fn add(&mut self, run: &[Dispatched]) {
        let time: Duration = run.iter().map(|dispatch| dispatch.duration).sum();
        self.count += 1;
        self.time += time;
        if run.iter().any(|dispatch| dispatch.first) {
            self.first_count += 1;
            self.first += time;
        }
    }

    fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.time += other.time;
        self.first_count += other.first_count;
        self.first += other.first;
    }

    fn total(self, profile: &Profile, all: Duration) -> KernelTotal {
        let (count, time) = match self.count - self.first_count {
            0 => (self.count, self.time),
            others => (others, self.time - self.first),
        };
        let mean = time.div_f64(count.max(1) as f64);
        KernelTotal {
            op: self.node.applied.op,
            count: self.count,
            time: self.time,
            share: self.time.as_secs_f64() / all.as_secs_f64().max(1e-12),
            first: self.first,
            rates: Rates::of(&self.node.applied, mean, profile.ceilings.as_ref()),
            kernels: self.kernels,
            shapes: self.shapes,
        }
    }
}

impl Profile {
    /// The operators whose kernels took longest, at most so many, the longest first. Nodes with the
    /// same operator, kernels and shapes are one.
    pub fn costliest(&self, most: usize) -> Vec<KernelTotal> {
        let mut nodes: HashMap<*const NodeInfo, Sum<'_>> = HashMap::new();
        for run in self.node_runs() {
            let node = &run[0].node;
            nodes.entry(Arc::as_ptr(node)).or_insert_with(|| Sum::new(node)).add(run);
        }
        let mut groups: HashMap<(&'static str, String, String), Sum<'_>> = HashMap::new();
        for sum in nodes.into_values() {
            let key = (sum.node.applied.op, sum.kernels.clone(), sum.shapes.clone());
            match groups.get_mut(&key) {
                Some(known) => known.join(&sum),
                None => drop(groups.insert(key, sum)),
            }
        }
        let all = self.device_time();
        let mut totals: Vec<KernelTotal> = groups.into_values().map(|sum| sum.total(self, all)).collect();
        totals.sort_by(|a, b| b.time.cmp(&a.time).then_with(|| a.shapes.cmp(&b.shapes)));
        totals.truncate(most);
        totals
    }

    /// The costliest as a table: count, time and share of each, speed, part of the ceiling.
    pub fn table(&self, most: usize) -> String {
        if self.dispatches.is_empty() {
            return "no dispatch was recorded\n".to_owned();
        }
        let clock =
            if self.timestamps { "timestamps of the device" } else { "the clock, each submitted alone" };
        let all = milliseconds(self.device_time());
        let count = self.dispatches.len();
        let mut text = format!("{count} dispatches, {all:.2} ms by {clock}; {}\n", self.adapter);
        if self.dropped > 0 {
            text += &format!("{} more spans and dispatches were too many to record\n", self.dropped);
        }
        text += &format!(
            "{:>10}{:>8}{:>8}{:>10}{:>10}{:>9}{:>7}  kernel\n",
            "ms", "part", "count", "first ms", "GFLOP/s", "GB/s", "limit"
        );
        for total in self.costliest(most) {
            text += &total.line();
        }
        text
    }
}

impl KernelTotal {
    fn line(&self) -> String {
        let rate = |rate: Option<f64>, width: usize| match rate.filter(|&rate| rate > 0.0) {
            Some(rate) => format!("{rate:>width$.1}"),
            None => format!("{:>width$}", "-"),
        };
        let rates = self.rates.as_ref();
        let part = match rates.and_then(|rates| rates.part_of_ceiling) {
            Some((part, _)) => format!("{:>5.0} %", 100.0 * part),
            None => format!("{:>7}", "-"),
        };
        format!(
            "{:>10.3}{:>6.1} %{:>8}{:>10.3}{}{}{part}  {}: {} {}\n",
            milliseconds(self.time),
            100.0 * self.share,
            self.count,
            milliseconds(self.first),
            rate(rates.map(|rates| rates.gigaflops), 10),
            rate(rates.map(|rates| rates.gigabytes), 9),
            self.op,
            self.kernels,
            self.shapes,
        )
    }
}

impl std::fmt::Display for Profile {
    /// The ten costliest kernels.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.table(SHOWN))
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
