//! Tests of `inspect` on data sets with and without known problems.

mod common;

use std::fs;
use std::path::Path;

use common::pattern;
use dataset::decode::Channels;
use dataset::inspect::{DuplicateKind, IgnoreReason, Report, Shape};
use dataset::{DecodeOptions, InspectOptions, inspect};
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};
use image::{DynamicImage, GrayImage, ImageBuffer, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use tempfile::TempDir;

/// Creates a data set with three train images and two val images per class, all different.
fn good() -> TempDir {
    let root = TempDir::new().unwrap();
    let mut seed = 0;
    for (split, count) in [("train", 3), ("val", 2)] {
        for class in ["ants", "bees"] {
            for number in 0..count {
                let path = root.path().join(format!("{split}/{class}/{number}.png"));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                seed += 1;
                scene(seed).save(path).unwrap();
            }
        }
    }
    root
}

/// Draws patches of 20 × 20 pixels in pseudorandom colors.
fn scene(seed: u32) -> RgbImage {
    let mut state = seed.wrapping_mul(2_654_435_769) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as u8
    };
    let patches: Vec<Rgb<u8>> = (0..30).map(|_| Rgb([next(), next(), next()])).collect();
    RgbImage::from_fn(120, 100, |x, y| patches[(x / 20 + y / 20 * 6) as usize])
}

fn jpeg(image: &RgbImage, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode_image(image)
        .unwrap();
    bytes
}

fn report_of(root: &Path) -> Report {
    inspect(root, &InspectOptions::default(), &|_, _| {}).unwrap()
}

#[test]
fn a_good_folder_has_no_findings() {
    let root = good();
    let report = report_of(root.path());
    assert!(!report.is_serious());
    assert_eq!(report.splits[0].images, 6);
    assert_eq!(report.splits[1].images, 4);
    assert_eq!(report.splits[1].classes[1].class, "bees");
    assert_eq!(report.splits[1].classes[1].images, 2);
    assert_eq!(report.imbalance, Some(1.0));
    assert_eq!(report.duplicates, []);
    assert_eq!(report.ignored, []);
    assert_eq!(report.odd_shapes, []);
    assert_eq!(report.odd_colors, []);
    assert_eq!(report.wrong_extension, []);
}

