//! Selects a cuDNN convolution algorithm.
//!
//! The cuDNN heuristics rank the algorithms by expected speed, fastest first. Three kinds are
//! rejected: unsupported algorithms, algorithms whose workspace exceeds a limit, and algorithms
//! that accumulate with atomic operations, in a different order each time (cuDNN documentation,
//! "Reproducibility": `CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0` and `_3`). Nothing is timed, and
//! nothing depends on the amount of free memory, so every run with the same GPU and cuDNN version
//! selects the same algorithm.

/// A cuDNN algorithm for one convolution, with its properties.
pub(super) struct Candidate<A> {
    pub(super) algorithm: A,
    /// Whether repeated runs give bit-identical results.
    pub(super) deterministic: bool,
    /// Workspace size in bytes. `None` if the algorithm does not support the convolution.
    pub(super) workspace: Option<usize>,
}

/// Returns the first deterministic algorithm with a workspace of at most `limit` bytes, and the
/// size of its workspace. `None` if there is none.
pub(super) fn first_deterministic<A>(
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
    fn selects_the_first_deterministic_algorithm_within_the_workspace_limit() {
        let ranked = || {
            [
                candidate(0, false, Some(0)),
                candidate(1, true, None),
                candidate(2, true, Some(101)),
                candidate(3, true, Some(100)),
                candidate(4, true, Some(0)),
            ]
        };
        assert_eq!(first_deterministic(ranked(), 100), Some((3, 100)));
        assert_eq!(first_deterministic(ranked(), 101), Some((2, 101)));
        assert_eq!(first_deterministic(ranked(), 99), Some((4, 0)));
        let [nondeterministic, unsupported, ..] = ranked();
        assert_eq!(
            first_deterministic([nondeterministic, unsupported], usize::MAX),
            None
        );
    }
}
