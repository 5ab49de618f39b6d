//! Cases of functions of two values.

use super::super::cases::{Case, Random};
use super::{Binary, BinaryFn, ImageBinary};
use crate::tensor::{DType, Tensor};

pub(in super::super) fn cases() -> Vec<Case> {
    let mut random = Random::new(3);
    let mut cases = function_cases(&mut random);
    cases.extend(shape_cases(&mut random));
    cases.extend(image_cases(&mut random));
    cases.extend(comparison_cases());
    cases.extend(edge_cases());
    cases
}

/// Every function of every dtype.
fn function_cases(random: &mut Random) -> Vec<Case> {
    // Divisors and bases that keep away from zero and are positive.
    let positive: Vec<f64> = (0..1_021).map(|i| 0.5 + f64::from(i) / 500.0).collect();
    let mut cases = Vec::new();
    for function in BinaryFn::ALL {
        for &dtype in function.dtypes() {
            let positive = Tensor::from_f64(dtype, [1_021], &positive);
            let mut random = |scale| random.tensor(dtype, [1_021], scale);
            let inputs = match function {
                BinaryFn::Pow if dtype.is_float() => vec![positive, random(3.0)],
                BinaryFn::Pow => vec![random(9.0), random(4.0)],
                BinaryFn::Div if dtype.is_float() => vec![random(4.0), positive],
                BinaryFn::ShiftLeft | BinaryFn::ShiftRight => vec![random(1e3), random(40.0)],
                BinaryFn::Equal | BinaryFn::LessOrEqual => vec![random(4.0), random(4.0)],
                _ => vec![random(1e3), random(4.0)],
            };
            cases.push(Case::new(format!("{function:?} {dtype}"), Binary(function), inputs));
        }
    }
    cases
}

/// Every way of reading an operand.
fn shape_cases(random: &mut Random) -> Vec<Case> {
    let shapes: [(&[usize], &[usize]); 19] = [
        (&[1], &[1]),
        (&[], &[7]),
        (&[5, 3], &[1]),
        (&[3, 64], &[64]),
        (&[3, 63], &[63]),
        (&[2, 5, 8], &[5, 1]),
        (&[2, 3, 4, 4], &[3, 1, 1]),
        (&[2, 3, 3, 3], &[1, 3, 1, 1]),
        (&[7, 1], &[1, 5]),
        (&[4, 1, 12], &[3, 12]),
        (&[6, 8], &[6, 1]),
        (&[8, 1, 6, 1], &[7, 1, 5]),
        (&[2, 1, 2, 1, 2, 1, 2, 1], &[3, 1, 3, 1, 3, 1, 3]),
        (&[64], &[3, 64]),
        (&[33, 97], &[33, 97]),
        (&[1, 4_096], &[1, 4_096]),
        // Channels last, a factor of each channel of each image.
        (&[3, 5, 7, 8], &[3, 1, 1, 8]),
        (&[2, 1, 1, 12], &[2, 3, 1, 12]),
        (&[2, 5, 7, 3], &[2, 1, 1, 3]),
    ];
    let mut cases = Vec::new();
    for (left, right) in shapes {
        for dtype in [DType::F32, DType::F16, DType::I32] {
            let inputs = vec![random.tensor(dtype, left, 9.0), random.tensor(dtype, right, 9.0)];
            cases.push(Case::new(format!("{left:?} and {right:?} {dtype}"), Binary(BinaryFn::Sub), inputs));
        }
    }
    cases
}

/// Images with channels last and operands in the graph's order of axes.
fn image_cases(random: &mut Random) -> Vec<Case> {
    let shapes: [(&[usize], &[usize]); 7] = [
        (&[2, 5, 7, 8], &[8, 1, 1]),
        (&[2, 5, 7, 3], &[3, 1, 1]),
        (&[2, 5, 7, 8], &[]),
        (&[2, 5, 7, 3], &[5, 1]),
        (&[1, 5, 7, 4], &[4, 5, 7]),
        (&[3, 9, 4], &[4, 9]),
        (&[2, 3, 5, 7, 4], &[4, 1, 1, 1]),
    ];
    let mut cases = Vec::new();
    for (image, other) in shapes {
        let mut inputs = vec![random.f32(image), random.f32(other)];
        for position in 0..2 {
            let op = ImageBinary { function: BinaryFn::Sub, image: position };
            cases.push(Case::new(format!("{image:?} with channels last and {other:?}"), op, inputs.clone()));
            inputs.reverse();
        }
    }
    cases
}

