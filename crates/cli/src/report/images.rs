//! Chooses the images of the page, and reads them.

use std::collections::BTreeMap;
use std::path::Path;

use dataset::{DecodeOptions, path_text};

use super::heat_maps::HeatMaps;
use super::thumbnails::{Budget, read};
use super::{Cell, DoubtfulLabel, Image, Labels, Mistake};
use crate::config::Config;
use crate::label_issues::LabelIssues;

/// Most images in one cell of the confusion matrix.
const MAX_PER_CELL: usize = 24;
/// Most images in all cells.
const MAX_IN_CELLS: usize = 360;
/// Most wrong predictions with large images.
const MAX_MISTAKES: usize = 24;
/// Most heat maps. One takes up to two seconds on two cores for the full VGG-16.
const MAX_HEAT_MAPS: usize = 8;
/// Most images with suspected labels.
const MAX_LABELS: usize = 24;
/// Number of images with doubtful labels if none is suspected.
const MIN_LABELS: usize = 4;
/// Side length in pixels of the images in cells, and of large images. Never more than that of the
/// network's input.
const SIDES: [u32; 2] = [112, 224];

type Listed<'a> = (&'a Path, Image);

/// Chooses images for the cells of the confusion matrix from `images`, which begin with the highest
/// loss. Every cell gets its first image before a cell gets a second one, and cells of wrong
/// predictions come first.
pub fn choose_cells<'a>(images: &'a [Listed<'a>]) -> Vec<&'a Listed<'a>> {
    let mut counts: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    let mut ranked: Vec<(usize, &Listed<'_>)> = Vec::new();
    for listed in images {
        let (_, image) = listed;
        let rank = counts.entry((image.truth, image.predicted)).or_default();
        if *rank < MAX_PER_CELL {
            ranked.push((*rank, listed));
        }
        *rank += 1;
    }
    // The sort is stable: within a rank, the highest loss comes first.
    ranked.sort_by_key(|(rank, (_, image))| (image.truth == image.predicted, *rank));
    ranked.truncate(MAX_IN_CELLS);
    ranked.into_iter().map(|(_, listed)| listed).collect()
}

/// Reads the images that were chosen for the cells. The cells are in the order of the matrix.
pub fn show_cells(
    chosen: Vec<&Listed<'_>>,
    input_size: usize,
    decode: &DecodeOptions,
    budget: &mut Budget,
) -> Vec<Cell> {
    let mut cells: BTreeMap<(usize, usize), Vec<Image>> = BTreeMap::new();
    for image in with_thumbnails(&chosen, side(SIDES[0], input_size), decode, budget) {
        let cell = cells.entry((image.truth, image.predicted)).or_default();
        cell.push(image);
    }
    let cells = cells.into_iter();
    cells
        .map(|((truth, predicted), images)| Cell {
            truth,
            predicted,
            images,
        })
        .collect()
}

/// Reads the first of the wrong predictions, and draws heat maps for the first of these.
pub fn show_mistakes(
    wrong: &[&Listed<'_>],
    heat_maps: &HeatMaps<'_>,
    decode: &DecodeOptions,
    budget: &mut Budget,
) -> Vec<Mistake> {
    let first = &wrong[..wrong.len().min(MAX_MISTAKES)];
    let side = SIDES[1].min(heat_maps.input_size());
    let images = with_thumbnails(first, side, decode, budget).into_iter();
    let mut mistakes = Vec::new();
    for (index, (image, (path, _))) in images.zip(first).enumerate() {
        let drawn = (index < MAX_HEAT_MAPS).then(|| heat_maps.draw(path, image.predicted));
        mistakes.push(Mistake {
            heat_map: drawn.flatten().and_then(|drawn| budget.encode(&drawn)),
            image,
        });
    }
    mistakes
}

/// Reads the images with the most doubtful labels: the suspected ones, or a few if there are none.
pub fn show_labels(
    issues: LabelIssues,
    root: &Path,
    config: &Config,
    decode: &DecodeOptions,
    budget: &mut Budget,
) -> Labels {
    let suspected = issues.suspected;
    let shown = match suspected {
        0 => MIN_LABELS,
        _ => suspected.min(MAX_LABELS),
    };
    let images: Vec<_> = issues.images.into_iter().take(shown).collect();
    let paths = images
        .iter()
        .map(|image| root.join(path_text::decode(&image.path)));
    let paths: Vec<_> = paths.collect();
    let paths: Vec<&Path> = paths.iter().map(|path| path.as_path()).collect();
    let pixels = read(&paths, side(SIDES[1], config.network.input_size), decode);
    let images = images.into_iter().zip(pixels);
    let images = images.map(|(image, pixels)| DoubtfulLabel {
        path: image.path,
        label: image.label,
        suggested: image.suggested,
        self_confidence: image.self_confidence,
        thumbnail: pixels.and_then(|pixels| budget.encode(&pixels)),
    });
    Labels {
        suspected,
        images: images.collect(),
    }
}

fn with_thumbnails(
    listed: &[&Listed<'_>],
    side: u32,
    decode: &DecodeOptions,
    budget: &mut Budget,
) -> Vec<Image> {
    let paths: Vec<&Path> = listed.iter().map(|(path, _)| *path).collect();
    let pixels = read(&paths, side, decode).into_iter();
    let images = listed.iter().map(|(_, image)| image.clone());
    images
        .zip(pixels)
        .map(|(image, pixels)| Image {
            thumbnail: pixels.and_then(|pixels| budget.encode(&pixels)),
            ..image
        })
        .collect()
}

fn side(side: u32, input_size: usize) -> u32 {
    side.min(u32::try_from(input_size).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(truth: usize, predicted: usize, of_truth: f64) -> Listed<'static> {
        let image = Image {
            path: String::new(),
            truth,
            predicted,
            confidence: 0.9,
            of_truth,
            thumbnail: None,
        };
        (Path::new(""), image)
    }

    #[test]
    fn each_cell_of_mistakes_has_an_image_before_a_cell_has_two() {
        let mut images: Vec<_> = (0..30)
            .map(|number| image(0, 1, f64::from(number)))
            .collect();
        images.extend((0..500).map(|number| image(2, 2, f64::from(number))));
        images.push(image(1, 0, 1.0));
        let chosen = choose_cells(&images);
        let cells: Vec<_> = chosen.iter().map(|(_, i)| (i.truth, i.predicted)).collect();
        assert_eq!(&cells[..3], &[(0, 1), (1, 0), (0, 1)]);
        assert_eq!(
            cells.iter().filter(|cell| **cell == (0, 1)).count(),
            MAX_PER_CELL
        );
        assert_eq!(cells.len(), MAX_PER_CELL + 1 + MAX_PER_CELL);
        let many: Vec<_> = (0..5000)
            .map(|number| image(number % 70, number % 71, 0.5))
            .collect();
        assert_eq!(choose_cells(&many).len(), MAX_IN_CELLS);
    }
}
