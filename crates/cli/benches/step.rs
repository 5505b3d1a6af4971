//! Benchmarks training steps of VGG-16 with 138 million parameters: forward, loss, backward and SGD
//! with momentum.
//!
//! ```text
//! cargo bench -p cli --bench step
//! ```
//!
//! `cargo xtask bench-peers` compares the same steps with PyTorch. Each benchmark trains one network
//! step after step on the same batch. The measured time includes a check of each loss, which takes
//! microseconds.

#[path = "../examples/bench_worker/ours.rs"]
mod ours;
#[path = "../examples/bench_worker/row.rs"]
#[allow(
    dead_code,
    reason = "this benchmark does not use the rows that measure whole epochs"
)]
mod row;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use row::Row;

fn steps(criterion: &mut Criterion) {
    cli::memory::keep_large_blocks();
    for name in ["stage-1 step b32", "stage-2 step b8", "stage-2 step b32"] {
        let row = Row::parse(name).expect("the row needs no GPU");
        let mut run = ours::prepare(&row, None).expect("the network can be created");
        let mut group = criterion.benchmark_group("step");
        group
            .sample_size(10)
            .throughput(Throughput::Elements(row.batch as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let output = run().expect("the step succeeds");
                output.check().expect("the loss is finite");
            });
        });
        group.finish();
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);
