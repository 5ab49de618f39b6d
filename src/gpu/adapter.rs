//! Finding, ranking and opening adapters; sharing the device of a host application.

use super::Gpu;
use super::ahead::Ahead;
use super::cache::PipelineCache;
use crate::kernel::{Backend, Caps, DeviceKind, Overrides};
use crate::tuning::{read_tuning, tuning_path};
use crate::{Error, Result};
use std::sync::Arc;

/// How to open a device.
#[derive(Debug, Clone, Default)]
pub struct GpuOptions {
    /// Index or part of the name of the adapter; without it the environment variable
    /// `WGINFER_ADAPTER` decides, else the best rank.
    pub adapter: Option<String>,
    /// Whether shaders get naga's run-time checks (index clamps, loop bounds, zero-fill).
    pub checked: bool,
    /// Whether kernels are used without the self-check (see [`Gpu::self_checked`]); so they are too
    /// where the environment variable `WGINFER_SELF_CHECK` is `off`.
    pub trusted: bool,
    /// Whether choices that `wginfer tune` measured on the adapter are left alone; so they are too
    /// where the environment variable `WGINFER_TUNING` is `off`.
    pub untuned: bool,
}

/// What is known of an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterSummary {
    /// Name, for example "llvmpipe (LLVM 15.0.6, 256 bits)".
    pub name: String,
    /// Driver and its version.
    pub driver: String,
    /// Graphics API.
    pub backend: String,
    /// Kind, by which adapters are ranked.
    pub kind: DeviceKind,
    /// Products of matrices that a subgroup makes by units of its own: rows x columns x depth, type of
    /// the factors and of the sums, as "16x16x16 F16 F32".
    pub matrices: Vec<String>,
}

impl std::fmt::Display for AdapterSummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({:?}, {}, {})", self.name, self.kind, self.backend, self.driver)
    }
}

/// What to install where no adapter is found.
const NO_ADAPTER: &str = if cfg!(target_os = "linux") {
    "no GPU adapter found: install a Vulkan driver (your card's own, or the software one: \
     `apt-get install mesa-vulkan-drivers` on Debian and Ubuntu, `dnf install mesa-vulkan-drivers` \
     on Fedora, `pacman -S vulkan-swrast` on Arch)"
} else if cfg!(target_os = "windows") {
    "no GPU adapter found: install the graphics driver of your card, or enable the Microsoft Basic \
     Render Driver, which needs Windows 10 or later with DirectX 12"
} else if cfg!(target_os = "macos") {
    "no GPU adapter found: wginfer needs macOS with Metal"
} else {
    "no GPU adapter found: install a driver for Vulkan, Metal or DirectX 12"
};

impl Gpu {
    /// Opens the best adapter: discrete before integrated, virtual and software ones, unless
    /// the environment variable `WGINFER_ADAPTER` names another by index or part of its name.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] with what to install, or what the driver says.
    pub fn new() -> Result<Self> {
        Self::open(&GpuOptions::default())
    }

    /// Opens an adapter.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] where there is none or none matches, or what the driver says.
    pub fn open(options: &GpuOptions) -> Result<Self> {
        let adapters = ranked_adapters();
        let wanted = options.adapter.clone().or_else(|| std::env::var("WGINFER_ADAPTER").ok());
        let adapter = choose(&adapters, wanted.filter(|name| !name.is_empty()).as_deref())?;
        let summary = summarise(adapter);
        let (device, queue) =
            open_with_matrices(adapter).map_or_else(|| open_device(adapter, &descriptor(adapter)), Ok)?;
        let caps = caps_of(adapter, &device);
        log::info!("adapter: {summary}");
        let kept = (Ahead::new(adapter), PipelineCache::open(adapter, &device));
        let gpu = Self::from_parts(device, queue, summary, caps, options.checked, kept);
        gpu.watch_for_loss();
        let is_off = |name| std::env::var(name).is_ok_and(|value| value == "off");
        let gpu = if options.untuned || is_off("WGINFER_TUNING") { gpu } else { gpu.tuned() };
        Ok(if options.trusted || is_off("WGINFER_SELF_CHECK") { gpu } else { gpu.self_checked() })
    }

    /// Uses the host application's own device and queue, which may have wgpu's default limits
    /// and no features; [`wanted`](Self::wanted) says what is worth requesting.
    /// The device's callbacks are left to the host.
    pub fn from_wgpu(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let caps = caps_of(adapter, &device);
        Self::from_parts(device, queue, summarise(adapter), caps, false, (None, None))
    }

