//! Weights of ONNX models: what nodes make of stored tensors is read when it is uploaded, is the
//! same as computed, and takes memory once.

mod common;
#[path = "common/onnx_file.rs"]
mod onnx_file;

use onnx_file::{attribute, bytes, declared, floats, graph, initializer, int, model_of, node, tensor};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use wginfer::gpu::Gpu;
use wginfer::onnx::{ElementType, OnnxModel, OnnxOptions, OnnxTensor};

/// Counts what this program has allocated, without the file's mapping and the device's memory.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Held by tests, so that what one allocates is not counted by another.
static ALONE: Mutex<()> = Mutex::new(());

const FLOAT: i64 = 1;
const UINT8: i64 = 2;
const INT8: i64 = 3;
const FLOAT16: i64 = 10;
const MIB: usize = 1 << 20;

/// An attribute with a number or several.
fn number(name: &str, value: i64) -> Vec<u8> {
    attribute(name, int(3, value), 2)
}

fn numbers(name: &str, values: &[i64]) -> Vec<u8> {
    attribute(name, values.iter().flat_map(|&value| int(8, value)).collect(), 7)
}

fn transposed(from: &str, to: &str) -> Vec<u8> {
    node("Transpose", &[from], &[to], &[numbers("perm", &[1, 0])])
}

fn cast(from: &str, to: &str) -> Vec<u8> {
    node("Cast", &[from], &[to], &[number("to", FLOAT)])
}

/// A node of ONNX Runtime's domain.
fn foreign(node: Vec<u8>) -> Vec<u8> {
    [node, bytes(7, "com.microsoft")].concat()
}

fn model(graph: &[u8]) -> Vec<u8> {
    let foreign = bytes(8, [bytes(1, "com.microsoft"), int(2, 1)].concat());
    [model_of(21, graph), foreign].concat()
}

/// Bytes of a tensor whose floats are small.
fn values(element: i64, count: usize) -> Vec<u8> {
    let numbers = (0..count).map(|index| (index.wrapping_mul(2_654_435_761) >> 8) as u8);
    match element {
        FLOAT => numbers.flat_map(|byte| ((f32::from(byte) - 127.5) / 8192.0).to_le_bytes()).collect(),
        FLOAT16 => numbers.flat_map(|byte| [byte, 0x18 | byte & 0x80]).collect(),
        _ => numbers.collect(),
    }
}

fn random(name: &str, element: i64, dims: &[usize]) -> Vec<u8> {
    let sizes: Vec<i64> = dims.iter().map(|&size| size as i64).collect();
    tensor(name, element, &sizes, &values(element, dims.iter().product()))
}

fn load(folder: &Path, gpu: &Gpu, file: &[u8]) -> OnnxModel {
    let path = folder.join("model.onnx");
    std::fs::write(&path, file).unwrap();
    OnnxModel::load_with(path, gpu, &OnnxOptions::default()).unwrap()
}

/// What nodes make of `w`, and of other stored tensors.
struct Derivation {
    name: &'static str,
    element: ElementType,
    dims: &'static [usize],
    nodes: Vec<Vec<u8>>,
    others: Vec<Vec<u8>>,
    /// Columns of the result `v`, which has 24 rows.
    cols: usize,
}

