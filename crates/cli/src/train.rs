//! Trains a run: the session, the observer of its stages, the error report for a non-finite loss, and
//! the scores of the val split after training.

mod non_finite;
mod observer;
mod session;

pub use session::Session;
