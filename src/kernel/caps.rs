//! What a device can do, as plain data that tests can fake.

use super::Overrides;
use std::borrow::Cow;

/// Kind of adapter, in the order in which they are preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceKind {
    /// A card with its own memory.
    Discrete,
    /// Shares memory with the processor.
    Integrated,
    /// A GPU passed through to a virtual machine, or of unknown kind.
    Virtual,
    /// A driver that computes on the processor (lavapipe, WARP).
    Software,
}

/// Graphics API below wgpu.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// Vulkan: shaders become SPIR-V.
    Vulkan,
    /// Metal: shaders become MSL.
    Metal,
    /// Direct3D 12: shaders become HLSL.
    Dx12,
    /// Anything else.
    Other,
}

/// The three forms of a kernel that operators choose between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// For software adapters: no barriers, no workgroup memory, register blocks, groups of 8.
    Software,
    /// For GPUs with subgroup operations.
    Subgroup,
    /// For GPUs without them: workgroup memory and barriers only.
    Plain,
}

impl Form {
    /// All forms.
    pub const ALL: [Self; 3] = [Self::Software, Self::Subgroup, Self::Plain];

    /// Its name in tables and options.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Software => "software",
            Self::Subgroup => "subgroup",
            Self::Plain => "plain",
        }
    }
}

/// Limits and features of a device; operators choose kernel variants by it alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Caps {
    /// Kind of adapter.
    pub kind: DeviceKind,
    /// Graphics API.
    pub backend: Backend,
    /// Whether subgroup operations may be used.
    pub subgroups: bool,
    /// Smallest subgroup size that a pipeline may get.
    pub subgroup_min: u32,
    /// Largest subgroup size that a pipeline may get.
    pub subgroup_max: u32,
    /// Whether `enable f16` is there.
    pub f16: bool,
    /// Whether shaders may use integers of 64 bits.
    pub int64: bool,
    /// Side of the square tiles that subgroups multiply, f16 by f16 with f32 sums, where the
    /// hardware has matrix units: 16 on Vulkan, 8 on Metal.
    pub cooperative_matrix: Option<u32>,
    /// Whether products with an f16 weight may round their other factor to f16, as matrix units
    /// want it: sums then deviate by about 2^-11 of their terms, and factors above 65504 become
    /// infinite. Other runtimes do so for every model with f16 weights (llama.cpp's Vulkan back
    /// end where it has matrix units, PyTorch whose activations are f16 as well); here it is what
    /// a host asks for, because results are promised as those of f32 products.
    pub half_products: bool,
    /// Whether parameters can be immediates (push constants).
    pub immediates: bool,
    /// Most invocations in a workgroup.
    pub max_workgroup_invocations: u32,
    /// Most bytes of workgroup memory.
    pub max_workgroup_bytes: u32,
    /// Most bytes that one storage binding can see.
    pub max_binding_bytes: u64,
    /// Most bytes of a buffer.
    pub max_buffer_bytes: u64,
    /// Most workgroups in one dimension of a dispatch.
    pub max_workgroups: u32,
    /// Most storage buffers bound in one dispatch.
    pub max_storage_buffers: u32,
    /// Form that is used whatever the device is; for tests and the doctor.
    pub forced: Option<Form>,
    /// What goes before the rules by which operators select kernels.
    pub overrides: Overrides,
}

impl Caps {
    /// The form of kernel to use on this device.
    pub fn form(&self) -> Form {
        match self.forced {
            Some(Form::Subgroup) if !self.subgroups => Form::Plain,
            Some(form) => form,
            None if self.kind == DeviceKind::Software => Form::Software,
            None if self.subgroups => Form::Subgroup,
            None => Form::Plain,
        }
    }

    /// Invocations in a workgroup of a kernel without barriers: one SIMD vector on
    /// software adapters, 64 elsewhere.
    pub fn elementwise_width(&self) -> u32 {
        if self.form() == Form::Software { 8 } else { 64.min(self.max_workgroup_invocations) }
    }

