//! VGG networks for candle.

pub mod kernels;