    /// The same device with the choices of kernels that `wginfer tune` measured on it, where there
    /// are any. A file of them that cannot be used is passed over with a warning.
    #[must_use]
    pub fn tuned(&self) -> Self {
        let adapter = self.adapter().to_string();
        let Some(path) = tuning_path(&adapter) else { return self.clone() };
        match read_tuning(&path, &adapter) {
            Ok(None) => self.clone(),
            Ok(Some(tuning)) => {
                log::info!("{} measured choices of kernels: {}", tuning.len(), path.display());
                let mut caps = self.caps().clone();
                caps.overrides.tuning = Some(Arc::new(tuning));
                self.with_caps(caps)
            }
            Err(error) => {
                log::warn!("measured choices of kernels are not used: {error}");
                self.clone()
            }
        }
    }

    /// Features and limits that are worth requesting from an adapter.
    pub fn wanted(adapter: &wgpu::Adapter) -> (wgpu::Features, wgpu::Limits) {
        let useful = wgpu::Features::SUBGROUP
            | wgpu::Features::SHADER_F16
            | wgpu::Features::SHADER_INT64
            | wgpu::Features::IMMEDIATES
            | wgpu::Features::PIPELINE_CACHE
            | wgpu::Features::TIMESTAMP_QUERY;
        let limits = wgpu::Limits { max_bind_groups: 4, ..adapter.limits() };
        (adapter.features() & useful, limits)
    }

    /// All adapters, best first.
    pub fn adapters() -> Vec<AdapterSummary> {
        ranked_adapters().iter().map(summarise).collect()
    }

    fn watch_for_loss(&self) {
        let lost = self.shared.lost.clone();
        self.shared.device.set_device_lost_callback(move |reason, message| {
            let mut lost = lost.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *lost = Some(format!("{reason:?} {message}").trim().to_owned());
        });
        self.shared.device.on_uncaptured_error(Arc::new(|error: wgpu::Error| {
            log::error!("GPU device: {error}");
        }));
    }
}

/// What our own devices are opened with.
pub(super) fn descriptor(adapter: &wgpu::Adapter) -> wgpu::DeviceDescriptor<'static> {
    let (required_features, required_limits) = Gpu::wanted(adapter);
    wgpu::DeviceDescriptor {
        label: Some("wginfer"),
        required_features,
        required_limits,
        ..Default::default()
    }
}

pub(super) fn open_device(
    adapter: &wgpu::Adapter,
    descriptor: &wgpu::DeviceDescriptor<'_>,
) -> Result<(wgpu::Device, wgpu::Queue)> {
    pollster::block_on(adapter.request_device(descriptor)).map_err(|error| Error::Device {
        what: format!("opening {}", adapter.get_info().name),
        message: error.to_string(),
    })
}

/// A device that multiplies cooperative matrices; none where it has no such units, or the driver
/// fails although it lists them.
fn open_with_matrices(adapter: &wgpu::Adapter) -> Option<(wgpu::Device, wgpu::Queue)> {
    matrix_side(adapter)?;
    let mut descriptor = descriptor(adapter);
    descriptor.required_features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
    // SAFETY: only shaders of this crate name cooperative matrices, and only where `Caps` says that
    // the device has them; each is validated, and compared with a result of the host before use.
    descriptor.experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
    let opened = open_device(adapter, &descriptor);
    opened.inspect_err(|error| log::warn!("without cooperative matrices: {error}")).ok()
}

/// Side of the square tiles of f16 with f32 sums that WGSL can name and the adapter multiplies.
fn matrix_side(adapter: &wgpu::Adapter) -> Option<u32> {
    use wgpu::CooperativeScalarType as Scalar;
    if !adapter.features().contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
        return None;
    }
    let sizes = adapter.cooperative_matrix_properties();
    let has = |side: u32| {
        sizes.iter().any(|size| {
            [size.m_size, size.n_size, size.k_size] == [side; 3]
                && (size.ab_type, size.cr_type) == (Scalar::F16, Scalar::F32)
        })
    };
    [16, 8].into_iter().find(|&side| has(side))
}

fn ranked_adapters() -> Vec<wgpu::Adapter> {
    let descriptor = wgpu::InstanceDescriptor {
        backends: wgpu::Backends::PRIMARY,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    };
    let instance = wgpu::Instance::new(descriptor.with_env());
    let mut adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    adapters.sort_by_key(|adapter| kind_of(adapter.get_info().device_type));
    adapters
}

