//! Convolutions and pools.

use super::Table;
use crate::onnx::element::ElementType;
use crate::onnx::importer::Importer;
use crate::onnx::node::Node;
use crate::onnx::value::Value;
use crate::ops::image::indices;
use crate::ops::{Binary, BinaryFn, Conv, ConvTranspose, Pad, PadMode, Pool, PoolFn, ReduceFn, Select};
use crate::ops::{SliceRange, Window};
use crate::{Error, Result};

pub(super) const OPERATORS: Table = &[
    ("AveragePool", average_pool),
    ("Conv", conv),
    ("ConvTranspose", conv_transpose),
    ("GlobalAveragePool", |importer, node| global(importer, node, ReduceFn::Mean)),
    ("GlobalMaxPool", |importer, node| global(importer, node, ReduceFn::Max)),
    ("MaxPool", max_pool),
];

/// How padding is given.
#[derive(Debug, Clone, PartialEq, Eq)]
enum AutoPad {
    Explicit(Vec<(usize, usize)>),
    /// As much as makes the output the input divided by the stride, the odd one at the end or at
    /// the start.
    Same {
        upper: bool,
    },
}

fn auto_pad(node: &Node<'_>, axes: usize) -> Result<AutoPad> {
    match node.string("auto_pad", "NOTSET")? {
        "NOTSET" | "" => {}
        "VALID" => return Ok(AutoPad::Explicit(vec![(0, 0); axes])),
        "SAME_UPPER" => return Ok(AutoPad::Same { upper: true }),
        "SAME_LOWER" => return Ok(AutoPad::Same { upper: false }),
        other => return Err(node.fail(format!("attribute `auto_pad` must not be {other}"))),
    }
    let pads = per_axis(node, "pads", 2 * axes, 0)?;
    Ok(AutoPad::Explicit((0..axes).map(|axis| (pads[axis], pads[axis + axes])).collect()))
}

/// Splits padding of an axis in two.
fn halves(total: usize, upper: bool) -> (usize, usize) {
    let small = total / 2;
    if upper { (small, total - small) } else { (total - small, small) }
}

/// One number for each of `count` axes.
fn per_axis(node: &Node<'_>, name: &str, count: usize, default: usize) -> Result<Vec<usize>> {
    match node.sizes(name)? {
        None => Ok(vec![default; count]),
        Some(values) if values.len() == count => Ok(values),
        Some(values) => {
            Err(node.fail(format!("attribute `{name}` must have {count} numbers, got {values:?}")))
        }
    }
}

/// The spatial sizes of images.
fn spatial<'a>(node: &Node<'_>, x: &'a Value) -> Result<&'a [usize]> {
    match x.dims() {
        [_, _, spatial @ ..] if (1..=3).contains(&spatial.len()) => Ok(spatial),
        _ => Err(Error::Unsupported(format!("{} of {x}, 1 to 3 spatial axes are", node.definition.operator))),
    }
}

/// The window of a convolution or pool over an image.
fn window(node: &Node<'_>, image: &[usize], kernel: Vec<usize>) -> Result<Window> {
    let axes = image.len();
    if kernel.len() != axes {
        return Err(node.fail(format!("kernel {kernel:?} does not fit {axes} spatial axes")));
    }
    let stride = per_axis(node, "strides", axes, 1)?;
    let dilation = per_axis(node, "dilations", axes, 1)?;
    let mut window = Window::new(kernel).stride(stride).dilation(dilation);
    window.ceil_mode = node.flag("ceil_mode", false)?;
    window.pads = match auto_pad(node, axes)? {
        AutoPad::Explicit(pads) => pads,
        AutoPad::Same { upper } => {
            let extent = window.extent();
            let axis = |axis: usize| {
                let stride = window.stride[axis].max(1);
                let windows = image[axis].div_ceil(stride);
                halves(
                    (windows.max(1) - 1) * stride + extent[axis]
                        - image[axis].min((windows.max(1) - 1) * stride + extent[axis]),
                    upper,
                )
            };
            (0..axes).map(axis).collect()
        }
    };
    Ok(window)
}

