//! The error type of the layers.

use candle_core::Shape;

use crate::isa::Isa;

/// Why a [`ConvLayer`](crate::ConvLayer) cannot be created or run.
///
/// Converts to [`candle_core::Error`], the error type of the operations, so `?` works in functions
/// that return [`candle_core::Result`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The shapes are not those of a 3x3 convolution with at least one input and one output
    /// channel.
    #[error("expected a non-empty weight (k, c, 3, 3) and a bias (k), got {weight:?} and {bias:?}")]
    Shape {
        /// Shape of the weight.
        weight: Shape,
        /// Shape of the bias.
        bias: Shape,
    },
    /// A tracked parameter is not contiguous, such as the transpose of a `Var`.
    #[error("the tracked {parameter} of a convolution is not contiguous")]
    NotContiguous {
        /// `weight` or `bias`.
        parameter: &'static str,
    },
    /// The CPU does not support the instruction set, or the operating system does not permit it.
    #[error("this CPU or operating system does not support {}", isa.name())]
    UnsupportedIsa {
        /// The requested instruction set.
        isa: Isa,
    },
    /// The environment variable `WAGGLE_KERNELS` is not the name of an available instruction set.
    #[error(
        "WAGGLE_KERNELS is `{name}`, but this CPU supports only {}",
        available()
    )]
    UnknownIsa {
        /// The value of the variable.
        name: String,
    },
    /// The operating system does not provide the memory for a buffer.
    #[error("out of memory: cannot allocate {bytes} bytes")]
    OutOfMemory {
        /// Size of the buffer in bytes.
        bytes: usize,
        /// The underlying I/O error.
        source: std::io::Error,
    },
    /// A tensor operation failed, or the `VarBuilder` has no matching tensor.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

fn available() -> String {
    let names: Vec<_> = Isa::available().into_iter().map(Isa::name).collect();
    names.join(", ")
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(error) => error,
            error => Self::wrap(error),
        }
    }
}
