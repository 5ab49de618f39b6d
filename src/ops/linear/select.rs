//! The choices of [`Linear`](super::Linear), and the rules that pick one.

use super::super::tiles::{Matrices, Parts, Tiles};
use super::Team::{Parts as InParts, Subgroup, Workgroup};
use super::{Choice, Problem, shares_x};
use crate::kernel::{Candidate, Caps, Family, Form, Rule};
use crate::tensor::DType;

const LARGE: Choice = Choice::Tiles(Tiles::T128X128, false);
const MEDIUM: Choice = Choice::Tiles(Tiles::T64X64, false);
const MEDIUM_PARTS: Choice = Choice::Tiles(Tiles::T64X64, true);
const SKINNY32: Choice = Choice::Tiles(Tiles::T32X128, false);
const SKINNY32_PARTS: Choice = Choice::Tiles(Tiles::T32X128, true);
const SKINNY16: Choice = Choice::Tiles(Tiles::T16X128, false);
const SKINNY16_PARTS: Choice = Choice::Tiles(Tiles::T16X128, true);

const LARGE_MATRICES: Choice = Choice::Matrices(Matrices::T128X128, false);
const MEDIUM_MATRICES: Choice = Choice::Matrices(Matrices::T64X64, false);
const MEDIUM_MATRICES_PARTS: Choice = Choice::Matrices(Matrices::T64X64, true);
const SKINNY32_MATRICES: Choice = Choice::Matrices(Matrices::T32X128, false);
const SKINNY32_MATRICES_PARTS: Choice = Choice::Matrices(Matrices::T32X128, true);
const SKINNY16_MATRICES: Choice = Choice::Matrices(Matrices::T16X128, false);
const SKINNY16_MATRICES_PARTS: Choice = Choice::Matrices(Matrices::T16X128, true);

fn is_software(caps: &Caps, _: &Problem) -> bool {
    caps.form() == Form::Software
}

fn is_gpu(caps: &Caps, _: &Problem) -> bool {
    caps.form() != Form::Software
}

/// Whether eight lanes share their loads of x, and all loads are words of 64 bits.
fn has_long_words(caps: &Caps, it: &Problem) -> bool {
    is_software(caps, it) && shares_x(caps) && caps.int64 && it.inner.is_multiple_of(8)
}

/// Whether a GPU streams the weight once for up to so many rows.
fn streams(caps: &Caps, it: &Problem, rows: usize) -> bool {
    is_gpu(caps, it) && it.rows <= rows
}

fn splits(caps: &Caps, it: &Problem, choice: Choice) -> bool {
    choice.parts(caps, it).count > 1
}

fn has_matrices(caps: &Caps, it: &Problem, tiles: Matrices) -> bool {
    caps.form() == Form::Subgroup && it.dtype == DType::F16 && tiles.fit(caps, it.gated)
}

/// Whether tiles of so many rows by columns are too few for a device, and parts long enough.
fn parts_pay(caps: &Caps, it: &Problem, rows: u32, columns: u32) -> bool {
    Parts::pay(caps, it.tiles(rows, columns), it.inner)
}

fn keeps_busy(caps: &Caps, it: &Problem) -> bool {
    it.rows >= 128 && 2 * it.tiles(128, 128) >= caps.busy_workgroups()
}