    /// Workgroups that keep a device busy, about two for each of its units; drivers tell no
    /// number of these.
    pub fn busy_workgroups(&self) -> usize {
        match self.kind {
            DeviceKind::Discrete => 256,
            DeviceKind::Integrated | DeviceKind::Virtual => 64,
            DeviceKind::Software => 16,
        }
    }

    /// The same device without what computes with values of half precision, whose range f32 values
    /// may leave.
    #[must_use]
    pub fn without_half_precision(self) -> Self {
        Self { f16: false, cooperative_matrix: None, ..self }
    }

    /// The same device with this form forced.
    #[must_use]
    pub fn with_form(mut self, form: Form) -> Self {
        self.forced = Some(form);
        self
    }

    /// The device as an operator sees it: in a plainer form where kernels of its own form are demoted
    /// (see [`Overrides::demoted`]). The software form is the plainest.
    pub fn of_op(&self, op: &str) -> Cow<'_, Self> {
        let is_demoted = |form: Form| {
            self.overrides.demoted.iter().any(|(name, choice)| name == op && choice == form.name())
        };
        let own = self.form();
        let plainer = [Form::Subgroup, Form::Plain, Form::Software].into_iter().skip_while(|it| *it != own);
        let form = plainer.clone().find(|it| !is_demoted(*it)).unwrap_or(Form::Software);
        if form == own || is_demoted(form) {
            return Cow::Borrowed(self);
        }
        let subgroups = self.subgroups && form == Form::Subgroup;
        Cow::Owned(Self { subgroups, ..self.clone().with_form(form) })
    }

    /// The least that WebGPU guarantees, without any feature.
    pub const fn webgpu_minimum() -> Self {
        Self {
            kind: DeviceKind::Discrete,
            backend: Backend::Vulkan,
            subgroups: false,
            subgroup_min: 4,
            subgroup_max: 128,
            f16: false,
            int64: false,
            cooperative_matrix: None,
            half_products: false,
            immediates: false,
            max_workgroup_invocations: 256,
            max_workgroup_bytes: 16 << 10,
            max_binding_bytes: 128 << 20,
            max_buffer_bytes: 256 << 20,
            max_workgroups: 65_535,
            max_storage_buffers: 8,
            forced: None,
            overrides: Overrides::NONE,
        }
    }

    /// Fixed profiles of common devices, by name; every shader variant that one of them can
    /// select is written to its back end in a test, without a GPU.
    pub fn profiles() -> Vec<(&'static str, Self)> {
        let minimum = Self::webgpu_minimum();
        let gpu = Self {
            subgroups: true,
            f16: true,
            int64: true,
            immediates: true,
            max_workgroup_invocations: 1024,
            max_workgroup_bytes: 32 << 10,
            max_binding_bytes: (2 << 30) - 4,
            max_buffer_bytes: 4 << 30,
            max_storage_buffers: 16,
            ..minimum.clone()
        };
        vec![
            ("vulkan minimum", minimum),
            (
                "nvidia",
                Self {
                    subgroup_min: 32,
                    subgroup_max: 32,
                    cooperative_matrix: Some(16),
                    half_products: true,
                    max_workgroup_bytes: 48 << 10,
                    ..gpu.clone()
                },
            ),
            ("amd", Self { subgroup_min: 64, subgroup_max: 64, ..gpu.clone() }),
            (
                "intel",
                Self { kind: DeviceKind::Integrated, subgroup_min: 8, subgroup_max: 32, ..gpu.clone() },
            ),
            (
                "metal",
                Self {
                    kind: DeviceKind::Integrated,
                    backend: Backend::Metal,
                    subgroup_min: 32,
                    subgroup_max: 32,
                    cooperative_matrix: Some(8),
                    half_products: true,
                    ..gpu.clone()
                },
            ),
            ("dx12", Self { backend: Backend::Dx12, subgroup_min: 32, subgroup_max: 64, ..gpu.clone() }),
            (
                "software",
                Self {
                    kind: DeviceKind::Software,
                    subgroup_min: 8,
                    subgroup_max: 8,
                    max_binding_bytes: 128 << 20,
                    max_buffer_bytes: (2 << 30) - 1,
                    ..gpu
                },
            ),
        ]
    }
}
