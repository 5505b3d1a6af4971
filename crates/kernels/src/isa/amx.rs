//! Matrix products with Intel AMX: `TDPBF16PS` multiplies bf16 and accumulates in f32, in tile
//! registers of 16 rows of 64 bytes.
//!
//! Each f32 is the sum of three bf16 terms ([`crate::isa::bf16x3`]), so a product of two f32 has
//! nine partial products. The microkernel computes the six largest. The omitted three add up to at
//! most 2⁻²¹ of the product, and to 2⁻²⁴·⁶ on average. This error of a product is always toward
//! zero, because the terms are truncated and not rounded. Subnormal terms, which occur for numbers
//! below 2⁻¹⁰³, count as 0. The five smaller partial products are accumulated first, so that as few
//! additions as possible round at the magnitude of the result. Six bf16 products take less than
//! half the time of one f32 product with AVX-512.
//!
//! The instructions are inline assembly, because the AMX intrinsics are unstable in Rust.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::bf16x3::{COLUMN_TILE_BYTES, ROW_TILE_BYTES};

/// Whether the CPU supports AMX-BF16 and the operating system permits this process to use it. The
/// first call requests the permission.
pub(crate) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| cpu_has_amx() && os_saves_tiles() && request_permission())
}

fn cpu_has_amx() -> bool {
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & (BF16 | TILE) == BF16 | TILE
}

/// Whether the operating system saves the tile registers on a context switch.
fn os_saves_tiles() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const TILES: u64 = 0b11 << 17;

    #[target_feature(enable = "xsave")]
    fn enabled() -> u64 {
        // SAFETY: `target_feature` guarantees XSAVE, and register 0 (XCR0) exists wherever XGETBV
        // does.
        unsafe { _xgetbv(0) }
    }
    // SAFETY: `enabled` is called only if `OSXSAVE` is set, so XGETBV is available.
    __cpuid(1).ecx & OSXSAVE != 0 && unsafe { enabled() } & TILES == TILES
}

/// Requests permission to use the tile registers, for all threads of the process. Returns whether
/// the system grants it. Only Linux is supported.
#[cfg(target_os = "linux")]
fn request_permission() -> bool {
    const SYS_ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;
    let result: i64;
    // SAFETY: this system call only changes which registers the process may use. It accesses no
    // memory of the process. The registers that `syscall` overwrites (rax, rcx and r11) are
    // declared.
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

/// The operand of `LDTILECFG`: the shapes of the tile registers.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_per_row: [u16; 16],
    rows: [u8; 16],
}

/// Configured tile registers: tmm0 to tmm7 of this thread have 16 rows of 64 bytes until the value
/// is dropped.
///
/// `PhantomData<*const ()>` makes the type neither `Send` nor `Sync`, because each thread has its
/// own configuration.
pub(crate) struct TileRegisters(PhantomData<*const ()>);

impl TileRegisters {
    /// Configures the tile registers of this thread.
    ///
    /// # Safety
    ///
    /// AMX must be [`available`], and this thread must have no other `TileRegisters`, because
    /// dropping one releases the registers of both.
    pub(crate) unsafe fn new() -> Self {
        let mut config = TileConfig {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            bytes_per_row: [0; 16],
            rows: [0; 16],
        };
        config.bytes_per_row[..8].fill(64);
        config.rows[..8].fill(16);
        // SAFETY: AMX is available (contract of this function). The operand is 64 bytes long and
        // describes shapes that palette 1 allows.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly)) };
        Self(PhantomData)
    }
}

