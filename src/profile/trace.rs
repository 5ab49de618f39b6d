//! A profile as a timeline in the trace event format of Chrome and Perfetto
//! (<https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU>): complete
//! events ("X") in microseconds, one process for the host and one for the device.

use super::{Dispatched, HostSpan, NodeInfo, Profile, Rates};
use crate::tensor::Spec;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// Numbers of the two processes of a trace.
const HOST: u32 = 1;
const DEVICE: u32 = 2;

impl Profile {
    /// The trace as JSON; it opens in Perfetto (ui.perfetto.dev) and in chrome://tracing. Events of
    /// each process are in the order of their starts.
    pub fn to_trace_json(&self) -> String {
        let mut events = vec![
            name_event("process_name", HOST, 0, "host"),
            name_event("process_name", DEVICE, 0, &format!("device: {}", self.adapter)),
            name_event("thread_name", DEVICE, 0, "dispatches"),
        ];
        let threads: BTreeSet<usize> = self.spans.iter().map(|span| span.thread).collect();
        for thread in threads {
            let name = if thread == 0 { "main".to_owned() } else { format!("thread {thread}") };
            events.push(name_event("thread_name", HOST, thread, &name));
        }
        events.extend(self.spans.iter().map(|span| span.event().to_string()));
        for run in self.node_runs() {
            let time = run.iter().map(|dispatch| dispatch.duration).sum();
            let rates = Rates::of(&run[0].node.applied, time, self.ceilings.as_ref());
            events.extend(run.iter().map(|dispatch| dispatch.event(rates.as_ref()).to_string()));
        }
        let about = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "adapter": self.adapter,
            "device_timestamps": self.timestamps,
            "dropped": self.dropped,
            "ceilings": self.ceilings,
        });
        let events = events.join(",\n");
        format!("{{\"displayTimeUnit\":\"ms\",\"otherData\":{about},\"traceEvents\":[\n{events}\n]}}\n")
    }
}

/// Names a process or a thread.
fn name_event(what: &str, process: u32, thread: usize, name: &str) -> String {
    json!({"ph": "M", "pid": process, "tid": thread, "name": what, "args": {"name": name}}).to_string()
}

fn complete_event(
    name: &str,
    category: &str,
    (process, thread): (u32, usize),
    (start, duration): (Duration, Duration),
    args: Map<String, Value>,
) -> Value {
    let microseconds = |time: Duration| time.as_nanos() as f64 / 1e3;
    json!({
        "ph": "X", "pid": process, "tid": thread, "name": name, "cat": category,
        "ts": microseconds(start), "dur": microseconds(duration), "args": args,
    })
}

impl HostSpan {
    fn event(&self) -> Value {
        let args = self.details.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        complete_event(self.name, "host", (HOST, self.thread), (self.start, self.duration), args)
    }
}

impl Dispatched {
    /// `rates` are those of the whole node.
    fn event(&self, rates: Option<&Rates>) -> Value {
        let mut args = self.node.args();
        let kernel = self.kernel();
        args.insert("kernel".into(), kernel.kernel.into());
        args.insert("variant".into(), kernel.variant.as_str().into());
        let (number, count) = (self.index + 1, self.node.kernels.len());
        args.insert("dispatch".into(), format!("{number} of {count}").into());
        args.insert("first".into(), self.first.into());
        if let Some(rates) = rates {
            args.insert("gflop_per_s".into(), rates.gigaflops.into());
            args.insert("gb_per_s".into(), rates.gigabytes.into());
        }
        if let Some((part, bound)) = rates.and_then(|rates| rates.part_of_ceiling) {
            args.insert("percent_of_ceiling".into(), (100.0 * part).into());
            args.insert("bound".into(), bound.name().into());
        }
        complete_event(&self.node.name, kernel.kernel, (DEVICE, 0), (self.start, self.duration), args)
    }
}

impl NodeInfo {
    fn args(&self) -> Map<String, Value> {
        let texts = |specs: &[Spec]| -> Value { specs.iter().map(ToString::to_string).collect() };
        let mut args = Map::new();
        args.insert("node".into(), self.name.as_str().into());
        args.insert("op".into(), self.applied.op.into());
        args.insert("inputs".into(), texts(&self.applied.inputs));
        args.insert("outputs".into(), texts(&self.applied.outputs));
        for selected in self.selected.iter() {
            let why = format!("{} ({})", selected.choice, selected.why);
            args.insert(format!("choice of {}", selected.family), why.into());
        }
        if let Some(cost) = &self.applied.cost {
            args.insert("flops".into(), cost.flops.into());
            args.insert("functions".into(), cost.functions.into());
            args.insert("bytes_read".into(), cost.read.into());
            args.insert("bytes_written".into(), cost.written.into());
        }
        args
    }
}
