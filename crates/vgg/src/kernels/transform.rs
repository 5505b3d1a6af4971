//! The transforms of Winograd's minimal filtering F(4x4, 3x3).
//!
//! Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A for a kernel g (3x3), a patch of the input d (6x6) and a tile of the output
//! Y (4x4): 36 products instead of 144 (A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural
//! Networks", 2015). The interpolation points are 0, ±a, ±b and infinity with a = 1/√2 and b = √2, whose error
//! is half of that of the usual 0, ±1, ±2.
//!
//! For points p_j: Aᵀ[i][j] = p_j^i, G[j][i] = p_j^i / ∏_{l≠j}(p_j − p_l), and row j of Bᵀ holds the coefficients
//! of ∏_{l≠j}(x − p_l); the last row and column belong to infinity.

use std::f32::consts::{FRAC_1_SQRT_2 as A, SQRT_2 as B};

use super::lanes::Lanes;

/// Positions of a transformed tile.
pub(super) const POSITIONS: usize = 36;

/// Bᵀ d for six numbers.
///
/// # Safety
/// As [`Lanes`]; so for all functions here.
#[inline(always)]
pub(super) unsafe fn input<L: Lanes>(d: [L::V; 6]) -> [L::V; 6] {
    // SAFETY: promised by the caller.
    unsafe {
        let even_a = L::fma(L::splat(-2.0), d[2], d[4]);
        let odd_a = L::fma(L::splat(-B), d[1], L::mul(L::splat(A), d[3]));
        let even_b = L::fma(L::splat(-0.5), d[2], d[4]);
        let odd_b = L::fma(L::splat(-A), d[1], L::mul(L::splat(B), d[3]));
        let middle = L::splat(-2.5);
        [
            L::add(L::fma(middle, d[2], d[0]), d[4]),
            L::add(even_a, odd_a),
            L::sub(even_a, odd_a),
            L::add(even_b, odd_b),
            L::sub(even_b, odd_b),
            L::add(L::fma(middle, d[3], d[1]), d[5]),
        ]
    }
}

/// Aᵀ m for six numbers.
#[inline(always)]
pub(super) unsafe fn output<L: Lanes>(m: [L::V; 6]) -> [L::V; 4] {
    // SAFETY: promised by the caller.
    unsafe {
        let (sum_a, difference_a) = (L::add(m[1], m[2]), L::sub(m[1], m[2]));
        let (sum_b, difference_b) = (L::add(m[3], m[4]), L::sub(m[3], m[4]));
        let cube_a = L::mul(L::splat(A * A * A), difference_a);
        [
            L::add(L::add(m[0], sum_a), sum_b),
            L::fma(L::splat(B), difference_b, L::mul(L::splat(A), difference_a)),
            L::fma(L::splat(2.0), sum_b, L::mul(L::splat(0.5), sum_a)),
            L::add(L::fma(L::splat(B * B * B), difference_b, cube_a), m[5]),
        ]
    }
}

/// A y for four numbers: the transpose of [`output`], for the weight gradient.
#[inline(always)]
pub(super) unsafe fn output_gradient<L: Lanes>(y: [L::V; 4]) -> [L::V; 6] {
    // SAFETY: promised by the caller.
    unsafe {
        let even_a = L::fma(L::splat(0.5), y[2], y[0]);
        let odd_a = L::fma(L::splat(A * A * A), y[3], L::mul(L::splat(A), y[1]));
        let even_b = L::fma(L::splat(2.0), y[2], y[0]);
        let odd_b = L::fma(L::splat(B * B * B), y[3], L::mul(L::splat(B), y[1]));
        [
            y[0],
            L::add(even_a, odd_a),
            L::sub(even_a, odd_a),
            L::add(even_b, odd_b),
            L::sub(even_b, odd_b),
            y[3],
        ]
    }
}

/// 1 / ∏(p − p_l) at ±a and at ±b.
const N_A: f32 = -1.0 / 1.5;
const N_B: f32 = 1.0 / 6.0;