fn kernel_shape(node: &Node<'_>, weight: &Value) -> Result<Vec<usize>> {
    let kernel = weight.dims().get(2..).unwrap_or_default().to_vec();
    match node.sizes("kernel_shape")? {
        Some(given) if given != kernel => {
            Err(node.fail(format!("kernel_shape is {given:?}, the weight {weight}")))
        }
        _ => Ok(kernel),
    }
}

fn groups(node: &Node<'_>) -> Result<usize> {
    let groups = node.int("group", 1)?;
    usize::try_from(groups)
        .map_err(|_| node.fail(format!("attribute `group` must be positive, got {groups}")))
}

/// The convolution without bias that the node's attributes describe.
pub(super) fn convolution(node: &Node<'_>, x: &Value, weight: &Value) -> Result<Conv> {
    let window = window(node, spatial(node, x)?, kernel_shape(node, weight)?)?;
    Ok(Conv::new(window).groups(groups(node)?))
}

fn conv(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (x, weight, bias) = (node.input(0)?, node.input(1)?, node.optional(2));
    let op = Conv { bias: bias.is_some(), ..convolution(node, &x, &weight)? };
    let inputs: Vec<&Value> = [&x, &weight].into_iter().chain(&bias).collect();
    Ok(vec![importer.apply_one(op, &inputs, x.element)?])
}

fn conv_transpose(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let (x, weight, bias) = (node.input(0)?, node.input(1)?, node.optional(2));
    let image = spatial(node, &x)?;
    let axes = image.len();
    let kernel = kernel_shape(node, &weight)?;
    if kernel.len() != axes {
        return Err(node.fail(format!("the weight {weight} does not fit x {x}")));
    }
    let mut padding = per_axis(node, "output_padding", axes, 0)?;
    let stride = per_axis(node, "strides", axes, 1)?;
    let mut window = Window::new(kernel).stride(stride).dilation(per_axis(node, "dilations", axes, 1)?);
    let extent = window.extent();
    let whole = |axis: usize| (image[axis].max(1) - 1) * window.stride[axis] + extent[axis];
    let auto = auto_pad(node, axes)?;
    let wanted = match (node.sizes("output_shape")?, &auto) {
        (Some(sizes), _) => {
            let given = sizes.get(sizes.len().saturating_sub(axes)..).unwrap_or_default().to_vec();
            Some(given)
                .filter(|given| given.len() == axes)
                .ok_or_else(|| {
                    node.fail(format!("attribute `output_shape` must have {axes} numbers, got {sizes:?}"))
                })?
                .into()
        }
        (None, AutoPad::Same { .. }) => {
            Some((0..axes).map(|axis| image[axis] * window.stride[axis]).collect())
        }
        (None, AutoPad::Explicit(_)) => None,
    };
    let wanted: Option<Vec<usize>> = wanted;
    window.pads = match (wanted, auto) {
        (Some(wanted), auto) => {
            // The padding is what is too much; what is missing is added at the end.
            let upper = matches!(auto, AutoPad::Same { upper: true });
            let mut pads = Vec::with_capacity(axes);
            for axis in 0..axes {
                let all = whole(axis) + padding[axis];
                pads.push(halves(all.saturating_sub(wanted[axis]), upper));
                padding[axis] += wanted[axis].saturating_sub(all);
            }
            pads
        }
        (None, AutoPad::Explicit(pads)) => pads,
        (None, AutoPad::Same { .. }) => unreachable!("the sizes follow from the input's"),
    };
    let op = ConvTranspose::new(window).output_padding(padding).groups(groups(node)?);
    let op = ConvTranspose { bias: bias.is_some(), ..op };
    let inputs: Vec<&Value> = [&x, &weight].into_iter().chain(&bias).collect();
    Ok(vec![importer.apply_one(op, &inputs, x.element)?])
}

fn pool_window(node: &Node<'_>, x: &Value) -> Result<Window> {
    let kernel =
        node.sizes("kernel_shape")?.ok_or_else(|| node.fail("attribute `kernel_shape` is missing"))?;
    window(node, spatial(node, x)?, kernel)
}

fn average_pool(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let op = Pool::new(PoolFn::Average, pool_window(node, &x)?)
        .count_include_pad(node.flag("count_include_pad", false)?);
    Ok(vec![importer.apply_one(op, &[&x], x.element)?])
}

