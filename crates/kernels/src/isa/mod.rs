//! Selection of the instruction set: the fastest available one, detected once.
//!
//! `WAGGLE_KERNELS=amx|avx512|avx2|portable` selects another one, for tests and benchmarks.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "x86_64")]
pub(crate) mod bf16x3;
pub(crate) mod lanes;
pub(crate) mod portable;

use std::sync::OnceLock;

use lanes::Task;
use portable::Portable;

use crate::error::Error;

/// An instruction set that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isa {
    /// Any CPU.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL, and FMA.
    Avx512,
    /// AVX-512, and AMX with bf16 for the matrix products of convolutions. Linux only.
    Amx,
}

impl Isa {
    /// Returns the instruction sets that this CPU and operating system support, from slowest to
    /// fastest.
    pub fn available() -> Vec<Self> {
        #[cfg_attr(
            not(target_arch = "x86_64"),
            expect(
                unused_mut,
                reason = "other architectures have only the portable kernels"
            )
        )]
        let mut isas = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            let fma = is_x86_feature_detected!("fma");
            if fma && is_x86_feature_detected!("avx2") {
                isas.push(Self::Avx2);
            }
            if fma
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                isas.push(Self::Avx512);
                if amx::available() {
                    isas.push(Self::Amx);
                }
            }
        }
        isas
    }

    /// Returns the instruction set named by the environment variable `WAGGLE_KERNELS`, or the
    /// fastest available one if the variable is unset or empty. The first call determines the result
    /// of all calls.
    ///
    /// # Errors
    ///
    /// Returns [`Error::UnknownIsa`] if the variable is not the name of an available instruction set.
    pub fn selected() -> Result<Self, Error> {
        static SELECTED: OnceLock<Result<Isa, String>> = OnceLock::new();
        let selected = SELECTED.get_or_init(|| {
            let available = Self::available();
            match std::env::var_os("WAGGLE_KERNELS") {
                Some(name) if !name.is_empty() => {
                    let isa = available.into_iter().find(|isa| name == isa.name());
                    isa.ok_or_else(|| name.to_string_lossy().into_owned())
                }
                _ => Ok(available.last().copied().unwrap_or(Self::Portable)),
            }
        });
        selected.clone().map_err(|name| Error::UnknownIsa { name })
    }

    /// Name of the instruction set in `WAGGLE_KERNELS`, such as `avx2`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
        }
    }

    /// Runs a task with this instruction set enabled, or with AVX-512 for [`Isa::Amx`].
    ///
    /// # Safety
    ///
    /// `self` must be in [`Isa::available`]. The pointers of the task must satisfy the contract of
    /// [`Task::run`].
    pub(crate) unsafe fn run(self, task: impl Task) {
        // SAFETY: `self` is available, so the CPU supports the instruction set, and the pointers
        // satisfy the contract of `Task::run` (contract of this function).
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 | Self::Amx => avx512::run(task),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => avx2::run(task),
                _ => task.run::<Portable>(),
            }
        }
    }
}
