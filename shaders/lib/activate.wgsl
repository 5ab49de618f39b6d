// The function that a kernel applies to its results. Takes `activation`, a function of
// lib/activation.wgsl, lib/trigonometry.wgsl or WGSL, and `activation_arguments`: how many of `params.alpha` and
// `params.beta` it takes.
//# include "lib/activation.wgsl"
//# if activation in ["sine", "cosine", "tangent", "arcsine", "arccosine", "arctangent", "hyperbolic_sine", "hyperbolic_cosine", "area_sine", "area_cosine", "area_tangent"]
//# include "lib/trigonometry.wgsl"
//# endif

//# set arguments = ["", ", params.alpha", ", params.alpha, params.beta"][activation_arguments]
fn activate(x: f32) -> f32 { return ${activation}(x${arguments}); }

fn activate_vector(x: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(activate(x.x), activate(x.y), activate(x.z), activate(x.w));
}
