//! Kernels under the ceilings of their run, as a picture (Williams, Waterman and Patterson 2009,
//! "Roofline"): SVG, both axes logarithmic. Kernels without sums of products, which have no place
//! on the axis of FLOP per byte, stand beside it by their bandwidth alone.

use super::{Family, KernelReport, KernelRow, Spread};
use std::fmt::Write;

/// Size of the picture.
const SIZE: [f64; 2] = [1260.0, 720.0];

/// Top and bottom of both fields.
const FIELD: [f64; 2] = [90.0, 560.0];

/// Left and right of the field of kernels without sums of products.
const NARROW: [f64; 2] = [70.0, 390.0];

/// Left and right of the roofline.
const WIDE: [f64; 2] = [470.0, 1230.0];

/// Width of a letter and height of a line of the labels of points.
const LETTER: [f64; 2] = [5.7, 10.0];

/// Radius of a point.
const POINT: f64 = 4.0;

/// Colour of a family.
const fn colour(family: Family) -> &'static str {
    match family {
        Family::Gemm => "#1f5fbf",
        Family::Gemv => "#2ca7c9",
        Family::Attention => "#c23b3b",
        Family::Conv => "#2e8b45",
        Family::Depthwise => "#97b93a",
        Family::Softmax => "#8a4fbf",
        Family::Norm => "#d0659f",
        Family::Elementwise => "#d98a1f",
        Family::Movement => "#6f7a85",
        Family::Reduction => "#8c5a33",
        Family::Sampling => "#222222",
    }
}

/// A logarithmic axis: values and where they lie.
#[derive(Debug, Clone, Copy)]
struct Axis {
    /// Values at the ends: 1, 2 or 5 times a power of ten.
    values: [f64; 2],
    /// Where the ends lie.
    ends: [f64; 2],
}

/// 1, 2 and 5 times all powers of ten that a speed may have.
fn round_numbers() -> impl DoubleEndedIterator<Item = f64> {
    (-12..=15).flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(decade)))
}

impl Axis {
    /// An axis that holds all values above zero, with some air.
    fn of(values: impl Iterator<Item = f64>, ends: [f64; 2]) -> Self {
        let [low, high] = values
            .filter(|&value| value > 0.0)
            .fold([f64::INFINITY, 0.0], |[low, high], value| [value.min(low), value.max(high)]);
        let below = round_numbers().rev().find(|&value| value < 0.85 * low).filter(|_| low < high);
        let above = round_numbers().find(|&value| value > 1.35 * high);
        Self { values: [below.unwrap_or(0.1), above.unwrap_or(1e3)], ends }
    }

    fn at(&self, value: f64) -> f64 {
        let [low, high] = self.values;
        let part = (value / low).ln() / (high / low).ln();
        self.ends[0] + part.clamp(0.0, 1.0) * (self.ends[1] - self.ends[0])
    }

    /// Values with a line, and whether they are powers of ten.
    fn ticks(&self) -> Vec<(f64, bool)> {
        let [low, high] = self.values.map(|value| value * 1.001);
        let inside = round_numbers().filter(|&value| value * 1.002 > low && value < high);
        inside.map(|value| (value, (value.log10() - value.log10().round()).abs() < 1e-9)).collect()
    }
}