impl Drop for TileRegisters {
    fn drop(&mut self) {
        // SAFETY: the contract of `new`, which created `self`, requires AMX.
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

/// Size in bytes of a packed block of the right matrix: 32 inner elements by 32 columns, three
/// terms.
const RIGHT_BLOCK: usize = 3 * COLUMN_TILE_BYTES;

/// Pointer to an instance of [`microkernel`].
pub(crate) type Microkernel =
    unsafe fn(&TileRegisters, *const u8, usize, *const u8, usize, *mut f32, *const u8);

/// Selects the microkernels for a right matrix that is read by `calls` microkernel calls.
///
/// Returns the microkernel for 32 rows, the microkernel for 16 rows, and their `PREFETCH_LINES`.
/// With that number, six calls (or all calls, if fewer) together prefetch at least a whole right
/// matrix of the same size.
pub(crate) fn microkernels(calls: usize) -> (Microkernel, Microkernel, usize) {
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

/// C = A·B for 32 rows (16 if `HALF`) and 32 columns.
///
/// `a` is `[inner / 32][term][row][32]` in bf16, with `term_stride` bytes between terms. `b` is
/// `[inner / 32][term][column / 16][16 pairs][16 columns][2]` in bf16. `c` is `[row][32]` in f32.
/// The terms are ordered high, middle, low. For each of the `blocks` blocks of the inner dimension,
/// the kernel prefetches 4·`PREFETCH_LINES` cache lines from `next` on into the L2 cache.
///
/// # Safety
///
/// `blocks` must be at least 1. `a` and `b` must be valid for reads of `blocks` blocks, and `c` for
/// writes of all rows. `next` may be any address.
pub(crate) unsafe fn microkernel<const HALF: bool, const PREFETCH_LINES: usize>(
    _tiles: &TileRegisters,
    a: *const u8,
    term_stride: usize,
    b: *const u8,
    blocks: usize,
    c: *mut f32,
    next: *const u8,
) {
    // `.rept` ... `.endr` repeats the lines between them, in the LLVM and GNU assemblers.
    //
    // tmm0 to tmm3 hold C, tmm4 and tmm5 hold rows of A, tmm6 and tmm7 hold columns of B.
    macro_rules! kernel {
        ($second:literal, $($row1:literal),*) => {
            asm!(
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "2:",
                // low(A) · high(B)
                "tileloadd tmm4, [{low} + {line}]",
                concat!($second, "tileloadd tmm5, [{low} + {line} + 1024]"),
                "tileloadd tmm6, [{b} + {line}]",
                "tileloadd tmm7, [{b} + {line} + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                $($row1,)*
                ".rept {lines}", "prefetcht1 [{next}]", "add {next}, 64", ".endr",
                // middle(A) · high(B)
                "tileloadd tmm4, [{middle} + {line}]",
                concat!($second, "tileloadd tmm5, [{middle} + {line} + 1024]"),
                "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                $($row1,)*
                ".rept {lines}", "prefetcht1 [{next}]", "add {next}, 64", ".endr",
                // middle(A) · middle(B)
                "tileloadd tmm6, [{b} + {line} + 2048]",
                "tileloadd tmm7, [{b} + {line} + 3072]",
                "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                $($row1,)*
                ".rept {lines}", "prefetcht1 [{next}]", "add {next}, 64", ".endr",
                // high(A) · middle(B)
                "tileloadd tmm4, [{a} + {line}]",
                concat!($second, "tileloadd tmm5, [{a} + {line} + 1024]"),
                "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                $($row1,)*
                ".rept {lines}", "prefetcht1 [{next}]", "add {next}, 64", ".endr",
                // high(A) · low(B)
                "tileloadd tmm6, [{b} + {line} + 4096]",
                "tileloadd tmm7, [{b} + {line} + 5120]",
                "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                $($row1,)*
                "add {a}, {step}", "add {middle}, {step}", "add {low}, {step}", "add {b}, 6144",
                "dec {count}",
                "jnz 2b",
                // Second pass over the inner dimension: high(A) · high(B)
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
                // Store C, whose row stride is 128 bytes.
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
    // SAFETY: the pointers are valid and `blocks` is not 0 (contract of this function). `_tiles`
    // shows that AMX is available and that the tile registers of this thread have the expected
    // shapes. All registers that the code changes are declared.
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
