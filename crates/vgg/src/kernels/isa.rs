//! Which instruction set the kernels run on: the best that the processor has, chosen once.
//!
//! `WAGGLE_KERNELS=amx|avx512|avx2|portable` asks for a lesser one, for tests and comparisons.

use std::sync::OnceLock;

use super::lanes::{Portable, Task};
#[cfg(target_arch = "x86_64")]
use super::{amx, avx2, avx512};

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Any processor.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
    /// The same with AMX for bf16, for the products.
    Amx,
}

impl Isa {
    /// What this processor has, the best last.
    pub fn available() -> Vec<Self> {
        #[cfg_attr(
            not(target_arch = "x86_64"),
            expect(unused_mut, reason = "there are no others yet")
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

    /// The best that the processor has, or a lesser one that `WAGGLE_KERNELS` names. Anything else there, also
    /// what the processor lacks, is ignored: a program must not fail for a wish about speed.
    pub fn selected() -> Self {
        static SELECTED: OnceLock<Isa> = OnceLock::new();
        *SELECTED.get_or_init(|| {
            let available = Self::available();
            let wish = std::env::var("WAGGLE_KERNELS").unwrap_or_default();
            let wished = available.iter().find(|isa| isa.name() == wish);
            let best = available.last().copied().unwrap_or(Self::Portable);
            wished.copied().unwrap_or(best)
        })
    }

    /// As `WAGGLE_KERNELS` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
        }
    }

    /// Runs a task on this instruction set.
    ///
    /// # Safety
    /// The isa must be one of [`Isa::available`], and the task's pointers valid for what it says.
    pub(super) unsafe fn run(self, task: impl Task) {
        // SAFETY: the caller promises both.
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
