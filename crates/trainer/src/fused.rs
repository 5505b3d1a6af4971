//! The update of a parameter on the CPU: one pass over w and v, and over g where that is stored.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Result, Var, bail};
use rayon::prelude::*;

use crate::gradients::Gradient;
use crate::low_rank::LowRankProduct;
use crate::update::SgdStep;

/// Below this many numbers, waking another thread costs more than it saves.
pub(crate) const SMALLEST_CHUNK: usize = 1 << 15;

/// Updates `var` and its velocity by `gradient`, which has its shape; all f32 on the CPU. In a parameter's `first`
/// step the velocity becomes the gradient.
pub(crate) fn update(
    var: &Var,
    gradient: &Gradient,
    velocity: Option<&mut [f32]>,
    step: &SgdStep,
    first: bool,
) -> Result<()> {
    let sweep = Sweep {
        lr: step.lr as f32,
        momentum: step.momentum as f32,
        one_minus_dampening: step.one_minus_dampening as f32,
        weight_decay: step.weight_decay as f32,
        nesterov: step.nesterov,
        first,
    };
    let fused = Fused {
        sweep,
        velocity: RefCell::new(velocity),
    };
    match gradient {
        // candle's matmul leaves transposed gradients; a loop over both orders would miss the cache.
        Gradient::Dense(values) => var.inplace_op2(&values.contiguous()?, &fused),
        Gradient::LowRank { left, right } => {
            var.inplace_op3(&left.contiguous()?, &right.contiguous()?, &fused)
        }
    }
}

/// The fused update as a candle operation on (w, g) or (w, left, right). The velocity rides along, because candle's
/// in-place operations write one tensor only.
struct Fused<'a> {
    sweep: Sweep,
    velocity: RefCell<Option<&'a mut [f32]>>,
}

impl Fused<'_> {
    /// Gives `work` pieces of w and v of `chunk` numbers, with the place of their first.
    fn in_pieces(
        &self,
        w: &mut [f32],
        chunk: usize,
        work: impl Fn(usize, &mut [f32], Option<&mut [f32]>) + Sync,
    ) {
        let pieces = w.par_chunks_mut(chunk).enumerate();
        match self.velocity.borrow_mut().as_deref_mut() {
            Some(v) => pieces
                .zip(v.par_chunks_mut(chunk))
                .for_each(|((piece, w), v)| work(piece * chunk, w, Some(v))),
            None => pieces.for_each(|(piece, w)| work(piece * chunk, w, None)),
        }
    }
}

impl InplaceOp2 for Fused<'_> {
    fn name(&self) -> &'static str {
        "sgd-update"
    }

    fn cpu_fwd(
        &self,
        w: &mut CpuStorage,
        w_layout: &Layout,
        g: &CpuStorage,
        g_layout: &Layout,
    ) -> Result<()> {
        let (w, g) = (values_mut(w, w_layout)?, values(g, g_layout)?);
        let sweep = self.sweep;
        let chunk = share(w.len()).max(SMALLEST_CHUNK);
        self.in_pieces(w, chunk, |start, w, v| {
            sweep.over(w, &g[start..][..w.len()], v);
        });
        Ok(())
    }
}

impl InplaceOp3 for Fused<'_> {
    fn name(&self) -> &'static str {
        "sgd-update-low-rank"
    }

    fn cpu_fwd(
        &self,
        w: &mut CpuStorage,
        w_layout: &Layout,
        left: &CpuStorage,
        left_layout: &Layout,
        right: &CpuStorage,
        right_layout: &Layout,
    ) -> Result<()> {
        let (outputs, inputs) = w_layout.shape().dims2()?;
        let (left, right) = (values(left, left_layout)?, values(right, right_layout)?);
        let (sweep, product) = (
            self.sweep,
            LowRankProduct::new(left, right, outputs, inputs),
        );
        // Whole rows.
        let chunk = (share(outputs) * inputs).max(1);
        self.in_pieces(values_mut(w, w_layout)?, chunk, |start, w, mut v| {
            let first = start / inputs;
            product.for_each(first..first + w.len() / inputs, |row, column, g| {
                let at = (row - first) * inputs + column;
                let v = v.as_deref_mut().map(|v| &mut v[at..][..g.len()]);
                sweep.over(&mut w[at..][..g.len()], g, v);
            });
        });
        Ok(())
    }
}

/// What each thread has of `count` things.
fn share(count: usize) -> usize {
    count.div_ceil(rayon::current_num_threads())
}

fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => bail!("an update by a gradient needs contiguous f32"),
    }
}

fn values_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&mut values[start..end]),
        _ => bail!("an update needs a contiguous f32 parameter"),
    }
}

/// The arithmetic of an update.
#[derive(Clone, Copy)]
struct Sweep {
    lr: f32,
    momentum: f32,
    one_minus_dampening: f32,
    weight_decay: f32,
    nesterov: bool,
    first: bool,
}

impl Sweep {
    /// Chooses the loop outside of it, so that each loop is straight arithmetic that the compiler vectorises.
    fn over(self, w: &mut [f32], g: &[f32], v: Option<&mut [f32]>) {
        let Self {
            lr,
            momentum,
            one_minus_dampening,
            weight_decay,
            ..
        } = self;
        let Some(v) = v else {
            for (w, g) in w.iter_mut().zip(g) {
                *w -= lr * (g + weight_decay * *w);
            }
            return;
        };
        match (self.first, self.nesterov) {
            (true, false) => self.pass(w, g, v, |g, _| (g, g)),
            (true, true) => self.pass(w, g, v, |g, _| (g, g + momentum * g)),
            (false, false) => self.pass(w, g, v, |g, v| {
                let v = momentum * v + one_minus_dampening * g;
                (v, v)
            }),
            (false, true) => self.pass(w, g, v, |g, v| {
                let v = momentum * v + one_minus_dampening * g;
                (v, g + momentum * v)
            }),
        }
    }

    /// One pass: `direct` takes (g + decay·w, v) to the new velocity and the direction.
    #[inline(always)]
    fn pass(
        self,
        w: &mut [f32],
        g: &[f32],
        v: &mut [f32],
        direct: impl Fn(f32, f32) -> (f32, f32),
    ) {
        for ((w, g), v) in w.iter_mut().zip(g).zip(v) {
            let (velocity, direction) = direct(g + self.weight_decay * *w, *v);
            *v = velocity;
            *w -= self.lr * direction;
        }
    }
}
