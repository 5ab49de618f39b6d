// Functions of two vectors of values, after lib/pack.wgsl. Takes `dtype`.

fn add(a: Values, b: Values) -> Values { return a + b; }

fn subtract(a: Values, b: Values) -> Values { return a - b; }

fn multiply(a: Values, b: Values) -> Values { return a * b; }

fn maximum(a: Values, b: Values) -> Values { return max(a, b); }

fn minimum(a: Values, b: Values) -> Values { return min(a, b); }

fn prelu(a: Values, slope: Values) -> Values { return max(a, Values()) + slope * min(a, Values()); }

//# if dtype == "i32" or dtype == "u32"
// Integer division by zero, and of the smallest i32 by -1, gives the dividend, as in WGSL itself.
fn divide(a: Values, b: Values) -> Values {
    let zero = b == Values(0);
    //# if dtype == "i32"
    let lowest = vec4<bool>(vec4<u32>(a == Values(-2147483647 - 1)) & vec4<u32>(b == Values(-1)));
    return a / select(b, Values(1), zero | lowest);
    //# else
    return a / select(b, Values(1), zero);
    //# endif
}

// Wraps; a negative exponent gives the reciprocal without its fraction.
fn power_one(base: ${dtype}, exponent: ${dtype}) -> ${dtype} {
    if exponent < 0 {
        let sign = select(1, i32(base), (exponent & 1) != 0);
        return select(0, ${dtype}(sign), base == 1 || i32(base) == -1);
    }
    var result: ${dtype} = 1;
    var factor = base;
    for (var left = u32(exponent); left > 0u; left >>= 1u) {
        if (left & 1u) != 0u { result *= factor; }
        factor *= factor;
    }
    return result;
}
//# else
fn divide(a: Values, b: Values) -> Values { return a / b; }

// WGSL's pow is for positive bases only; negative ones have a power where the exponent is whole.
fn power_one(base: f32, exponent: f32) -> f32 {
    let magnitude = pow(abs(base), exponent);
    let odd = fract(abs(exponent) * 0.5) != 0.0;
    let signed = select(magnitude, -magnitude, base < 0.0 && odd);
    let undefined = base < 0.0 && floor(exponent) != exponent;
    return select(select(signed, log(base), undefined), 1.0, exponent == 0.0);
}
//# endif

fn power(a: Values, b: Values) -> Values {
    return Values(power_one(a.x, b.x), power_one(a.y, b.y), power_one(a.z, b.z), power_one(a.w, b.w));
}
