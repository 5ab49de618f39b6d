//! Operators as JSON, by name and attributes: how graphs are stored.
//!
//! Those that only lowered graphs have are not among them.

use super::Op;
use crate::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::any::Any;
use std::sync::Arc;

/// An operator that can be stored.
struct Entry {
    name: &'static str,
    read: fn(&Value) -> serde_json::Result<Arc<dyn Op>>,
    write: fn(&dyn Any) -> Option<serde_json::Result<Value>>,
}

impl Entry {
    const fn of<T: Op + Serialize + DeserializeOwned>(name: &'static str) -> Self {
        Self {
            name,
            read: |attributes| Ok(Arc::new(T::deserialize(attributes)?)),
            write: |op| op.downcast_ref::<T>().map(serde_json::to_value),
        }
    }
}

/// All of them by name.
const OPERATORS: &[Entry] = &[
    Entry::of::<super::AdaptivePool>("adaptive_pool"),
    Entry::of::<super::ArgExtreme>("arg_extreme"),
    Entry::of::<super::ArgMax>("argmax"),
    Entry::of::<super::Attention>("attention"),
    Entry::of::<super::BatchNorm>("batch_norm"),
    Entry::of::<super::Binary>("binary"),
    Entry::of::<super::CachedAttention>("cached_attention"),
    Entry::of::<super::Cast>("cast"),
    Entry::of::<super::Concat>("concat"),
    Entry::of::<super::Conv>("conv"),
    Entry::of::<super::ConvTranspose>("conv_transpose"),
    Entry::of::<super::CountTokens>("count_tokens"),
    Entry::of::<super::CumSum>("cumsum"),
    Entry::of::<super::DepthToSpace>("depth_to_space"),
    Entry::of::<super::Elementwise>("elementwise"),
    Entry::of::<super::Embedding>("embedding"),
    Entry::of::<super::Expand>("expand"),
    Entry::of::<super::Gather>("gather"),
    Entry::of::<super::GatherElements>("gather_elements"),
    Entry::of::<super::GatherNd>("gather_nd"),
    Entry::of::<super::GridSample>("grid_sample"),
    Entry::of::<super::GroupNorm>("group_norm"),
    Entry::of::<super::HeadNorm>("head_norm"),
    Entry::of::<super::Integer>("integer"),
    Entry::of::<super::LayerNorm>("layer_norm"),
    Entry::of::<super::Linear>("linear"),
    Entry::of::<super::Lrn>("lrn"),
    Entry::of::<super::MatMul>("matmul"),
    Entry::of::<super::OneHot>("one_hot"),
    Entry::of::<super::Pad>("pad"),
    Entry::of::<super::Pool>("pool"),
    Entry::of::<super::Recurrent>("recurrent"),
    Entry::of::<super::Reduce>("reduce"),
    Entry::of::<super::Resample>("resample"),
    Entry::of::<super::Reshape>("reshape"),
    Entry::of::<super::Resize>("resize"),
    Entry::of::<super::ReverseSequence>("reverse_sequence"),
    Entry::of::<super::RmsNorm>("rms_norm"),
    Entry::of::<super::Rope>("rope"),
    Entry::of::<super::RopeCache>("rope_cache"),
    Entry::of::<super::Sample>("sample"),
    Entry::of::<super::ScatterElements>("scatter_elements"),
    Entry::of::<super::ScatterNd>("scatter_nd"),
    Entry::of::<super::Select>("select"),
    Entry::of::<super::Slice>("slice"),
    Entry::of::<super::Softmax>("softmax"),
    Entry::of::<super::SpaceToDepth>("space_to_depth"),
    Entry::of::<super::Tile>("tile"),
    Entry::of::<super::TopK>("top_k"),
    Entry::of::<super::Transpose>("transpose"),
    Entry::of::<super::Triangle>("triangle"),
    Entry::of::<super::Unary>("unary"),
    Entry::of::<super::UnpackPixels>("unpack_pixels"),
    Entry::of::<super::WriteRows>("write_rows"),
];

fn entry(name: &str) -> Option<&'static Entry> {
    OPERATORS.iter().find(|entry| entry.name == name)
}