/// The adapter that `wanted` names by index or part of its name; the first without it.
fn choose<'a>(adapters: &'a [wgpu::Adapter], wanted: Option<&str>) -> Result<&'a wgpu::Adapter> {
    let names: Vec<String> = adapters.iter().map(|adapter| adapter.get_info().name).collect();
    let index = choose_index(&names, wanted)?;
    Ok(&adapters[index])
}

fn choose_index(names: &[String], wanted: Option<&str>) -> Result<usize> {
    if names.is_empty() {
        return Err(Error::NoAdapter(NO_ADAPTER.to_owned()));
    }
    let Some(wanted) = wanted else { return Ok(0) };
    if let Ok(index) = wanted.parse::<usize>()
        && index < names.len()
    {
        return Ok(index);
    }
    let matches = |name: &String| name.to_lowercase().contains(&wanted.to_lowercase());
    names.iter().position(matches).ok_or_else(|| {
        let listed: Vec<String> = names.iter().enumerate().map(|(i, name)| format!("{i}: {name}")).collect();
        Error::NoAdapter(format!("no adapter matches `{wanted}`; there are {}", listed.join(", ")))
    })
}

fn kind_of(device_type: wgpu::DeviceType) -> DeviceKind {
    match device_type {
        wgpu::DeviceType::DiscreteGpu => DeviceKind::Discrete,
        wgpu::DeviceType::IntegratedGpu => DeviceKind::Integrated,
        wgpu::DeviceType::Cpu => DeviceKind::Software,
        _ => DeviceKind::Virtual,
    }
}

fn summarise(adapter: &wgpu::Adapter) -> AdapterSummary {
    let info = adapter.get_info();
    AdapterSummary {
        name: info.name.clone(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        backend: format!("{:?}", info.backend),
        kind: kind_of(info.device_type),
        matrices: matrices(adapter),
    }
}

fn matrices(adapter: &wgpu::Adapter) -> Vec<String> {
    let name = |size: &wgpu::CooperativeMatrixProperties| {
        let [rows, columns, depth] = [size.m_size, size.n_size, size.k_size];
        format!("{rows}x{columns}x{depth} {:?} {:?}", size.ab_type, size.cr_type)
    };
    adapter.cooperative_matrix_properties().iter().map(name).collect()
}

fn caps_of(adapter: &wgpu::Adapter, device: &wgpu::Device) -> Caps {
    let (info, features, limits) = (adapter.get_info(), device.features(), device.limits());
    let backend = match info.backend {
        wgpu::Backend::Vulkan => Backend::Vulkan,
        wgpu::Backend::Metal => Backend::Metal,
        wgpu::Backend::Dx12 => Backend::Dx12,
        _ => Backend::Other,
    };
    Caps {
        kind: kind_of(info.device_type),
        backend,
        subgroups: features.contains(wgpu::Features::SUBGROUP),
        subgroup_min: info.subgroup_min_size,
        subgroup_max: info.subgroup_max_size,
        f16: features.contains(wgpu::Features::SHADER_F16),
        int64: features.contains(wgpu::Features::SHADER_INT64),
        cooperative_matrix: matrix_side(adapter)
            .filter(|_| features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX)),
        half_products: false,
        immediates: features.contains(wgpu::Features::IMMEDIATES) && limits.max_immediate_size >= 128,
        max_workgroup_invocations: limits.max_compute_invocations_per_workgroup,
        max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_buffer_bytes: limits.max_buffer_size,
        max_workgroups: limits.max_compute_workgroups_per_dimension,
        max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
        forced: None,
        overrides: Overrides::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_are_chosen_by_index_or_name_part() {
        let names = ["NVIDIA H200".to_owned(), "llvmpipe (LLVM 15)".to_owned()];
        assert_eq!(choose_index(&names, None).unwrap(), 0);
        assert_eq!(choose_index(&names, Some("1")).unwrap(), 1);
        assert_eq!(choose_index(&names, Some("LLVM")).unwrap(), 1);
        let error = choose_index(&names, Some("radeon")).unwrap_err().to_string();
        assert!(error.contains("radeon") && error.contains("1: llvmpipe"), "{error}");
        assert!(choose_index(&[], None).unwrap_err().to_string().contains("install"));
    }
}
