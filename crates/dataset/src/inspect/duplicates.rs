//! Images that occur more than once: the same file, the same pixels, or the same to the eye.
//!
//! Three passes, each joining what the one before has left apart. A group holds what is connected by pairs, so its
//! ends may be farther from each other than the threshold.

use std::collections::HashMap;

use rayon::prelude::*;

use super::fingerprint::Hashes;
use super::listing::{Listed, Listing};
use super::perceptual::{MOST_BITS, MOST_LEVELS};
use super::report::{DuplicateGroup, DuplicateKind, Member};

/// Rows of the triangle of all pairs that are compared before what was found is joined: bounds the memory.
const ROWS: usize = 256;

/// The groups of more than one image, each reported once, by what joins all of it.
pub(super) fn groups(listing: &Listing, images: &[(&Listed, Hashes)]) -> Vec<DuplicateGroup> {
    let mut sets = Sets::new(images.len());
    let mut groups = Vec::new();
    let mut known: HashMap<usize, usize> = HashMap::new();
    for kind in [
        DuplicateKind::File,
        DuplicateKind::Pixels,
        DuplicateKind::Near,
    ] {
        match kind {
            DuplicateKind::File => join_equal(&mut sets, images, |hashes| hashes.file),
            DuplicateKind::Pixels => join_equal(&mut sets, images, |hashes| hashes.pixels),
            DuplicateKind::Near => join_near(&mut sets, images),
        }
        // A set that has grown in this pass is a group of this kind, with the smaller ones inside it.
        for set in sets.members() {
            if known.insert(set[0], set.len()) != Some(set.len()) && set.len() > 1 {
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
                path: listing.shown(&image.path),
                split: listing.splits[image.split].clone(),
                class: listing.classes[image.class].clone(),
            })
            .collect(),
    }
}

/// Joins the images with the same `key`.
fn join_equal(sets: &mut Sets, images: &[(&Listed, Hashes)], key: impl Fn(&Hashes) -> [u8; 32]) {
    let mut first = HashMap::new();
    for (number, (_, hashes)) in images.iter().enumerate() {
        let twin = *first.entry(key(hashes)).or_insert(number);
        sets.join(twin, number);
    }
}

/// Joins the images that both measures find alike.
fn join_near(sets: &mut Sets, images: &[(&Listed, Hashes)]) {
    // One of each set is enough: the others have the same pixels.
    let chosen: Vec<usize> = sets.members().map(|set| set[0]).collect();
    let hashes: Vec<_> = chosen
        .iter()
        .map(|&number| &images[number].1.perceptual)
        .collect();
    for start in (0..chosen.len()).step_by(ROWS) {
        let rows = start..(start + ROWS).min(chosen.len());
        let alike: Vec<(usize, usize)> = rows
            .into_par_iter()
            .flat_map_iter(|a| {
                let hashes = &hashes;
                (a + 1..hashes.len())
                    .filter(move |&b| {
                        hashes[a].bits(hashes[b]) <= MOST_BITS
                            && hashes[a].levels(hashes[b]) <= MOST_LEVELS
                    })
                    .map(move |b| (a, b))
            })
            .collect();
        for (a, b) in alike {
            sets.join(chosen[a], chosen[b]);
        }
    }
}

/// Disjoint sets of numbers; the least member stands for its set.
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

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        self.parent[a.max(b)] = a.min(b);
    }

    /// The sets in the order of their least members, each sorted.
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
    fn sets_join_across_any_chain() {
        let mut sets = Sets::new(6);
        sets.join(4, 5);
        sets.join(5, 1);
        sets.join(3, 3);
        sets.join(2, 1);
        let members: Vec<_> = sets.members().collect();
        assert_eq!(members, [vec![0], vec![1, 2, 4, 5], vec![3]]);
    }
}