fn derivations() -> Vec<Derivation> {
    let case = |name, element, dims, nodes: Vec<Vec<u8>>, others: Vec<Vec<u8>>, cols| Derivation {
        name,
        element,
        dims,
        nodes,
        others,
        cols,
    };
    let integers = |name: &str, values: &[i64]| {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        tensor(name, 7, &[values.len() as i64], &raw)
    };
    let slices = [("starts", [30, 2]), ("ends", [-100, 99]), ("axes", [0, 1]), ("steps", [-1, 2])];
    let slices: Vec<Vec<u8>> = slices.iter().map(|(name, values)| integers(name, values)).collect();
    let scale = |dims: &[i64], count| tensor("scale", FLOAT, dims, &values(FLOAT, count));
    vec![
        case("cast", ElementType::Float16, &[24, 50], vec![cast("w", "v")], vec![], 50),
        case(
            "cast and transposed",
            ElementType::Float16,
            &[50, 24],
            vec![cast("w", "c"), transposed("c", "v")],
            vec![],
            50,
        ),
        case("transposed", ElementType::Float, &[67, 24], vec![transposed("w", "v")], vec![], 67),
        case(
            "three axes in another order",
            ElementType::Float,
            &[5, 24, 11],
            vec![
                node("Transpose", &["w"], &["t"], &[numbers("perm", &[1, 2, 0])]),
                node("Reshape", &["t", "shape"], &["v"], &[]),
            ],
            vec![integers("shape", &[24, -1])],
            55,
        ),
        case(
            "sliced backwards and with a step",
            ElementType::Float,
            &[31, 99],
            vec![
                node("Slice", &["w", "starts", "ends", "axes", "steps"], &["s"], &[]),
                node("Split", &["s", "parts"], &["v", "rest"], &[number("axis", 0)]),
            ],
            [slices, vec![integers("parts", &[24, 7])]].concat(),
            49,
        ),
        case(
            "columns of a part, transposed",
            ElementType::Float,
            &[40, 72],
            vec![
                node("Split", &["w", "parts"], &["a", "b", "c"], &[number("axis", 1)]),
                transposed("b", "v"),
            ],
            vec![integers("parts", &[24, 24, 24])],
            40,
        ),
        case(
            "joined",
            ElementType::Float,
            &[24, 33],
            vec![transposed("other", "t"), node("Concat", &["w", "t", "w"], &["v"], &[number("axis", 1)])],
            vec![random("other", FLOAT, &[17, 24])],
            83,
        ),
        case(
            "dequantised",
            ElementType::Int8,
            &[24, 50],
            vec![node("DequantizeLinear", &["w", "scale", "zero"], &["v"], &[number("axis", 0)])],
            vec![scale(&[24], 24), random("zero", INT8, &[24])],
            50,
        ),
        case(
            "dequantised in blocks, transposed",
            ElementType::Uint8,
            &[50, 24],
            vec![
                node(
                    "DequantizeLinear",
                    &["w", "scale", "zero"],
                    &["d"],
                    &[number("axis", 0), number("block_size", 16)],
                ),
                transposed("d", "v"),
            ],
            vec![scale(&[4, 24], 96), random("zero", UINT8, &[4, 24])],
            50,
        ),
        case(
            "dequantised step by step",
            ElementType::Int8,
            &[24, 50],
            vec![cast("w", "c"), node("Mul", &["c", "scale"], &["v"], &[])],
            vec![scale(&[24, 1], 24)],
            50,
        ),
    ]
}

/// x v, where x is the identity.
fn product(gpu: &Gpu, case: &Derivation, stored: bool) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    let number = match case.element {
        ElementType::Float => FLOAT,
        ElementType::Float16 => FLOAT16,
        ElementType::Int8 => INT8,
        _ => UINT8,
    };
    let raw = values(number, case.dims.iter().product());
    let sizes: Vec<i64> = case.dims.iter().map(|&size| size as i64).collect();
    let mut inputs = vec![floats("x", &[24, 24])];
    let mut others: Vec<u8> = case.others.iter().flat_map(initializer).collect();
    if stored {
        others.extend(initializer(tensor("w", number, &sizes, &raw)));
    } else {
        inputs.push(declared("w", number, &sizes));
    }
    let nodes = [case.nodes.clone(), vec![node("MatMul", &["x", "v"], &["y"], &[])]].concat();
    let output = floats("y", &[24, case.cols as i64]);
    let model = load(folder.path(), gpu, &model(&graph(&nodes, &inputs, &[output], &others)));
    let identity: Vec<f32> = (0..24 * 24).map(|place| f32::from(u8::from(place % 25 == 0))).collect();
    let mut given = vec![("x", OnnxTensor::from_f32([24, 24], &identity))];
    if !stored {
        given.push(("w", OnnxTensor::from_bytes(case.element, case.dims, &raw).unwrap()));
    }
    let outputs = model.run(&given).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    outputs[0].1.to_f32()
}

