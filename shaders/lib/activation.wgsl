// Functions of one f32. Kernels call the one that their template names (`UnaryFn::wgsl`);
// those that WGSL has itself (exp, log, sqrt, abs, ...) are called directly.

fn identity(x: f32) -> f32 { return x; }

fn relu(x: f32) -> f32 { return max(x, 0.0); }

fn sigmoid(x: f32) -> f32 { return 1.0 / (1.0 + exp(-x)); }

fn silu(x: f32) -> f32 { return x / (1.0 + exp(-x)); }

// Clamped: some drivers compute tanh by exponentials that overflow.
fn tanh_clamped(x: f32) -> f32 { return tanh(clamp(x, -15.0, 15.0)); }

// GELU by the hyperbolic tangent (Hendrycks and Gimpel 2016).
fn gelu_tanh(x: f32) -> f32 {
    return 0.5 * x * (1.0 + tanh_clamped(0.7978845608 * (x + 0.044715 * x * x * x)));
}

// Error function, Abramowitz and Stegun 7.1.26: absolute error below 1.5e-7.
fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.3275911 * abs(x));
    let poly = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return sign(x) * (1.0 - poly * exp(-x * x));
}

fn gelu(x: f32) -> f32 { return 0.5 * x * (1.0 + erf(x * 0.7071067812)); }

fn softplus(x: f32) -> f32 { return max(x, 0.0) + log(1.0 + exp(-abs(x))); }

fn negate(x: f32) -> f32 { return -x; }

fn reciprocal(x: f32) -> f32 { return 1.0 / x; }

fn square(x: f32) -> f32 { return x * x; }
