// Functions of one f32 and up to two arguments. lib/activate.wgsl calls the one that the template
// names; those that WGSL has itself (exp, log, sqrt, abs, ...) are called directly.

fn identity(x: f32) -> f32 { return x; }

fn relu(x: f32) -> f32 { return max(x, 0.0); }

fn sigmoid(x: f32) -> f32 { return 1.0 / (1.0 + exp(-x)); }

fn silu(x: f32) -> f32 { return x / (1.0 + exp(-x)); }

// Clamped: some drivers compute tanh by exponentials that overflow.
fn tanh_clamped(x: f32) -> f32 { return tanh(clamp(x, -15.0, 15.0)); }

// SiLU with a slope (Ramachandran et al. 2017).
fn swish(x: f32, alpha: f32) -> f32 { return x / (1.0 + exp(-alpha * x)); }

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

fn softsign(x: f32) -> f32 { return x / (1.0 + abs(x)); }

// Keeps values within -cap..cap (Gemma 2).
fn softcap(x: f32, cap: f32) -> f32 { return cap * tanh_clamped(x / cap); }

// `high` where it is below `low`.
fn clip(x: f32, low: f32, high: f32) -> f32 { return min(max(x, low), high); }

fn leaky_relu(x: f32, alpha: f32) -> f32 { return max(x, 0.0) + alpha * min(x, 0.0); }

fn thresholded_relu(x: f32, threshold: f32) -> f32 { return select(0.0, x, x > threshold); }

fn shrink(x: f32, threshold: f32, bias: f32) -> f32 {
    return select(select(0.0, x + bias, x < -threshold), x - bias, x > threshold);
}

fn elu(x: f32, alpha: f32) -> f32 { return max(x, 0.0) + alpha * (exp(min(x, 0.0)) - 1.0); }

// The exponent is clamped: where alpha is negative, it would overflow.
fn celu(x: f32, alpha: f32) -> f32 { return max(x, 0.0) + min(alpha * (exp(min(x / alpha, 80.0)) - 1.0), 0.0); }

// Constants of Klambauer et al. 2017.
fn selu(x: f32) -> f32 { return 1.0507009874 * elu(x, 1.6732632424); }

fn hard_sigmoid(x: f32, alpha: f32, beta: f32) -> f32 { return clip(alpha * x + beta, 0.0, 1.0); }

fn affine(x: f32, alpha: f32, beta: f32) -> f32 { return alpha * x + beta; }

fn scaled_tanh(x: f32, alpha: f32, beta: f32) -> f32 { return alpha * tanh_clamped(beta * x); }

fn hard_swish(x: f32) -> f32 { return x * clip(x * 0.1666666667 + 0.5, 0.0, 1.0); }

// x tanh(log(1 + e^x)) without the logarithm: with n = e^x (e^x + 2) it is x n / (n + 2).
fn mish(x: f32) -> f32 {
    let e = exp(min(x, 20.0));
    let n = e * (e + 2.0);
    return x * (n / (n + 2.0));
}
