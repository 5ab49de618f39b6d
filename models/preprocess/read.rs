//! Reading of `preprocessor_config.json`, as the image processors of transformers mean it. What
//! the file does not say is the architecture's default.

use super::{Channels, MAX_SIDE, Preprocess, Resize};
use crate::json::{self, Fields};
use crate::ops::ResampleFilter;
use crate::{Error, Result};
use serde_json::Value;
use std::path::Path;

/// Processors whose single `size` is the length of the shorter side.
const SHORTEST_EDGE_TYPES: [&str; 4] = ["MobileNetV1", "MobileNetV2", "CLIP", "ConvNext"];

impl Preprocess {
    /// Reads the preprocessing of a model's folder: `preprocessor_config.json`, or the image
    /// processor of `processor_config.json`; without either it is `defaults`.
    ///
    /// # Errors
    /// [`Error::File`] with the key, what was expected and got; [`Error::Unsupported`] for steps
    /// that are not there (padding to the largest photo of a batch, a longest edge).
    pub fn load(folder: &Path, defaults: &Self) -> Result<Self> {
        let path = folder.join("preprocessor_config.json");
        if let Some(map) = json::read_object(&path)? {
            return read(&Fields::new(&path, &map), defaults);
        }
        let path = folder.join("processor_config.json");
        let map = json::read_object(&path)?.unwrap_or_default();
        match Fields::new(&path, &map).object("image_processor")? {
            Some(fields) => read(&fields, defaults),
            None => Ok(defaults.clone()),
        }
    }
}

fn read(fields: &Fields<'_>, defaults: &Preprocess) -> Result<Preprocess> {
    let kind = match fields.string("image_processor_type")? {
        None => fields.string("feature_extractor_type")?.unwrap_or(""),
        Some(kind) => kind,
    };
    if fields.boolean("do_pad")? == Some(true) {
        return Err(Error::Unsupported(format!("{}: `do_pad`", fields.path().display())));
    }
    let mut read = defaults.clone();
    read_geometry(fields, kind, &mut read)?;
    read.filter = read_filter(fields)?.unwrap_or(read.filter);
    if fields.boolean("do_flip_channel_order")? == Some(true) {
        read.channels = Channels::Bgr;
    }
    if fields.boolean("do_grayscale")? == Some(true) {
        read.channels = Channels::Gray;
    }
    read_values(fields, kind, &mut read)?;
    Ok(read)
}

/// Size, resize and crop.
fn read_geometry(fields: &Fields<'_>, kind: &str, read: &mut Preprocess) -> Result<()> {
    let has_crop = fields.boolean("do_center_crop")?;
    if let Some(resize) = read_resize(fields, kind, read.resize)? {
        read.resize = resize;
        // A crop of the architecture's belongs to its own size.
        let exact = matches!(resize, Resize::Exact(_));
        read.square &= exact && has_crop.is_none();
        if exact {
            read.crop = None;
        }
    }
    let crop_pct = fields.positive("crop_pct")?;
    if let (Resize::ShortestEdge(side), true) =
        (read.resize, crop_pct.is_some() || kind.starts_with("ConvNext"))
    {
        // Timm's rule: networks of 384 and more see the whole photo, others cut the border off.
        if side < 384 {
            read.resize = Resize::ShortestEdge((side as f64 / crop_pct.unwrap_or(0.875)) as usize);
            read.crop = Some([side, side]);
        } else {
            (read.resize, read.crop) = (Resize::Exact([side, side]), None);
        }
    }
    if fields.boolean("do_resize")? == Some(false) {
        read.resize = Resize::Keep;
    }
    match has_crop {
        Some(false) if crop_pct.is_none() => read.crop = None,
        Some(true) => {
            read.square = false;
            let size = read_size(fields, "crop_size")?.map(|size| match size {
                Size::One(side) => [side, side],
                Size::Two(size) => size,
            });
            read.crop = size.or(read.crop);
            if read.crop.is_none() {
                return Err(fields.error("crop_size", "a size to crop to", fields.absence("crop_size")));
            }
        }
        _ => {}
    }
    Ok(())
}

