// Trigonometric and hyperbolic functions that are precise to a few units in the last place: those
// of WGSL may err by 1e-3. Reductions and polynomials of the Cephes library, single precision.

// The angle less q times pi / 2, in -pi / 4..pi / 4, and q; pi / 2 is a sum of three numbers, whose
// first has few digits, so that its multiples are exact.
fn quarter_turns(x: f32) -> vec2<f32> {
    let q = round(x * 0.6366197724);
    return vec2<f32>(((x - q * 1.5703125) - q * 4.837512969970703e-4) - q * 7.549789954891882e-8, q);
}

// Sine and cosine of an angle in -pi / 4..pi / 4.
fn sine_and_cosine(r: f32) -> vec2<f32> {
    let z = r * r;
    let s = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * r + r;
    let c = ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2) * z * z;
    return vec2<f32>(s, c - 0.5 * z + 1.0);
}

// Sine of x + quarters pi / 2. Beyond 50,000 an f32 has few digits of the angle left.
fn sine_from(x: f32, quarters: i32) -> f32 {
    if abs(x) > 50000.0 { return sin(x + f32(quarters) * 1.5707963268); }
    let turned = quarter_turns(x);
    let both = sine_and_cosine(turned.x);
    let quarter = i32(turned.y) + quarters;
    let value = select(both.x, both.y, (quarter & 1) != 0);
    return select(value, -value, (quarter & 2) != 0);
}

fn sine(x: f32) -> f32 { return sine_from(x, 0); }

fn cosine(x: f32) -> f32 { return sine_from(x, 1); }

fn tangent(x: f32) -> f32 {
    if abs(x) > 50000.0 { return tan(x); }
    let turned = quarter_turns(x);
    let both = sine_and_cosine(turned.x);
    return select(both.x / both.y, -both.y / both.x, (i32(turned.y) & 1) != 0);
}

// Arcsine of -0.5..0.5.
fn short_arcsine(x: f32) -> f32 {
    let z = x * x;
    let p = (((4.2163199048e-2 * z + 2.4181311049e-2) * z + 4.5470025998e-2) * z + 7.4953002686e-2) * z;
    return (p + 1.6666752422e-1) * z * x + x;
}

fn arcsine(x: f32) -> f32 {
    let a = abs(x);
    if a <= 0.5 { return short_arcsine(x); }
    let value = 1.5707963268 - 2.0 * short_arcsine(sqrt(0.5 * (1.0 - a)));
    return select(value, -value, x < 0.0);
}

fn arccosine(x: f32) -> f32 {
    if abs(x) <= 0.5 { return 1.5707963268 - short_arcsine(x); }
    let value = 2.0 * short_arcsine(sqrt(0.5 * (1.0 - abs(x))));
    return select(value, 3.1415926536 - value, x < 0.0);
}

fn arctangent(x: f32) -> f32 {
    let a = abs(x);
    var y = 0.0;
    var r = a;
    if a > 2.414213562373095 {
        y = 1.5707963268;
        r = -1.0 / a;
    } else if a > 0.4142135623730950 {
        y = 0.7853981634;
        r = (a - 1.0) / (a + 1.0);
    }
    let z = r * r;
    let p = ((8.05374449538e-2 * z - 1.38776856032e-1) * z + 1.99777106478e-1) * z - 3.33329491539e-1;
    y += p * z * r + r;
    return select(y, -y, x < 0.0);
}

// Halves of the exponent: e^x overflows before sinh and cosh do.
fn hyperbolic_sine(x: f32) -> f32 {
    let a = abs(x);
    if a <= 1.0 {
        let z = x * x;
        return ((2.03721912945e-4 * z + 8.33028376239e-3) * z + 1.66667160211e-1) * z * x + x;
    }
    let e = exp(0.5 * a);
    let value = (0.5 * e) * e - 0.5 / e / e;
    return select(value, -value, x < 0.0);
}

fn hyperbolic_cosine(x: f32) -> f32 {
    let e = exp(0.5 * abs(x));
    return (0.5 * e) * e + 0.5 / e / e;
}

fn area_sine(x: f32) -> f32 {
    let a = abs(x);
    if a < 0.5 {
        let z = x * x;
        let p = ((2.0122003309e-2 * z - 4.2699340972e-2) * z + 7.4847586088e-2) * z - 1.6666288134e-1;
        return p * z * x + x;
    }
    // The square of a large number overflows.
    let value = select(log(a + sqrt(a * a + 1.0)), log(a) + 0.6931471806, a > 1500.0);
    return select(value, -value, x < 0.0);
}

fn area_cosine(x: f32) -> f32 {
    let z = x - 1.0;
    if z < 0.5 {
        let p = ((1.7596881071e-3 * z - 7.5272886713e-3) * z + 2.6454905019e-2) * z - 1.1784741703e-1;
        return (p * z + 1.4142135263) * sqrt(z);
    }
    return select(log(x + sqrt(z * (x + 1.0))), log(x) + 0.6931471806, x > 1500.0);
}

fn area_tangent(x: f32) -> f32 {
    if abs(x) < 0.5 {
        let z = x * x;
        let p = ((1.81740078349e-1 * z + 8.24370301058e-2) * z + 1.46691431730e-1) * z + 1.99782164500e-1;
        return (p * z + 3.33337300303e-1) * z * x + x;
    }
    return 0.5 * log((1.0 + x) / (1.0 - x));
}
