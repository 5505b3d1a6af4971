//! Without memory for its buffers, a layer returns an error. In a test file of its own, because the
//! limit applies to the whole process.

#![cfg(target_os = "linux")]

use candle_core::{DType, Device, Tensor, Var};
use kernels::{ConvLayer, conv_stack};

#[test]
fn a_layer_without_memory_for_its_buffers_returns_an_error_and_works_again_later() {
    // The output of 1024 channels needs 64 MiB, and the input only 64 KiB.
    let x = Tensor::zeros((1, 1, 128, 128), DType::F32, &Device::Cpu).unwrap();
    let weight = Tensor::zeros((1024, 1, 3, 3), DType::F32, &Device::Cpu).unwrap();
    let bias = Tensor::zeros(1024, DType::F32, &Device::Cpu).unwrap();
    let tracked = Var::from_tensor(&weight).unwrap();
    let frozen = ConvLayer::new(weight, bias.clone(), false).unwrap();
    let trained = ConvLayer::new(tracked.as_tensor().clone(), bias, false).unwrap();
    // Starts the threads.
    let small = x.narrow(2, 0, 2).unwrap().contiguous().unwrap();
    conv_stack(&small, std::slice::from_ref(&frozen)).unwrap();

    let unlimited = address_space_limit(None);
    address_space_limit(Some(used_address_space() + (32 << 20)));
    let results = [&frozen, &trained].map(|layer| conv_stack(&x, std::slice::from_ref(layer)));
    address_space_limit(Some(unlimited));
    for result in results {
        let message = result.expect_err("there is no memory").to_string();
        assert!(
            message.contains("out of memory: cannot allocate "),
            "{message}"
        );
    }
    for layer in [frozen, trained] {
        let y = conv_stack(&x, &[layer]).unwrap();
        assert_eq!(y.dims(), [1, 1024, 128, 128]);
    }
}

/// Sets the limit in bytes if it is given, and returns the limit before.
fn address_space_limit(limit: Option<u64>) -> u64 {
    let mut rlimit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `rlimit` is a valid `rlimit`, which the call writes.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut rlimit) }, 0);
    let before = rlimit.rlim_cur;
    if let Some(limit) = limit {
        rlimit.rlim_cur = limit;
        // SAFETY: `rlimit` is a valid `rlimit`, which the call reads.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &rlimit) }, 0);
    }
    before
}

fn used_address_space() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    1024 * kib.parse::<u64>().unwrap()
}
