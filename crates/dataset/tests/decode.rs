//! Tests of decoder behavior not covered by the golden files, such as orientation, JPEGs with
//! separate scans, damaged files, limits and buffer reuse.

mod common;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{crc32, golden, pattern};
use dataset::decode::decode_bytes;
use dataset::{DecodeOptions, Decoder, Error, Sample, decode, find_bad_images, verify};
use image::RgbImage;
use tempfile::TempDir;

fn options() -> DecodeOptions {
    DecodeOptions::default()
}

/// Returns the paths of the golden images, sorted.
fn images() -> Vec<PathBuf> {
    let mut paths = dataset::image_folder::image_paths(golden("decode")).unwrap();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

fn from_bytes(bytes: &[u8]) -> Result<RgbImage, Error> {
    decode_bytes(bytes, Path::new("test"), &options(), RgbImage::default())
}

/// Encodes a JPEG with an EXIF orientation.
fn jpeg_with_orientation(image: &RgbImage, orientation: u8) -> Vec<u8> {
    let mut plain = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut plain, 95);
    image.write_with_encoder(encoder).unwrap();
    [&plain[..2], &exif_segment(orientation), &plain[2..]].concat()
}

/// Returns an APP1 segment with an EXIF orientation.
fn exif_segment(orientation: u8) -> Vec<u8> {
    // A TIFF header and a directory with one entry: tag 0x0112, a 16-bit integer.
    let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    [&[0xFF, 0xE1], &length[..], &exif].concat()
}

#[test]
fn orientations_are_applied_unless_disabled() {
    // The four quadrants differ, so each orientation gives a different image.
    let stored = RgbImage::from_fn(48, 32, |x, y| {
        image::Rgb([
            if x < 24 { 30 } else { 220 },
            if y < 16 { 40 } else { 200 },
            90,
        ])
    });
    let corner = |image: &RgbImage, right: bool, bottom: bool| {
        let x = if right { image.width() - 5 } else { 4 };
        let y = if bottom { image.height() - 5 } else { 4 };
        let [r, g, _] = image.get_pixel(x, y).0;
        (r > 128, g > 128)
    };
    // For each EXIF orientation, the stored corners displayed at the top left and the top right. A
    // corner is (is right, is bottom).
    let corners = [
        (1, (false, false), (true, false)),
        (2, (true, false), (false, false)),
        (3, (true, true), (false, true)),
        (4, (false, true), (true, true)),
        (5, (false, false), (false, true)),
        (6, (false, true), (false, false)),
        (7, (true, true), (true, false)),
        (8, (true, false), (true, true)),
    ];
    for (orientation, top_left, top_right) in corners {
        let bytes = jpeg_with_orientation(&stored, orientation);
        let upright = from_bytes(&bytes).unwrap();
        let size = if orientation < 5 { (48, 32) } else { (32, 48) };
        assert_eq!(upright.dimensions(), size, "{orientation}");
        assert_eq!(corner(&upright, false, false), top_left, "{orientation}");
        assert_eq!(corner(&upright, true, false), top_right, "{orientation}");
        let raw = options().ignore_exif(true);
        let raw = decode_bytes(&bytes, Path::new("test"), &raw, RgbImage::default()).unwrap();
        assert_eq!(
            (raw.dimensions(), corner(&raw, false, false)),
            ((48, 32), (false, false)),
            "{orientation}"
        );
    }
    let invalid = from_bytes(&jpeg_with_orientation(&stored, 77)).unwrap();
    assert_eq!(invalid.dimensions(), (48, 32));
}

#[test]
fn the_format_is_detected_from_the_content() {
    let folder = TempDir::new().unwrap();
    for path in images() {
        let renamed = folder.path().join("image.bmp");
        fs::copy(&path, &renamed).unwrap();
        assert_eq!(
            decode(&renamed, &options()).unwrap(),
            decode(&path, &options()).unwrap(),
            "{}",
            path.display()
        );
    }
}

/// Returns the path of a file in `tests/jpeg`.
fn jpeg_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/jpeg")
        .join(name)
}

/// Returns the paths of the JPEGs in `tests/jpeg` that have a PNG with Pillow's pixels, and these
/// pixels.
///
/// `tests/jpeg/generate.py` writes both files.
fn jpeg_cases() -> Vec<(PathBuf, RgbImage)> {
    let mut cases: Vec<_> = dataset::image_folder::image_paths(jpeg_file(""))
        .unwrap()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "png"))
        .map(|path| {
            let pillow = image::open(&path).unwrap().into_rgb8();
            (path.with_extension("jpg"), pillow)
        })
        .collect();
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(cases.len() > 20);
    cases
}