fn read_resize(fields: &Fields<'_>, kind: &str, default: Resize) -> Result<Option<Resize>> {
    if let Some(Value::Object(_)) = fields.value("size")
        && let Some(object) = fields.object("size")?
    {
        if object.value("longest_edge").is_some() {
            return Err(Error::Unsupported(format!("{}: `size.longest_edge`", fields.path().display())));
        }
        if let Some(side) = object.size("shortest_edge", 1..=MAX_SIDE)? {
            return Ok(Some(Resize::ShortestEdge(side as usize)));
        }
    }
    Ok(read_size(fields, "size")?.map(|size| match size {
        Size::Two(size) => Resize::Exact(size),
        Size::One(side) => {
            let by_type = SHORTEST_EDGE_TYPES.iter().any(|name| kind.starts_with(name));
            let shortest = by_type
                || fields.has("crop_pct")
                || (kind.is_empty() && matches!(default, Resize::ShortestEdge(_)));
            if shortest { Resize::ShortestEdge(side) } else { Resize::Exact([side, side]) }
        }
    }))
}

/// A size: one number, or height and width.
enum Size {
    One(usize),
    Two([usize; 2]),
}

fn read_size(fields: &Fields<'_>, key: &str) -> Result<Option<Size>> {
    if let Some(Value::Object(_)) = fields.value(key)
        && let Some(object) = fields.object(key)?
    {
        let side = |key: &str| object.required_size(key, 1..=MAX_SIDE).map(|side| side as usize);
        return Ok(Some(Size::Two([side("height")?, side("width")?])));
    }
    Ok(fields.size(key, 1..=MAX_SIDE)?.map(|side| Size::One(side as usize)))
}

fn read_filter(fields: &Fields<'_>) -> Result<Option<ResampleFilter>> {
    let expected = "a filter: 0 nearest, 1 lanczos, 2 bilinear, 3 bicubic, 4 box, 5 hamming";
    match fields.value("resample") {
        None => Ok(None),
        Some(Value::String(name)) => {
            let found = ResampleFilter::ALL.into_iter().find(|filter| filter.name() == name);
            found.map(Some).ok_or_else(|| fields.error("resample", expected, name))
        }
        Some(value) => {
            let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
            let found = number.and_then(|number| ResampleFilter::ALL.get(number));
            found.copied().map(Some).ok_or_else(|| fields.error("resample", expected, value))
        }
    }
}

/// Scale, mean and standard deviation.
fn read_values(fields: &Fields<'_>, kind: &str, read: &mut Preprocess) -> Result<()> {
    match (fields.boolean("do_rescale")?, fields.positive("rescale_factor")?) {
        (Some(false), _) => read.scale = 1.0,
        (_, Some(factor)) => read.scale = factor,
        _ => {}
    }
    if fields.boolean("do_normalize")? == Some(false) {
        (read.mean, read.std) = ([0.0; 3], [1.0; 3]);
    } else {
        read.mean = read_channels(fields, "image_mean", false)?.unwrap_or(read.mean);
        read.std = read_channels(fields, "image_std", true)?.unwrap_or(read.std);
    }
    if fields.boolean("rescale_offset")? == Some(true) {
        read.mean = read.mean.map(|mean| mean + 1.0);
    }
    // EfficientNet's processor divides by the standard deviation a second time.
    if fields.boolean("include_top")?.unwrap_or(kind.starts_with("EfficientNet")) {
        read.std = read.std.map(|std| std * std);
    }
    Ok(())
}

