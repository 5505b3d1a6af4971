//! Fills a report with the findings about classes and single images.

use std::collections::BTreeMap;
use std::path::Path;

use super::listing::Listing;
use super::perceptual::{MAX_BITS, MAX_LEVELS};
use super::report::{
    ClassCount, OddColor, OddShape, Report, Shape, SplitCounts, Thresholds, WrongExtension,
    format_name,
};
use crate::decode::{Channels, ImageInfo};
use crate::layout::format_of;
use crate::path_text;

/// Images whose shorter side has fewer pixels than this are tiny. Resizing them to an input size of
/// 224 pixels enlarges them at least 3.5 times.
const TINY: u32 = 64;
/// Images whose longer side exceeds this multiple of the shorter side are narrow. The center crop
/// for validation covers less than a fifth of their area.
const NARROW: u32 = 4;
/// Images with more pixels than this are huge. Decoding one takes about a second, and the network's
/// input is much smaller.
const HUGE: u64 = 50_000_000;
/// Training splits whose largest class exceeds this multiple of the smallest are unbalanced.
const BALANCE: f64 = 3.0;

impl Report {
    pub(super) fn new(root: &Path, listing: &Listing) -> Self {
        let mut counts = [0, 1].map(|_| vec![0; listing.classes.len()]);
        for image in &listing.images {
            counts[image.split][image.class] += 1;
        }
        let splits = [0, 1].map(|split: usize| SplitCounts {
            name: listing.splits[split].clone(),
            images: counts[split].iter().sum(),
            classes: listing
                .classes
                .iter()
                .zip(&counts[split])
                .map(|(class, &images)| ClassCount {
                    class: class.clone(),
                    images,
                })
                .collect(),
            unused: listing.unused[split].clone(),
        });
        let train: Vec<usize> = listing.present[0]
            .iter()
            .map(|&class| counts[0][class])
            .collect();
        let smallest = train.iter().copied().min().filter(|&size| size > 0);
        let largest = train.iter().copied().max();
        let mut empty_classes = Vec::new();
        for split in [0, 1] {
            let empty = listing.present[split].iter();
            let empty = empty.filter(|&&class| counts[split][class] == 0);
            let name = &listing.splits[split];
            empty_classes.extend(empty.map(|&class| format!("{name}/{}", listing.classes[class])));
        }
        let only_in = |split: usize| {
            let classes = listing.present[split].iter();
            classes
                .filter(|class| !listing.present[1 - split].contains(class))
                .map(|&class| listing.classes[class].clone())
                .collect()
        };
        Self {
            root: path_text::encode(root),
            splits,
            empty_classes,
            unknown_classes: only_in(1),
            classes_without_val: only_in(0),
            similar_classes: similar(&listing.classes),
            mostly_unused: listing.mostly_unused.clone(),
            imbalance: largest
                .zip(smallest)
                .map(|(largest, smallest)| largest as f64 / smallest as f64),
            unusable: Vec::new(),
            wrong_extension: Vec::new(),
            ignored: listing.ignored.clone(),
            odd_shapes: Vec::new(),
            odd_colors: Vec::new(),
            duplicates: Vec::new(),
            thresholds: Thresholds {
                tiny: TINY,
                narrow: NARROW,
                huge: HUGE,
                balance: BALANCE,
                near_bits: MAX_BITS,
                near_levels: MAX_LEVELS,
            },
        }
    }

    /// Adds the findings about an image that can be decoded.
    pub(super) fn add(&mut self, relative: &str, path: &Path, info: &ImageInfo) {
        let path_of = || relative.to_owned();
        if format_of(path) != Some(info.format) {
            self.wrong_extension.push(WrongExtension {
                path: path_of(),
                content: format_name(info.format),
            });
        }
        let (width, height) = (info.width, info.height);
        let (short, long) = (width.min(height), width.max(height));
        let shape = if short < TINY {
            Some(Shape::Tiny)
        } else if u64::from(long) > u64::from(NARROW) * u64::from(short) {
            Some(Shape::Narrow)
        } else if u64::from(width) * u64::from(height) > HUGE {
            Some(Shape::Huge)
        } else {
            None
        };
        self.odd_shapes.extend(shape.map(|shape| OddShape {
            path: path_of(),
            width,
            height,
            shape,
        }));
        if (info.channels, info.bits) != (Channels::Rgb, 8) {
            self.odd_colors.push(OddColor {
                path: path_of(),
                channels: info.channels,
                bits: info.bits,
            });
        }
    }
}

/// Returns the groups of classes whose names differ only in case.
fn similar(classes: &[String]) -> Vec<Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for class in classes {
        let group = groups.entry(class.to_lowercase()).or_default();
        group.push(class.clone());
    }
    groups
        .into_values()
        .filter(|group| group.len() > 1)
        .collect()
}
