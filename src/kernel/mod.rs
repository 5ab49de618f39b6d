//! WGSL text to checked shader: templates, device capabilities, launches as data, reflection.
//!
//! Knows naga, not wgpu. A [`Kernel`] is a template and a name; an operator
//! turns it into a [`Launch`], which [`render`](Launch::render) turns into WGSL and
//! [`ShaderInfo::reflect`] into the facts that a pipeline needs (bindings, workgroup
//! size, layout of the parameters). Nothing of these is typed twice.

mod caps;
mod grid;
mod launch;
mod params;
mod parts;
mod reflect;
mod select;
mod template;

pub use caps::{Backend, Caps, DeviceKind, Form};
pub use grid::{MAX_ITERATIONS, RowSpread, Split, Spread, count};
pub(crate) use launch::variants_text;
pub use launch::{Kernel, Launch, Launches, Operand, Variant};
pub(crate) use params::params;
pub use params::{Params, ParamsField, ParamsFormat};
pub use parts::{Layout, RowPart, row_parts, row_pitch};
pub use reflect::{Access, ShaderInfo};
pub use select::{Candidate, Family, Overrides, Rule, Selected, Tuned, Tuning, Why, all_choices, size_class};
pub use template::{LIBRARY, undeclared_variables};

/// Number of workgroups that cover `items` at `per_group` each.
pub fn groups(items: usize, per_group: u32) -> u32 {
    u32::try_from(items.div_ceil(per_group as usize)).expect("grids are checked against the device's limit")
}
