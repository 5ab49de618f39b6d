//! Compiled pipelines, made once for each kernel variant.

use super::Gpu;
use super::cache::PipelineCache;
use crate::kernel::{Access, Caps, Form, Launch, ShaderInfo, Variant, variants_text};
use crate::{Error, Result};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

/// A compiled kernel variant.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) key: Key,
    pub(super) raw: wgpu::ComputePipeline,
    pub(super) storage_layout: wgpu::BindGroupLayout,
    /// Layout of group 1, where parameters are a uniform.
    pub(super) params_layout: Option<wgpu::BindGroupLayout>,
    pub(super) shader: Arc<Shader>,
    /// Whether it was dispatched.
    pub(super) used: AtomicBool,
}

/// What tells pipelines of a device apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    kernel: &'static str,
    variants: BTreeMap<&'static str, Variant>,
    immediates: bool,
    form: Form,
    checked: bool,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} [{}]", self.kernel, variants_text(&self.variants))
    }
}

/// A kernel variant as a device takes it.
#[derive(Debug)]
pub(super) struct Shader {
    pub(super) name: &'static str,
    pub(super) info: ShaderInfo,
    /// Expressions that it is made of: shaders with more take longer to compile.
    pub(super) size: usize,
    wgsl: String,
    checked: bool,
}

/// All pipelines of a device.
#[derive(Debug, Default)]
pub(super) struct Pipelines(Mutex<HashMap<Key, Arc<Pipeline>>>);

impl Pipelines {
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Pipeline>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gpu {
    /// Makes the pipelines of launches that there are not yet, on as many threads as are useful, and
    /// has a software adapter compile them.
    ///
    /// # Errors
    /// [`Error::Shader`], or what the device says.
    pub fn compile(&self, launches: &[&Launch]) -> Result<()> {
        let pipelines = self.pipelines(launches)?;
        if let Some(ahead) = &self.shared.ahead {
            ahead.add(&pipelines, false);
        }
        Ok(())
    }

    /// The pipelines of launches, each once. Those that there are not yet are made on as many
    /// threads as are useful.
    pub(super) fn pipelines(&self, launches: &[&Launch]) -> Result<Vec<Arc<Pipeline>>> {
        let distinct: HashMap<Key, &Launch> =
            launches.iter().map(|&launch| (self.key(launch), launch)).collect();
        let distinct: Vec<&Launch> = distinct.into_values().collect();
        let missing = {
            let known = self.shared.pipelines.lock();
            distinct.iter().filter(|launch| !known.contains_key(&self.key(launch))).count()
        };
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<Arc<Pipeline>>> {
            let taken = || distinct.get(next.fetch_add(1, Ordering::Relaxed));
            std::iter::from_fn(taken).map(|launch| self.pipeline(launch)).collect()
        };
        let threads = available_parallelism().map_or(1, usize::from).min(missing);
        let made = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut made = work();
            for other in others {
                let more = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                made = made.and_then(|made| Ok([made, more?].concat()));
            }
            made
        })?;
        if let Some(cache) = self.shared.cache.as_ref().filter(|_| missing > 0) {
            cache.save();
        }
        Ok(made)
    }

    fn key(&self, launch: &Launch) -> Key {
        Key {
            kernel: launch.kernel,
            variants: launch.variants.clone(),
            immediates: self.caps().immediates,
            form: self.caps().form(),
            checked: self.checked,
        }
    }

    /// The pipeline of a launch, compiled at first use.
    pub(super) fn pipeline(&self, launch: &Launch) -> Result<Arc<Pipeline>> {
        let key = self.key(launch);
        if let Some(pipeline) = self.shared.pipelines.lock().get(&key) {
            return Ok(pipeline.clone());
        }
        let _span = self.span("compile").with("kernel", launch.kernel).with("variant", launch.variant_text());
        let started = std::time::Instant::now();
        let shader = Arc::new(Shader::of(launch, self.caps(), self.checked)?);
        let (device, cache) = (&self.shared.device, self.shared.cache.as_ref().map(PipelineCache::raw));
        let make = || shader.pipeline(device, cache, key.clone());
        let pipeline = self.guarded(launch.kernel, 0, make)?;
        log::debug!("pipeline {key}: {:.1?}", started.elapsed());
        // Another thread may have made the same one meanwhile.
        Ok(self.shared.pipelines.lock().entry(key).or_insert(Arc::new(pipeline)).clone())
    }
}

