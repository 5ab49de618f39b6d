//! Parses and validates rendered WGSL and reads from it what a pipeline needs.

use super::{Caps, ParamsField};
use crate::{Error, Result};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ScalarKind, StorageAccess, TypeInner, VectorSize};

/// How a shader uses a storage binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    ReadWrite,
}

/// What reflection finds in a shader.
#[derive(Debug, Clone, PartialEq)]
pub struct ShaderInfo {
    /// Storage bindings of group 0 by ascending binding number.
    pub bindings: Vec<(u32, Access)>,
    /// Invocations of a workgroup in x, y, z.
    pub workgroup_size: [u32; 3],
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// Size of `Params` in bytes; 0 without parameters.
    pub params_bytes: u32,
    /// Whether `Params` are immediates rather than a uniform.
    pub params_immediate: bool,
}

impl ShaderInfo {
    /// Parses, validates and reflects a shader, and checks it against the device's limits and
    /// against the Rust side's parameter fields.
    ///
    /// # Errors
    /// [`Error::Shader`] with the place in the shader, or the limit that is exceeded.
    pub fn reflect(kernel: &str, wgsl: &str, caps: &Caps, fields: &[ParamsField]) -> Result<(Self, Module)> {
        let module = naga::front::wgsl::parse_str(wgsl)
            .map_err(|error| Error::shader(kernel, error.emit_to_string(wgsl)))?;
        let info = Self::of_module(kernel, wgsl, &module, caps, fields)?;
        Ok((info, module))
    }

    fn of_module(
        kernel: &str,
        wgsl: &str,
        module: &Module,
        caps: &Caps,
        fields: &[ParamsField],
    ) -> Result<Self> {
        let fail = |message: String| Error::shader(kernel, message);
        Validator::new(ValidationFlags::all(), capabilities(caps))
            .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
            .subgroup_operations(naga::valid::SubgroupOperationSet::all())
            .validate(module)
            .map_err(|error| fail(error.emit_to_string(wgsl)))?;
        let entry = module
            .entry_points
            .iter()
            .find(|entry| entry.name == "main")
            .ok_or_else(|| fail("has no entry point `main`".into()))?;
        let mut info = Self {
            bindings: Vec::new(),
            workgroup_size: entry.workgroup_size,
            workgroup_bytes: 0,
            params_bytes: 0,
            params_immediate: false,
        };
        for (_, variable) in module.global_variables.iter() {
            let ty = &module.types[variable.ty];
            match variable.space {
                AddressSpace::Storage { access } => {
                    let binding =
                        variable.binding.ok_or_else(|| fail("a storage variable has no binding".into()))?;
                    if binding.group != 0 {
                        return Err(fail(format!("storage binding {} is not in group 0", binding.binding)));
                    }
                    let access =
                        if access.contains(StorageAccess::STORE) { Access::ReadWrite } else { Access::Read };
                    info.bindings.push((binding.binding, access));
                }
                AddressSpace::WorkGroup => info.workgroup_bytes += ty.inner.size(module.to_ctx()),
                AddressSpace::Uniform | AddressSpace::Immediate => {
                    check_params(kernel, module, &ty.inner, fields)?;
                    info.params_bytes = ty.inner.size(module.to_ctx());
                    info.params_immediate = variable.space == AddressSpace::Immediate;
                }
                _ => {}
            }
        }
        info.bindings.sort_unstable_by_key(|&(number, _)| number);
        if info.params_bytes == 0 && !fields.is_empty() {
            return Err(fail("has no parameters, but its operator passes some".into()));
        }
        info.check_limits(kernel, caps)?;
        Ok(info)
    }

    fn check_limits(&self, kernel: &str, caps: &Caps) -> Result<()> {
        let check = |what: &str, got: u64, limit: u64| {
            if got <= limit {
                return Ok(());
            }
            Err(Error::shader(kernel, format!("needs {got} {what}, the device has {limit}")))
        };
        let invocations: u32 = self.workgroup_size.iter().product();
        check("invocations in a workgroup", invocations.into(), caps.max_workgroup_invocations.into())?;
        // wgpu does not enforce this limit.
        check("bytes of workgroup memory", self.workgroup_bytes.into(), caps.max_workgroup_bytes.into())?;
        check("storage buffers", self.bindings.len() as u64, caps.max_storage_buffers.into())?;
        check("bytes of parameters", self.params_bytes.into(), 128)
    }
}

/// naga's capabilities for what the device has.
fn capabilities(caps: &Caps) -> Capabilities {
    // unpack2x16float and pack2x16float, which every WebGPU device has.
    let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    capabilities.set(Capabilities::SUBGROUP, caps.subgroups);
    capabilities.set(Capabilities::SHADER_FLOAT16, caps.f16);
    capabilities.set(Capabilities::SHADER_INT64, caps.int64);
    capabilities.set(Capabilities::COOPERATIVE_MATRIX, caps.cooperative_matrix.is_some());
    capabilities.set(Capabilities::IMMEDIATES, caps.immediates);
    capabilities
}

fn check_params(kernel: &str, module: &Module, inner: &TypeInner, fields: &[ParamsField]) -> Result<()> {
    let TypeInner::Struct { members, .. } = inner else {
        return Err(Error::shader(kernel, "its parameters are not a struct"));
    };
    let in_shader: Vec<(String, String, usize)> = members
        .iter()
        .map(|member| {
            let name = member.name.clone().unwrap_or_default();
            (name, kind_name(&module.types[member.ty].inner), member.offset as usize)
        })
        .collect();
    let in_rust: Vec<(String, String, usize)> =
        fields.iter().map(|field| (field.name.into(), field.kind.into(), field.offset)).collect();
    if in_shader == in_rust {
        return Ok(());
    }
    Err(Error::shader(kernel, format!("Params differ: in WGSL {in_shader:?}, in Rust {in_rust:?}")))
}

fn kind_name(inner: &TypeInner) -> String {
    let scalar_name = |scalar: &naga::Scalar| match (scalar.kind, scalar.width) {
        (ScalarKind::Uint, 4) => "u32",
        (ScalarKind::Sint, 4) => "i32",
        (ScalarKind::Float, 4) => "f32",
        _ => "unsupported",
    };
    match inner {
        TypeInner::Scalar(scalar) => scalar_name(scalar).into(),
        TypeInner::Vector { size: VectorSize::Quad, scalar } => format!("[{}; 4]", scalar_name(scalar)),
        _ => "unsupported".into(),
    }
}