pub(super) static FAMILY: Family<Problem, Choice> = Family {
    name: "linear",
    choices: &[
        Candidate::new("rows1", Choice::Rows(1), is_software),
        Candidate::new("rows8", Choice::Rows(8), is_software),
        Candidate::new("rows16", Choice::Rows(16), is_software),
        Candidate::new("long1", Choice::LongRows(1), has_long_words),
        Candidate::new("long8", Choice::LongRows(8), has_long_words),
        Candidate::new("long16", Choice::LongRows(16), has_long_words),
        Candidate::new("long24", Choice::LongRows(24), has_long_words),
        Candidate::new("matvec1", Choice::Matvec(1, Subgroup), |caps, it| streams(caps, it, 1)),
        Candidate::new("matvec1_workgroup", Choice::Matvec(1, Workgroup), |caps, it| {
            streams(caps, it, 1) && caps.form() == Form::Subgroup
        }),
        Candidate::new("matvec1_parts", Choice::Matvec(1, InParts), |caps, it| {
            streams(caps, it, 1) && splits(caps, it, Choice::Matvec(1, InParts))
        }),
        Candidate::new("matvec4", Choice::Matvec(4, Subgroup), |caps, it| streams(caps, it, 4)),
        Candidate::new("matvec8", Choice::Matvec(8, Subgroup), |caps, it| streams(caps, it, 8)),
        Candidate::new("matvec8_parts", Choice::Matvec(8, InParts), |caps, it| {
            streams(caps, it, 8) && splits(caps, it, Choice::Matvec(8, InParts))
        }),
        Candidate::new("tiles16x128", SKINNY16, is_gpu),
        Candidate::new("tiles16x128_parts", SKINNY16_PARTS, |caps, it| {
            is_gpu(caps, it) && splits(caps, it, SKINNY16_PARTS)
        }),
        Candidate::new("tiles32x128", SKINNY32, is_gpu),
        Candidate::new("tiles32x128_parts", SKINNY32_PARTS, |caps, it| {
            is_gpu(caps, it) && splits(caps, it, SKINNY32_PARTS)
        }),
        Candidate::new("tiles64x64", MEDIUM, is_gpu),
        Candidate::new("tiles64x64_parts", MEDIUM_PARTS, |caps, it| {
            is_gpu(caps, it) && splits(caps, it, MEDIUM_PARTS)
        }),
        Candidate::new("tiles128x128", LARGE, is_gpu),
        Candidate::new("matrices16x128", SKINNY16_MATRICES, |caps, it| {
            has_matrices(caps, it, Matrices::T16X128)
        }),
        Candidate::new("matrices16x128_parts", SKINNY16_MATRICES_PARTS, |caps, it| {
            has_matrices(caps, it, Matrices::T16X128) && splits(caps, it, SKINNY16_MATRICES_PARTS)
        }),
        Candidate::new("matrices32x128", SKINNY32_MATRICES, |caps, it| {
            has_matrices(caps, it, Matrices::T32X128)
        }),
        Candidate::new("matrices32x128_parts", SKINNY32_MATRICES_PARTS, |caps, it| {
            has_matrices(caps, it, Matrices::T32X128) && splits(caps, it, SKINNY32_MATRICES_PARTS)
        }),
        Candidate::new("matrices64x64", MEDIUM_MATRICES, |caps, it| has_matrices(caps, it, Matrices::T64X64)),
        Candidate::new("matrices64x64_parts", MEDIUM_MATRICES_PARTS, |caps, it| {
            has_matrices(caps, it, Matrices::T64X64) && splits(caps, it, MEDIUM_MATRICES_PARTS)
        }),
        Candidate::new("matrices128x128", LARGE_MATRICES, |caps, it| {
            has_matrices(caps, it, Matrices::T128X128)
        }),
    ],
    rules: &[
        Rule::new(Choice::LongRows(1), |_, it| it.rows == 1, "one row by words of 64 bits"),
        Rule::new(Choice::LongRows(8), |_, it| it.rows <= 8, "few rows by words of 64 bits"),
        Rule::new(Choice::LongRows(16), |_, it| it.rows <= 16, "up to 16 rows by words of 64 bits"),
        Rule::new(Choice::LongRows(24), |_, _| true, "many rows by words of 64 bits"),
        Rule::new(Choice::Rows(1), |_, it| it.rows == 1, "one row on a software adapter"),
        Rule::new(Choice::Rows(8), |_, it| it.rows <= 8, "few rows on a software adapter"),
        Rule::new(Choice::Rows(16), |_, _| true, "many rows on a software adapter"),
        Rule::new(
            Choice::Matvec(1, InParts),
            |_, it| it.weight_rows() <= 256 && it.inner >= 16_384,
            "a long row for few outputs",
        ),
        Rule::new(
            Choice::Matvec(1, Workgroup),
            |caps, it| it.weight_rows() <= 8 * caps.busy_workgroups(),
            "few outputs of one row",
        ),
        Rule::new(Choice::Matvec(1, Subgroup), |_, _| true, "one row"),
        Rule::new(Choice::Matvec(4, Subgroup), |_, _| true, "up to 4 rows share the weight's loads"),
        Rule::new(
            Choice::Matvec(8, InParts),
            |_, it| it.weight_rows() <= 256 && it.inner >= 16_384,
            "long rows for few outputs",
        ),
        Rule::new(Choice::Matvec(8, Subgroup), |_, _| true, "up to 8 rows share the weight's loads"),
        Rule::new(LARGE_MATRICES, keeps_busy, "large tiles keep a GPU with matrix units busy"),
        Rule::new(
            SKINNY16_MATRICES_PARTS,
            |caps, it| it.rows <= 16 && parts_pay(caps, it, 16, 128),
            "up to 16 rows by matrix units, few tiles",
        ),
        Rule::new(SKINNY16_MATRICES, |_, it| it.rows <= 16, "up to 16 rows by matrix units"),
        Rule::new(
            SKINNY32_MATRICES_PARTS,
            |caps, it| it.rows <= 32 && parts_pay(caps, it, 32, 128),
            "up to 32 rows by matrix units, few tiles",
        ),
        Rule::new(SKINNY32_MATRICES, |_, it| it.rows <= 32, "up to 32 rows by matrix units"),
        Rule::new(
            MEDIUM_MATRICES_PARTS,
            |caps, it| parts_pay(caps, it, 64, 64),
            "few tiles for a GPU with matrix units",
        ),
        Rule::new(MEDIUM_MATRICES, |_, _| true, "too few large tiles for a GPU with matrix units"),
        Rule::new(LARGE, keeps_busy, "large tiles keep a GPU busy"),
        Rule::new(
            SKINNY16_PARTS,
            |caps, it| it.rows <= 16 && parts_pay(caps, it, 16, 128),
            "up to 16 rows, few tiles",
        ),
        Rule::new(SKINNY16, |_, it| it.rows <= 16, "up to 16 rows"),
        Rule::new(
            SKINNY32_PARTS,
            |caps, it| it.rows <= 32 && parts_pay(caps, it, 32, 128),
            "up to 32 rows, few tiles",
        ),
        Rule::new(SKINNY32, |_, it| it.rows <= 32, "up to 32 rows"),
        Rule::new(MEDIUM_PARTS, |caps, it| parts_pay(caps, it, 64, 64), "few tiles for a GPU"),
        Rule::new(MEDIUM, |_, _| true, "too few large tiles to keep a GPU busy"),
    ],
};
