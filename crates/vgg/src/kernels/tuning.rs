//! How the work is cut, in one place.
//!
//! All sizes follow from two assumptions about a core that hold for the processors of the last ten years: a
//! second-level cache of at least 1 MiB, of which about a megabyte may hold transformed tiles and their products,
//! and a shared last-level cache that holds tens of megabytes. They are bounds for speed, never for correctness.

use super::transform::POSITIONS;

/// Bytes of one number at all positions of a tile.
const TILE_BYTES: usize = POSITIONS * 4;

/// TransformedWeights weights below this stay in a core's cache while it walks over the tiles: each thread then works on
/// tiles of its own. Larger ones are read once by the threads together, each for channels of its own.
const PRIVATE_WEIGHT_BYTES: usize = 4 << 20;

/// TransformedWeights tiles and products of one block.
const BLOCK_BYTES: usize = 1 << 20;

/// TransformedWeights tiles that the threads share.
const SHARED_BLOCK_BYTES: usize = 12 << 20;

/// Whether each thread takes tiles of its own (with all channels) rather than channels of its own (of all tiles).
pub(super) fn partition_by_tiles(c: usize, k: usize) -> bool {
    TILE_BYTES * c * k <= PRIVATE_WEIGHT_BYTES
}

/// Tiles of a block that one thread transforms, multiplies and transforms back: a multiple of `rows`, the tiles
/// of a product's row.
pub(super) fn private_block_tiles(c: usize, k: usize, rows: usize) -> usize {
    (BLOCK_BYTES / (TILE_BYTES * (c + k)) / rows).max(2) * rows
}

/// Tiles of a block that the threads transform together, of `all`: blocks are of nearly one size, and whole rows.
pub(super) fn shared_block_tiles(c: usize, rows: usize, all: usize) -> usize {
    let most = SHARED_BLOCK_BYTES / (TILE_BYTES * c);
    let blocks = all.div_ceil(most.max(1));
    all.div_ceil(blocks).next_multiple_of(rows)
}

/// Whether each thread sums the weight gradient over tiles of its own, rather than at positions of its own.
pub(super) fn partition_gradient_by_tiles(c: usize, k: usize) -> bool {
    TILE_BYTES * c * k <= 3 << 20
}

/// Tiles of a block of the weight gradient. Per block the sums are read and written once and the tiles' transforms
/// written and read once: their traffic is least where both are of one size.
pub(super) fn gradient_block_tiles(c: usize, k: usize) -> usize {
    (c * k / (c + k)).clamp(32, 256).next_multiple_of(32)
}

/// Pictures whose gradients are masked at a time: at most 32 MiB of them, at least one picture.
pub(super) fn images_per_backward_group(image: usize) -> usize {
    ((32 << 20) / (4 * image)).max(1)
}

/// Pictures that go through the later layers together when there is no graph.
pub(super) const IMAGES_PER_GROUP: usize = 8;

/// Pictures of more pixels than this go through one at a time then: their activations would leave the caches.
pub(super) const LARGE_IMAGE_PIXELS: usize = 32 * 32;

/// Whether a layer of a run's beginning computes its output again in the backward pass rather than keep it: where
/// it has so few input channels that this is cheap.
pub(super) fn should_recompute(c: usize, k: usize, pool: bool) -> bool {
    !pool && 4 * c <= k
}
