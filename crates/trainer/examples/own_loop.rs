//! A training loop without `fit`: regression, with gradients clipped to a maximum norm.
//!
//! ```sh
//! cargo run -p trainer --example own_loop
//! ```

use trainer::candle_core::{Device, Result, Tensor, Var};
use trainer::candle_nn::{self, Module, Sequential, VarBuilder, linear, loss::mse};
use trainer::{Gradients, Group, Params, Schedule, Sgd, SgdConfig};

const STEPS: u64 = 400;

/// A network with one hidden layer: (n, 1) → (n, 1).
fn network(vb: VarBuilder<'_>) -> Result<Sequential> {
    Ok(candle_nn::seq()
        .add(linear(1, 32, vb.pp("hidden"))?)
        .add_fn(Tensor::tanh)
        .add(linear(32, 1, vb.pp("output"))?))
}

/// Scales the gradients so that their joint norm is at most `limit`, as PyTorch's
/// `clip_grad_norm_` does.
fn clip(mut gradients: Gradients, parameters: &[(String, Var)], limit: f32) -> Result<Gradients> {
    let (mut dense, mut sum_of_squares) = (Vec::new(), 0f32);
    for (name, _) in parameters {
        if let Some(gradient) = gradients.take(name) {
            let gradient = gradient.to_dense()?;
            sum_of_squares += gradient.sqr()?.sum_all()?.to_scalar::<f32>()?;
            dense.push((name.clone(), gradient));
        }
    }
    let factor = f64::from((limit / sum_of_squares.sqrt()).min(1.0));
    let scaled = dense
        .into_iter()
        .map(|(name, gradient)| Ok((name, (gradient * factor)?)));
    scaled.collect()
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let params = Params::new(1234, &Device::Cpu);
    let network = network(params.var_builder())?;
    let parameters = params.trainable();
    let momentum = SgdConfig {
        momentum: 0.9,
        ..SgdConfig::default()
    };
    let groups = vec![Group::new("hidden", 0.1), Group::new("output", 0.05)];
    let mut sgd = Sgd::new(&params, momentum, groups)?;
    let schedule = Schedule::Cosine {
        epochs: STEPS,
        warmup: 0,
    };

    // The function to learn: y = sin(x).
    let x = Tensor::arange_step(-3f32, 3.0, 0.05, &Device::Cpu)?.unsqueeze(1)?;
    let y = x.sin()?;
    for step in 0..STEPS {
        let loss = mse(&network.forward(&x)?, &y)?;
        if step % 100 == 0 {
            println!("step {step:>3}: loss {:.5}", loss.to_scalar::<f32>()?);
        }
        let gradients = Gradients::backward(loss, &parameters)?;
        sgd.step(clip(gradients, &parameters, 1.0)?, schedule.factor(step))?;
    }
    let loss = mse(&network.forward(&x)?, &y)?.to_scalar::<f32>()?;
    println!("at the end: loss {loss:.5}");
    assert!(loss < 0.01, "the network did not learn");
    Ok(())
}
