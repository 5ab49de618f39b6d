//! Collects spans and dispatches while a program runs.

use super::{DispatchTime, Dispatched, HostSpan, NodeInfo, Profile};
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// Most spans, and most dispatches, that are kept: a bound of memory and of the trace's size.
const MOST: usize = 1 << 18;

/// A record in the making. Cheap to clone; clones share all.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    since: Instant,
    recorded: Mutex<Recorded>,
}

#[derive(Debug, Default)]
struct Recorded {
    profile: Profile,
    threads: Vec<ThreadId>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// An empty record; times count from now on.
    pub fn new() -> Self {
        Self::since(Instant::now())
    }

    /// An empty record whose times count from an earlier moment, for example the start of the
    /// program.
    pub fn since(start: Instant) -> Self {
        Self(Arc::new(Shared { since: start, recorded: Mutex::default() }))
    }

    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.0.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a span, which ends when it is dropped.
    pub fn span(&self, name: &'static str) -> Span {
        Span(Some(Open { recorder: self.clone(), name, details: Vec::new(), begin: Instant::now() }))
    }

    /// Adds a span that began earlier and ends now.
    pub fn ended_span(&self, name: &'static str, begin: Instant) {
        drop(Span(Some(Open { recorder: self.clone(), name, details: Vec::new(), begin })));
    }

    /// What was recorded so far.
    pub fn profile(&self) -> Profile {
        let mut profile = self.recorded().profile.clone();
        // Spans were added at their ends: those that hold others come first.
        profile.spans.sort_by_key(|span| (span.start, std::cmp::Reverse(span.duration)));
        profile
    }

    /// Time of all dispatches so far.
    pub fn device_time(&self) -> Duration {
        self.recorded().profile.device_time()
    }

    /// Notes the device that is recorded.
    pub(crate) fn attach(&self, adapter: String, timestamps: bool) {
        let profile = &mut self.recorded().profile;
        (profile.adapter, profile.timestamps) = (adapter, timestamps);
    }

    /// Adds dispatches: node, position in it, when it ran.
    pub(crate) fn add_dispatches<'n>(
        &self,
        dispatches: impl Iterator<Item = (&'n (Arc<NodeInfo>, usize), DispatchTime)>,
    ) {
        let profile = &mut self.recorded().profile;
        for ((node, index), DispatchTime { begin, duration, first }) in dispatches {
            let (start, index) = (begin.saturating_duration_since(self.0.since), *index);
            let dispatch = Dispatched { node: node.clone(), index, start, duration, first };
            add(&mut profile.dispatches, dispatch, &mut profile.dropped);
        }
    }

    fn add_span(&self, name: &'static str, details: Vec<(&'static str, Value)>, begin: Instant) {
        let duration = begin.elapsed();
        let start = begin.saturating_duration_since(self.0.since);
        let current = std::thread::current().id();
        let Recorded { profile, threads } = &mut *self.recorded();
        let thread = threads.iter().position(|known| *known == current).unwrap_or_else(|| {
            threads.push(current);
            threads.len() - 1
        });
        let span = HostSpan { name, details, thread, start, duration };
        add(&mut profile.spans, span, &mut profile.dropped);
    }
}

fn add<T>(list: &mut Vec<T>, item: T, dropped: &mut usize) {
    if list.len() < MOST {
        list.push(item);
    } else {
        *dropped += 1;
    }
}

/// Work on the host from now on until it is dropped; nothing where nothing is recorded.
#[must_use = "a span ends when it is dropped"]
#[derive(Debug)]
pub struct Span(Option<Open>);

#[derive(Debug)]
struct Open {
    recorder: Recorder,
    name: &'static str,
    details: Vec<(&'static str, Value)>,
    begin: Instant,
}

impl Span {
    /// A span that is not recorded.
    pub fn none() -> Self {
        Self(None)
    }

    /// The same with a detail.
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        if let Some(open) = &mut self.0 {
            open.details.push((key, value.into()));
        }
        self
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(Open { recorder, name, details, begin }) = self.0.take() {
            recorder.add_span(name, details, begin);
        }
    }
}