#[test]
fn jpegs_with_unusual_sampling_or_scans_decode_as_in_pillow() {
    for (path, pillow) in jpeg_cases() {
        let decoded =
            decode(&path, &options()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (mean, max) = common::difference(&decoded, &pillow);
        assert!(
            mean <= 0.6 && max <= 4,
            "{}: mean {mean}, max {max}",
            path.display()
        );
    }
}

#[test]
fn orientation_of_jpegs_with_separate_scans_is_applied() {
    let path = jpeg_file("420_each.jpg");
    let plain = fs::read(&path).unwrap();
    let exif = exif_segment(6);
    let rotated = from_bytes(&[&plain[..2], &exif, &plain[2..]].concat()).unwrap();
    let upright = decode(&path, &options()).unwrap();
    assert_eq!(rotated, image::imageops::rotate90(&upright));
}

#[test]
fn jpegs_with_three_resolutions_in_separate_scans_are_errors() {
    let error = decode(jpeg_file("three_resolutions_each.jpg"), &options()).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

#[test]
fn jpegs_with_missing_or_repeated_scans_are_errors() {
    let bytes = fs::read(jpeg_file("444_each.jpg")).unwrap();
    let scans: Vec<usize> = bytes
        .windows(4)
        .enumerate()
        .filter(|(_, window)| window[..3] == [0xFF, 0xDA, 0])
        .map(|(position, _)| position)
        .collect();
    assert_eq!(scans.len(), 3);
    let end = bytes.len() - 2;
    let missing = [&bytes[..scans[2]], &bytes[end..]].concat();
    let error = from_bytes(&missing).unwrap_err().to_string();
    assert!(error.contains("channel of the JPEG has no scan"), "{error}");
    // Decoding each scan takes time, so a small file with thousands of scans must not be decoded.
    let repeated = [&bytes[..end], &bytes[scans[2]..]].concat();
    let error = from_bytes(&repeated).unwrap_err().to_string();
    assert!(
        error.contains("channel of the JPEG has two scans"),
        "{error}"
    );
}

#[test]
fn jpegs_with_separate_scans_respect_the_memory_limit() {
    let path = jpeg_file("444_each.jpg");
    // Three components of 48 × 40 samples, at 3 bytes per sample, and 43 × 37 pixels.
    let needed = 48 * 40 * 3 * 3 + 43 * 37 * 3;
    let limit = |max_bytes| options().max_bytes(max_bytes);
    assert!(decode(&path, &limit(needed)).is_ok());
    assert!(matches!(
        decode(&path, &limit(needed - 1)),
        Err(Error::TooMuchMemory { .. })
    ));
}

#[test]
fn truncated_files_are_errors() {
    for path in images() {
        let bytes = fs::read(&path).unwrap();
        for percent in [0, 1, 10, 50, 75, 90] {
            let result = from_bytes(&bytes[..bytes.len() * percent / 100]);
            assert!(result.is_err(), "{} cut to {percent} %", path.display());
        }
    }
    let jpeg = fs::read(golden("decode/rgb.jpg")).unwrap();
    // zune-jpeg decodes these truncated files without an error and fills the missing part with
    // gray.
    for lost in 1..60 {
        assert!(
            matches!(
                from_bytes(&jpeg[..jpeg.len() - lost]),
                Err(Error::Truncated { .. })
            ),
            "{lost} bytes lost"
        );
    }
    assert!(from_bytes(&[&jpeg[..], b"trailing data"].concat()).is_ok());
}

#[test]
fn damaged_files_do_not_crash() {
    let mut state = 1u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let jpegs = jpeg_cases().into_iter().map(|(path, _)| path);
    for path in images().into_iter().chain(jpegs) {
        let bytes = fs::read(&path).unwrap();
        for _ in 0..60 {
            let mut damaged = bytes.clone();
            for _ in 0..1 + random() % 8 {
                let index = random() % damaged.len();
                damaged[index] = random() as u8;
            }
            let small = options().max_pixels(1 << 20);
            // `verify` converts panics of decoders into errors.
            let folder = TempDir::new().unwrap();
            let file = folder.path().join("x");
            fs::write(&file, &damaged).unwrap();
            let _ = verify(
                &[Sample {
                    path: file,
                    label: 0,
                }],
                &small,
                0,
            );
        }
    }
}

#[test]
fn the_reason_for_a_damaged_jpeg_is_one_line() {
    let jpeg = jpeg_with_orientation(&pattern(30, 20, 1), 1);
    // The decoder reads the second marker as a segment.
    let damaged = [&b"\xff\xd8"[..], &jpeg].concat();
    let reason = from_bytes(&damaged).unwrap_err().reason();
    assert_eq!(reason, "invalid JPEG data: a segment is truncated");
}

#[test]
fn images_above_the_pixel_limit_are_errors() {
    let limit = options().max_pixels(48 * 40 - 1);
    for path in images() {
        let (w, h) = decode(&path, &options()).unwrap().dimensions();
        let exact = options().max_pixels((w * h) as usize);
        assert!(decode(&path, &exact).is_ok(), "{}", path.display());
        // A limit of one pixel allows little memory, but the error is about the pixels.
        for pixels in [(w * h) as usize - 1, 1] {
            let below = limit.clone().max_pixels(pixels);
            assert!(
                matches!(decode(&path, &below), Err(Error::TooManyPixels { .. })),
                "{}",
                path.display()
            );
        }
    }
    // A PNG header that declares 60,000 × 60,000 pixels.
    let mut bomb = fs::read(golden("decode/rgb.png")).unwrap();
    bomb[16..20].copy_from_slice(&60_000u32.to_be_bytes());
    bomb[20..24].copy_from_slice(&60_000u32.to_be_bytes());
    assert!(from_bytes(&bomb).is_err());
}

#[test]
fn images_above_the_memory_limit_are_errors() {
    for path in images() {
        let (w, h) = decode(&path, &options()).unwrap().dimensions();
        // Decoding the golden images takes between 3 and 24 bytes per pixel.
        let limit = |bytes| options().max_bytes(bytes);
        let length = fs::metadata(&path).unwrap().len();
        let pixels = u64::from(w) * u64::from(h);
        if length < 3 * pixels - 1 {
            assert!(
                matches!(
                    decode(&path, &limit(3 * pixels - 1)),
                    Err(Error::TooMuchMemory { .. } | Error::Decode { .. })
                ),
                "{}",
                path.display()
            );
        }
        assert!(
            decode(&path, &limit(24 * pixels + 65_536)).is_ok(),
            "{}",
            path.display()
        );
        assert!(matches!(
            decode(&path, &limit(length - 1)),
            Err(Error::FileTooLarge { .. })
        ));
    }
    // 12,000 × 12,000 pixels of four 16-bit channels are below the pixel limit but need 1.5 GiB.
    let deep = image::DynamicImage::new_rgba16(4, 4);
    let mut bomb = Vec::new();
    deep.write_to(
        &mut std::io::Cursor::new(&mut bomb),
        image::ImageFormat::Png,
    )
    .unwrap();
    let side = 12_000u32.to_be_bytes();
    bomb[16..20].copy_from_slice(&side);
    bomb[20..24].copy_from_slice(&side);
    let crc = crc32(&bomb[12..29]).to_be_bytes();
    bomb[29..33].copy_from_slice(&crc);
    let error = from_bytes(&bomb).unwrap_err();
    assert!(matches!(error, Error::TooMuchMemory { .. }), "{error}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_small_png_with_a_huge_color_profile_takes_little_memory() {
    let png = |profile: &[u8]| {
        let mut file = Vec::new();
        let pattern = pattern(9, 7, 1);
        pattern
            .write_to(
                &mut std::io::Cursor::new(&mut file),
                image::ImageFormat::Png,
            )
            .unwrap();
        let mut chunk = b"iCCPname\0\0".to_vec();
        chunk.extend_from_slice(profile);
        let length = (chunk.len() as u32 - 4).to_be_bytes();
        let crc = crc32(&chunk).to_be_bytes();
        let chunk = [&length[..], &chunk, &crc].concat();
        file.splice(33..33, chunk);
        file
    };
    // 500 MiB of zeros.
    let mut profile = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..500 {
        profile.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let file = png(&profile.finish().unwrap());
    let before = peak_memory();
    assert_eq!(from_bytes(&file).unwrap(), pattern(9, 7, 1));
    let used = peak_memory() - before;
    assert!(used < 300 << 20, "{used}");
}

/// The largest memory of this process so far, in bytes.
#[cfg(target_os = "linux")]
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() << 10
}

#[test]
#[cfg(unix)]
fn devices_are_not_read() {
    // Reading this device never ends.
    let error = decode(Path::new("/dev/zero"), &options()).unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
}

#[test]
#[cfg(unix)]
fn a_file_that_is_replaced_by_a_pipe_does_not_block_decoding() {
    let folder = TempDir::new().unwrap();
    let [file, pipe, image, link] =
        ["file", "pipe", "image.png", "link"].map(|name| folder.path().join(name));
    fs::write(&file, b"text").unwrap();
    let status = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(status.unwrap().success());
    let replace = move |target: &Path, image: &Path| {
        std::os::unix::fs::symlink(target, &link).unwrap();
        fs::rename(&link, image).unwrap();
    };
    replace(&file, &image);
    let (done, is_done) = std::sync::mpsc::channel();
    let decoded = image.clone();
    std::thread::spawn(move || {
        let mut outcomes = [0; 2];
        while outcomes.iter().any(|&count| count < 2000) {
            let error = decode(&decoded, &options()).unwrap_err();
            outcomes[usize::from(error.reason() == "not a regular file")] += 1;
        }
        done.send(()).unwrap();
    });
    let deadline = Instant::now() + Duration::from_secs(60);
    while is_done.try_recv().is_err() {
        replace(&pipe, &image);
        replace(&file, &image);
        assert!(Instant::now() < deadline, "opening the pipe blocks");
    }
}

#[test]
fn results_do_not_depend_on_earlier_images() {
    let mut decoder = Decoder::new(options());
    let mut last = RgbImage::from_pixel(300, 200, image::Rgb([99; 3]));
    for path in images() {
        let expected = decode(&path, &options()).unwrap();
        last = decoder.decode(&path, last).unwrap();
        assert_eq!(last, expected, "{}", path.display());
    }
}

#[test]
fn sixteen_bit_channels_keep_their_high_byte() {
    let folder = TempDir::new().unwrap();
    let (gray, alpha, rgb, rgba) = ("l.png", "la.png", "rgb.png", "rgba.png");
    let at = |name: &str| folder.path().join(name);
    let value = |x: u32, y: u32, c: u32| (x * 1733 + y * 7919 + c * 257) as u16;
    image::ImageBuffer::from_fn(20, 20, |x, y| image::Luma([value(x, y, 0)]))
        .save(at(gray))
        .unwrap();
    image::ImageBuffer::from_fn(20, 20, |x, y| image::LumaA([value(x, y, 0), 7]))
        .save(at(alpha))
        .unwrap();
    image::ImageBuffer::from_fn(20, 20, |x, y| image::Rgb([0, 1, 2].map(|c| value(x, y, c))))
        .save(at(rgb))
        .unwrap();
    image::ImageBuffer::from_fn(20, 20, |x, y| {
        image::Rgba([0, 1, 2, 3].map(|c| value(x, y, c)))
    })
    .save(at(rgba))
    .unwrap();
    for (name, channels) in [
        (gray, [0, 0, 0]),
        (alpha, [0, 0, 0]),
        (rgb, [0, 1, 2]),
        (rgba, [0, 1, 2]),
    ] {
        let decoded = decode(at(name), &options()).unwrap();
        for (x, y, pixel) in decoded.enumerate_pixels() {
            assert_eq!(
                pixel.0,
                channels.map(|c| (value(x, y, c) >> 8) as u8),
                "{name}"
            );
        }
    }
}

#[test]
fn verify_lists_all_bad_images_in_order() {
    let folder = TempDir::new().unwrap();
    let mut samples = Vec::new();
    for index in 0..12u32 {
        let path = folder.path().join(format!("{index:02}.jpg"));
        pattern(30, 20, index).save(&path).unwrap();
        samples.push(Sample { path, label: 0 });
    }
    for workers in [0, 1, 4] {
        verify(&samples, &options(), workers).unwrap();
    }
    fs::write(&samples[9].path, b"text").unwrap();
    let jpeg = fs::read(&samples[2].path).unwrap();
    fs::write(&samples[2].path, &jpeg[..jpeg.len() / 2]).unwrap();
    fs::remove_file(&samples[5].path).unwrap();
    fs::write(&samples[11].path, b"").unwrap();
    for workers in [0, 1, 4] {
        let error = verify(&samples, &options(), workers).unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("cannot decode 4 of 12 images\n"),
            "{message}"
        );
        let Error::BadImages { errors, .. } = error else {
            panic!("{error:?}")
        };
        assert!(
            matches!(
                &errors[..],
                [
                    Error::Truncated { .. },
                    Error::Io { .. },
                    Error::NotAnImage { .. },
                    Error::NotAnImage { .. }
                ]
            ),
            "{errors:?}"
        );
        let positions: Vec<_> = ["02.jpg", "05.jpg", "09.jpg", "11.jpg"]
            .map(|name| message.find(name).unwrap())
            .into();
        assert!(positions.is_sorted(), "{message}");
        let bad = find_bad_images(&samples, &options(), workers).unwrap();
        let indices: Vec<_> = bad.iter().map(|(index, _)| *index).collect();
        assert_eq!(indices, [2, 5, 9, 11]);
    }
}
