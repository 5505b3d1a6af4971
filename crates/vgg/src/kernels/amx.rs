//! AMX: products of matrices of bf16 with sums in f32, in registers of sixteen rows of 64 bytes.
//!
//! Each f32 is the sum of three bf16 ([`super::bf16x3`]). Of the nine products of two such sums the six larger ones
//! are computed. What is left out is at most 2⁻²¹ of a product and 2⁻²⁴·⁶ on average, always toward zero, since the
//! thirds are cut off and not rounded; thirds that are subnormal (of numbers below 2⁻¹⁰³) count as 0. The five smaller
//! products are added up first, so that as few additions as possible round at the size of the result. Six products of bf16 take less than half
//! the time of one of f32 on AVX-512.
//!
//! The instructions are written out, since their intrinsics are not stable in Rust.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::bf16x3::{COLUMN_TILE_BYTES, ROW_TILE_BYTES};

/// Whether the processor has AMX for bf16, and the system lets this process use it.
pub(super) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| cpu_has_amx() && os_saves_tiles() && request_permission())
}

fn cpu_has_amx() -> bool {
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & (BF16 | TILE) == BF16 | TILE
}

/// Whether the system keeps the tile registers when it switches threads.
fn os_saves_tiles() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const TILES: u64 = 0b11 << 17;

    #[target_feature(enable = "xsave")]
    fn enabled() -> u64 {
        // SAFETY: the caller saw that the system uses XSAVE.
        unsafe { _xgetbv(0) }
    }
    // SAFETY: `OSXSAVE` says that the instruction is there.
    __cpuid(1).ecx & OSXSAVE != 0 && unsafe { enabled() } & TILES == TILES
}

/// Asks Linux for the tile registers, once for all threads; other systems are not asked.
#[cfg(target_os = "linux")]
fn request_permission() -> bool {
    const SYS_ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;
    let result: i64;
    // SAFETY: this call changes nothing but which registers the process may use; `syscall` overwrites rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") SYS_ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn request_permission() -> bool {
    false
}

/// What shape the tile registers have: `ldtilecfg`'s operand.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_per_row: [u16; 16],
    rows: [u8; 16],
}

/// While it lives, the tile registers of this thread, and of no other, are sixteen rows of 64 bytes.
pub(super) struct TileRegisters(PhantomData<*const ()>);

impl TileRegisters {
    /// # Safety
    /// AMX must be [`available`].
    pub(super) unsafe fn new() -> Self {
        let mut config = TileConfig {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            bytes_per_row: [0; 16],
            rows: [0; 16],
        };
        config.bytes_per_row[..8].fill(64);
        config.rows[..8].fill(16);
        // SAFETY: promised by the caller; the operand is 64 bytes of valid shapes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly)) };
        Self(PhantomData)
    }
}

impl Drop for TileRegisters {
    fn drop(&mut self) {
        // SAFETY: there is AMX, or `new` had not been called.
        unsafe {
            asm!(
                "tilerelease",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, nomem),
            )
        };
    }
}

/// Bytes from one block of 32 of the inner dimension to the next in the right matrix.
const RIGHT_BLOCK: usize = 3 * COLUMN_TILE_BYTES;

/// [`microkernel`] with some of its constants.
pub(super) type Microkernel =
    unsafe fn(&TileRegisters, *const u8, usize, *const u8, usize, *mut f32, *const u8);

/// For products whose right matrix is read by `calls` of [`microkernel`], that for 32 rows, that for 16, and the `PREFETCH_LINES`
/// with which six of them, or all if they are fewer, ask for a matrix as large as it.
pub(super) fn microkernels(calls: usize) -> (Microkernel, Microkernel, usize) {
    macro_rules! with {
        ($lines:literal) => {
            (
                microkernel::<false, $lines>,
                microkernel::<true, $lines>,
                $lines,
            )
        };
    }
    const { assert!(RIGHT_BLOCK == 4 * 24 * 64) };
    match calls {
        0 | 1 => with!(24),
        2 => with!(12),
        3 => with!(8),
        4 => with!(6),
        5 => with!(5),
        _ => with!(4),
    }
}

