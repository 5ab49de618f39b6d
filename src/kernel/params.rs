//! Parameters of a launch: a plain struct whose layout is compared with the shader's.

/// One field of a parameter struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParamsField {
    /// Name in Rust and in WGSL.
    pub name: &'static str,
    /// Rust type: "u32", "i32", "f32" or "[u32; 4]" (a `vec4<u32>`).
    pub kind: &'static str,
    /// Offset in bytes.
    pub offset: usize,
}

/// A parameter struct. Operators of this crate make theirs with the macro `params!`.
pub trait ParamsFormat: bytemuck::Pod {
    /// Its fields in order.
    const FIELDS: &'static [ParamsField];
}

/// Bytes and layout of the parameters of one launch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params {
    /// The struct's bytes.
    pub bytes: Vec<u8>,
    /// The struct's fields.
    pub fields: &'static [ParamsField],
}

impl<P: ParamsFormat> From<P> for Params {
    fn from(params: P) -> Self {
        Self { bytes: bytemuck::bytes_of(&params).to_vec(), fields: P::FIELDS }
    }
}

/// Declares a kernel's parameter struct; its layout is compared with the WGSL struct `Params`.
/// Fields are `u32`, `i32`, `f32`, and `[u32; 4]` (at offsets that are multiples of 16).
macro_rules! params {
    (struct $name:ident { $($field:ident: $kind:ty),* $(,)? }) => {
        #[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        #[repr(C)]
        struct $name { $($field: $kind),* }

        impl $crate::kernel::ParamsFormat for $name {
            const FIELDS: &'static [$crate::kernel::ParamsField] = &[$(
                $crate::kernel::ParamsField {
                    name: stringify!($field),
                    kind: stringify!($kind),
                    offset: std::mem::offset_of!($name, $field),
                },
            )*];
        }
    };
}
pub(crate) use params;
