// Functions of two vectors of values, after lib/pack.wgsl. `Stored` is what becomes of them in
// memory. Takes `dtype`.
alias Stored = Packed;

fn stored(values: Values) -> Stored { return pack(values); }

fn add(a: Values, b: Values) -> Values { return a + b; }

fn subtract(a: Values, b: Values) -> Values { return a - b; }

fn multiply(a: Values, b: Values) -> Values { return a * b; }

fn maximum(a: Values, b: Values) -> Values { return max(a, b); }

fn minimum(a: Values, b: Values) -> Values { return min(a, b); }

fn prelu(a: Values, slope: Values) -> Values { return max(a, Values()) + slope * min(a, Values()); }

//# if dtype == "i32" or dtype == "u32"
alias Value = ${dtype};

// Integer division by zero, and of the smallest i32 by -1, gives the dividend, as in WGSL itself:
// 1 takes the place of such divisors.
fn divisor(a: Values, b: Values) -> Values {
    let zero = b == Values(0);
    //# if dtype == "i32"
    let lowest = vec4<bool>(vec4<u32>(a == Values(-2147483647 - 1)) & vec4<u32>(b == Values(-1)));
    return select(b, Values(1), zero | lowest);
    //# else
    return select(b, Values(1), zero);
    //# endif
}

fn divide(a: Values, b: Values) -> Values { return a / divisor(a, b); }

fn remainder(a: Values, b: Values) -> Values { return a % divisor(a, b); }

fn modulo(a: Values, b: Values) -> Values {
    let rest = remainder(a, b);
    return select(rest, select(rest, rest + b, (rest ^ b) < Values()), rest != Values());
}

fn bit_and(a: Values, b: Values) -> Values { return a & b; }

fn bit_or(a: Values, b: Values) -> Values { return a | b; }

fn bit_xor(a: Values, b: Values) -> Values { return a ^ b; }

fn shift_left(a: Values, b: Values) -> Values {
    let bits = vec4<u32>(b);
    return select(a << min(bits, vec4<u32>(31u)), Values(), bits > vec4<u32>(31u));
}

fn shift_right(a: Values, b: Values) -> Values {
    let bits = vec4<u32>(b);
    return select(a >> min(bits, vec4<u32>(31u)), Values(), bits > vec4<u32>(31u));
}

// Wraps; a negative exponent gives the reciprocal without its fraction.
fn power_one(base: Value, exponent: Value) -> Value {
    if exponent < 0 {
        let sign = select(1, i32(base), (exponent & 1) != 0);
        return select(0, Value(sign), base == 1 || i32(base) == -1);
    }
    return product_of(base, u32(exponent));
}
//# else
alias Value = f32;

fn divide(a: Values, b: Values) -> Values { return a / b; }

// Correctly rounded: the mantissa by long division of integers, 8 bits at a time. Numbers and
// results that are not normal are divided as WGSL does.
fn divide_one(a: f32, b: f32) -> f32 {
    let bits = vec2<u32>(bitcast<u32>(a), bitcast<u32>(b));
    let exponents = vec2<i32>((bits >> vec2<u32>(23u)) & vec2<u32>(255u));
    let mantissas = (bits & vec2<u32>(0x7fffffu)) | vec2<u32>(0x800000u);
    let less = mantissas.x < mantissas.y;
    let exponent = exponents.x - exponents.y + select(127, 126, less);
    let divisor = mantissas.y;
    var rest = select(mantissas.x, mantissas.x * 2u, less) - divisor;
    var quotient = 1u;
    for (var i = 0u; i < 3u; i++) {
        quotient = (quotient << 8u) | ((rest << 8u) / divisor);
        rest = (rest << 8u) % divisor;
    }
    // 25 bits to 24, ties to even; a carry goes on into the exponent.
    let up = quotient & ((quotient >> 1u) | min(rest, 1u)) & 1u;
    let magnitude = (u32(exponent) << 23u) + (quotient >> 1u) + up - 0x800000u;
    let normal = all(exponents > vec2<i32>(0)) && all(exponents < vec2<i32>(255)) && exponent > 0 && exponent < 255;
    return select(a / b, bitcast<f32>(((bits.x ^ bits.y) & 0x80000000u) | magnitude), normal);
}

fn divide_exactly(a: Values, b: Values) -> Values {
    return Values(divide_one(a.x, b.x), divide_one(a.y, b.y), divide_one(a.z, b.z), divide_one(a.w, b.w));
}

// Exact: all differences are of numbers within a factor of two.
fn remainder_one(a: f32, b: f32) -> f32 {
    var rest = abs(a);
    let divisor = abs(b);
    if rest < divisor { return a; }
    var undefined = 0x7fc00000u; // a NaN, of which WGSL has no constant
    let defined = divisor > 0.0 && rest <= 3.4028234e38;
    var multiple = divisor;
    // 277 doublings lead from the smallest number to the largest.
    for (var i = 0u; i < 280u && multiple <= 0.5 * rest; i++) { multiple *= 2.0; }
    for (var i = 0u; i < 280u && multiple >= divisor; i++) {
        if rest >= multiple { rest -= multiple; }
        multiple *= 0.5;
    }
    return select(bitcast<f32>(undefined), select(rest, -rest, a < 0.0), defined);
}

fn modulo_one(a: f32, b: f32) -> f32 {
    let rest = remainder_one(a, b);
    return select(rest, rest + b, rest != 0.0 && (rest < 0.0) != (b < 0.0));
}

fn remainder(a: Values, b: Values) -> Values {
    return Values(remainder_one(a.x, b.x), remainder_one(a.y, b.y), remainder_one(a.z, b.z), remainder_one(a.w, b.w));
}

fn modulo(a: Values, b: Values) -> Values {
    return Values(modulo_one(a.x, b.x), modulo_one(a.y, b.y), modulo_one(a.z, b.z), modulo_one(a.w, b.w));
}

// WGSL's pow is for positive bases only; negative ones have a power where the exponent is whole.
// Small whole exponents are products, which are exact where the power is.
fn power_one(base: f32, exponent: f32) -> f32 {
    let whole = floor(exponent) == exponent;
    if whole && abs(exponent) <= 64.0 {
        let product = product_of(base, u32(abs(exponent)));
        return select(product, 1.0 / product, exponent < 0.0);
    }
    let magnitude = pow(abs(base), exponent);
    let odd = fract(abs(exponent) * 0.5) != 0.0;
    let signed = select(magnitude, -magnitude, base < 0.0 && odd);
    return select(signed, log(base), base < 0.0 && !whole);
}
//# endif

fn product_of(base: Value, exponent: u32) -> Value {
    var result = Value(1);
    var factor = base;
    for (var left = exponent; left > 0u; left >>= 1u) {
        if (left & 1u) != 0u { result *= factor; }
        factor *= factor;
    }
    return result;
}

fn power(a: Values, b: Values) -> Values {
    return Values(power_one(a.x, b.x), power_one(a.y, b.y), power_one(a.z, b.z), power_one(a.w, b.w));
}
