//! Whole training steps of VGG-16 with its 138 million parameters: forward, loss, backward and SGD with momentum.
//!
//! ```text
//! cargo bench -p cli --bench step
//! ```
//!
//! The steps are those that `cargo xtask bench-peers` compares with PyTorch's, one after the other on one network. Each
//! loss is checked, in the time: that takes microseconds.

#[path = "../examples/bench_worker/ours.rs"]
mod ours;
#[path = "../examples/bench_worker/row.rs"]
#[allow(dead_code, reason = "rows of whole epochs are not run here")]
mod row;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use row::Row;

fn steps(criterion: &mut Criterion) {
    cli::memory::keep_large_blocks();
    for name in ["stage-1 step b32", "stage-2 step b8", "stage-2 step b32"] {
        let row = Row::parse(name).expect("a row of our own");
        let mut run = ours::prepare(&row, None).expect("random weights");
        let mut group = criterion.benchmark_group("step");
        group
            .sample_size(10)
            .throughput(Throughput::Elements(row.batch as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let proof = run().expect("a step");
                proof.check().expect("a finite loss");
            });
        });
        group.finish();
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);