/// G g for three numbers.
#[inline(always)]
pub(super) unsafe fn kernel<L: Lanes>(g: [L::V; 3]) -> [L::V; 6] {
    // SAFETY: promised by the caller.
    unsafe {
        let even_a = L::mul(L::splat(N_A), L::fma(L::splat(0.5), g[2], g[0]));
        let odd_a = L::mul(L::splat(N_A * A), g[1]);
        let even_b = L::mul(L::splat(N_B), L::fma(L::splat(2.0), g[2], g[0]));
        let odd_b = L::mul(L::splat(N_B * B), g[1]);
        [
            g[0],
            L::add(even_a, odd_a),
            L::sub(even_a, odd_a),
            L::add(even_b, odd_b),
            L::sub(even_b, odd_b),
            g[2],
        ]
    }
}

/// Gᵀ u for six numbers: the transpose of [`kernel`], for the weight gradient.
#[inline(always)]
pub(super) unsafe fn kernel_gradient<L: Lanes>(u: [L::V; 6]) -> [L::V; 3] {
    // SAFETY: promised by the caller.
    unsafe {
        let sum_a = L::mul(L::splat(N_A), L::add(u[1], u[2]));
        let difference_a = L::sub(u[1], u[2]);
        let sum_b = L::mul(L::splat(N_B), L::add(u[3], u[4]));
        let difference_b = L::sub(u[3], u[4]);
        let odd_a = L::mul(L::splat(N_A * A), difference_a);
        [
            L::add(L::add(u[0], sum_a), sum_b),
            L::fma(L::splat(N_B * B), difference_b, odd_a),
            L::add(
                L::fma(L::splat(2.0), sum_b, L::mul(L::splat(0.5), sum_a)),
                u[5],
            ),
        ]
    }
}

/// A transform of `R` numbers to `S`, as a type: a closure would not be compiled for the instruction set.
pub(super) trait Line<const R: usize, const S: usize> {
    /// Applies it.
    ///
    /// # Safety
    /// As [`Lanes`].
    unsafe fn apply<L: Lanes>(x: [L::V; R]) -> [L::V; S];
}

macro_rules! line {
    ($(#[$doc:meta])* $name:ident, $function:ident, $r:literal, $s:literal) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl Line<$r, $s> for $name {
            #[inline(always)]
            unsafe fn apply<L: Lanes>(x: [L::V; $r]) -> [L::V; $s] {
                // SAFETY: promised by the caller.
                unsafe { $function::<L>(x) }
            }
        }
    };
}

line!(/// [`input`].
    Input, input, 6, 6);
line!(/// [`output`].
    Output, output, 6, 4);
line!(/// [`output_gradient`].
    OutputGradient, output_gradient, 4, 6);
line!(/// [`kernel`].
    Kernel, kernel, 3, 6);
line!(/// [`kernel_gradient`].
    KernelGradient, kernel_gradient, 6, 3);

/// Loads R x R vectors, `row` and `column` elements apart.
#[inline(always)]
pub(super) unsafe fn load<L: Lanes, const R: usize>(
    from: *const f32,
    row: usize,
    column: usize,
) -> [[L::V; R]; R] {
    // SAFETY: promised by the caller.
    unsafe {
        let mut x = [[L::splat(0.0); R]; R];
        for i in 0..R {
            for j in 0..R {
                x[i][j] = L::load(from.add(i * row + j * column));
            }
        }
        x
    }
}

/// Applies `T` to the columns and then to the rows of `x` (R x R): S x S.
#[inline(always)]
pub(super) unsafe fn both<L: Lanes, T: Line<R, S>, const R: usize, const S: usize>(
    x: [[L::V; R]; R],
) -> [[L::V; S]; S] {
    // SAFETY: promised by the caller.
    unsafe {
        let mut half = [[L::splat(0.0); R]; S];
        for j in 0..R {
            let mut line = [L::splat(0.0); R];
            for i in 0..R {
                line[i] = x[i][j];
            }
            let line = T::apply::<L>(line);
            for i in 0..S {
                half[i][j] = line[i];
            }
        }
        let mut whole = [[L::splat(0.0); S]; S];
        for i in 0..S {
            whole[i] = T::apply::<L>(half[i]);
        }
        whole
    }
}
