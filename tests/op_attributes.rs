//! Operators whose attributes or inputs are nonsense, as files of converted models may hold them: an
//! error, never a panic. Needs no GPU.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use wginfer::kernel::Caps;
use wginfer::ops::{Op, cases, read_op, write_op};
use wginfer::tensor::{DType, Shape, Spec};

/// Most elements that a value in a file may have.
const MOST_ELEMENTS: usize = 1 << 31;

/// What a leaf of attributes is replaced by.
fn replacements() -> Vec<Value> {
    let integers = [0, 1, 2, 3, 7, 8, 65_536, 1 << 31, 1 << 32, 1 << 62, i64::MAX, -1, -2, -3, i64::MIN];
    let mut all: Vec<Value> = integers.into_iter().map(Value::from).collect();
    all.extend([json!(u64::MAX), json!(0.5), json!(1e300), json!("0x7fc00000"), json!("0xff800000")]);
    all.extend([json!(null), json!(true), json!([]), json!([1]), json!([0, 1, 2, 3, 4, 5, 6, 7, 8])]);
    all
}

/// Copies of a value in which one part is another.
fn mutations(value: &Value) -> Vec<Value> {
    let mut all = replacements();
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                for changed in mutations(item) {
                    let mut copy = items.clone();
                    copy[index] = changed;
                    all.push(copy.into());
                }
            }
            all.push(items.iter().skip(1).cloned().collect());
            all.push(items.iter().chain(items.last()).cloned().collect());
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                for changed in mutations(field) {
                    let mut copy = fields.clone();
                    copy.insert(name.clone(), changed);
                    all.push(copy.into());
                }
            }
        }
        _ => {}
    }
    all
}

fn elements(shape: &Shape) -> Option<usize> {
    let product = shape.dims().iter().try_fold(1_usize, |product, &size| product.checked_mul(size.max(1)))?;
    (product <= MOST_ELEMENTS && !shape.dims().contains(&0)).then_some(product)
}

/// Does with an operator what loading and planning do.
fn plan(op: &Arc<dyn Op>, inputs: &[Spec], devices: &[Caps]) {
    let Ok(outputs) = op.infer(inputs) else { return };
    if outputs.iter().any(|spec| elements(&spec.shape).is_none()) {
        return;
    }
    for caps in devices {
        let _ = op.launch(caps, inputs, &outputs);
        let _ = op.channels_last(caps, inputs);
    }
}

/// Other specs in the place of one.
fn other_specs(spec: &Spec) -> Vec<Spec> {
    let dims = spec.shape.dims();
    let mut shapes: Vec<Vec<usize>> =
        vec![vec![], vec![1], vec![5], vec![2, 3], vec![1; 5], vec![1; 9], vec![1 << 31]];
    for axis in 0..dims.len() {
        for size in [1, dims[axis] + 1, 65_537] {
            let mut other = dims.to_vec();
            other[axis] = size;
            shapes.push(other);
        }
    }
    shapes.push(dims.iter().skip(1).copied().collect());
    shapes.push([&[1], dims].concat());
    shapes.retain(|dims| elements(&dims.clone().into()).is_some());
    let mut all: Vec<Spec> = shapes.into_iter().map(|dims| Spec::new(spec.dtype, dims)).collect();
    all.extend(
        [DType::F32, DType::F16, DType::I32, DType::U32].map(|dtype| Spec::new(dtype, spec.shape.clone())),
    );
    all
}

#[test]
fn nonsense_is_refused() {
    let devices: Vec<Caps> = Caps::profiles().into_iter().map(|(_, caps)| caps).take(2).collect();
    let (mut failures, mut seen, mut tried) = (BTreeMap::new(), BTreeSet::new(), 0);
    let hook = std::panic::take_hook();
    let place = Arc::new(Mutex::new(String::new()));
    let noted = place.clone();
    std::panic::set_hook(Box::new(move |panic| *noted.lock().unwrap() = panic.to_string()));
    for case in cases::all() {
        let inputs: Vec<Spec> = case.inputs.iter().map(|tensor| tensor.spec().clone()).collect();
        let Ok(attributes) = write_op(case.op.as_ref()) else { continue };
        // Refused where models are loaded.
        if !case.op.aliases().is_empty() {
            continue;
        }
        let ranks: Vec<usize> = inputs.iter().map(|spec| spec.shape.rank()).collect();
        // One case of each shape of attributes and inputs: sizes differ anyway.
        let digits = |text: String| text.replace(|letter: char| letter.is_ascii_digit(), "");
        if !seen.insert((case.op.name(), digits(attributes.to_string()), ranks)) {
            continue;
        }
        let mut attempt = |op: &Arc<dyn Op>, inputs: &[Spec]| {
            tried += 1;
            if catch_unwind(AssertUnwindSafe(|| plan(op, inputs, &devices))).is_err() {
                let specs: Vec<String> = inputs.iter().map(ToString::to_string).collect();
                failures.entry(place.lock().unwrap().clone()).or_insert(format!("{op:?} {specs:?}"));
            }
        };
        for changed in mutations(&attributes) {
            if let Ok(op) = read_op(case.op.name(), &changed) {
                attempt(&op, &inputs);
            }
        }
        for (position, spec) in inputs.iter().enumerate() {
            for other in other_specs(spec) {
                let mut inputs = inputs.clone();
                inputs[position] = other;
                attempt(&case.op, &inputs);
            }
        }
        attempt(&case.op, &[]);
        attempt(&case.op, &[inputs.clone(), inputs].concat());
    }
    std::panic::set_hook(hook);
    println!("{tried} operators and inputs");
    assert!(tried > 10_000);
    let list: Vec<String> = failures.into_iter().map(|(place, op)| format!("{place}: {op}")).collect();
    assert!(list.is_empty(), "{} panics:\n{}", list.len(), list.join("\n"));
}
