//! Trains a run: the session, the observer of its stages, and the error report for a non-finite
//! loss.

mod non_finite;
mod observer;
mod session;

pub use session::Session;
