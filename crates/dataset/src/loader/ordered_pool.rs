//! A thread pool that runs numbered jobs and delivers their results in order, with bounded
//! prefetching.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::{Error, Result};
use crate::panic::catch_panic;

/// Iterator over the results of a range of jobs, in order.
///
/// A job starts only if it is one of the next `threads + ahead` to be delivered, so at most that
/// many results are stored. Dropping the pool stops the threads and joins them.
#[derive(Debug)]
pub(super) struct OrderedPool<T> {
    next: usize,
    unsent: Range<usize>,
    jobs: Option<Sender<usize>>,
    results: Option<Receiver<(usize, Result<T>)>>,
    early: BTreeMap<usize, Result<T>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl<T: Send + 'static> OrderedPool<T> {
    /// Starts `threads` threads that run the jobs in `range`.
    ///
    /// Each thread creates its state with `state` and calls `work` with the state, the job, and a
    /// flag that is set when the pool is dropped.
    ///
    /// # Errors
    ///
    /// Returns an error if a thread cannot be started.
    pub(super) fn start<S>(
        range: Range<usize>,
        threads: usize,
        ahead: usize,
        state: impl Fn() -> S + Send + Sync + 'static,
        work: impl Fn(&mut S, usize, &AtomicBool) -> Result<T> + Send + Sync + 'static,
    ) -> Result<Self> {
        let threads = threads.min(range.len());
        let bound = threads.saturating_add(ahead).min(range.len());
        let (jobs, queue) = bounded(bound);
        // The channel has room for the result of every job in progress, so sending never blocks.
        let (done, results) = bounded(bound);
        let mut pool = Self {
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
            let (task, stop, queue, done) =
                (task.clone(), pool.stop.clone(), queue.clone(), done.clone());
            let body = move || {
                let mut state = None;
                for job in queue {
                    let result = catch_panic(
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
            pool.threads.push(spawned);
        }
        for _ in 0..bound {
            pool.send_one();
        }
        Ok(pool)
    }

    fn send_one(&mut self) {
        if let (Some(jobs), Some(job)) = (&self.jobs, self.unsent.next()) {
            // Fails only if all threads have ended, which the receiver reports.
            let _ = jobs.send(job);
        }
        if self.unsent.is_empty() {
            self.jobs = None;
        }
    }
}

impl<T: Send + 'static> Iterator for OrderedPool<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        let results = self.results.as_ref()?;
        while !self.early.contains_key(&self.next) {
            // All threads end after the last job, which closes the channel.
            let (job, result) = results.recv().ok()?;
            self.early.insert(job, result);
        }
        let result = self.early.remove(&self.next)?;
        self.next += 1;
        self.send_one();
        Some(result)
    }
}

impl<T> Drop for OrderedPool<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        self.results = None;
        for thread in self.threads.drain(..) {
            // Panics have been caught and returned as results.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn results_are_delivered_in_order() {
        for threads in [1, 2, 5, 40] {
            let pool = OrderedPool::start(
                3..30,
                threads,
                2,
                || (),
                |(), job, _| {
                    // Every fifth job is slow, so later jobs finish before it.
                    thread::sleep(Duration::from_micros(if job % 5 == 3 { 3000 } else { 10 }));
                    Ok(job)
                },
            );
            let results: Vec<_> = pool.unwrap().collect::<Result<_>>().unwrap();
            assert_eq!(results, (3..30).collect::<Vec<_>>(), "{threads} threads");
        }
    }

    #[test]
    fn jobs_in_flight_are_bounded() {
        let started = Arc::new(AtomicUsize::new(0));
        let count = started.clone();
        let mut pool = OrderedPool::start(
            0..50,
            3,
            2,
            || (),
            move |(), job, _| {
                count.fetch_add(1, Ordering::SeqCst);
                Ok(job)
            },
        )
        .unwrap();
        for taken in 0..50 {
            // Exactly the allowed jobs start, however long the consumer waits.
            let allowed = (taken + 3 + 2).min(50);
            while started.load(Ordering::SeqCst) < allowed {
                thread::yield_now();
            }
            thread::sleep(Duration::from_millis(1));
            assert_eq!(started.load(Ordering::SeqCst), allowed);
            assert_eq!(pool.next().unwrap().unwrap(), taken);
        }
        assert!(pool.next().is_none());
    }

    #[test]
    fn work_overlaps_with_the_consumer() {
        let (sender, finished) = mpsc::channel();
        let sender = Mutex::new(sender);
        let mut pool = OrderedPool::start(
            0..3,
            1,
            1,
            || (),
            move |(), job, _| {
                sender.lock().unwrap().send(job).unwrap();
                Ok(job)
            },
        )
        .unwrap();
        assert_eq!(pool.next().unwrap().unwrap(), 0);
        // The next two jobs run before the consumer requests them.
        for job in 0..3 {
            assert_eq!(finished.recv_timeout(Duration::from_secs(20)), Ok(job));
        }
    }

    #[test]
    fn a_panic_fails_only_its_own_job() {
        let pool = OrderedPool::start(
            0..6,
            2,
            1,
            || (),
            |(), job, _| {
                assert_ne!(job, 3, "job three panics");
                Ok(job)
            },
        );
        let results: Vec<_> = pool.unwrap().collect();
        assert_eq!(results.len(), 6);
        for (job, result) in results.into_iter().enumerate() {
            match result {
                Ok(done) => assert_eq!(done, job),
                Err(Error::Panic { item, message }) => {
                    assert_eq!((job, item.as_str()), (3, "batch 3"));
                    assert!(message.contains("job three panics"), "{message}");
                }
                Err(other) => panic!("{other}"),
            }
        }
    }

    #[test]
    fn a_panic_while_creating_the_state_is_an_error() {
        let pool = OrderedPool::start(
            0..2,
            1,
            0,
            || panic!("no state"),
            |_: &mut (), job, _| Ok(job),
        );
        assert!(
            pool.unwrap()
                .all(|result| matches!(result, Err(Error::Panic { .. })))
        );
    }

    #[test]
    fn dropping_the_pool_stops_and_joins_its_threads() {
        let state = Arc::new(());
        let clone = state.clone();
        let mut pool = OrderedPool::start(
            0..1000,
            4,
            2,
            move || clone.clone(),
            |_, job, stop| {
                while job > 0 && !stop.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
                Ok(job)
            },
        )
        .unwrap();
        assert_eq!(pool.next().unwrap().unwrap(), 0);
        drop(pool);
        assert_eq!(Arc::strong_count(&state), 1, "a thread is still running");
    }
}
