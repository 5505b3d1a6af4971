//! The SGD update on the CPU, fused into one loop.
//!
//! A single pass over memory reads the weights w, gradients g and velocities v, and writes w and v.
//! A low-rank gradient is multiplied out a few rows at a time and never stored in full.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Result, Var, bail};
use rayon::prelude::*;

use super::SgdConfig;
use super::low_rank::LowRankProduct;
use crate::gradients::Gradient;

/// Minimum number of values per task in the update with a dense gradient. With fewer, waking
/// another thread costs more than it saves.
pub(super) const SMALLEST_CHUNK: usize = 1 << 15;

/// Updates `var` and its velocity with `gradient`. All three are f32 on the CPU, and their shapes
/// match.
///
/// In the `first` step of a parameter, the velocity is set to the gradient.
pub(super) fn update(
    var: &Var,
    gradient: &Gradient,
    velocity: Option<&mut [f32]>,
    config: &SgdConfig,
    lr: f64,
    first: bool,
) -> Result<()> {
    let rule = SliceUpdate {
        lr: lr as f32,
        momentum: config.momentum as f32,
        one_minus_dampening: (1.0 - config.dampening) as f32,
        weight_decay: config.weight_decay as f32,
        nesterov: config.nesterov,
        first,
    };
    let fused = FusedUpdate {
        rule,
        velocity: RefCell::new(velocity),
    };
    match gradient {
        // The gradient from candle's matmul can be a transposed view. Reading it in the order of w
        // would cause cache misses, so it is copied first.
        Gradient::Dense(values) => var.inplace_op2(&values.contiguous()?, &fused),
        Gradient::LowRank { left, right } => {
            var.inplace_op3(&left.contiguous()?, &right.contiguous()?, &fused)
        }
    }
}

/// The update as an in-place candle operation on (w, g) or (w, left, right).
///
/// The velocity is a field because candle's in-place operations write a single tensor.
struct FusedUpdate<'a> {
    rule: SliceUpdate,
    velocity: RefCell<Option<&'a mut [f32]>>,
}

impl FusedUpdate<'_> {
    /// Splits w and v into chunks of `chunk` values, and calls `work` with (start index, w, v) for
    /// each of them in parallel.
    fn par_chunks(
        &self,
        w: &mut [f32],
        chunk: usize,
        work: impl Fn(usize, &mut [f32], Option<&mut [f32]>) + Sync,
    ) {
        let chunks = w.par_chunks_mut(chunk).enumerate();
        match self.velocity.borrow_mut().as_deref_mut() {
            Some(v) => chunks
                .zip(v.par_chunks_mut(chunk))
                .for_each(|((index, w), v)| work(index * chunk, w, Some(v))),
            None => chunks.for_each(|(index, w)| work(index * chunk, w, None)),
        }
    }
}

impl InplaceOp2 for FusedUpdate<'_> {
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
        let rule = self.rule;
        let chunk = per_thread(w.len()).max(SMALLEST_CHUNK);
        self.par_chunks(w, chunk, |start, w, v| {
            rule.apply(w, &g[start..][..w.len()], v);
        });
        Ok(())
    }
}

impl InplaceOp3 for FusedUpdate<'_> {
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
        let (rule, product) = (self.rule, LowRankProduct::new(left, right, outputs, inputs));
        // Each chunk consists of whole rows.
        let chunk = (per_thread(outputs) * inputs).max(1);
        self.par_chunks(values_mut(w, w_layout)?, chunk, |start, w, mut v| {
            let first = start / inputs;
            product.for_each(first..first + w.len() / inputs, |row, column, g| {
                let at = (row - first) * inputs + column;
                let v = v.as_deref_mut().map(|v| &mut v[at..][..g.len()]);
                rule.apply(&mut w[at..][..g.len()], g, v);
            });
        });
        Ok(())
    }
}

/// `count` divided by the number of threads, rounded up.
fn per_thread(count: usize) -> usize {
    count.div_ceil(rayon::current_num_threads())
}

fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => bail!("the SGD update needs a contiguous f32 gradient"),
    }
}

fn values_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&mut values[start..end]),
        _ => bail!("the SGD update needs a contiguous f32 parameter"),
    }
}

/// The settings of the update rule in f32, which is applied to slices.
#[derive(Clone, Copy)]
struct SliceUpdate {
    lr: f32,
    momentum: f32,
    one_minus_dampening: f32,
    weight_decay: f32,
    nesterov: bool,
    first: bool,
}

impl SliceUpdate {
    /// Updates w and v. Settings are matched outside the loops, so that the compiler can vectorize
    /// the loops.
    fn apply(self, w: &mut [f32], g: &[f32], v: Option<&mut [f32]>) {
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
            (true, false) => self.momentum_step(w, g, v, |g, _| (g, g)),
            (true, true) => self.momentum_step(w, g, v, |g, _| (g, g + momentum * g)),
            (false, false) => self.momentum_step(w, g, v, |g, v| {
                let v = momentum * v + one_minus_dampening * g;
                (v, v)
            }),
            (false, true) => self.momentum_step(w, g, v, |g, v| {
                let v = momentum * v + one_minus_dampening * g;
                (v, g + momentum * v)
            }),
        }
    }

    /// Applies a step with momentum. `next` maps (g + weight_decay·w, v) to (new v, direction).
    #[inline(always)]
    fn momentum_step(
        self,
        w: &mut [f32],
        g: &[f32],
        v: &mut [f32],
        next: impl Fn(f32, f32) -> (f32, f32),
    ) {
        for ((w, g), v) in w.iter_mut().zip(g).zip(v) {
            let (velocity, direction) = next(g + self.weight_decay * *w, *v);
            *v = velocity;
            *w -= self.lr * direction;
        }
    }
}
