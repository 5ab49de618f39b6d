//! Preprocessing on the GPU against the Python Imaging Library, byte by byte.

mod common;

use std::path::{Path, PathBuf};
use wginfer::gpu::Gpu;
use wginfer::graph::Graph;
use wginfer::kernel::{Caps, Form};
use wginfer::ops::ResampleFilter;
use wginfer::session::{NoWeights, Session};
use wginfer::tensor::{Spec, Tensor, Tolerance};
use wginfer::vision::{Channels, Image, Preprocess, Preprocessor, Resize, network_input};
use wginfer::weights::{FileWeights, Weights};

fn images() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/images")
}

/// Resized only, as RGB.
fn resized(size: [usize; 2], filter: ResampleFilter) -> Preprocess {
    let square = Preprocess::square(1, Channels::Rgb, 1.0, [0.0; 3], [1.0; 3]);
    Preprocess { square: false, resize: Resize::Exact(size), filter, ..square }
}

fn run(gpu: &Gpu, preprocess: &Preprocess, photo: &Image) -> Image {
    let mut preprocessor = Preprocessor::new(gpu, preprocess.clone(), None);
    preprocessor.run(photo, &|| false).unwrap().to_image().unwrap()
}

#[test]
fn every_filter_gives_the_same_bytes() {
    let Some(gpu) = common::gpu() else { return };
    let goldens = FileWeights::open(&images().join("goldens.safetensors")).unwrap();
    let photo = Image::open(&images().join("photo.png")).unwrap();
    let mut failures = Vec::new();
    let mut count = 0;
    for form in [Form::Software, Form::Subgroup, Form::Plain] {
        let gpu = gpu.with_caps(gpu.caps().clone().with_form(form));
        for filter in ResampleFilter::ALL {
            let prefix = format!("{} ", filter.name());
            for name in goldens.names().into_iter().filter(|name| name.starts_with(&prefix)) {
                let golden = goldens.require(name).unwrap();
                let &[height, width, 3] = golden.spec.shape.dims() else { panic!("{name}") };
                let got = run(&gpu, &resized([height, width], filter), &photo);
                let wrong = got.pixels().iter().zip(golden.bytes).filter(|(got, want)| got != want).count();
                if wrong > 0 || got.pixels().len() != golden.bytes.len() {
                    failures.push(format!("{form:?}: {name}: {wrong} bytes differ"));
                }
                count += 1;
            }
        }
    }
    assert_eq!(count, 3 * 6 * 8);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A photo that is larger than a binding is resized in parts of its rows, to the same bytes.
#[test]
fn large_photos_are_resized_in_parts() {
    let Some(gpu) = common::gpu() else { return };
    let photo = Image::open(&images().join("photo.png")).unwrap();
    let preprocess = resized([20, 31], ResampleFilter::Bicubic);
    let whole = run(gpu, &preprocess, &photo);
    let small = gpu.with_caps(Caps { max_binding_bytes: 6_000, ..gpu.caps().clone() });
    assert_eq!(run(&small, &preprocess, &photo), whole);
    let tiny = gpu.with_caps(Caps { max_binding_bytes: 100, ..gpu.caps().clone() });
    let error = Preprocessor::new(&tiny, preprocess, None).run(&photo, &|| false).unwrap_err();
    assert!(error.to_string().contains("61 pixels is over the device's binding limit"), "{error}");
}

#[test]
fn photos_of_many_sizes_share_a_preprocessor() {
    let Some(gpu) = common::gpu() else { return };
    let photo = Image::open(&images().join("photo.png")).unwrap();
    let mut preprocessor = Preprocessor::new(gpu, resized([9, 9], ResampleFilter::Bilinear), None);
    let mut first = Vec::new();
    for round in 0..2 {
        for height in 30..36 {
            let rows = photo.pixels()[..61 * 3 * height as usize].to_vec();
            let pixels = preprocessor.run(&Image::from_rgb(61, height, rows).unwrap(), &|| false).unwrap();
            if round == 0 {
                first.push(pixels);
            } else {
                assert_eq!(pixels, first[height as usize - 30]);
            }
        }
    }
}

/// Grey is made before resizing, in all three channels.
#[test]
fn grey_networks_get_brightness() {
    let Some(gpu) = common::gpu() else { return };
    let colours = vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 200, 100, 50];
    let photo = Image::from_rgb(2, 2, colours).unwrap();
    let preprocess = Preprocess { channels: Channels::Gray, ..resized([2, 2], ResampleFilter::Bilinear) };
    let want: Vec<u8> = [76, 150, 29, 124].into_iter().flat_map(|gray| [gray; 3]).collect();
    assert_eq!(run(gpu, &preprocess, &photo).pixels(), want);
}