/// Truth values of every way of reading an operand, and remainders.
fn comparison_cases() -> Vec<Case> {
    let mut random = Random::new(33);
    let mut cases = Vec::new();
    let shapes: [(&[usize], &[usize]); 4] =
        [(&[3, 63], &[63]), (&[3, 64], &[64]), (&[2, 3, 4, 4], &[3, 1, 1]), (&[7, 1], &[1, 5])];
    for (left, right) in shapes {
        for (dtype, function) in
            [(DType::F32, BinaryFn::Less), (DType::F16, BinaryFn::Greater), (DType::U32, BinaryFn::BitXor)]
        {
            let inputs = vec![random.tensor(dtype, left, 2.0), random.tensor(dtype, right, 2.0)];
            cases.push(Case::new(
                format!("{function:?} of {left:?} and {right:?}"),
                Binary(function),
                inputs,
            ));
        }
    }
    let equal: Vec<Tensor> = (0..2).map(|_| Tensor::from_f64(DType::F16, [3], &[1.0, -0.0, 2.0])).collect();
    cases.push(Case::new("equal halves", Binary(BinaryFn::Equal), equal));
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let dividends = [5.3, -5.3, 5.3, -5.3, 1e30, -1e30, 3.0, inf, 4.5, 0.0, nan, 6.0];
    let divisors = [2.0, 2.0, -2.0, -2.0, 0.7, 3.0, inf, 2.0, 0.0, 3.0, 1.0, -3.0];
    for function in [BinaryFn::Remainder, BinaryFn::Modulo] {
        let inputs = vec![Tensor::from_f32([12], &dividends), Tensor::from_f32([12], &divisors)];
        cases.push(Case::new(format!("{function:?}, signs and sizes"), Binary(function), inputs));
        let inputs = vec![
            Tensor::from_i32([8], &[7, -7, 7, -7, i32::MIN, i32::MIN, 9, 0]),
            Tensor::from_i32([8], &[3, 3, -3, -3, -1, 0, i32::MIN, -5]),
        ];
        cases.push(Case::new(format!("{function:?} of integers"), Binary(function), inputs));
    }
    // Quotients at ties of their last bit, of all sizes and signs, and of numbers that are not normal.
    let divisors: Vec<f32> = (0..4_096_u32).map(|i| f32::from_bits(0x3f80_0000 + i * 2_047)).collect();
    let dividends: Vec<f32> = (0..4_096_u32)
        .map(|i| {
            divisors[i as usize] * (f32::from(i as u16 % 255) - 127.5) * 2.0_f32.powi(i as i32 % 60 - 30)
        })
        .collect();
    let inputs = vec![Tensor::from_f32([4_096], &dividends), Tensor::from_f32([4_096], &divisors)];
    cases.push(Case::new("exact quotients", Binary(BinaryFn::ExactDiv), inputs).tolerance(0.0, 0.0));
    let special = vec![
        Tensor::from_f32([4], &[0.0, 0.0, 1e-30, -1e30]),
        Tensor::from_f32([4], &[3.0, -2.0, 1e20, 7.0]),
    ];
    cases.push(Case::new("exact quotients, special", Binary(BinaryFn::ExactDiv), special));
    let bases = Tensor::from_f32([8], &[3.0, 7.0, -5.0, 10.0, 2.0, -2.0, 1.1, 0.5]);
    let exponents = Tensor::from_f32([8], &[6.0, 8.0, 9.0, 7.0, -3.0, -3.0, 64.0, 65.0]);
    let powers = Case::new("exact powers", Binary(BinaryFn::Pow), vec![bases, exponents]);
    // Only 1.1^64 is not exact: 1e-5 of it, as of all floats.
    cases.push(powers.tolerance(0.0, 1e-5));
    cases
}

fn edge_cases() -> Vec<Case> {
    let integers = |left: &[i32], right: &[i32]| {
        vec![Tensor::from_i32([left.len()], left), Tensor::from_i32([right.len()], right)]
    };
    let floats = |left: &[f32], right: &[f32]| {
        vec![Tensor::from_f32([left.len()], left), Tensor::from_f32([right.len()], right)]
    };
    let case = |name: &str, function, inputs| Case::new(name, Binary(function), inputs);
    vec![
        case(
            "division by zero and overflow",
            BinaryFn::Div,
            integers(&[7, -7, i32::MIN, 0, i32::MIN], &[0, 2, -1, 0, 0]),
        ),
        case(
            "unsigned division by zero",
            BinaryFn::Div,
            vec![Tensor::from_u32([3], &[7, u32::MAX, 0]), Tensor::from_u32([3], &[0, 2, 0])],
        ),
        case(
            "products that wrap",
            BinaryFn::Mul,
            integers(&[i32::MAX, 65_537, -3], &[i32::MAX, 65_537, 1 << 30]),
        ),
        case(
            "integer powers",
            BinaryFn::Pow,
            integers(&[-2, -1, -1, 1, 0, 3, 2, -3], &[3, -3, -2, -9, 0, 21, -1, 0]),
        ),
        case(
            "powers of negative numbers and zero",
            BinaryFn::Pow,
            floats(&[-2.0, -2.0, -3.0, 0.0, 0.0, -1.5, 0.0], &[2.0, 3.0, -1.0, 0.0, 2.0, 0.0, 0.5]),
        ),
        case("a root of a negative number", BinaryFn::Pow, floats(&[-2.0], &[0.5])),
    ]
}