/// A number for all channels, or one for each.
fn read_channels(fields: &Fields<'_>, key: &str, positive: bool) -> Result<Option<[f64; 3]>> {
    let expected = if positive { "a number above 0, or three" } else { "a number, or three" };
    let Some(values) = fields.numbers(key)? else { return Ok(None) };
    let channels = match values[..] {
        [value] => [value; 3],
        [first, second, third] => [first, second, third],
        _ => return Err(fields.error(key, expected, format!("{} numbers", values.len()))),
    };
    if positive && channels.iter().any(|&value| value <= 0.0) {
        return Err(fields.error(key, expected, format!("{channels:?}")));
    }
    Ok(Some(channels))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, defaults: &Preprocess) -> Result<Preprocess> {
        let path = Path::new("preprocessor_config.json");
        read(&Fields::new(path, &json::parse_object(path, text.as_bytes())?), defaults)
    }

    fn imagenet() -> Preprocess {
        Preprocess::imagenet(256, 224, ResampleFilter::Bilinear)
    }

    #[test]
    fn published_forms_are_read() {
        let square = Preprocess::square(224, Channels::Rgb, 1.0 / 128.0, [1.0; 3], [1.0; 3]);
        let imagenet = imagenet();
        let rest = "rgb, (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]";
        let table: [(&str, &Preprocess, String); 11] = [
            ("{}", &square, square.to_string()),
            // Height and width alone leave the architecture's square crop.
            (
                r#"{"size": {"height": 128, "width": 128}, "do_rescale": true, "rescale_factor": 0.0078125}"#,
                &square,
                "centre square, resized to 128x128 (bilinear), rgb, (x / 128 - 1) / 1".into(),
            ),
            (
                r#"{"size": {"shortest_edge": 256}, "do_center_crop": true, "resample": 2,
                    "crop_size": {"height": 224, "width": 224}, "image_processor_type": "MobileNetV2ImageProcessor"}"#,
                &square,
                "shorter side resized to 256 (bilinear), centre 224x224, rgb, (x / 128 - 1) / 1".into(),
            ),
            // ResNet and ConvNeXt of 2022.
            (
                r#"{"crop_pct": 0.875, "feature_extractor_type": "ConvNextFeatureExtractor", "resample": 3,
                    "size": 224}"#,
                &imagenet,
                format!("shorter side resized to 256 (bicubic), centre 224x224, {rest}"),
            ),
            (
                r#"{"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}}"#,
                &imagenet,
                format!("resized to 384x384 (bilinear), {rest}"),
            ),
            (
                r#"{"feature_extractor_type": "ViTFeatureExtractor", "size": 224, "resample": 2,
                    "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}"#,
                &imagenet,
                "resized to 224x224 (bilinear), rgb, (x / 255 - 0.5) / 0.5".into(),
            ),
            (
                r#"{"feature_extractor_type": "DeiTFeatureExtractor", "size": 256, "resample": 3,
                    "do_center_crop": true, "crop_size": 224}"#,
                &imagenet,
                format!("resized to 256x256 (bicubic), centre 224x224, {rest}"),
            ),
            (
                r#"{"image_processor_type": "EfficientNetImageProcessor", "size": {"height": 224, "width": 224},
                    "do_center_crop": false, "rescale_offset": false, "include_top": true, "resample": 0,
                    "image_std": [0.5, 0.25, 1.0]}"#,
                &imagenet,
                "resized to 224x224 (nearest), rgb, (x / 255 - [0.485, 0.456, 0.406]) / [0.25, 0.0625, 1]"
                    .into(),
            ),
            (
                r#"{"do_resize": false, "do_rescale": false, "do_normalize": false, "do_center_crop": false}"#,
                &imagenet,
                "not resized, rgb, (x - 0) / 1".into(),
            ),
            (
                r#"{"size": 256, "crop_size": 224, "do_center_crop": true, "do_flip_channel_order": true,
                    "image_mean": 0.0, "image_std": 1}"#,
                &imagenet,
                "shorter side resized to 256 (bilinear), centre 224x224, bgr, (x / 255 - 0) / 1".into(),
            ),
            (
                r#"{"resample": "box"}"#,
                &imagenet,
                format!("shorter side resized to 256 (box), centre 224x224, {rest}"),
            ),
        ];
        for (text, defaults, want) in table {
            assert_eq!(parse(text, defaults).unwrap().to_string(), want, "{text}");
        }
    }

    #[test]
    fn wrong_values_are_named() {
        let table = [
            (r#"{"size": "big"}"#, "`size`: expected an integer from 1 to 16384, got \"big\""),
            (r#"{"size": {"height": 3}}"#, "`size.width`: expected an integer"),
            (r#"{"size": {"shortest_edge": 0}}"#, "`size.shortest_edge`"),
            (r#"{"size": {"shortest_edge": 800, "longest_edge": 1333}}"#, "`size.longest_edge`"),
            (r#"{"do_center_crop": true, "crop_size": [224]}"#, "`crop_size`"),
            (r#"{"resample": 6}"#, "`resample`: expected a filter"),
            (r#"{"resample": "cubic"}"#, "`resample`: expected a filter"),
            (r#"{"image_std": [0.5, 0, 0.5]}"#, "`image_std`: expected a number above 0"),
            (r#"{"image_mean": [1, 2]}"#, "`image_mean`: expected a number, or three, got 2 numbers"),
            (r#"{"rescale_factor": 0}"#, "`rescale_factor`: expected a number above 0"),
            (r#"{"do_pad": true}"#, "`do_pad`"),
            (r#"{"do_resize": 1}"#, "`do_resize`: expected true or false"),
        ];
        for (text, want) in table {
            let got = parse(text, &imagenet()).unwrap_err().to_string();
            assert!(got.contains(want), "{text}: {got}");
        }
    }
}
