//! Compiled pipelines, made once for each kernel variant.

use super::Gpu;
use crate::kernel::{Access, Launch, ShaderInfo, Variant};
use crate::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

/// A compiled kernel variant.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) raw: wgpu::ComputePipeline,
    pub(super) storage_layout: wgpu::BindGroupLayout,
    /// Layout of group 1, where parameters are a uniform.
    pub(super) params_layout: Option<wgpu::BindGroupLayout>,
    pub(super) info: ShaderInfo,
    /// Whether it was dispatched.
    pub(super) used: AtomicBool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    kernel: &'static str,
    variants: BTreeMap<&'static str, Variant>,
    immediates: bool,
    checked: bool,
}

/// All pipelines of a device.
#[derive(Debug, Default)]
pub(super) struct Pipelines(Mutex<HashMap<Key, Arc<Pipeline>>>);

impl Pipelines {
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Gpu {
    /// The pipeline of a launch, compiled at first use.
    pub(super) fn pipeline(&self, launch: &Launch) -> Result<Arc<Pipeline>> {
        let key = Key {
            kernel: launch.kernel,
            variants: launch.variants.clone(),
            immediates: self.caps().immediates,
            checked: self.checked,
        };
        let mut pipelines = self.shared.pipelines.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = pipelines.get(&key) {
            return Ok(pipeline.clone());
        }
        let _span = self.span("compile").with("kernel", launch.kernel).with("variant", launch.variant_text());
        let started = std::time::Instant::now();
        let pipeline = Arc::new(self.compile(launch)?);
        log::debug!("pipeline {} {:?}: {:.1?}", launch.kernel, launch.variants, started.elapsed());
        pipelines.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    fn compile(&self, launch: &Launch) -> Result<Pipeline> {
        let wgsl = launch.render(self.caps())?;
        let (info, _) = ShaderInfo::reflect(launch.kernel, &wgsl, self.caps(), launch.params.fields)?;
        if info.bindings.len() != launch.bindings.len() {
            let (shader, operator) = (info.bindings.len(), launch.bindings.len());
            let message = format!("has {shader} storage bindings, its operator binds {operator}");
            return Err(Error::shader(launch.kernel, message));
        }
        self.guarded(launch.kernel, 0, || self.compile_checked(launch.kernel, wgsl, info))
    }

    fn compile_checked(&self, name: &str, wgsl: String, info: ShaderInfo) -> Pipeline {
        let device = &self.shared.device;
        let source =
            wgpu::ShaderModuleDescriptor { label: Some(name), source: wgpu::ShaderSource::Wgsl(wgsl.into()) };
        let module = if self.checked {
            device.create_shader_module(source)
        } else {
            // SAFETY: all shaders are this crate's own, rendered from a closed set of templates with
            // no user WGSL. Every loop is bounded by parameters that the host made, divisors are
            // non-zero, indices are in range by construction or guarded; tests run every kernel with
            // checks on and off and compare. wgpu keeps the device's robust buffer access on.
            unsafe { device.create_shader_module_trusted(source, wgpu::ShaderRuntimeChecks::unchecked()) }
        };
        let storage_layout = self.storage_layout(name, &info);
        let params_layout = (info.params_bytes > 0 && !info.params_immediate).then(|| self.params_layout());
        let layouts = [Some(&storage_layout), params_layout.as_ref()];
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(name),
            bind_group_layouts: &layouts[..if params_layout.is_some() { 2 } else { 1 }],
            immediate_size: if info.params_immediate { info.params_bytes } else { 0 },
        });
        let raw = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(name),
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: self.checked,
                ..Default::default()
            },
            cache: None,
        });
        Pipeline { raw, storage_layout, params_layout, info, used: AtomicBool::new(false) }
    }

    fn storage_layout(&self, name: &str, info: &ShaderInfo) -> wgpu::BindGroupLayout {
        let entries: Vec<_> = info
            .bindings
            .iter()
            .map(|&(binding, access)| {
                let ty = wgpu::BufferBindingType::Storage { read_only: access == Access::Read };
                layout_entry(binding, ty, false)
            })
            .collect();
        let descriptor = wgpu::BindGroupLayoutDescriptor { label: Some(name), entries: &entries };
        self.shared.device.create_bind_group_layout(&descriptor)
    }

    /// Layout of the uniform that holds the parameters of all steps of a program.
    fn params_layout(&self) -> wgpu::BindGroupLayout {
        let entries = [layout_entry(0, wgpu::BufferBindingType::Uniform, true)];
        let descriptor = wgpu::BindGroupLayoutDescriptor { label: Some("params"), entries: &entries };
        self.shared.device.create_bind_group_layout(&descriptor)
    }
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
