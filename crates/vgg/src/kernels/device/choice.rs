//! Which of cuDNN's algorithms computes a convolution.
//!
//! cuDNN names them with the one first that it expects to be the fastest. Some add up with atomic operations, in
//! another order each time (NVIDIA's documentation, "Reproducibility": `CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0` and
//! `_3`), and some want gigabytes beside the tensors. Neither is taken. Nothing is timed and nothing depends on how
//! much memory is free, so that the choice is the same in every run.

/// What cuDNN says about one of its algorithms, for one convolution.
pub(super) struct Candidate<A> {
    pub(super) algorithm: A,
    /// Whether it gives the same bits each time.
    pub(super) deterministic: bool,
    /// How many bytes it needs beside the tensors; nothing if it cannot compute this convolution.
    pub(super) workspace: Option<usize>,
}

/// The first that gives the same bits each time and needs at most `limit` bytes, and how many it needs.
pub(super) fn first_that_fits<A>(
    candidates: impl IntoIterator<Item = Candidate<A>>,
    limit: usize,
) -> Option<(A, usize)> {
    candidates.into_iter().find_map(|candidate| {
        let bytes = candidate.workspace.filter(|&bytes| bytes <= limit)?;
        candidate
            .deterministic
            .then_some((candidate.algorithm, bytes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(algorithm: u8, deterministic: bool, workspace: Option<usize>) -> Candidate<u8> {
        Candidate {
            algorithm,
            deterministic,
            workspace,
        }
    }

    #[test]
    fn the_fastest_of_those_that_repeat_themselves_and_fit_is_taken() {
        let all = || {
            [
                candidate(0, false, Some(0)),
                candidate(1, true, None),
                candidate(2, true, Some(101)),
                candidate(3, true, Some(100)),
                candidate(4, true, Some(0)),
            ]
        };
        assert_eq!(first_that_fits(all(), 100), Some((3, 100)));
        assert_eq!(first_that_fits(all(), 101), Some((2, 101)));
        assert_eq!(first_that_fits(all(), 99), Some((4, 0)));
        let [random, unable, ..] = all();
        assert_eq!(first_that_fits([random, unable], usize::MAX), None);
    }
}