fn max_pool(importer: &mut Importer<'_>, node: &Node<'_>) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let window = pool_window(node, &x)?;
    let op = Pool::new(PoolFn::Max, window.clone());
    let largest = importer.as_floats(&x, |importer, x| importer.apply_one(op, &[x], x.element))?;
    if !node.has_output(1) {
        return Ok(vec![largest]);
    }
    let by_columns = node.flag("storage_order", false)?;
    let places = largest_places(importer, &x, &window, largest.dims(), by_columns)?;
    Ok(vec![largest, places])
}

/// Most elements of a window whose largest is looked for.
const MOST_TAPS: usize = 1024;

/// The first place of the largest element of each window, counted through all of x; by columns
/// where the first spatial axis is the innermost.
fn largest_places(
    importer: &mut Importer<'_>,
    x: &Value,
    window: &Window,
    outputs: &[usize],
    by_columns: bool,
) -> Result<Value> {
    let sizes = &x.dims()[2..];
    let axes = sizes.len();
    if window.taps() > MOST_TAPS {
        return Err(Error::Unsupported(format!("places of the largest of {} elements", window.taps())));
    }
    let inner = |axis: usize| if by_columns { &sizes[..axis] } else { &sizes[axis + 1..] };
    let strides: Vec<i64> = (0..axes).map(|axis| inner(axis).iter().product::<usize>() as i64).collect();
    let needed = |axis: usize| (outputs[axis + 2] - 1) * window.stride[axis] + window.extent()[axis];
    let pad = |axis: usize| {
        let before = window.pads[axis].0;
        (before as isize, needed(axis).saturating_sub(before + sizes[axis]) as isize)
    };
    let mut pads = vec![(0, 0); 2];
    pads.extend((0..axes).map(pad));
    let floats = importer.cast(x, ElementType::Float)?;
    let pad = Pad { pads, mode: PadMode::Constant(f32::NEG_INFINITY) };
    let padded = importer.apply_one(pad, &[&floats], ElementType::Float)?;
    let number = |value: i64| Value::integers(ElementType::Int64, vec![], &[value]);
    let mut best: Option<(Value, Value)> = None;
    for tap in indices(&window.kernel) {
        let mut ranges = vec![SliceRange::full(x.dims()[0]), SliceRange::full(x.dims()[1])];
        let range = |axis: usize| {
            let (start, step) = (tap[axis] * window.dilation[axis], window.stride[axis] as isize);
            SliceRange { start, count: outputs[axis + 2], step }
        };
        ranges.extend((0..axes).map(range));
        let values = importer.slice(&padded, ranges)?;
        let offset =
            number((0..axes).map(|axis| (tap[axis] * window.dilation[axis]) as i64 * strides[axis]).sum());
        best = Some(match best {
            None => (values, offset),
            Some((largest, place)) => {
                let greater = Binary(BinaryFn::Greater);
                let larger = importer.apply_one(greater, &[&values, &largest], ElementType::Bool)?;
                let place = importer.apply_one(Select, &[&larger, &offset, &place], ElementType::Int64)?;
                (importer.binary(BinaryFn::Max, &largest, &values)?, place)
            }
        });
    }
    let place = best.map_or_else(|| number(0), |(_, place)| place);
    let image: usize = sizes.iter().product();
    let start = |place: Vec<usize>| {
        let along = |axis: usize| {
            let first = (place[axis + 2] * window.stride[axis]) as i64 - window.pads[axis].0 as i64;
            first * strides[axis]
        };
        ((place[0] * x.dims()[1] + place[1]) * image) as i64 + (0..axes).map(along).sum::<i64>()
    };
    let starts: Vec<i64> = indices(outputs).map(start).collect();
    let starts = Value::integers(ElementType::Int64, outputs, &starts);
    importer.binary(BinaryFn::Add, &starts, &place)
}

fn global(importer: &mut Importer<'_>, node: &Node<'_>, function: ReduceFn) -> Result<Vec<Value>> {
    let x = node.input(0)?;
    let axes: Vec<usize> = (2..x.rank()).collect();
    if axes.is_empty() {
        return Err(node.fail(format!("takes images, got {x}")));
    }
    Ok(vec![importer.reduce(&x, function, &axes, true)?])
}
