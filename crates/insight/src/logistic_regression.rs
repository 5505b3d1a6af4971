//! Multinomial logistic regression with an L2 penalty, in float64.
//!
//! The parameters are, for each class, the weights of the features and a bias b. They minimize
//!
//! mean over samples of −ln softmax(W x + b)\[label\] + λ/2 · ‖W‖²
//!
//! by Newton's method. Conjugate gradients solve each step approximately, so no Hessian is stored (J. Nocedal
//! and S. Wright, "Numerical Optimization", 2nd edition, algorithm 7.1).

/// The fit ends when the Euclidean norm of the gradient is at most this.
const MAX_GRADIENT: f64 = 1e-6;
/// Limit of Newton steps. A fit takes about ten.
const MAX_STEPS: usize = 100;
/// Limit of iterations of conjugate gradients per Newton step.
const MAX_ITERATIONS: usize = 250;

/// Samples to fit or to predict: some rows of a matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Samples<'a> {
    /// Shape (all samples, features), row-major.
    pub matrix: &'a [f64],
    /// Features per sample.
    pub features: usize,
    /// Labels of all samples.
    pub labels: &'a [u32],
    /// Indices of the samples to use.
    pub rows: &'a [usize],
}

impl<'a> Samples<'a> {
    /// The features and the label of each sample.
    fn iter(&self) -> impl Iterator<Item = (&'a [f64], usize)> {
        let Self {
            matrix,
            features,
            labels,
            rows,
        } = *self;
        rows.iter().map(move |&row| {
            let x = &matrix[row * features..][..features];
            (x, labels[row] as usize)
        })
    }
}

/// A fitted model. The start of a fit is a model with zeros, or the model of a similar problem.
#[derive(Clone, Debug)]
pub(crate) struct LogisticRegression {
    classes: usize,
    /// For each class the weights, then the bias.
    parameters: Vec<f64>,
}

impl LogisticRegression {
    /// A model whose parameters are zeros.
    pub fn zeros(classes: usize, features: usize) -> Self {
        Self {
            classes,
            parameters: vec![0.0; classes * (features + 1)],
        }
    }

    /// Fits the model to `samples` with the penalty λ = `l2`, from its current parameters.
    pub fn fit(&mut self, samples: Samples<'_>, l2: f64) {
        let problem = Problem {
            samples,
            classes: self.classes,
            l2,
        };
        let (mut loss, mut probabilities) = problem.evaluate(&self.parameters);
        for _ in 0..MAX_STEPS {
            let gradient = problem.gradient(&self.parameters, &probabilities);
            let norm = dot(&gradient, &gradient).sqrt();
            if norm <= MAX_GRADIENT {
                return;
            }
            let direction = problem.newton_direction(&gradient, norm, &probabilities);
            let slope = dot(&gradient, &direction);
            let mut step = 1.0;
            // Backtracking. The loss stops decreasing only within its rounding error.
            loop {
                let mut trial = self.parameters.clone();
                add_scaled(&mut trial, step, &direction);
                let (trial_loss, trial_probabilities) = problem.evaluate(&trial);
                if trial_loss <= loss + 1e-4 * step * slope {
                    self.parameters = trial;
                    (loss, probabilities) = (trial_loss, trial_probabilities);
                    break;
                }
                step /= 2.0;
                if step < 1e-10 {
                    return;
                }
            }
        }
    }

    /// The probabilities of all classes for the features `x`.
    pub fn probabilities(&self, x: &[f64]) -> Vec<f64> {
        let mut row = vec![0.0; self.classes];
        logits(&self.parameters, x, &mut row);
        softmax(&mut row);
        row
    }
}

/// The samples, the number of classes and the penalty of a fit. Vectors have the layout of
/// [`LogisticRegression::parameters`].
struct Problem<'a> {
    samples: Samples<'a>,
    classes: usize,
    l2: f64,
}

