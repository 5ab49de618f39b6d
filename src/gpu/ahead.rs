//! Shaders compiled ahead, on software adapters.
//!
//! Lavapipe compiles a pipeline in its first dispatch, on the one thread of the device's queue, and
//! keeps the result in Mesa's cache on disk. So further devices of the same adapter, each with a
//! queue and thread of its own, dispatch what a program needs at the same time (no workgroup of
//! it); the program's device then finds all in that cache. What goes wrong here is only logged: the
//! program's own first run compiles what it does not find.

use super::adapter::{descriptor, open_device};
use super::pipeline::{Key, Pipeline, Shader};
use crate::{Error, Result};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, available_parallelism};
use std::time::{Duration, Instant};

/// Most devices that compile: each has an LLVM of its own.
const MAX_THREADS: usize = 8;

/// Bytes of the buffers that stand for bindings.
const BUFFER_BYTES: u64 = 1024;

/// Compiles shaders on devices of its own.
#[derive(Debug)]
pub(super) struct Ahead {
    shared: Arc<Shared>,
    adapter: wgpu::Adapter,
    most: usize,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Job>,
    /// Whether each shader that was ever asked for is compiled.
    done: HashMap<Key, bool>,
    /// Sum of the first dispatches.
    spent: Duration,
    working: usize,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Job {
    key: Key,
    shader: Arc<Shader>,
    /// Whether a run waits for it.
    wanted: bool,
}

impl Ahead {
    /// None where the driver compiles early, or nothing is won.
    pub(super) fn new(adapter: &wgpu::Adapter) -> Option<Self> {
        let most = available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let is_lavapipe = adapter.get_info().driver == "llvmpipe";
        if !is_lavapipe || most < 2 || !mesa_keeps_shaders(&|name| std::env::var_os(name).map(PathBuf::from))
        {
            return None;
        }
        Some(Self { shared: Arc::default(), adapter: adapter.clone(), most })
    }

    /// Has shaders compiled that were not asked for before, unless it is a single one: the program's
    /// own device takes no longer for that. `wanted` ones come first.
    pub(super) fn add(&self, pipelines: &[Arc<Pipeline>], wanted: bool) {
        let mut state = self.shared.lock();
        let mut new: HashMap<&Key, &Arc<Shader>> =
            pipelines.iter().map(|pipeline| (&pipeline.key, &pipeline.shader)).collect();
        for job in state.waiting.iter_mut().filter(|job| new.contains_key(&job.key)) {
            job.wanted |= wanted;
        }
        new.retain(|key, _| !state.done.contains_key(*key));
        if new.len() < 2 {
            return;
        }
        for (key, shader) in new {
            state.done.insert(key.clone(), false);
            state.waiting.push(Job { key: key.clone(), shader: shader.clone(), wanted });
        }
        while state.working < self.most.min(state.waiting.len()) {
            state.working += 1;
            let (shared, adapter) = (self.shared.clone(), self.adapter.clone());
            state.threads.push(std::thread::spawn(move || shared.work(&adapter)));
        }
    }

    /// Waits until all of these are compiled that were asked for.
    pub(super) fn wait(&self, pipelines: &[Arc<Pipeline>]) {
        let pending = |state: &mut State| {
            let pending = |pipeline: &Arc<Pipeline>| state.done.get(&pipeline.key) == Some(&false);
            state.working > 0 && pipelines.iter().any(pending)
        };
        let started = Instant::now();
        let state = self.shared.lock();
        drop(self.shared.changed.wait_while(state, pending).unwrap_or_else(PoisonError::into_inner));
        log::debug!("waited {:.1?} for shaders", started.elapsed());
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        let (threads, shaders, spent) = {
            let mut state = self.shared.lock();
            state.waiting.clear();
            (std::mem::take(&mut state.threads), state.done.len(), state.spent)
        };
        // The driver must not be unloaded under a thread that compiles.
        for thread in threads {
            let _ = thread.join();
        }
        log::info!("first dispatches of {shaders} shaders: {spent:.2?} in all");
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compiles what is waiting, until nothing is.
    fn work(&self, adapter: &wgpu::Adapter) {
        let opened = open_device(adapter, &descriptor(adapter));
        if let Ok((device, _)) = &opened {
            device.on_uncaptured_error(Arc::new(|error: wgpu::Error| {
                log::warn!("compiling ahead: {error}");
            }));
        }
        while let Some(Job { key, shader, .. }) = self.next(opened.is_ok()) {
            let Ok((device, queue)) = &opened else { break };
            let done = catch_unwind(AssertUnwindSafe(|| first_dispatch(device, queue, &shader, key.clone())));
            let mut state = self.lock();
            match done {
                Ok(Ok(took)) => {
                    log::info!("first dispatch of {key}: {took:.1?}");
                    state.spent += took;
                }
                Ok(Err(error)) => log::warn!("compiling {key} ahead: {error}"),
                Err(_) => log::warn!("compiling {key} ahead panicked"),
            }
            state.done.insert(key, true);
            self.changed.notify_all();
        }
    }

    /// What to compile next, the costliest first; without anything the thread counts as ended.
    fn next(&self, able: bool) -> Option<Job> {
        let mut state = self.lock();
        let costliest = (0..state.waiting.len()).max_by_key(|&index| {
            let job = &state.waiting[index];
            (job.wanted, job.shader.size)
        });
        let next = costliest.filter(|_| able).map(|index| state.waiting.swap_remove(index));
        if next.is_none() {
            state.working -= 1;
            self.changed.notify_all();
        }
        next
    }
}

/// Dispatches no workgroup of a shader, which is enough for the driver to compile it, and says how
/// long that took.
fn first_dispatch(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    shader: &Arc<Shader>,
    key: Key,
) -> Result<Duration> {
    let pipeline = shader.pipeline(device, None, key);
    let (storage, params) = stand_ins(device, &pipeline);
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline.raw);
        pass.set_bind_group(0, &storage, &[]);
        if shader.info.params_immediate {
            pass.set_immediates(0, &vec![0; shader.info.params_bytes as usize]);
        } else if params.is_some() {
            pass.set_bind_group(1, params.as_ref(), &[0]);
        }
        pass.dispatch_workgroups(0, 1, 1);
    }
    let started = Instant::now();
    queue.submit([encoder.finish()]);
    let fail = |error: wgpu::PollError| Error::Device {
        what: "a first dispatch".into(),
        message: error.to_string(),
    };
    device.poll(wgpu::PollType::wait_indefinitely()).map_err(fail)?;
    Ok(started.elapsed())
}