#[test]
fn reports_do_not_depend_on_the_number_of_workers() {
    let root = good();
    fs::copy(
        root.path().join("train/ants/0.png"),
        root.path().join("val/ants/9.png"),
    )
    .unwrap();
    let reports = [0, 1, 5].map(|workers| {
        let last = std::sync::atomic::AtomicUsize::new(0);
        let options = InspectOptions::default().workers(workers);
        let report = inspect(root.path(), &options, &|done, all| {
            assert!(done <= all);
            last.fetch_max(done, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(last.into_inner(), 11);
        serde_json::to_value(report.unwrap()).unwrap()
    });
    assert_eq!(reports[0], reports[1]);
    assert_eq!(reports[0], reports[2]);
}

#[test]
fn files_that_cannot_be_decoded_are_listed_with_the_reason() {
    let root = good();
    let at = |name: &str| root.path().join(name);
    fs::write(at("train/ants/text.jpg"), "no image").unwrap();
    fs::write(at("train/bees/empty.png"), "").unwrap();
    let whole = jpeg(&scene(99), 90);
    fs::write(at("val/bees/half.jpg"), &whole[..whole.len() / 2]).unwrap();
    let report = report_of(root.path());
    assert!(report.is_serious());
    let unusable: Vec<_> = report
        .unusable
        .iter()
        .map(|image| image.path.as_str())
        .collect();
    assert_eq!(
        unusable,
        [
            "train/ants/text.jpg",
            "train/bees/empty.png",
            "val/bees/half.jpg"
        ]
    );
    assert!(report.unusable[2].reason.contains("truncated"));
    assert!(
        report
            .unusable
            .iter()
            .all(|file| !file.reason.contains("text.jpg"))
    );
}

#[test]
fn wrong_extensions_are_reported() {
    let root = good();
    fs::rename(
        root.path().join("train/ants/0.png"),
        root.path().join("train/ants/0.jpg"),
    )
    .unwrap();
    let report = report_of(root.path());
    assert_eq!(report.wrong_extension.len(), 1);
    assert_eq!(report.wrong_extension[0].path, "train/ants/0.jpg");
    assert_eq!(report.wrong_extension[0].content, "png");
    assert!(
        !report.is_serious(),
        "a wrong extension must not be serious"
    );
}

#[test]
fn ignored_files_are_listed_with_the_reason() {
    let root = good();
    let at = |name: &str| root.path().join(name);
    let image = fs::read(at("train/ants/0.png")).unwrap();
    fs::write(at("train/ants/.hidden.png"), &image).unwrap();
    fs::write(at("train/ants/notes.txt"), "text").unwrap();
    fs::write(at("train/ants/photo"), &image).unwrap();
    fs::write(at("train/stray.png"), &image).unwrap();
    fs::write(at("stray.png"), &image).unwrap();
    fs::create_dir(at("test")).unwrap();
    let report = report_of(root.path());
    let ignored: Vec<_> = report
        .ignored
        .iter()
        .map(|file| (file.path.as_str(), file.reason, file.content))
        .collect();
    assert_eq!(
        ignored,
        [
            ("stray.png", IgnoreReason::OutsideSplits, Some("PNG image")),
            ("test", IgnoreReason::NotASplit, None),
            (
                "train/ants/.hidden.png",
                IgnoreReason::Hidden,
                Some("PNG image")
            ),
            (
                "train/ants/notes.txt",
                IgnoreReason::Extension,
                Some("text file")
            ),
            (
                "train/ants/photo",
                IgnoreReason::Extension,
                Some("PNG image")
            ),
            (
                "train/stray.png",
                IgnoreReason::OutsideClasses,
                Some("PNG image")
            ),
        ]
    );
}

#[test]
#[cfg(unix)]
fn links_to_parent_folders_are_reported() {
    let root = good();
    let ants = root.path().join("train/ants");
    std::os::unix::fs::symlink(&ants, ants.join("loop")).unwrap();
    let report = report_of(root.path());
    assert_eq!(report.splits[0].images, 6);
    assert_eq!(report.ignored.len(), 1);
    assert_eq!(report.ignored[0].reason, IgnoreReason::SymlinkLoop);
}

#[test]
fn unusual_shapes_and_color_types_are_reported() {
    let root = good();
    let at = |name: &str| root.path().join("train/ants").join(name);
    pattern(63, 200, 1).save(at("tiny.png")).unwrap();
    pattern(64, 256, 2).save(at("wide.png")).unwrap();
    pattern(64, 257, 3).save(at("narrow.png")).unwrap();
    let gray = GrayImage::from_fn(80, 80, |x, y| Luma([(x * 3 + y) as u8]));
    gray.save(at("gray.png")).unwrap();
    let alpha = RgbaImage::from_fn(80, 80, |x, y| Rgba([y as u8, x as u8, 90, 200]));
    alpha.save(at("alpha.png")).unwrap();
    let deep: ImageBuffer<Rgb<u16>, Vec<u16>> =
        ImageBuffer::from_fn(80, 80, |x, y| Rgb([(x * y * 9) as u16, 7, 60_000]));
    DynamicImage::ImageRgb16(deep).save(at("deep.png")).unwrap();
    let cmyk = fs::read_dir(common::golden("decode")).unwrap();
    let cmyk = cmyk
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains("cmyk"));

    let report = report_of(root.path());
    let shapes: Vec<_> = report
        .odd_shapes
        .iter()
        .map(|image| (image.path.as_str(), image.shape))
        .collect();
    assert_eq!(
        shapes,
        [
            ("train/ants/narrow.png", Shape::Narrow),
            ("train/ants/tiny.png", Shape::Tiny)
        ]
    );
    let colors: Vec<_> = report
        .odd_colors
        .iter()
        .map(|image| (image.path.as_str(), image.channels, image.bits))
        .collect();
    assert_eq!(
        colors,
        [
            ("train/ants/alpha.png", Channels::RgbAlpha, 8),
            ("train/ants/deep.png", Channels::Rgb, 16),
            ("train/ants/gray.png", Channels::Gray, 8),
        ]
    );
    if let Some(cmyk) = cmyk {
        let bytes = fs::read(&cmyk).unwrap();
        let decoded = dataset::decode::decode_with_info(
            &bytes,
            &cmyk,
            &Default::default(),
            RgbImage::new(0, 0),
        );
        assert_eq!(decoded.unwrap().1.channels, Channels::Cmyk);
    }
}

#[test]
fn equal_files_in_train_and_val_are_a_leak() {
    let root = good();
    fs::copy(
        root.path().join("train/ants/1.png"),
        root.path().join("val/ants/7.png"),
    )
    .unwrap();
    let report = report_of(root.path());
    assert!(report.is_serious());
    let [group] = &report.duplicates[..] else {
        panic!("{:?}", report.duplicates);
    };
    assert_eq!(
        (group.kind, group.leak, group.conflict),
        (DuplicateKind::File, true, false)
    );
    let paths: Vec<_> = group
        .images
        .iter()
        .map(|image| image.path.as_str())
        .collect();
    assert_eq!(paths, ["train/ants/1.png", "val/ants/7.png"]);
    assert_eq!((report.leaks().count(), report.conflicts().count()), (1, 0));
}

#[test]
fn equal_pixels_in_two_classes_are_a_conflict() {
    let root = good();
    // The same pixels in another format.
    let image = image::open(root.path().join("train/ants/1.png")).unwrap();
    image.save(root.path().join("train/bees/7.bmp")).unwrap();
    let report = report_of(root.path());
    let [group] = &report.duplicates[..] else {
        panic!("{:?}", report.duplicates);
    };
    assert_eq!(
        (group.kind, group.leak, group.conflict),
        (DuplicateKind::Pixels, false, true)
    );
    assert!(report.is_serious());
}

#[test]
fn near_duplicates_are_serious_only_across_classes_or_splits() {
    let root = good();
    let image = image::open(root.path().join("train/ants/1.png"))
        .unwrap()
        .into_rgb8();
    let scaled = resize(&image, 84, 70, FilterType::Lanczos3);
    fs::write(root.path().join("train/ants/8.jpg"), jpeg(&scaled, 60)).unwrap();
    let report = report_of(root.path());
    let [group] = &report.duplicates[..] else {
        panic!("{:?}", report.duplicates);
    };
    assert_eq!(
        (group.kind, group.leak, group.conflict),
        (DuplicateKind::Near, false, false)
    );
    assert!(
        !report.is_serious(),
        "a duplicate within a class must not be serious"
    );

    fs::rename(
        root.path().join("train/ants/8.jpg"),
        root.path().join("val/bees/8.jpg"),
    )
    .unwrap();
    let report = report_of(root.path());
    assert!(report.duplicates[0].leak && report.duplicates[0].conflict);
    assert!(report.is_serious());
}

#[test]
fn growing_groups_are_reported_for_each_kind() {
    let root = good();
    let original = root.path().join("train/ants/0.png");
    fs::copy(&original, root.path().join("train/ants/7.png")).unwrap();
    let image = image::open(&original).unwrap();
    image.save(root.path().join("train/ants/8.bmp")).unwrap();
    fs::write(
        root.path().join("train/ants/9.jpg"),
        jpeg(&image.into_rgb8(), 70),
    )
    .unwrap();
    let groups: Vec<_> = report_of(root.path())
        .duplicates
        .iter()
        .map(|group| (group.kind, group.images.len()))
        .collect();
    assert_eq!(
        groups,
        [
            (DuplicateKind::File, 2),
            (DuplicateKind::Pixels, 3),
            (DuplicateKind::Near, 4)
        ]
    );
}

#[test]
fn empty_and_unknown_classes_are_reported() {
    let root = good();
    fs::create_dir(root.path().join("train/wasps")).unwrap();
    fs::create_dir(root.path().join("val/beetles")).unwrap();
    scene(77)
        .save(root.path().join("val/beetles/0.png"))
        .unwrap();
    let report = report_of(root.path());
    assert_eq!(report.empty_classes, ["train/wasps"]);
    assert_eq!(report.unknown_classes, ["beetles"]);
    assert_eq!(report.classes_without_val, ["wasps"]);
    assert_eq!(report.imbalance, None);
    assert!(report.is_serious());
}

#[test]
fn imbalance_is_the_ratio_of_class_sizes() {
    let root = good();
    for number in 10..16 {
        let path = root.path().join(format!("train/bees/{number}.png"));
        scene(number).save(path).unwrap();
    }
    assert_eq!(report_of(root.path()).imbalance, Some(3.0));
}

#[test]
fn decoding_limits_apply() {
    let root = good();
    let options = InspectOptions::default().decode(DecodeOptions::default().max_pixels(100));
    let report = inspect(root.path(), &options, &|_, _| {}).unwrap();
    assert_eq!(report.unusable.len(), 10);
    assert!(report.unusable[0].reason.contains("limit of 100"));
}

#[test]
fn a_missing_folder_or_split_is_an_error() {
    let root = TempDir::new().unwrap();
    assert!(inspect(root.path(), &InspectOptions::default(), &|_, _| {}).is_err());
    assert!(
        inspect(
            root.path().join("nowhere"),
            &InspectOptions::default(),
            &|_, _| {}
        )
        .is_err()
    );
}