#[test]
fn what_is_made_of_stored_tensors_is_as_computed() {
    let Some(gpu) = common::gpu() else { return };
    let _alone = ALONE.lock();
    for case in derivations() {
        let (read, computed) = (product(gpu, &case, true), product(gpu, &case, false));
        assert_eq!(read.len(), 24 * case.cols, "{}", case.name);
        assert!(read.iter().any(|value| *value != 0.0), "{}", case.name);
        for (index, (read, computed)) in read.iter().zip(&computed).enumerate() {
            let difference = (read - computed).abs();
            assert!(difference <= 1e-6 * computed.abs(), "{}, {index}: {read}, {computed}", case.name);
        }
    }
}

/// Side of the square matrices of the large model.
const SIDE: usize = 2048;

/// x through layers whose weights come in every form that exports have; and the bytes that the
/// weights take on the device.
fn large_model() -> (Vec<u8>, u64) {
    let (mut nodes, mut stored, mut device) = (Vec::new(), Vec::new(), 0);
    let square = SIDE * SIDE;
    let mut value = "x".to_owned();
    let mut layer = |nodes: &mut Vec<Vec<u8>>, operator: &str, weight: &str, attributes: &[Vec<u8>]| {
        let product = format!("after {weight}");
        nodes.push(node(operator, &[&value, weight], &[&product], attributes));
        value = product;
    };
    stored.push(random("gemm", FLOAT, &[SIDE, SIDE]));
    layer(&mut nodes, "Gemm", "gemm", &[number("transB", 1)]);
    stored.push(random("matmul", FLOAT, &[SIDE, SIDE]));
    layer(&mut nodes, "MatMul", "matmul", &[]);
    stored.push(random("turned", FLOAT, &[SIDE, SIDE]));
    nodes.push(transposed("turned", "not turned"));
    layer(&mut nodes, "MatMul", "not turned", &[]);
    let dims: Vec<u8> = [SIDE, SIDE].iter().flat_map(|&size| int(1, size as i64)).collect();
    stored.push([dims, int(2, FLOAT), bytes(8, "typed"), bytes(4, values(FLOAT, square))].concat());
    layer(&mut nodes, "MatMul", "typed", &[]);
    device += 4 * 4 * square;
    for index in 0..4 {
        let (half, whole) = (format!("half {index}"), format!("whole {index}"));
        stored.push(random(&half, FLOAT16, &[SIDE, SIDE]));
        nodes.push(cast(&half, &whole));
        layer(&mut nodes, "MatMul", &whole, &[]);
    }
    device += 4 * 2 * square;
    stored.push(random("three", FLOAT, &[SIDE, 3 * SIDE]));
    nodes.push(node("Split", &["three"], &["query", "key", "value"], &[number("axis", 1)]));
    for part in ["query", "key", "value"] {
        layer(&mut nodes, "MatMul", part, &[]);
    }
    device += 3 * 4 * square;
    stored.push(random("bytes", UINT8, &[SIDE, SIDE]));
    stored.push(tensor("scale", FLOAT, &[SIDE as i64], &values(FLOAT, SIDE)));
    nodes.push(node("DequantizeLinear", &["bytes", "scale"], &["dequantised"], &[]));
    layer(&mut nodes, "MatMul", "dequantised", &[]);
    device += 4 * square;
    stored.push(random("blocks", UINT8, &[SIDE, SIDE / 32, 16]));
    stored.push(tensor("scales", FLOAT, &[(square / 32) as i64], &values(FLOAT, square / 32)));
    let sizes = [("N", SIDE), ("K", SIDE), ("bits", 4), ("block_size", 32)];
    let sizes: Vec<Vec<u8>> = sizes.iter().map(|&(name, size)| number(name, size as i64)).collect();
    nodes.push(foreign(node("MatMulNBits", &[&value, "blocks", "scales"], &["y"], &sizes)));
    device += 4 * square;
    let (input, output) = (floats("x", &[-1, SIDE as i64]), floats("y", &[-1, SIDE as i64]));
    let stored: Vec<u8> = stored.iter().flat_map(initializer).collect();
    (model(&graph(&nodes, &[input], &[output], &stored)), device as u64)
}

