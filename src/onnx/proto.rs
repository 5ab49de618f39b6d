//! The messages of an ONNX file, with the fields that this crate reads (field numbers and types
//! of the public schema, <https://github.com/onnx/onnx/blob/main/docs/IR.md>). Fields that are
//! not listed are skipped. Bytes are slices of the file, not copies.

use prost::bytes::{Buf, BufMut, Bytes};
use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message};

#[derive(Clone, PartialEq, Message)]
pub(super) struct Model {
    #[prost(int64, tag = "1")]
    pub(super) ir_version: i64,
    #[prost(string, tag = "2")]
    pub(super) producer_name: String,
    #[prost(message, optional, tag = "7")]
    pub(super) graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub(super) opset_import: Vec<OperatorSet>,
    #[prost(message, repeated, tag = "25")]
    pub(super) functions: Vec<Function>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OperatorSet {
    #[prost(string, tag = "1")]
    pub(super) domain: String,
    #[prost(int64, tag = "2")]
    pub(super) version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub(super) node: Vec<Node>,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub(super) input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    pub(super) output: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "15")]
    pub(super) sparse_initializer: Vec<SparseTensor>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub(super) input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(super) output: Vec<String>,
    #[prost(string, tag = "3")]
    pub(super) name: String,
    #[prost(string, tag = "4")]
    pub(super) op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) attribute: Vec<Attribute>,
    #[prost(string, tag = "7")]
    pub(super) domain: String,
    #[prost(string, tag = "8")]
    pub(super) overload: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Attribute {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(float, optional, tag = "2")]
    pub(super) f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub(super) i: Option<i64>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(super) s: Option<Bytes>,
    #[prost(message, optional, tag = "5")]
    pub(super) t: Option<Tensor>,
    #[prost(message, optional, tag = "6")]
    pub(super) g: Option<Graph>,
    #[prost(float, repeated, tag = "7")]
    pub(super) floats: Vec<f32>,
    #[prost(int64, repeated, tag = "8")]
    pub(super) ints: Vec<i64>,
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub(super) strings: Vec<Bytes>,
    #[prost(int32, tag = "20")]
    pub(super) kind: i32,
    #[prost(string, tag = "21")]
    pub(super) ref_attr_name: String,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Tensor {
    pub(super) dims: Vec<i64>,
    pub(super) data_type: i32,
    /// As raw data would be.
    pub(super) float_data: Fixed,
    pub(super) int32_data: Vec<i32>,
    pub(super) int64_data: Vec<i64>,
    pub(super) name: String,
    pub(super) raw_data: Bytes,
    /// As raw data would be.
    pub(super) double_data: Fixed,
    pub(super) uint64_data: Vec<u64>,
    pub(super) external_data: Vec<Entry>,
    pub(super) data_location: i32,
}

/// Repeated floats: in a file they lie behind each other, and that piece of the file is kept;
/// or one by one, as few files have them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Fixed {
    piece: Bytes,
    more: Vec<u8>,
}

impl Fixed {
    /// The floats' bytes.
    pub(super) fn into_bytes(self) -> Bytes {
        if self.more.is_empty() { self.piece } else { [self.piece.as_ref(), &self.more].concat().into() }
    }

    fn merge(
        &mut self,
        (wire_type, size): (WireType, usize),
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        let mut piece = Bytes::new();
        if wire_type == WireType::LengthDelimited {
            encoding::bytes::merge(wire_type, &mut piece, buf, context)?;
        } else if size == 4 {
            let mut value = 0.0;
            encoding::float::merge(wire_type, &mut value, buf, context)?;
            self.more.extend(value.to_le_bytes());
        } else {
            let mut value = 0.0;
            encoding::double::merge(wire_type, &mut value, buf, context)?;
            self.more.extend(value.to_le_bytes());
        }
        if self.piece.is_empty() && self.more.is_empty() {
            self.piece = piece;
        } else {
            self.more.extend_from_slice(&piece);
        }
        Ok(())
    }
}

/// Written by hand so that floats are not copied; only ever decoded.
impl Message for Tensor {
    fn encode_raw(&self, _: &mut impl BufMut) {}

    fn encoded_len(&self) -> usize {
        0
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 => encoding::int64::merge_repeated(wire_type, &mut self.dims, buf, context),
            2 => encoding::int32::merge(wire_type, &mut self.data_type, buf, context),
            4 => self.float_data.merge((wire_type, 4), buf, context),
            5 => encoding::int32::merge_repeated(wire_type, &mut self.int32_data, buf, context),
            7 => encoding::int64::merge_repeated(wire_type, &mut self.int64_data, buf, context),
            8 => encoding::string::merge(wire_type, &mut self.name, buf, context),
            9 => encoding::bytes::merge(wire_type, &mut self.raw_data, buf, context),
            10 => self.double_data.merge((wire_type, 8), buf, context),
            11 => encoding::uint64::merge_repeated(wire_type, &mut self.uint64_data, buf, context),
            13 => encoding::message::merge_repeated(wire_type, &mut self.external_data, buf, context),
            14 => encoding::int32::merge(wire_type, &mut self.data_location, buf, context),
            _ => encoding::skip_field(wire_type, tag, buf, context),
        }
    }
}

/// `data_location` of a tensor whose data lies in another file.
pub(super) const EXTERNAL: i32 = 1;

#[derive(Clone, PartialEq, Message)]
pub(super) struct SparseTensor {
    #[prost(message, optional, tag = "1")]
    pub(super) values: Option<Tensor>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Entry {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueInfo {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) kind: Option<Type>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Type {
    #[prost(message, optional, tag = "1")]
    pub(super) tensor_type: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorType {
    #[prost(int32, tag = "1")]
    pub(super) elem_type: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) shape: Option<TensorShape>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorShape {
    #[prost(message, repeated, tag = "1")]
    pub(super) dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Dimension {
    #[prost(int64, optional, tag = "1")]
    pub(super) dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub(super) dim_param: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Function {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, repeated, tag = "4")]
    pub(super) input: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    pub(super) output: Vec<String>,
    #[prost(string, repeated, tag = "6")]
    pub(super) attribute: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    pub(super) node: Vec<Node>,
    #[prost(message, repeated, tag = "9")]
    pub(super) opset_import: Vec<OperatorSet>,
    #[prost(string, tag = "10")]
    pub(super) domain: String,
    #[prost(message, repeated, tag = "11")]
    pub(super) attribute_proto: Vec<Attribute>,
    #[prost(string, tag = "13")]
    pub(super) overload: String,
}
