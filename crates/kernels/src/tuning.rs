//! Block sizes and partitioning of the kernels.
//!
//! The sizes for the CPU follow from two assumptions that hold for most server CPUs: a core has
//! about 1 MiB of L2 cache for transformed tiles and their products, and the shared last-level
//! cache has tens of megabytes. The sizes affect speed, memory use and the rounding of weight
//! gradients.

use crate::layout::POSITIONS;

/// Size in bytes of one channel of a transformed tile, or of one transformed 3x3 filter.
const TILE_BYTES: usize = POSITIONS * 4;

/// Transformed f32 weights of up to this many bytes stay in the caches while a core iterates over
/// tiles, so each thread processes its own tiles. Larger weights are read only once per block of
/// tiles: all threads share the tiles, and each computes its own output channels.
const PRIVATE_WEIGHT_BYTES: usize = 4 << 20;

/// Target size in bytes of the transformed tiles and products of one thread's block.
const BLOCK_BYTES: usize = 1 << 20;

/// Target size in bytes of a block of transformed tiles shared by all threads.
const SHARED_BLOCK_BYTES: usize = 12 << 20;

/// Whether each thread computes all channels of its own tiles, instead of its own channels of all
/// tiles.
pub(crate) fn partition_by_tiles(c: usize, k: usize) -> bool {
    TILE_BYTES * c * k <= PRIVATE_WEIGHT_BYTES
}

/// Number of tiles in a block that one thread transforms, multiplies and transforms back: at least
/// `2 * rows` and a multiple of `rows`, the number of tiles per microkernel call.
pub(crate) fn private_block_tiles(c: usize, k: usize, rows: usize) -> usize {
    (BLOCK_BYTES / (TILE_BYTES * (c + k)) / rows).max(2) * rows
}

/// Number of tiles in a block that all threads transform together, out of `all` tiles. A multiple
/// of `rows` that makes the blocks nearly equal in size.
pub(crate) fn shared_block_tiles(c: usize, rows: usize, all: usize) -> usize {
    let max_tiles = SHARED_BLOCK_BYTES / (TILE_BYTES * c);
    let blocks = all.div_ceil(max_tiles.max(1));
    all.div_ceil(blocks).next_multiple_of(rows)
}

/// Whether each thread accumulates the weight gradient over its own tiles, instead of at its own
/// positions.
pub(crate) fn partition_gradient_by_tiles(c: usize, k: usize) -> bool {
    TILE_BYTES * c * k <= 3 << 20
}

/// Number of tiles in a block of the weight gradient, a multiple of 32 from 32 to 256. Each block
/// reads and writes the sums (c·k) once, and writes and reads the transformed tiles (tiles·(c + k))
/// once. The number balances the two within these limits.
pub(crate) fn gradient_block_tiles(c: usize, k: usize) -> usize {
    (c * k / (c + k)).clamp(32, 256).next_multiple_of(32)
}

/// Number of images in a group of the backward pass: as many as fit in 32 MiB with `image_len` f32
/// each, but at least one. The forward pass uses groups of this size for two layers if it does not
/// save the output of the first.
pub(crate) fn images_per_backward_group(image_len: usize) -> usize {
    ((32 << 20) / (4 * image_len)).max(1)
}

/// Maximum number of images that pass through a layer together if no graph is recorded and the
/// images have at most [`LARGE_IMAGE_PIXELS`].
pub(crate) const IMAGES_PER_GROUP: usize = 8;

/// Number of pixels above which images pass through a layer one at a time if no graph is recorded,
/// because the activations of a group would not fit in the caches.
pub(crate) const LARGE_IMAGE_PIXELS: usize = 32 * 32;

/// Whether the first layer of a stack can recompute its output in the backward pass instead of
/// saving it: it has no pool, and so few input channels that the computation is cheap.
pub(crate) fn should_recompute(c: usize, k: usize, pool: bool) -> bool {
    !pool && 4 * c <= k
}

/// Workspace limit of a convolution on a GPU, in bytes.
///
/// Without cuDNN, candle's `conv2d` unrolls the images into a matrix nine times their size
/// (im2col): 3.7 GB for 32 images in the second layer of VGG-16. A batch above this limit is
/// processed in groups of at least one image. With cuDNN, algorithms that need more workspace are
/// not selected.
pub(crate) const DEVICE_WORKSPACE: usize = 1 << 30;