#[test]
fn weights_take_memory_once() {
    let Some(gpu) = common::gpu() else { return };
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let (file, device) = large_model();
    assert!(file.len() > 150 * MIB);
    std::fs::write(folder.path().join("model.onnx"), &file).unwrap();
    drop(file);
    let before = (NOW.load(Ordering::Relaxed), gpu.allocated_bytes());
    PEAK.store(before.0, Ordering::Relaxed);
    let path = folder.path().join("model.onnx");
    let model = OnnxModel::load_with(path, gpu, &OnnxOptions::default()).unwrap();
    let loaded = PEAK.load(Ordering::Relaxed) - before.0;
    assert!(loaded < MIB, "{loaded} bytes to load the file");
    let run = |rows: usize| {
        let x = OnnxTensor::from_f32([rows, SIDE], &vec![0.5; rows * SIDE]);
        model.run(&[("x", x)]).unwrap()[0].1.to_f32()
    };
    let one = run(1);
    let peak = PEAK.load(Ordering::Relaxed) - before.0;
    let largest = 3 * SIDE * SIDE * 4;
    println!("peak {} MiB, of the largest tensor's {}", peak / MIB, largest / MIB);
    assert!(peak < largest + largest / 4, "{} MiB", peak / MIB);
    let allocated = |what: &str| {
        let bytes = gpu.allocated_bytes() - before.1;
        assert!(bytes < device + MIB as u64, "{what}: {bytes} bytes, the weights take {device}");
        assert!(bytes >= device, "{what}: {bytes} bytes, the weights take {device}");
    };
    allocated("one shape");
    let two = run(2);
    allocated("two shapes");
    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-3 * b.abs() + 1e-12;
    assert!(one.iter().zip(&two).all(close) && one.iter().any(|value| *value != 0.0));
    let rest = NOW.load(Ordering::Relaxed).saturating_sub(before.0);
    assert!(rest < 8 * MIB, "{} MiB stay on the host", rest / MIB);
    drop(model);
    assert!(gpu.allocated_bytes() < before.1 + MIB as u64);
}

/// x plus a constant as large as x.
fn model_of_constants() -> Vec<u8> {
    let nodes = [
        node("Shape", &["x"], &["sizes"], &[]),
        node("ConstantOfShape", &["sizes"], &["zeros"], &[]),
        node("Cos", &["zeros"], &["ones"], &[]),
        node("Add", &["x", "ones"], &["y"], &[]),
    ];
    model(&graph(&nodes, &[floats("x", &[-1, 1024])], &[floats("y", &[-1, 1024])], &[]))
}

#[test]
fn plans_of_shapes_that_were_not_used_for_long_are_freed() {
    let Some(gpu) = common::gpu() else { return };
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let model = load(folder.path(), gpu, &model_of_constants());
    let before = gpu.allocated_bytes();
    let run = |rows: usize| {
        let x = OnnxTensor::from_f32([rows, 1024], &vec![2.0; rows * 1024]);
        assert_eq!(model.run(&[("x", x)]).unwrap()[0].1.to_f32(), vec![3.0; rows * 1024]);
    };
    // Input, output and constant of each; the larger ones come first, and are used once.
    (1..=48).rev().for_each(&run);
    let kept: u64 = (1..=32).map(|rows| 3 * 4096 * rows).sum();
    let allocated = gpu.allocated_bytes() - before;
    assert!(allocated <= kept && allocated > kept / 2, "{allocated} bytes, {kept} are needed");
    let dispatches = model.dispatches();
    run(48);
    assert_eq!(model.dispatches(), dispatches);
}