/// The start of a network: channel order, scale, mean, standard deviation, axes.
#[test]
fn network_inputs_are_normalised_planes() {
    let Some(gpu) = common::gpu() else { return };
    let mut preprocess = Preprocess::imagenet(256, 224, ResampleFilter::Bilinear);
    preprocess.channels = Channels::Bgr;
    let mut graph = Graph::new();
    let input = network_input(&mut graph, &preprocess, 2, [3, 5]).unwrap();
    assert_eq!(*graph.spec(input), Spec::f32([2, 3, 3, 5]));
    graph.output("input", input);
    let mut session = Session::new(gpu, None);
    let plan = session.add(vec![graph], &NoWeights, &mut |_, _| {}).unwrap()[0];
    let bytes: Vec<u8> = (0..120).map(|i: u32| (i * 37 % 256) as u8).collect();
    let got = session.run(plan, &[("pixels", &bytes)], &["input"], &|| false).unwrap().remove(0);
    let mut want = vec![0.0; 90];
    for (i, want) in want.iter_mut().enumerate() {
        let (n, channel, place) = (i / 45, i / 15 % 3, i % 15);
        let byte = f64::from(bytes[(n * 15 + place) * 4 + 2 - channel]);
        *want = (byte / 255.0 - preprocess.mean[channel]) / preprocess.std[channel];
    }
    let want = Tensor::from_f64(wginfer::tensor::DType::F32, [2, 3, 3, 5], &want);
    assert_eq!(Tolerance::new(1e-6, 1e-6).mismatch(&got, &want), None);
}

/// The photos of ../shared in the form in which the reference networks saw them.
#[test]
fn shared_photos_equal_the_goldens_inputs() {
    let Some(shared) = common::shared() else { return };
    let Some(gpu) = common::gpu() else { return };
    let models = shared.join("models");
    let mut failures = Vec::new();
    for (model, side) in [("squeezenet1_1", 227), ("mobilenet_v2", 224), ("mobilenet_v1_025_128", 128)] {
        let golden = models.join(model).join("golden.npz");
        let inputs = common::npz_u8(&golden, "input_u8");
        let preprocess = Preprocess::square(side, Channels::Rgb, 1.0, [0.0; 3], [1.0; 3]);
        for (name, want) in common::npz_strings(&golden, "names").iter().zip(inputs.chunks(side * side * 3)) {
            let photo = Image::open(&models.join("photos").join(name)).unwrap();
            let got = run(gpu, &preprocess, &photo);
            let differences: Vec<u8> = got.pixels().iter().zip(want).map(|(a, b)| a.abs_diff(*b)).collect();
            let mean = differences.iter().map(|&it| f64::from(it)).sum::<f64>() / want.len() as f64;
            println!("{model} {name}: mean difference {mean:.4}, worst {:?}", differences.iter().max());
            // Decoders of JPEG round in their own ways.
            let allowed = if name.ends_with(".png") { 0.0 } else { 1.0 };
            if mean > allowed || got.pixels().len() != want.len() {
                failures.push(format!("{model} {name}: mean difference {mean}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
