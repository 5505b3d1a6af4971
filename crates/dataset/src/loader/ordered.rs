//! Jobs 0, 1, 2, … done by several threads, delivered in order, with a bound on what is finished but not yet taken.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::guard::guarded;
use crate::error::{Error, Result};

/// The results of a range of jobs, in order.
///
/// A job is handed out only when it is among the next `threads + ahead` to be delivered, so at most that many
/// results exist here. Dropping it stops the threads and waits for them.
#[derive(Debug)]
pub(super) struct Ordered<T> {
    next: usize,
    unsent: Range<usize>,
    jobs: Option<Sender<usize>>,
    results: Option<Receiver<(usize, Result<T>)>>,
    early: BTreeMap<usize, Result<T>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl<T: Send + 'static> Ordered<T> {
    /// Starts `threads` threads on the jobs of `range`. Each makes a state with `state` and does jobs with `work`,
    /// which gets the state, the job, and whether the result is still wanted.
    ///
    /// # Errors
    ///
    /// The operating system refuses a thread.
    pub(super) fn start<S>(
        range: Range<usize>,
        threads: usize,
        ahead: usize,
        state: impl Fn() -> S + Send + Sync + 'static,
        work: impl Fn(&mut S, usize, &AtomicBool) -> Result<T> + Send + Sync + 'static,
    ) -> Result<Self> {
        let threads = threads.min(range.len());
        let bound = threads.saturating_add(ahead).min(range.len());
        let (jobs, todo) = bounded(bound);
        // As many places as jobs are out: sending a result never blocks.
        let (done, results) = bounded(bound);
        let mut ordered = Self {
            next: range.start,
            unsent: range,
            jobs: Some(jobs),
            results: Some(results),
            early: BTreeMap::new(),
            stop: Arc::default(),
            threads: Vec::with_capacity(threads),
        };
        let task = Arc::new((state, work));
        for number in 0..threads {
            let (task, stop, todo, done) = (
                task.clone(),
                ordered.stop.clone(),
                todo.clone(),
                done.clone(),
            );
            let body = move || {
                let mut state = None;
                for job in todo {
                    let result = guarded(
                        || format!("batch {job}"),
                        || (task.1)(state.get_or_insert_with(&task.0), job, &stop),
                    );
                    if done.send((job, result)).is_err() {
                        break;
                    }
                }
            };
            let spawned = Builder::new()
                .name(format!("loader-{number}"))
                .spawn(body)
                .map_err(Error::Spawn)?;
            ordered.threads.push(spawned);
        }
        for _ in 0..bound {
            ordered.send_one();
        }
        Ok(ordered)
    }

    fn send_one(&mut self) {
        if let (Some(jobs), Some(job)) = (&self.jobs, self.unsent.next()) {
            // Fails only when every thread has gone, which the receiver notices.
            let _ = jobs.send(job);
        }
        if self.unsent.is_empty() {
            self.jobs = None;
        }
    }
}

impl<T: Send + 'static> Iterator for Ordered<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        let results = self.results.as_ref()?;
        while !self.early.contains_key(&self.next) {
            // Every thread ends after the last job; then there is nothing to wait for.
            let (job, result) = results.recv().ok()?;
            self.early.insert(job, result);
        }
        let result = self.early.remove(&self.next)?;
        self.next += 1;
        self.send_one();
        Some(result)
    }
}

impl<T> Drop for Ordered<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        self.results = None;
        for thread in self.threads.drain(..) {
            // Panics were caught and reported as results.
            let _ = thread.join();
        }
    }
}
