//! Trains a run: its session, the observer of its stages, and the report of a loss that is not
//! finite.

mod non_finite;
mod observer;
mod session;

pub use session::Session;
