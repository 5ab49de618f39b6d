//! The operators of ONNX, by family: functions from a node to its output values.

mod attention;
mod control;
mod conv;
mod detection;
mod einsum;
mod elementwise;
mod gather;
mod image;
mod linear;
mod logic;
mod microsoft;
mod microsoft_attention;
mod norm;
mod quantize;
mod recurrent;
mod reduce;
mod resize;
mod shape;

use super::importer::Importer;
use super::node::Node;
use super::value::Value;
use crate::Result;

/// Makes the outputs of a node.
pub(super) type Operator = fn(&mut Importer<'_>, &Node<'_>) -> Result<Vec<Value>>;

/// Operators of one family by name.
pub(super) type Table = &'static [(&'static str, Operator)];

/// The families with their domains; "" is the standard's.
const TABLES: &[(&str, Table)] = &[
    ("", attention::OPERATORS),
    ("", control::OPERATORS),
    ("", conv::OPERATORS),
    ("", detection::OPERATORS),
    ("", einsum::OPERATORS),
    ("", elementwise::OPERATORS),
    ("", gather::OPERATORS),
    ("", image::OPERATORS),
    ("", linear::OPERATORS),
    ("", logic::OPERATORS),
    ("com.microsoft", microsoft::OPERATORS),
    ("com.microsoft", microsoft_attention::OPERATORS),
    ("", norm::OPERATORS),
    ("", quantize::OPERATORS),
    ("", recurrent::OPERATORS),
    ("", reduce::OPERATORS),
    ("", shape::OPERATORS),
];

/// The operator of this name, if it is known.
pub(super) fn find(domain: &str, name: &str) -> Option<Operator> {
    let tables = TABLES.iter().filter(|(of, _)| *of == domain).flat_map(|(_, table)| table.iter());
    tables.clone().find(|(known, _)| *known == name).map(|(_, operator)| *operator)
}

/// Domains ("" is the standard's) and names of all operators that are known.
pub(super) fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLES.iter().flat_map(|(domain, table)| table.iter().map(|(name, _)| (*domain, *name)))
}
