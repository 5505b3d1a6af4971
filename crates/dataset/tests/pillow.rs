//! Compares resizing with Pillow 13.0. Also tests center crops, invalid plans and reused buffers.
//!
//! `pillow/resize.safetensors` contains noise (`N.from`) and the output of `Image.resize(size,
//! BILINEAR)` on it (`N.to`). The sizes cover both orders of Pillow's passes.

mod common;

use std::path::Path;

use common::{difference, image, tensors};
use dataset::transform::{Plan, Region, Resampler, apply};
use image::imageops::flip_horizontal;

#[test]
fn resize_equals_pillow_in_both_orders_of_passes() {
    let values =
        tensors(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pillow/resize.safetensors"));
    let mut cases = 0;
    for name in values.keys().filter_map(|name| name.strip_suffix(".from")) {
        let from = image(&values[&format!("{name}.from")]);
        let to = image(&values[&format!("{name}.to")]);
        let (width, height) = from.dimensions();
        let region = Region {
            top: 0,
            left: 0,
            height,
            width,
        };
        let actual = apply(&from, &Plan::resized_crop(region, to.width(), false)).unwrap();
        assert_eq!(
            actual,
            to,
            "{width} × {height}: {:?}",
            difference(&actual, &to)
        );
        let flipped = apply(&from, &Plan::resized_crop(region, to.width(), true)).unwrap();
        assert_eq!(flipped, flip_horizontal(&to), "{width} × {height}, flipped");
        cases += 1;
    }
    assert!(cases > 10);
}

/// Compares each pixel of a center crop with a plan that keeps only this pixel, with and without
/// padding.
#[test]
fn center_crop_equals_crops_of_single_pixels() {
    for (width, height) in [(50, 37), (37, 50), (64, 200), (200, 64), (9, 11), (40, 40)] {
        let from = common::pattern(width, height, 1);
        for (resize, size) in [(40, 32), (32, 32), (20, 32), (21, 32), (30, 33)] {
            let plan = Plan::center_crop(width, height, resize, size);
            let actual = apply(&from, &plan).unwrap();
            // Pixels outside the window are padding, which is black.
            for y in 0..size {
                for x in 0..size {
                    let inside = (plan.offset.0..plan.offset.0 + plan.window.width).contains(&x)
                        && (plan.offset.1..plan.offset.1 + plan.window.height).contains(&y);
                    let expected = if inside {
                        let pixel = Region {
                            left: plan.window.left + x - plan.offset.0,
                            top: plan.window.top + y - plan.offset.1,
                            width: 1,
                            height: 1,
                        };
                        let single = Plan {
                            window: pixel,
                            offset: (0, 0),
                            size: 1,
                            ..plan
                        };
                        *apply(&from, &single).unwrap().get_pixel(0, 0)
                    } else {
                        image::Rgb([0; 3])
                    };
                    assert_eq!(
                        actual.get_pixel(x, y),
                        &expected,
                        "{width} × {height} to {resize}, {size}: {x}, {y}"
                    );
                }
            }
            let flipped = apply(&from, &Plan { flip: true, ..plan }).unwrap();
            assert_eq!(
                flipped,
                flip_horizontal(&actual),
                "{width} × {height} to {resize}, {size}, flipped"
            );
        }
    }
}

#[test]
fn a_plan_that_exceeds_the_image_is_an_error() {
    let from = common::pattern(30, 20, 1);
    let region = |left, top, width, height| Region {
        top,
        left,
        height,
        width,
    };
    for region in [
        region(0, 0, 31, 20),
        region(1, 0, 30, 20),
        region(0, 1, 30, 20),
        region(0, 0, 0, 5),
        region(u32::MAX, 0, 1, 1),
    ] {
        let error = apply(&from, &Plan::resized_crop(region, 8, false)).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("does not fit an image of 30 × 20 pixels"),
            "{error}"
        );
    }
    let outside = Plan {
        offset: (1, 0),
        ..Plan::resized_crop(region(0, 0, 30, 20), 8, false)
    };
    assert!(apply(&from, &outside).is_err());
}

#[test]
fn results_do_not_depend_on_earlier_images() {
    let mut resampler = Resampler::default();
    let (large, small) = (common::pattern(90, 70, 1), common::pattern(20, 33, 2));
    let whole = Region {
        top: 0,
        left: 0,
        height: 70,
        width: 90,
    };
    // Consecutive plans differ in padding, flip or size, so that bytes left in a reused buffer
    // would change a result.
    let padded = Plan::center_crop(20, 33, 20, 48);
    assert!(padded.window.width < 48, "the plan has no padding");
    for (image, plan) in [
        (&large, Plan::resized_crop(whole, 48, false)),
        (&small, padded),
        (&large, Plan::resized_crop(whole, 48, true)),
        (
            &small,
            Plan {
                flip: true,
                ..padded
            },
        ),
        (&large, Plan::resized_crop(whole, 16, false)),
        (&large, Plan::center_crop(90, 70, 40, 32)),
    ] {
        let actual = resampler.apply(image, &plan).unwrap();
        assert_eq!(*actual, apply(image, &plan).unwrap(), "{plan:?}");
    }
}
