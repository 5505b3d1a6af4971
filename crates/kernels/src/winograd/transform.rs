//! Input, filter and output transforms of Winograd convolution F(4x4, 3x3).
//!
//! Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A for a filter g (3x3), an input patch d (6x6) and an output tile Y
//! (4x4). This takes 36 multiplications instead of 144 (A. Lavin and S. Gray, "Fast Algorithms for
//! Convolutional Neural Networks", 2015). The interpolation points are 0, ±a, ±b and infinity with
//! a = 1/√2 and b = √2. They halve the rounding error of the usual points 0, ±1, ±2 and infinity.
//!
//! For finite points p_j: Aᵀ[i][j] = p_j^i and G[j][i] = p_j^i / ∏_{l≠j}(p_j − p_l). Row j of Bᵀ
//! holds the coefficients of ∏_{l≠j}(x − p_l). For the point at infinity, the last column of Aᵀ and
//! the last row of G are 0 except for a final 1, and the last row of Bᵀ holds the coefficients of
//! ∏(x − p_l) over all finite points.

use std::f32::consts::{FRAC_1_SQRT_2 as A, SQRT_2 as B};

use crate::isa::lanes::Lanes;

/// Bᵀ d for a column d of 6 vectors, in each lane.
///
/// # Safety
///
/// The CPU must support the instruction set of `L`.
#[inline(always)]
pub(crate) unsafe fn input<L: Lanes>(d: [L::V; 6]) -> [L::V; 6] {
    // SAFETY: the CPU supports the instruction set of `L` (contract of this function).
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

/// Aᵀ m for a column m of 6 vectors, in each lane.
///
/// # Safety
///
/// The CPU must support the instruction set of `L`.
#[inline(always)]
pub(crate) unsafe fn output<L: Lanes>(m: [L::V; 6]) -> [L::V; 4] {
    // SAFETY: the CPU supports the instruction set of `L` (contract of this function).
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

/// A y for a column y of 4 vectors, in each lane: the transpose of [`output`], for the weight
/// gradient.
///
/// # Safety
///
/// The CPU must support the instruction set of `L`.
#[inline(always)]
pub(crate) unsafe fn output_gradient<L: Lanes>(y: [L::V; 4]) -> [L::V; 6] {
    // SAFETY: the CPU supports the instruction set of `L` (contract of this function).
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

/// 1 / ∏(p − p_l) over the other finite points p_l, for p = ±a.
const N_A: f32 = -1.0 / 1.5;
/// 1 / ∏(p − p_l) over the other finite points p_l, for p = ±b.
const N_B: f32 = 1.0 / 6.0;

/// G g for a column g of 3 vectors, in each lane.
///
/// # Safety
///
/// The CPU must support the instruction set of `L`.
#[inline(always)]
pub(crate) unsafe fn filter<L: Lanes>(g: [L::V; 3]) -> [L::V; 6] {
    // SAFETY: the CPU supports the instruction set of `L` (contract of this function).
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

/// Gᵀ u for a column u of 6 vectors, in each lane: the transpose of [`filter`], for the weight
/// gradient.
///
/// # Safety
///
/// The CPU must support the instruction set of `L`.
#[inline(always)]
pub(crate) unsafe fn filter_gradient<L: Lanes>(u: [L::V; 6]) -> [L::V; 3] {
    // SAFETY: the CPU supports the instruction set of `L` (contract of this function).
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

/// A transform of a column of `R` vectors to `S` vectors.
///
/// This is a trait and not a closure, because a closure would not be compiled for the instruction
/// set of `L`.
pub(crate) trait Transform<const R: usize, const S: usize> {
    /// Applies the transform to a column.
    ///
    /// # Safety
    ///
    /// The CPU must support the instruction set of `L`.
    unsafe fn apply<L: Lanes>(x: [L::V; R]) -> [L::V; S];
}

macro_rules! transform {
    ($(#[$doc:meta])* $name:ident, $function:ident, $r:literal, $s:literal) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl Transform<$r, $s> for $name {
            #[inline(always)]
            unsafe fn apply<L: Lanes>(x: [L::V; $r]) -> [L::V; $s] {
                // SAFETY: the CPU supports the instruction set of `L` (contract of
                // `Transform::apply`).
                unsafe { $function::<L>(x) }
            }
        }
    };
}

transform!(
    /// [`input`] as a [`Transform`].
    InputTransform, input, 6, 6
);
transform!(
    /// [`output`] as a [`Transform`].
    OutputTransform, output, 6, 4
);
transform!(
    /// [`output_gradient`] as a [`Transform`].
    OutputGradientTransform, output_gradient, 4, 6
);
transform!(
    /// [`filter`] as a [`Transform`].
    FilterTransform, filter, 3, 6
);
transform!(
    /// [`filter_gradient`] as a [`Transform`].
    FilterGradientTransform, filter_gradient, 6, 3
);

/// Loads R x R vectors with strides of `row` and `column` elements.
///
/// # Safety
///
/// The CPU must support the instruction set of `L`. `from` must be valid for reads of all vectors.
#[inline(always)]
pub(crate) unsafe fn load_square<L: Lanes, const R: usize>(
    from: *const f32,
    row: usize,
    column: usize,
) -> [[L::V; R]; R] {
    // SAFETY: the CPU supports the instruction set of `L`, and `from` is valid for reads of all R x
    // R vectors (contract of this function).
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

/// Applies `T` to the columns and then to the rows of `x`: R x R → S x S.
///
/// # Safety
///
/// The CPU must support the instruction set of `L`.
#[inline(always)]
pub(crate) unsafe fn transform_2d<L: Lanes, T: Transform<R, S>, const R: usize, const S: usize>(
    x: [[L::V; R]; R],
) -> [[L::V; S]; S] {
    // SAFETY: the CPU supports the instruction set of `L` (contract of this function).
    unsafe {
        let mut half = [[L::splat(0.0); R]; S];
        for j in 0..R {
            let mut column = [L::splat(0.0); R];
            for i in 0..R {
                column[i] = x[i][j];
            }
            let column = T::apply::<L>(column);
            for i in 0..S {
                half[i][j] = column[i];
            }
        }
        let mut whole = [[L::splat(0.0); S]; S];
        for i in 0..S {
            whole[i] = T::apply::<L>(half[i]);
        }
        whole
    }
}
