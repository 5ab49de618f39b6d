//! `vision::Classifier` as applications use it: photos of all kinds and sizes, batches, threads,
//! cancelling.

mod common;

use std::path::{Path, PathBuf};
use wginfer::vision::{
    Classification, Classifier, ClassifyOptions, Image, ModelBuilder, Photo, PreprocessChanges, Resize,
};
use wginfer::{CancelToken, Error};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A small SqueezeNet with random weights, which takes images of any size.
fn model() -> String {
    root().join("tests/goldens/vision/squeezenet1_1").to_str().unwrap().to_owned()
}

/// Photos as they are, whatever their size is.
fn any_size(builder: ModelBuilder) -> ModelBuilder {
    let changes =
        PreprocessChanges { resize: Some(Resize::Keep), square: Some(false), ..PreprocessChanges::default() };
    builder.preprocess(changes)
}

fn image(width: u32, height: u32) -> Photo {
    let byte = |i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8;
    Photo::Image(Image::from_rgb(width, height, (0..width * height * 3).map(byte).collect()).unwrap())
}

fn classify(model: &Classifier, photos: &[Photo]) -> Vec<wginfer::Result<Classification>> {
    model.classify(photos, &ClassifyOptions::default()).unwrap()
}

/// The largest difference of logits, as a share of the largest logit.
fn difference(a: &Classification, b: &Classification) -> f32 {
    let largest = a.logits.iter().fold(0.0_f32, |most, logit| most.max(logit.abs()));
    let differences = a.logits.iter().zip(&b.logits).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max) / largest
}

#[test]
fn files_bytes_and_pixels_are_the_same_photo() {
    let Some(gpu) = common::gpu() else { return };
    let model = Classifier::builder().gpu(gpu).batch(4).classifier(&model()).unwrap();
    let path: PathBuf = root().join("tests/goldens/images/photo.png");
    let pixels = Image::open(&path).unwrap();
    let photos =
        [Photo::from(path.as_path()), Photo::Bytes(std::fs::read(&path).unwrap()), Photo::from(pixels)];
    let found: Vec<Classification> = classify(&model, &photos).into_iter().map(Result::unwrap).collect();
    assert_eq!(found[0].photo, [47, 61]);
    assert_eq!((found[0].logits.len(), found[0].top.len()), (model.classes(), 5.min(model.classes())));
    assert_eq!((&found[0], &found[0]), (&found[1], &found[2]));
    assert_eq!(model.classify_one(path).unwrap().top[0].index, found[0].top[0].index);
    assert!(model.labels().is_none() && found[0].top[0].label.is_none());
    assert_eq!(classify(&model, &[]).len(), 0);
}

/// More sizes than plans are kept for, several sizes in a batch, and one that is too small.
#[test]
fn photos_of_many_sizes_give_what_they_give_alone() {
    let Some(gpu) = common::gpu() else { return };
    let mut photos: Vec<Photo> = (0..20).map(|i| image(40 + i % 19, 50)).collect();
    photos.push(image(1, 1));
    let batched = any_size(Classifier::builder()).gpu(gpu).batch(7).classifier(&model()).unwrap();
    let alone = any_size(Classifier::builder()).gpu(gpu).classifier(&model()).unwrap();
    let first = classify(&batched, &photos);
    let again = classify(&batched, &photos);
    let single = classify(&alone, &photos);
    for (index, found) in first.iter().enumerate().take(20) {
        let found = found.as_ref().unwrap();
        assert_eq!(found.logits, again[index].as_ref().unwrap().logits);
        assert!(difference(found, single[index].as_ref().unwrap()) < 1e-5, "{index}");
    }
    for results in [&first, &again, &single] {
        let message = results[20].as_ref().unwrap_err().to_string();
        assert!(message.contains("window") || message.contains("conv"), "{message}");
    }
}

#[test]
fn clones_work_in_several_threads() {
    let Some(gpu) = common::gpu() else { return };
    let model = Classifier::builder().gpu(gpu).classifier(&model()).unwrap();
    let photos: Vec<Photo> = (0..3).map(|i| image(30 + i, 40)).collect();
    let wanted: Vec<_> = classify(&model, &photos).into_iter().map(Result::unwrap).collect();
    std::thread::scope(|scope| {
        for (photo, wanted) in photos.iter().zip(&wanted) {
            let model = model.clone();
            scope.spawn(move || assert_eq!(model.classify_one(photo.clone()).unwrap().logits, wanted.logits));
        }
    });
}

#[test]
fn work_is_cancelled_and_memory_bounded() {
    let Some(gpu) = common::gpu() else { return };
    let model_path = model();
    let model = Classifier::builder().gpu(gpu).classifier(&model_path).unwrap();
    let cancel = CancelToken::new();
    cancel.cancel();
    let options = ClassifyOptions { cancel, ..ClassifyOptions::default() };
    assert!(matches!(model.classify(&[image(20, 20)], &options), Err(Error::Cancelled)));
    assert!(model.classify_one(image(20, 20)).is_ok());
    let refused = Classifier::builder().gpu(gpu).memory_budget(1_000).classifier(&model_path);
    assert!(matches!(refused, Err(Error::Budget { .. })), "{refused:?}");
}
