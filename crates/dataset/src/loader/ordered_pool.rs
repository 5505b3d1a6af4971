//! Jobs 0, 1, 2, … done by several threads, delivered in order, with a bound on what is finished but not yet taken.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::panic::catch_panic;
use crate::error::{Error, Result};

/// The results of a range of jobs, in order.
///
/// A job is handed out only when it is among the next `threads + ahead` to be delivered, so at most that many
/// results exist here. Dropping it stops the threads and waits for them.
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

impl<T: Send + 'static> Iterator for OrderedPool<T> {
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

impl<T> Drop for OrderedPool<T> {
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn results_come_in_order_though_jobs_end_in_any() {
        for threads in [1, 2, 5, 40] {
            let ordered = OrderedPool::start(
                3..30,
                threads,
                2,
                || (),
                |(), job, _| {
                    // Early jobs take longer.
                    thread::sleep(Duration::from_micros(if job % 5 == 3 { 3000 } else { 10 }));
                    Ok(job)
                },
            );
            let results: Vec<_> = ordered.unwrap().collect::<Result<_>>().unwrap();
            assert_eq!(results, (3..30).collect::<Vec<_>>(), "{threads} threads");
        }
    }

    #[test]
    fn no_more_is_made_than_the_bound_allows() {
        let started = Arc::new(AtomicUsize::new(0));
        let count = started.clone();
        let mut ordered = OrderedPool::start(
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
            // What may be started now is started soon, and no more than that, however long the consumer waits.
            let allowed = (taken + 3 + 2).min(50);
            while started.load(Ordering::SeqCst) < allowed {
                thread::yield_now();
            }
            thread::sleep(Duration::from_millis(1));
            assert_eq!(started.load(Ordering::SeqCst), allowed);
            assert_eq!(ordered.next().unwrap().unwrap(), taken);
        }
        assert!(ordered.next().is_none());
    }

    #[test]
    fn work_overlaps_with_the_consumer() {
        let (tell, told) = mpsc::channel();
        let tell = Mutex::new(tell);
        let mut ordered = OrderedPool::start(
            0..3,
            1,
            1,
            || (),
            move |(), job, _| {
                tell.lock().unwrap().send(job).unwrap();
                Ok(job)
            },
        )
        .unwrap();
        assert_eq!(ordered.next().unwrap().unwrap(), 0);
        // The next two are made though nobody has asked for them.
        for job in 0..3 {
            assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(job));
        }
    }

    #[test]
    fn a_panic_is_an_error_in_its_place_and_the_others_go_on() {
        let ordered = OrderedPool::start(
            0..6,
            2,
            1,
            || (),
            |(), job, _| {
                assert_ne!(job, 3, "three is unlucky");
                Ok(job)
            },
        );
        let results: Vec<_> = ordered.unwrap().collect();
        assert_eq!(results.len(), 6);
        for (job, result) in results.into_iter().enumerate() {
            match result {
                Ok(done) => assert_eq!(done, job),
                Err(Error::Panic { what, message }) => {
                    assert_eq!((job, what.as_str()), (3, "batch 3"));
                    assert!(message.contains("three is unlucky"), "{message}");
                }
                Err(other) => panic!("{other}"),
            }
        }
    }

    #[test]
    fn a_state_that_cannot_be_made_is_an_error_too() {
        let ordered = OrderedPool::start(
            0..2,
            1,
            0,
            || panic!("no state"),
            |_: &mut (), job, _| Ok(job),
        );
        assert!(
            ordered
                .unwrap()
                .all(|result| matches!(result, Err(Error::Panic { .. })))
        );
    }

    #[test]
    fn dropping_stops_the_threads_and_waits_for_them() {
        let state = Arc::new(());
        let held = state.clone();
        let mut ordered = OrderedPool::start(
            0..1000,
            4,
            2,
            move || held.clone(),
            |_, job, stop| {
                while job > 0 && !stop.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
                Ok(job)
            },
        )
        .unwrap();
        assert_eq!(ordered.next().unwrap().unwrap(), 0);
        drop(ordered);
        assert_eq!(Arc::strong_count(&state), 1, "no thread is left");
    }
}