/// C = A·B for 32 rows (or 16, if `HALF`) and 32 columns.
///
/// `a` is `[inner / 32][third][row][32]` with `term_stride` bytes from one third to the next, `b` is
/// `[inner / 32][third][column / 16][16 pairs][16 columns][2]`, `c` is `[row][32]` in f32. Meanwhile,
/// what lies at `next` is asked for in the second-level cache: 4·`PREFETCH_LINES` lines in each block.
///
/// # Safety
/// `_tiles` live on this thread; the pointers are valid for `blocks` blocks, and for all rows.
pub(super) unsafe fn microkernel<const HALF: bool, const PREFETCH_LINES: usize>(
    _tiles: &TileRegisters,
    a: *const u8,
    term_stride: usize,
    b: *const u8,
    blocks: usize,
    c: *mut f32,
    next: *const u8,
) {
    // `.rept` repeats what is between it and `.endr`, as LLVM's and GNU's assemblers have it.
    // tmm0 to tmm3 are C, tmm4 and tmm5 rows of A, tmm6 and tmm7 columns of B.
    macro_rules! kernel {
        ($second:literal, $($row1:literal),*) => {
            asm!(
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "2:",
                // Low · high.
                "tileloadd tmm4, [{low} + {line}]",
                concat!($second, "tileloadd tmm5, [{low} + {line} + 1024]"),
                "tileloadd tmm6, [{b} + {line}]",
                "tileloadd tmm7, [{b} + {line} + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                $($row1,)*
                ".rept {lines}", "prefetcht1 [{next}]", "add {next}, 64", ".endr",
                // Middle · high.
                "tileloadd tmm4, [{middle} + {line}]",
                concat!($second, "tileloadd tmm5, [{middle} + {line} + 1024]"),
                "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                $($row1,)*
                ".rept {lines}", "prefetcht1 [{next}]", "add {next}, 64", ".endr",
                // Middle · middle.
                "tileloadd tmm6, [{b} + {line} + 2048]",
                "tileloadd tmm7, [{b} + {line} + 3072]",
                "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                $($row1,)*
                ".rept {lines}", "prefetcht1 [{next}]", "add {next}, 64", ".endr",
                // High · middle.
                "tileloadd tmm4, [{a} + {line}]",
                concat!($second, "tileloadd tmm5, [{a} + {line} + 1024]"),
                "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                $($row1,)*
                ".rept {lines}", "prefetcht1 [{next}]", "add {next}, 64", ".endr",
                // High · low.
                "tileloadd tmm6, [{b} + {line} + 4096]",
                "tileloadd tmm7, [{b} + {line} + 5120]",
                "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                $($row1,)*
                "add {a}, {step}", "add {middle}, {step}", "add {low}, {step}", "add {b}, 6144",
                "dec {count}",
                "jnz 2b",
                // Back to the beginning, for high · high.
                "mov {count}, {blocks}",
                "imul {middle}, {blocks}, 6144",
                "sub {b}, {middle}",
                "mov {middle}, {step}",
                "imul {middle}, {blocks}",
                "sub {a}, {middle}",
                "3:",
                "tileloadd tmm4, [{a} + {line}]",
                concat!($second, "tileloadd tmm5, [{a} + {line} + 1024]"),
                "tileloadd tmm6, [{b} + {line}]",
                "tileloadd tmm7, [{b} + {line} + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                $($row1,)*
                "add {a}, {step}", "add {b}, 6144",
                "dec {count}",
                "jnz 3b",
                // Rows of C are 128 bytes apart.
                "lea {line}, [{line} + 64]",
                "tilestored [{c} + {line}], tmm0",
                "tilestored [{c} + {line} + 64], tmm1",
                concat!($second, "tilestored [{c} + {line} + 2048], tmm2"),
                concat!($second, "tilestored [{c} + {line} + 2112], tmm3"),
                a = inout(reg) a => _,
                middle = inout(reg) a.wrapping_add(term_stride) => _,
                low = inout(reg) a.wrapping_add(2 * term_stride) => _,
                b = inout(reg) b => _,
                next = inout(reg) next => _,
                count = inout(reg) blocks => _,
                blocks = in(reg) blocks,
                step = in(reg) 3 * term_stride,
                line = inout(reg) 64usize => _,
                lines = const PREFETCH_LINES,
                c = in(reg) c,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            )
        };
    }
    const { assert!(RIGHT_BLOCK == 6144 && ROW_TILE_BYTES == 1024) };
    // SAFETY: promised by the caller; tile registers belong to nobody but the kernels of this file.
    unsafe {
        if HALF {
            kernel!("# ",);
        } else {
            kernel!(
                "",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7"
            );
        }
    }
}