impl Shader {
    fn of(launch: &Launch, caps: &Caps, checked: bool) -> Result<Self> {
        let wgsl = launch.render(caps)?;
        let (info, module) = ShaderInfo::reflect(launch.kernel, &wgsl, caps, launch.params.fields)?;
        if info.bindings.len() != launch.bindings.len() {
            let (shader, operator) = (info.bindings.len(), launch.bindings.len());
            let message = format!("has {shader} storage bindings, its operator binds {operator}");
            return Err(Error::shader(launch.kernel, message));
        }
        let functions = module.functions.iter().map(|(_, function)| function);
        let entries = module.entry_points.iter().map(|entry| &entry.function);
        let size = functions.chain(entries).map(|function| function.expressions.len()).sum();
        Ok(Self { name: launch.kernel, info, size, wgsl, checked })
    }

    /// Makes a pipeline. What the device objects to goes to its error scopes.
    pub(super) fn pipeline(
        self: &Arc<Self>,
        device: &wgpu::Device,
        cache: Option<&wgpu::PipelineCache>,
        key: Key,
    ) -> Pipeline {
        let (label, info) = (Some(self.name), &self.info);
        let source = wgpu::ShaderSource::Wgsl(Cow::Borrowed(&self.wgsl));
        let source = wgpu::ShaderModuleDescriptor { label, source };
        let module = if self.checked {
            device.create_shader_module(source)
        } else {
            // SAFETY: all shaders are this crate's own, rendered from a closed set of templates with
            // no user WGSL. Every loop is bounded by parameters that the host made, divisors are
            // non-zero, indices are in range by construction or guarded; tests run every kernel with
            // checks on and off and compare. wgpu keeps the device's robust buffer access on.
            unsafe { device.create_shader_module_trusted(source, wgpu::ShaderRuntimeChecks::unchecked()) }
        };
        let storage_layout = storage_layout(device, self.name, info);
        let params_layout = (info.params_bytes > 0 && !info.params_immediate).then(|| params_layout(device));
        let layouts = [Some(&storage_layout), params_layout.as_ref()];
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &layouts[..if params_layout.is_some() { 2 } else { 1 }],
            immediate_size: if info.params_immediate { info.params_bytes } else { 0 },
        });
        let raw = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: self.checked,
                ..Default::default()
            },
            cache,
        });
        Pipeline {
            key,
            raw,
            storage_layout,
            params_layout,
            shader: self.clone(),
            used: AtomicBool::new(false),
        }
    }
}

fn storage_layout(device: &wgpu::Device, name: &str, info: &ShaderInfo) -> wgpu::BindGroupLayout {
    let entries: Vec<_> = info
        .bindings
        .iter()
        .map(|&(binding, access)| {
            let ty = wgpu::BufferBindingType::Storage { read_only: access == Access::Read };
            layout_entry(binding, ty, false)
        })
        .collect();
    let descriptor = wgpu::BindGroupLayoutDescriptor { label: Some(name), entries: &entries };
    device.create_bind_group_layout(&descriptor)
}

/// Layout of the uniform that holds the parameters of all steps of a program.
fn params_layout(device: &wgpu::Device) -> wgpu::BindGroupLayout {
    let entries = [layout_entry(0, wgpu::BufferBindingType::Uniform, true)];
    let descriptor = wgpu::BindGroupLayoutDescriptor { label: Some("params"), entries: &entries };
    device.create_bind_group_layout(&descriptor)
}

fn layout_entry(
    binding: u32,
    ty: wgpu::BufferBindingType,
    has_dynamic_offset: bool,
) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
        count: None,
    }
}
