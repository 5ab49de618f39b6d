//! Image files as they come: what is read, and what is refused with a reason.

use std::path::{Path, PathBuf};
use wginfer::vision::{Image, ImageLimits};
use wginfer::weights::{FileWeights, Weights};

fn images() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/images")
}

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(images().join(name)).unwrap()
}

/// Lossless files are read as the Python Imaging Library reads them; of JPEG files each decoder
/// rounds in its own way.
#[test]
fn all_kinds_of_files_are_read() {
    let goldens = FileWeights::open(&images().join("goldens.safetensors")).unwrap();
    let mut failures = Vec::new();
    let names: Vec<&str> = goldens.names().into_iter().filter(|name| name.contains('.')).collect();
    assert_eq!(names.len(), 28);
    for name in names {
        let golden = goldens.require(name).unwrap();
        let image = match Image::open(&images().join(name)) {
            Ok(image) => image,
            Err(error) => {
                failures.push(error.to_string());
                continue;
            }
        };
        let dims = [image.height() as usize, image.width() as usize, 3];
        if golden.spec.shape.dims() != dims {
            failures.push(format!("{name}: got {dims:?}, want {}", golden.spec));
            continue;
        }
        let worst = image.pixels().iter().zip(golden.bytes).map(|(got, want)| got.abs_diff(*want)).max();
        let allowed = if name.ends_with(".jpg") { 3 } else { 0 };
        if worst > Some(allowed) {
            failures.push(format!("{name}: differs by {worst:?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn bytes_in_memory_are_read() {
    let image = Image::decode(&sample("rgb.png")).unwrap();
    assert_eq!((image.width(), image.height(), image.pixels().len()), (24, 17, 24 * 17 * 3));
    assert_eq!(
        Image::decode(b"").unwrap_err().to_string(),
        "image: expected a PNG, JPEG or WebP image, got an empty file"
    );
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(data);
    let length = u32::try_from(data.len()).unwrap();
    [&length.to_be_bytes()[..], kind, data, &crc.sum().to_be_bytes()].concat()
}

/// A PNG file that claims this size and colour type, with this compressed data.
fn png(width: u32, height: u32, depth_and_colour: [u8; 2], data: &[u8]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &depth_and_colour, &[0, 0, 0]].concat();
    let parts = [chunk(b"IHDR", &header), chunk(b"IDAT", data), chunk(b"IEND", &[])];
    [&b"\x89PNG\r\n\x1a\n"[..], &parts.concat()].concat()
}

/// A JPEG file whose frame header claims another size.
fn jpeg_of_size(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = sample("baseline.jpg");
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

fn with_byte(mut bytes: Vec<u8>, place: usize, value: u8) -> Vec<u8> {
    bytes[place] = value;
    bytes
}

/// An image whose colour profile unpacks to 128 MiB.
fn profile_bomb() -> Vec<u8> {
    use std::io::Write;
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&vec![0; 128 << 20]).unwrap();
    let profile = [&b"p\0\0"[..], &packed.finish().unwrap()].concat();
    let whole = sample("rgb.png");
    // Behind the signature and the header.
    [&whole[..33], &chunk(b"iCCP", &profile), &whole[33..]].concat()
}

/// A profile that is over the limit is left unread; the pixels are not its fault.
#[test]
fn profile_bombs_are_not_unpacked() {
    assert_eq!(Image::decode(&profile_bomb()).unwrap(), Image::decode(&sample("rgb.png")).unwrap());
}

#[test]
fn broken_files_are_refused_with_reasons() {
    let cut = |name: &str, share: usize| {
        let bytes = sample(name);
        bytes[..bytes.len() * share / 100].to_vec()
    };
    let text = b"Once upon a time there was a photo.".to_vec();
    let riff = sample("lossy.webp")[..12].to_vec();
    let mut short_segment = sample("baseline.jpg");
    short_segment[4..6].copy_from_slice(&[0, 1]);
    let table: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("text.png", text, &["not an image", "PNG, JPEG or WebP"]),
        ("empty.jpg", Vec::new(), &["got an empty file"]),
        ("animation.gif", b"GIF89a\x01\0\x01\0\0\0\0".to_vec(), &["got Gif"]),
        ("picture.bmp", b"BM\0\0\0\0".to_vec(), &["got Bmp"]),
        ("half.png", cut("photo.png", 50), &["PNG is truncated"]),
        ("header.png", sample("photo.png")[..20].to_vec(), &["PNG"]),
        ("half.jpg", cut("baseline.jpg", 80), &["JPEG is truncated", "end-of-image"]),
        ("tables.jpg", cut("baseline.jpg", 20), &["JPEG is truncated"]),
        ("start.jpg", vec![0xff, 0xd8, 0xff], &["JPEG is truncated"]),
        ("segment.jpg", short_segment, &["JPEG is corrupt", "segment"]),
        ("half.webp", cut("lossy.webp", 60), &["WebP"]),
        ("riff.webp", riff, &["WebP"]),
        ("crc.png", with_byte(sample("photo.png"), 60, 0xaa), &["PNG cannot be decoded"]),
        ("data.png", png(5, 5, [8, 2], b"no zlib data"), &["PNG cannot be decoded"]),
        ("colour.png", png(5, 5, [8, 5], b""), &["PNG cannot be decoded"]),
        ("zero.png", png(0, 7, [8, 2], b""), &["PNG"]),
        ("zero.jpg", jpeg_of_size(0, 17), &["JPEG"]),
        ("bomb.png", png(60_000, 60_000, [16, 6], b""), &["60000x60000", "at most 65535", "100000000"]),
        ("side.png", png(100_000, 2, [1, 0], b""), &["100000x2", "at most 65535 pixels a side"]),
        ("bomb.jpg", jpeg_of_size(65_500, 65_500), &["65500x65500"]),
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    for (name, bytes, parts) in table {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        match Image::open(&path) {
            Ok(image) => failures.push(format!("{name}: was read as {image:?}")),
            Err(error) => {
                let message = error.to_string();
                let named = message.starts_with(&path.display().to_string());
                if !named || !parts.iter().all(|part| message.contains(part)) {
                    failures.push(format!("{name}: lacks {parts:?}: {message}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let missing = Image::open(&folder.path().join("nowhere.png")).unwrap_err().to_string();
    assert!(missing.contains("nowhere.png") && missing.contains("no such file"), "{missing}");
    let a_folder = Image::open(folder.path()).unwrap_err().to_string();
    assert!(a_folder.contains("got a folder"), "{a_folder}");
}

#[test]
fn limits_are_the_callers() {
    let path = images().join("photo.png");
    let limits = ImageLimits::default();
    let refused = |limits| Image::open_within(&path, limits).unwrap_err().to_string();
    assert!(refused(ImageLimits { side: 60, ..limits }).contains("61x47"));
    assert!(refused(ImageLimits { pixels: 2_866, ..limits }).contains("2866 in all"));
    assert!(refused(ImageLimits { file_bytes: 1_000, ..limits }).contains("at most 1000 bytes"));
    assert!(Image::open_within(&path, ImageLimits { side: 61, pixels: 2_867, ..limits }).is_ok());
}
