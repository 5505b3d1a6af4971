//! Finds groups of duplicate images: equal files, equal pixels or similar appearance.
//!
//! Three passes with increasingly loose criteria merge images into groups. Similarity is not
//! transitive: two images of a group may differ by more than the thresholds if other images connect
//! them.

use std::collections::HashMap;

use rayon::prelude::*;

use super::fingerprint::Hashes;
use super::listing::{Listed, Listing};
use super::perceptual::{MAX_BITS, MAX_LEVELS};
use super::report::{DuplicateGroup, DuplicateKind, Member};

/// Number of images compared with all later ones before the matches are merged. This bounds the
/// memory for matches.
const BLOCK: usize = 256;

/// Returns the groups of at least two images, each with the strictest criterion that connects all
/// its images.
pub(super) fn groups(listing: &Listing, images: &[(&Listed, Hashes)]) -> Vec<DuplicateGroup> {
    let mut sets = Sets::new(images.len());
    let mut groups = Vec::new();
    let mut sizes: HashMap<usize, usize> = HashMap::new();
    for kind in [
        DuplicateKind::File,
        DuplicateKind::Pixels,
        DuplicateKind::Near,
    ] {
        match kind {
            DuplicateKind::File => merge_equal(&mut sets, images, |hashes| hashes.file),
            DuplicateKind::Pixels => merge_equal(&mut sets, images, |hashes| hashes.pixels),
            DuplicateKind::Near => merge_near(&mut sets, images),
        }
        // A set that grew in this pass is a new group. It may contain groups found in earlier
        // passes.
        for set in sets.members() {
            if sizes.insert(set[0], set.len()) != Some(set.len()) && set.len() > 1 {
                groups.push(group(listing, images, &set, kind));
            }
        }
    }
    groups
}

fn group(
    listing: &Listing,
    images: &[(&Listed, Hashes)],
    set: &[usize],
    kind: DuplicateKind,
) -> DuplicateGroup {
    let listed = || set.iter().map(|&image| images[image].0);
    let first = images[set[0]].0;
    DuplicateGroup {
        kind,
        leak: listed().any(|image| image.split != first.split),
        conflict: listed().any(|image| image.class != first.class),
        images: listed()
            .map(|image| Member {
                path: listing.relative(&image.path),
                split: listing.splits[image.split].clone(),
                class: listing.classes[image.class].clone(),
            })
            .collect(),
    }
}

/// Merges images with equal keys.
fn merge_equal(sets: &mut Sets, images: &[(&Listed, Hashes)], key: impl Fn(&Hashes) -> [u8; 32]) {
    let mut first_by_key = HashMap::new();
    for (number, (_, hashes)) in images.iter().enumerate() {
        let first = *first_by_key.entry(key(hashes)).or_insert(number);
        sets.merge(first, number);
    }
}

/// Merges images whose hashes and thumbnails are both similar.
fn merge_near(sets: &mut Sets, images: &[(&Listed, Hashes)]) {
    // One image per set is enough, because the others have the same pixels.
    let representatives: Vec<usize> = sets.members().map(|set| set[0]).collect();
    let hashes: Vec<_> = representatives
        .iter()
        .map(|&number| &images[number].1.perceptual)
        .collect();
    for start in (0..representatives.len()).step_by(BLOCK) {
        let rows = start..(start + BLOCK).min(representatives.len());
        let matches: Vec<(usize, usize)> = rows
            .into_par_iter()
            .flat_map_iter(|a| {
                let hashes = &hashes;
                (a + 1..hashes.len())
                    .filter(move |&b| {
                        hashes[a].hamming_distance(hashes[b]) <= MAX_BITS
                            && hashes[a].mean_difference(hashes[b]) <= MAX_LEVELS
                    })
                    .map(move |b| (a, b))
            })
            .collect();
        for (a, b) in matches {
            sets.merge(representatives[a], representatives[b]);
        }
    }
}

/// Disjoint-set forest over indices. The smallest member represents its set.
struct Sets {
    parent: Vec<usize>,
}

impl Sets {
    fn new(count: usize) -> Self {
        Self {
            parent: (0..count).collect(),
        }
    }

    fn find(&mut self, mut number: usize) -> usize {
        while self.parent[number] != number {
            self.parent[number] = self.parent[self.parent[number]];
            number = self.parent[number];
        }
        number
    }

    fn merge(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        self.parent[a.max(b)] = a.min(b);
    }

    /// Returns the sets, sorted by their smallest members. Each set is sorted.
    fn members(&mut self) -> impl Iterator<Item = Vec<usize>> + use<> {
        let mut sets = vec![Vec::new(); self.parent.len()];
        for number in 0..self.parent.len() {
            sets[self.find(number)].push(number);
        }
        sets.into_iter().filter(|set| !set.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_merge_transitively() {
        let mut sets = Sets::new(6);
        sets.merge(4, 5);
        sets.merge(5, 1);
        sets.merge(3, 3);
        sets.merge(2, 1);
        let members: Vec<_> = sets.members().collect();
        assert_eq!(members, [vec![0], vec![1, 2, 4, 5], vec![3]]);
    }
}