/// Bind groups of small buffers: of storage, and of the parameters where they are a uniform.
fn stand_ins(device: &wgpu::Device, pipeline: &Pipeline) -> (wgpu::BindGroup, Option<wgpu::BindGroup>) {
    let buffer = |usage: wgpu::BufferUsages| {
        let size = BUFFER_BYTES;
        device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    };
    let group = |layout: &wgpu::BindGroupLayout, entries: &[wgpu::BindGroupEntry<'_>]| {
        device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries })
    };
    let bindings = &pipeline.shader.info.bindings;
    let buffers: Vec<wgpu::Buffer> = bindings.iter().map(|_| buffer(wgpu::BufferUsages::STORAGE)).collect();
    let entries: Vec<wgpu::BindGroupEntry<'_>> = bindings
        .iter()
        .zip(&buffers)
        .map(|(&(binding, _), buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
        .collect();
    let params = pipeline.params_layout.as_ref().map(|layout| {
        let resource = buffer(wgpu::BufferUsages::UNIFORM);
        let resource = wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &resource,
            offset: 0,
            size: wgpu::BufferSize::new(256),
        });
        group(layout, &[wgpu::BindGroupEntry { binding: 0, resource }])
    });
    (group(&pipeline.storage_layout, &entries), params)
}

/// Whether Mesa keeps compiled shaders on disk, by the variables that it reads
/// (<https://docs.mesa3d.org/envvars.html>).
fn mesa_keeps_shaders(variable: &dyn Fn(&str) -> Option<PathBuf>) -> bool {
    let is_set = |name: &str| variable(name).filter(|value| !value.as_os_str().is_empty());
    let disabled = ["MESA_SHADER_CACHE_DISABLE", "MESA_GLSL_CACHE_DISABLE"].into_iter().find_map(is_set);
    if disabled.is_some_and(|value| ["1", "true", "y", "yes"].iter().any(|on| value.as_os_str() == *on)) {
        return false;
    }
    let folders = ["MESA_SHADER_CACHE_DIR", "MESA_GLSL_CACHE_DIR", "XDG_CACHE_HOME", "HOME"];
    let folder = folders.into_iter().find_map(is_set);
    folder.is_some_and(|folder| folder.exists() || folder.parent().is_some_and(std::path::Path::exists))
}

#[cfg(test)]
mod tests {
    use super::mesa_keeps_shaders;
    use std::path::PathBuf;

    #[test]
    fn shaders_are_compiled_ahead_only_where_mesa_keeps_them() {
        let home = std::env::temp_dir();
        let keeps = |set: &[(&str, &str)]| {
            mesa_keeps_shaders(&|name| {
                let found =
                    set.iter().find(|(known, _)| *known == name).map(|(_, value)| PathBuf::from(value));
                found.or_else(|| (name == "HOME").then(|| home.clone()))
            })
        };
        assert!(keeps(&[]));
        assert!(keeps(&[("MESA_SHADER_CACHE_DISABLE", "false")]));
        assert!(!keeps(&[("MESA_SHADER_CACHE_DISABLE", "true")]));
        assert!(!keeps(&[("MESA_GLSL_CACHE_DISABLE", "1")]));
        assert!(!keeps(&[("MESA_SHADER_CACHE_DIR", "/no such folder/at all")]));
    }
}