/// Text for a number, without zeros behind the point.
fn number(value: f64) -> String {
    if value < 1.0 { format!("{value:.3}").trim_end_matches('0').to_owned() } else { format!("{value:.0}") }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A picture in the making, and the places that labels must leave free.
struct Drawing {
    body: String,
    /// Left, top, right, bottom.
    taken: Vec<[f64; 4]>,
}

impl Drawing {
    fn line(&mut self, from: [f64; 2], to: [f64; 2], style: &str) {
        let ([x1, y1], [x2, y2]) = (from, to);
        self.push(format_args!(r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" {style}/>"#));
    }

    fn text(&mut self, at: [f64; 2], style: &str, text: &str) {
        let [x, y] = at;
        self.push(format_args!(r#"<text x="{x:.1}" y="{y:.1}" {style}>{}</text>"#, escaped(text)));
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.body, "{element}").expect("writing to a string");
    }

    fn point(&mut self, at: [f64; 2], row: &KernelRow) {
        let ([x, y], fill) = (at, colour(row.family));
        let rate = row.gigaflops.map_or(String::new(), |rate| format!("{rate:.1} GFLOP/s, "));
        let (time, bytes, part) = (row.microseconds, row.gigabytes, 100.0 * row.part_of_ceiling);
        let title = format!("{}: {time} us, {rate}{bytes:.2} GB/s, {part:.0}% of the ceiling", row.name);
        self.push(format_args!(
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="{POINT}" fill="{fill}" fill-opacity="0.8"><title>{}</title></circle>"#,
            escaped(&title)
        ));
        self.taken.push([x - POINT, y - POINT, x + POINT, y + POINT]);
    }

    /// Puts a label beside a point where there is room within `field`.
    fn label(&mut self, at: [f64; 2], row: &KernelRow, field: [f64; 2]) {
        let ([x, y], width) = (at, row.name.chars().count() as f64 * LETTER[0]);
        let gap = POINT + 2.0;
        let beside =
            |left: f64, middle: f64| [left, middle - LETTER[1] / 2.0, left + width, middle + LETTER[1] / 2.0];
        let places = [
            beside(x + gap, y),
            beside(x - gap - width, y),
            beside(x - width / 2.0, y - gap - LETTER[1] / 2.0),
            beside(x - width / 2.0, y + gap + LETTER[1] / 2.0),
        ];
        let apart = |a: &[f64; 4], b: &[f64; 4]| a[2] < b[0] || b[2] < a[0] || a[3] < b[1] || b[3] < a[1];
        let inside = |place: &&[f64; 4]| {
            place[0] > field[0] && place[2] < field[1] && place[1] > FIELD[0] && place[3] < FIELD[1]
        };
        let free = |place: &&[f64; 4]| self.taken.iter().all(|other| apart(place, other));
        if let Some(&place) = places.iter().find(|place| inside(place) && free(place)) {
            self.taken.push(place);
            let style = format!(r#"class="label" fill="{}""#, colour(row.family));
            self.text([place[0], place[3] - 2.0], &style, &row.name);
        }
    }

    /// Frame, lines and numbers of a field. `x` is none where it has columns.
    fn field(&mut self, sides: [f64; 2], x: Option<Axis>, y: Axis, names: [&str; 2]) {
        let ([left, right], [top, bottom]) = (sides, FIELD);
        let class = |power| if power { r#"class="decade""# } else { r#"class="tick""# };
        for (value, power) in y.ticks() {
            let at = y.at(value);
            self.line([left, at], [right, at], class(power));
            self.text([left - 6.0, at + 4.0], r#"text-anchor="end""#, &number(value));
        }
        for (value, power) in x.iter().flat_map(Axis::ticks) {
            let at = x.map_or(left, |x| x.at(value));
            self.line([at, top], [at, bottom], class(power));
            self.text([at, bottom + 16.0], r#"text-anchor="middle""#, &number(value));
        }
        let (width, height, middle) = (right - left, bottom - top, f64::midpoint(left, right));
        self.push(format_args!(
            r#"<rect x="{left}" y="{top}" width="{width}" height="{height}" class="frame"/>"#
        ));
        self.text([middle, bottom + 36.0], r#"text-anchor="middle""#, names[0]);
        self.text([left, top - 10.0], "", names[1]);
    }
}

/// Draws the measured kernels of a report; SVG.
pub fn roofline(report: &KernelReport) -> String {
    let mut drawing = Drawing { body: String::new(), taken: Vec::new() };
    let measured = report.rows.iter().filter(|row| row.mismatch.is_none());
    let (products, others): (Vec<&KernelRow>, Vec<&KernelRow>) =
        measured.partition(|row| row.gigaflops.is_some());
    draw_bandwidths(&mut drawing, report, &others);
    draw_rooflines(&mut drawing, report, &products);
    draw_legend(&mut drawing, report);
    let ([width, height], body) = (SIZE, drawing.body);
    let style = ".tick{stroke:#eee}.decade{stroke:#ccc}.frame{fill:none;stroke:#555}\
                 .ceiling{stroke:#000;stroke-width:2;fill:none}.other{stroke:#777;stroke-dasharray:6 4}\
                 .title{font-size:17px;font-weight:bold}.label{font-size:9.5px}";
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n<style>{style}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

/// The field of kernels without sums of products: a column for each family.
fn draw_bandwidths(drawing: &mut Drawing, report: &KernelReport, rows: &[&KernelRow]) {
    let bandwidth = report.limits.bandwidth();
    let values = rows.iter().map(|row| row.gigabytes).chain([bandwidth]);
    let y = Axis::of(values, [FIELD[1], FIELD[0]]);
    drawing.field(NARROW, None, y, ["kernels without sums of products", "GB/s, each value counted once"]);
    let ceiling = y.at(bandwidth);
    drawing.line([NARROW[0], ceiling], [NARROW[1], ceiling], r#"class="ceiling""#);
    let label = format!("{bandwidth:.1} GB/s, reads or copies of a kernel");
    drawing.text([NARROW[0] + 8.0, ceiling - 6.0], "", &label);
    drawing.taken.push([NARROW[0], ceiling - 18.0, NARROW[1], ceiling]);
    let families: Vec<Family> =
        Family::ALL.into_iter().filter(|family| rows.iter().any(|row| row.family == *family)).collect();
    let column = |family: Family| {
        let index = families.iter().position(|&it| it == family).unwrap_or(0);
        NARROW[0] + (NARROW[1] - NARROW[0]) * (index as f64 + 0.5) / families.len() as f64
    };
    let places: Vec<[f64; 2]> = rows.iter().map(|row| [column(row.family), y.at(row.gigabytes)]).collect();
    rows.iter().zip(&places).for_each(|(row, &at)| drawing.point(at, row));
    rows.iter().zip(&places).for_each(|(row, &at)| drawing.label(at, row, NARROW));
}

/// FLOP per byte against GFLOP/s, with the two ceilings.
fn draw_rooflines(drawing: &mut Drawing, report: &KernelReport, rows: &[&KernelRow]) {
    let (bandwidth, peak) = (report.limits.bandwidth(), report.limits.arithmetic());
    let intensity = |row: &KernelRow| row.flops as f64 / row.bytes.max(1) as f64;
    let rate = |row: &KernelRow| row.gigaflops.unwrap_or(0.0);
    let ridge = peak / bandwidth;
    let x = Axis::of(rows.iter().map(|row| intensity(row)).chain([ridge]), WIDE);
    let others: Vec<(&str, Spread)> = [
        ("f16 multiply-adds", report.limits.multiply_add_f16),
        ("matrix units", report.limits.matrix_multiply),
    ]
    .into_iter()
    .filter_map(|(name, rate)| Some((name, rate?)))
    .collect();
    let rates = rows.iter().map(|row| rate(row)).chain([peak]);
    let y = Axis::of(rates.chain(others.iter().map(|(_, rate)| rate.most)), [FIELD[1], FIELD[0]]);
    drawing.field(WIDE, Some(x), y, ["FLOP per byte, each value counted once", "GFLOP/s"]);
    let corner = [x.at(ridge), y.at(peak)];
    let start = (y.values[0] / bandwidth).max(x.values[0]);
    let foot = [x.at(start), y.at(start * bandwidth)];
    drawing.line(foot, corner, r#"class="ceiling""#);
    for part in (0..=40).map(|part| f64::from(part) / 40.0) {
        let [x, y] = [0, 1].map(|axis| foot[axis] + part * (corner[axis] - foot[axis]));
        drawing.taken.push([x - 3.0, y - 3.0, x + 3.0, y + 3.0]);
    }
    drawing.line(corner, [WIDE[1], corner[1]], r#"class="ceiling""#);
    let label = format!("{peak:.0} GFLOP/s, f32 multiply-adds");
    drawing.text([WIDE[1] - 8.0, corner[1] - 7.0], r#"text-anchor="end""#, &label);
    drawing.taken.push([WIDE[1] - 220.0, corner[1] - 20.0, WIDE[1], corner[1]]);
    for (name, other) in others {
        let at = y.at(other.most);
        drawing.line([WIDE[0], at], [WIDE[1], at], r#"class="other""#);
        let label = format!("{:.0} GFLOP/s, {name}", other.most);
        drawing.text([WIDE[0] + 8.0, at - 6.0], "", &label);
        drawing.taken.push([WIDE[0], at - 18.0, WIDE[0] + 220.0, at]);
    }
    let [middle_x, middle_y] = [f64::midpoint(foot[0], corner[0]), f64::midpoint(foot[1], corner[1])];
    let angle = (corner[1] - foot[1]).atan2(corner[0] - foot[0]).to_degrees();
    let turn = format!(
        r#"text-anchor="middle" transform="rotate({angle:.1} {middle_x:.1} {middle_y:.1}) translate(0 -8)""#
    );
    drawing.text([middle_x, middle_y], &turn, &format!("{bandwidth:.1} GB/s"));
    let places: Vec<[f64; 2]> = rows.iter().map(|row| [x.at(intensity(row)), y.at(rate(row))]).collect();
    rows.iter().zip(&places).for_each(|(row, &at)| drawing.point(at, row));
    rows.iter().zip(&places).for_each(|(row, &at)| drawing.label(at, row, WIDE));
}

/// Title, and the families that have points in the roofline.
fn draw_legend(drawing: &mut Drawing, report: &KernelReport) {
    drawing.text([NARROW[0], 30.0], r#"class="title""#, "Kernels under the ceilings of the same run");
    let version = env!("CARGO_PKG_VERSION");
    let place = format!("{}; wginfer {version}, form {}", report.limits.adapter, report.form);
    drawing.text([NARROW[0], 52.0], "", &place);
    let mut left = NARROW[0];
    for family in Family::ALL {
        if !report.rows.iter().any(|row| row.family == family && row.mismatch.is_none()) {
            continue;
        }
        let (fill, y) = (colour(family), FIELD[1] + 75.0);
        drawing.push(format_args!(r#"<circle cx="{left:.1}" cy="{y:.1}" r="5" fill="{fill}"/>"#));
        drawing.text([left + 10.0, y + 4.0], "", family.name());
        left += 30.0 + family.name().len() as f64 * 7.2;
    }
    let note = "A point is the median time of a kernel over buffers larger than the caches. \
                Convolutions count the products of the definition, Winograd's too.";
    drawing.text([NARROW[0], FIELD[1] + 110.0], r##"fill="#555""##, note);
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::*;
    use crate::profile::Bound;

    fn row(family: Family, name: &str, flops: u64, bytes: u64) -> KernelRow {
        let microseconds = Spread::of(&[100.0]);
        KernelRow {
            family,
            name: name.to_owned(),
            kernels: vec!["linear_rows"],
            mismatch: None,
            microseconds,
            flops,
            bytes,
            gigaflops: (flops > 0).then(|| flops as f64 / 1e5),
            gigabytes: bytes as f64 / 1e5,
            bound: Bound::Memory,
            part_of_ceiling: 0.5,
            part_of_issued: None,
        }
    }

    fn report(rows: Vec<KernelRow>) -> KernelReport {
        let limits = Limits {
            adapter: "an <adapter> & \"more\"".into(),
            multiply_add: Spread::of(&[90.0]),
            multiply_add_f16: Some(Spread::of(&[20.0])),
            ..Limits::all(Spread::of(&[8.0]))
        };
        KernelReport { form: "software".into(), limits, rows }
    }

    /// Every tag is closed in order, and attributes are in pairs of quotation marks.
    fn assert_well_formed(svg: &str) {
        let mut open: Vec<&str> = Vec::new();
        for tag in svg.split('<').skip(1) {
            let (inside, text) = tag.split_once('>').expect("a tag ends");
            assert!(!text.contains('>'), "{text}");
            assert_eq!(inside.matches('"').count() % 2, 0, "{inside}");
            let name = inside.split_whitespace().next().unwrap();
            match name.strip_prefix('/') {
                Some(closed) => assert_eq!(open.pop(), Some(closed)),
                None if inside.ends_with('/') => {}
                None => open.push(name),
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn pictures_are_well_formed_and_show_every_kernel() {
        let mut rows = vec![
            row(Family::Gemm, "linear 8x8 <f32>", 1_000_000, 20_000),
            row(Family::Gemm, "linear 8x8 again", 1_000_000, 20_000),
            row(Family::Softmax, "softmax & more", 0, 400_000),
        ];
        rows.push(KernelRow { mismatch: Some("differs".into()), ..rows[0].clone() });
        let svg = roofline(&report(rows));
        assert_well_formed(&svg);
        // Three points, and two families in the legend.
        assert_eq!(svg.matches("<circle").count(), 5);
        assert!(svg.contains("linear 8x8 &lt;f32&gt;") && svg.contains("softmax &amp; more"), "{svg}");
        assert!(svg.contains("90 GFLOP/s, f32 multiply-adds") && svg.contains("20 GFLOP/s, f16"), "{svg}");
        for word in ["\"NaN", "\"inf", "\"-inf", " NaN", " inf"] {
            assert!(!svg.contains(word), "{word}: {svg}");
        }
        assert_well_formed(&roofline(&report(Vec::new())));
    }

    #[test]
    fn axes_hold_their_values() {
        let axis = Axis::of([0.5, 120.0].into_iter(), [0.0, 100.0]);
        assert_eq!(axis.values, [0.2, 200.0]);
        let places = [0.2, 2.0, 200.0].map(|value| axis.at(value).round());
        assert_eq!(places, [0.0, 33.0, 100.0]);
        let powers = axis.ticks().into_iter().filter(|(_, power)| *power).map(|(value, _)| value);
        assert_eq!(powers.collect::<Vec<_>>(), [1.0, 10.0, 100.0]);
        assert_eq!([number(0.01), number(0.1), number(1.0), number(1000.0)], ["0.01", "0.1", "1", "1000"]);
    }
}