impl Problem<'_> {
    /// The loss, and the probabilities of all samples: shape (samples, classes), row-major.
    fn evaluate(&self, parameters: &[f64]) -> (f64, Vec<f64>) {
        let mut probabilities = vec![0.0; self.samples.rows.len() * self.classes];
        let mut sum = 0.0;
        let rows = probabilities.chunks_exact_mut(self.classes);
        for (row, (x, label)) in rows.zip(self.samples.iter()) {
            logits(parameters, x, row);
            let logit = row[label];
            sum += softmax(row) - logit;
        }
        let weights = self.weights(parameters);
        let norm: f64 = weights.map(|weights| dot(weights, weights)).sum();
        let loss = sum / self.samples.rows.len() as f64 + self.l2 / 2.0 * norm;
        (loss, probabilities)
    }

    fn gradient(&self, parameters: &[f64], probabilities: &[f64]) -> Vec<f64> {
        let rows = probabilities.chunks_exact(self.classes);
        let rows = rows.zip(self.samples.iter());
        self.combine(
            parameters,
            rows.map(|(row, (_, label))| {
                let mut row = row.to_vec();
                row[label] -= 1.0;
                row
            }),
        )
    }

    /// The product of the Hessian and `vector`.
    fn hessian_product(&self, probabilities: &[f64], vector: &[f64]) -> Vec<f64> {
        let rows = probabilities.chunks_exact(self.classes);
        let rows = rows.zip(self.samples.iter());
        self.combine(
            vector,
            rows.map(|(p, (x, _))| {
                let mut row = vec![0.0; self.classes];
                logits(vector, x, &mut row);
                let mean = dot(p, &row);
                for (value, p) in row.iter_mut().zip(p) {
                    *value = p * (*value - mean);
                }
                row
            }),
        )
    }

    /// The mean over samples of `coefficient` × (x, 1) for each class, plus λ × the weights of `vector`.
    fn combine(&self, vector: &[f64], coefficients: impl Iterator<Item = Vec<f64>>) -> Vec<f64> {
        let features = self.samples.features;
        let scale = 1.0 / self.samples.rows.len() as f64;
        let mut result = vec![0.0; vector.len()];
        for (row, (x, _)) in coefficients.zip(self.samples.iter()) {
            for (result, coefficient) in result.chunks_exact_mut(features + 1).zip(row) {
                let (weights, bias) = result.split_at_mut(features);
                add_scaled(weights, coefficient * scale, x);
                bias[0] += coefficient * scale;
            }
        }
        let results = result.chunks_exact_mut(features + 1);
        for (result, weights) in results.zip(self.weights(vector)) {
            add_scaled(&mut result[..features], self.l2, weights);
        }
        result
    }

    /// The weights of each class without its bias.
    fn weights<'v>(&self, vector: &'v [f64]) -> impl Iterator<Item = &'v [f64]> {
        let features = self.samples.features;
        vector
            .chunks_exact(features + 1)
            .map(move |class| &class[..features])
    }

    /// Solves Hessian × direction = −gradient by conjugate gradients, more precisely as the gradient
    /// becomes small.
    fn newton_direction(&self, gradient: &[f64], norm: f64, probabilities: &[f64]) -> Vec<f64> {
        let tolerance = norm * norm.sqrt().min(0.5);
        let mut direction = vec![0.0; gradient.len()];
        let mut residual: Vec<f64> = gradient.iter().map(|value| -value).collect();
        let mut search = residual.clone();
        let mut square = dot(&residual, &residual);
        for _ in 0..MAX_ITERATIONS {
            if square.sqrt() <= tolerance {
                break;
            }
            let product = self.hessian_product(probabilities, &search);
            let curvature = dot(&search, &product);
            if curvature <= 0.0 {
                // Rounding only, since the loss is convex.
                break;
            }
            let length = square / curvature;
            add_scaled(&mut direction, length, &search);
            add_scaled(&mut residual, -length, &product);
            let next = dot(&residual, &residual);
            let ratio = next / square;
            for (search, residual) in search.iter_mut().zip(&residual) {
                *search = residual + ratio * *search;
            }
            square = next;
        }
        direction
    }
}

/// Writes the logits of all classes for the features `x` to `row`.
fn logits(parameters: &[f64], x: &[f64], row: &mut [f64]) {
    for (logit, class) in row.iter_mut().zip(parameters.chunks_exact(x.len() + 1)) {
        *logit = dot(&class[..x.len()], x) + class[x.len()];
    }
}

/// Replaces logits by their softmax. Returns ln Σ exp(logit).
fn softmax(row: &mut [f64]) -> f64 {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for value in row.iter_mut() {
        *value = (*value - max).exp();
        sum += *value;
    }
    row.iter_mut().for_each(|value| *value /= sum);
    max + sum.ln()
}

/// The dot product. Eight partial sums let the compiler use SIMD.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = a_chunks.remainder().iter().zip(b_chunks.remainder());
    let rest: f64 = rest.map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// Adds `scale` × `values` to `target`.
fn add_scaled(target: &mut [f64], scale: f64, values: &[f64]) {
    for (target, value) in target.iter_mut().zip(values) {
        *target += scale * value;
    }
}
