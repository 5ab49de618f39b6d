//! Shader templates: comment-line directives, `${variables}`, shared pieces.

use super::{Caps, Form, Launch, Variant};
use crate::{Error, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, Value};
use std::collections::{BTreeMap, HashSet};
use std::sync::LazyLock;

/// The shared pieces, by the path that `//# include` names.
pub const LIBRARY: &[(&str, &str)] = &[
    ("lib/activate.wgsl", include_str!("../../shaders/lib/activate.wgsl")),
    ("lib/activation.wgsl", include_str!("../../shaders/lib/activation.wgsl")),
    ("lib/attention_cached.wgsl", include_str!("../../shaders/lib/attention_cached.wgsl")),
    ("lib/attention_views.wgsl", include_str!("../../shaders/lib/attention_views.wgsl")),
    ("lib/axes.wgsl", include_str!("../../shaders/lib/axes.wgsl")),
    ("lib/binary.wgsl", include_str!("../../shaders/lib/binary.wgsl")),
    ("lib/bins.wgsl", include_str!("../../shaders/lib/bins.wgsl")),
    ("lib/columns.wgsl", include_str!("../../shaders/lib/columns.wgsl")),
    ("lib/compare.wgsl", include_str!("../../shaders/lib/compare.wgsl")),
    ("lib/conv_fetch.wgsl", include_str!("../../shaders/lib/conv_fetch.wgsl")),
    ("lib/conv_operands.wgsl", include_str!("../../shaders/lib/conv_operands.wgsl")),
    ("lib/elements.wgsl", include_str!("../../shaders/lib/elements.wgsl")),
    ("lib/epilogue.wgsl", include_str!("../../shaders/lib/epilogue.wgsl")),
    ("lib/float_key.wgsl", include_str!("../../shaders/lib/float_key.wgsl")),
    ("lib/items.wgsl", include_str!("../../shaders/lib/items.wgsl")),
    ("lib/input_norm.wgsl", include_str!("../../shaders/lib/input_norm.wgsl")),
    ("lib/cluster.wgsl", include_str!("../../shaders/lib/cluster.wgsl")),
    ("lib/kv.wgsl", include_str!("../../shaders/lib/kv.wgsl")),
    ("lib/linear_fetch.wgsl", include_str!("../../shaders/lib/linear_fetch.wgsl")),
    ("lib/linear_operands.wgsl", include_str!("../../shaders/lib/linear_operands.wgsl")),
    ("lib/matmul_operands.wgsl", include_str!("../../shaders/lib/matmul_operands.wgsl")),
    ("lib/matrix_emulation.wgsl", include_str!("../../shaders/lib/matrix_emulation.wgsl")),
    ("lib/matrix_step.wgsl", include_str!("../../shaders/lib/matrix_step.wgsl")),
    ("lib/matrix_tile.wgsl", include_str!("../../shaders/lib/matrix_tile.wgsl")),
    ("lib/online_sum.wgsl", include_str!("../../shaders/lib/online_sum.wgsl")),
    ("lib/order_key.wgsl", include_str!("../../shaders/lib/order_key.wgsl")),
    ("lib/pack.wgsl", include_str!("../../shaders/lib/pack.wgsl")),
    ("lib/philox.wgsl", include_str!("../../shaders/lib/philox.wgsl")),
    ("lib/rolled.wgsl", include_str!("../../shaders/lib/rolled.wgsl")),
    ("lib/rope.wgsl", include_str!("../../shaders/lib/rope.wgsl")),
    ("lib/rows.wgsl", include_str!("../../shaders/lib/rows.wgsl")),
    ("lib/sample_draw.wgsl", include_str!("../../shaders/lib/sample_draw.wgsl")),
    ("lib/sample_select.wgsl", include_str!("../../shaders/lib/sample_select.wgsl")),
    ("lib/trigonometry.wgsl", include_str!("../../shaders/lib/trigonometry.wgsl")),
    ("lib/u64.wgsl", include_str!("../../shaders/lib/u64.wgsl")),
    ("lib/scores.wgsl", include_str!("../../shaders/lib/scores.wgsl")),
    ("lib/softcap.wgsl", include_str!("../../shaders/lib/softcap.wgsl")),
    ("lib/tile.wgsl", include_str!("../../shaders/lib/tile.wgsl")),
    ("lib/tile_step.wgsl", include_str!("../../shaders/lib/tile_step.wgsl")),
    ("lib/tile_sums.wgsl", include_str!("../../shaders/lib/tile_sums.wgsl")),
    ("lib/walk.wgsl", include_str!("../../shaders/lib/walk.wgsl")),
    ("lib/weight.wgsl", include_str!("../../shaders/lib/weight.wgsl")),
    ("lib/weight_block.wgsl", include_str!("../../shaders/lib/weight_block.wgsl")),
    ("lib/write_softmax.wgsl", include_str!("../../shaders/lib/write_softmax.wgsl")),
];

/// The shared pieces, read once.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(environment);

fn environment() -> Environment<'static> {
    let syntax = SyntaxConfig::builder()
        .block_delimiters("//%", "%//")
        .variable_delimiters("${", "}")
        .comment_delimiters("//#*", "*#//")
        .line_statement_prefix("//#")
        .build()
        .expect("the delimiters differ");
    let mut environment = Environment::new();
    environment.set_syntax(syntax);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    for (name, source) in LIBRARY {
        environment.add_template(name, source).expect("shared shader pieces are well-formed templates");
    }
    environment
}

impl Launch {
    /// Renders the template to WGSL for this device.
    ///
    /// # Errors
    /// When a variable of the template is not set, or the template is malformed.
    pub fn render(&self, caps: &Caps) -> Result<String> {
        let fail = |error: minijinja::Error| Error::shader(self.kernel, format!("{error:#}"));
        let params = if caps.immediates { "var<immediate>" } else { "@group(1) @binding(0) var<uniform>" };
        let software = Value::from(caps.form() == Form::Software);
        let mut variables = BTreeMap::from([("params", Value::from(params)), ("software", software)]);
        for (key, value) in &self.variants {
            let value = match value {
                Variant::Bool(value) => Value::from(*value),
                Variant::Int(value) => Value::from(*value),
                Variant::Name(value) => Value::from(*value),
                Variant::Text(value) => Value::from(value.as_ref()),
            };
            variables.insert(key, value);
        }
        let template = ENVIRONMENT.template_from_named_str(self.kernel, self.source).map_err(fail)?;
        template.render(Value::from(variables)).map_err(fail)
    }
}

/// Variables that a template and the shared pieces it includes ask for.
pub fn undeclared_variables(source: &str) -> Result<HashSet<String>> {
    let fail = |error: minijinja::Error| Error::shader("template", format!("{error:#}"));
    let mut names = ENVIRONMENT.template_from_str(source).map_err(fail)?.undeclared_variables(false);
    for (name, piece) in LIBRARY {
        if source.contains(&format!("include \"{name}\"")) {
            names.extend(undeclared_variables(piece)?);
        }
    }
    for (function, _) in ENVIRONMENT.globals() {
        names.remove(function);
    }
    Ok(names)
}