/// The attributes of an operator; [`read_op`] with its name makes the operator of them again.
///
/// # Errors
/// [`Error::Unsupported`] for an operator of lowered graphs.
pub fn write_op(op: &dyn Op) -> Result<Value> {
    let written = entry(op.name()).and_then(|entry| (entry.write)(op));
    let written = written.and_then(serde_json::Result::ok);
    written.ok_or_else(|| Error::Unsupported(format!("storing the operator {op:?}")))
}

/// An operator by its name and attributes.
///
/// # Errors
/// [`Error::Op`] with what is wrong with the attributes, [`Error::Unsupported`] for a name that is
/// not known.
pub fn read_op(name: &str, attributes: &Value) -> Result<Arc<dyn Op>> {
    let Some(entry) = entry(name) else {
        return Err(Error::Unsupported(format!("operator `{name}` is not known")));
    };
    (entry.read)(attributes).map_err(|error| Error::op(entry.name, format!("its attributes: {error}")))
}

#[cfg(test)]
mod tests {
    use super::super::{Pad, PadMode, Unary, UnaryFn, cases};
    use super::*;

    fn again(op: &dyn Op) -> Arc<dyn Op> {
        let text = serde_json::to_string(&write_op(op).unwrap()).unwrap();
        read_op(op.name(), &serde_json::from_str(&text).unwrap()).unwrap()
    }

    /// Operators that only lowered graphs have.
    const LOWERED: [&str; 4] = ["ImageBinary", "Depthwise", "ImplicitGemm", "Winograd"];

    #[test]
    fn every_operator_is_read_as_it_was_written() {
        for case in cases::all() {
            if LOWERED.iter().any(|name| format!("{:?}", case.op).starts_with(name)) {
                assert!(write_op(case.op.as_ref()).is_err(), "{}", case.name);
                continue;
            }
            let read = again(case.op.as_ref());
            assert_eq!(format!("{read:?}"), format!("{:?}", case.op), "{}", case.name);
            assert_eq!(read.name(), case.op.name());
        }
    }

    #[test]
    fn numbers_keep_their_bits() {
        let mut numbers =
            vec![0.0, -0.0, f32::MIN_POSITIVE, f32::from_bits(1), f32::MAX, f32::MIN, 0.1, 1e-5];
        numbers.extend([f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN, f32::from_bits(0x7f80_0001)]);
        let mut random = cases::Random::new(1);
        numbers.extend((0..10_000).map(|_| f32::from_bits((random.bits() >> 32) as u32)));
        for number in numbers {
            let op: Arc<dyn Any + Send + Sync> = again(&Unary(UnaryFn::Clip { min: number, max: number }));
            let Some(Unary(UnaryFn::Clip { min, max })) = op.downcast_ref() else { panic!("{op:?}") };
            assert_eq!([min.to_bits(), max.to_bits()], [number.to_bits(); 2], "{number}");
            let op: Arc<dyn Any + Send + Sync> = again(&Unary(UnaryFn::LeakyRelu(number)));
            let Some(Unary(UnaryFn::LeakyRelu(read))) = op.downcast_ref() else { panic!("{op:?}") };
            assert_eq!(read.to_bits(), number.to_bits());
        }
        let pad = Pad { pads: vec![(-1, 2)], mode: PadMode::Constant(f32::NEG_INFINITY) };
        assert_eq!(format!("{:?}", again(&pad)), format!("{pad:?}"));
    }

    #[test]
    fn wrong_attributes_are_refused() {
        let read = |name: &str, text: &str| {
            read_op(name, &serde_json::from_str(text).unwrap()).map(drop).unwrap_err().to_string()
        };
        let table = [
            ("softmax", r#"{"logarithm": 1}"#, "expected a boolean"),
            ("softmax", "{}", "missing field `logarithm`"),
            ("softmax", r#"{"logarithm": true, "axis": 1}"#, "unknown field `axis`"),
            ("transpose", r#"{"permutation": [0, -1]}"#, "expected usize"),
            ("unary", r#""Wondrous""#, "unknown variant `Wondrous`"),
            ("unary", r#"{"LeakyRelu": 1e300}"#, "1e300 is beyond the largest f32"),
            ("unary", r#"{"LeakyRelu": "0x1"}"#, "expected a number, got `0x1`"),
            ("unary", r#"{"LeakyRelu": null}"#, "expected a number, got null"),
            ("wondrous", "null", "operator `wondrous` is not known"),
        ];
        for (name, text, part) in table {
            let message = read(name, text);
            assert!(message.contains(part), "{name} {text}: {message}");
        }
    }
}
