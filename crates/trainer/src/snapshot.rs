//! Values as they are at one moment, for a thread that saves them while training goes on.
//!
//! A copy of all weights and velocities takes as much memory again, and most of it is for nothing: what has been read
//! by the time of the next update may change. So a value is copied only when it is about to change and is still
//! wanted as it was. On a GPU everything is copied to the host at once: there each thread has a queue of its own, and the
//! one that reads would neither wait for what is queued here nor keep it from using memory that it frees.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use candle_core::{CpuStorage, Device, Result, Shape, Storage, Tensor, bail};

/// A tensor as it was when it was held, whatever [`Sgd::step`](crate::Sgd::step) and
/// [`Params::restore`](crate::Params::restore) do to it since; who sets a variable by hand is not noticed. Drop it once
/// it is read.
#[derive(Debug)]
pub struct Snapshot {
    shape: Shape,
    values: Source,
}

#[derive(Debug)]
enum Source {
    /// A parameter's, which updates change in place.
    Parameter(Arc<Mutex<SharedTensor>>),
    /// Those of a velocity: an update copies them first if they are held.
    Velocity(Arc<Vec<f32>>),
    /// Those of a tensor that nobody changes.
    Fixed(Tensor),
}

/// Where the values of a parameter are to be read.
#[derive(Debug)]
struct SharedTensor {
    tensor: Tensor,
    /// Whether the tensor is a copy, which no update changes.
    copied: bool,
}

/// Numbers that are lent at a time: they stay in the processor's cache, and training never waits for longer.
const CHUNK: usize = 1 << 16;

impl Snapshot {
    /// Of a tensor that nobody changes.
    ///
    /// # Errors
    ///
    /// Memory, or a device that does not hand its values over.
    pub fn new(tensor: &Tensor) -> Result<Self> {
        Ok(Self {
            shape: tensor.shape().clone(),
            values: Source::Fixed(tensor.to_device(&Device::Cpu)?.contiguous()?),
        })
    }

    /// A velocity's values.
    pub(crate) fn velocity(values: Arc<Vec<f32>>, shape: &Shape) -> Self {
        Self {
            shape: shape.clone(),
            values: Source::Velocity(values),
        }
    }

    /// Its shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Lends the values to `work`, from the first to the last in pieces.
    ///
    /// # Errors
    ///
    /// Those of `work`, and a type other than f32.
    pub fn try_for_each_chunk<E: From<candle_core::Error>>(
        &self,
        mut work: impl FnMut(&[f32]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let source = match &self.values {
            Source::Velocity(values) => return values.chunks(CHUNK).try_for_each(work),
            Source::Fixed(tensor) => {
                return with_values(tensor, |values| values.chunks(CHUNK).try_for_each(work))?;
            }
            Source::Parameter(source) => source,
        };
        // Piece by piece, since an update that comes meanwhile waits for the lock.
        let count = self.shape.elem_count();
        let mut chunk = Vec::with_capacity(CHUNK.min(count));
        for from in (0..count).step_by(CHUNK) {
            chunk.clear();
            with_values(&lock(source).tensor, |values| {
                chunk.extend_from_slice(&values[from..count.min(from + CHUNK)]);
            })?;
            work(&chunk)?;
        }
        Ok(())
    }
}

fn with_values<T>(tensor: &Tensor, work: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((from, to))) => Ok(work(&values[from..to])),
        _ => bail!("only contiguous f32 can be read, not {:?}", tensor.dtype()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics between two states of a source.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The parameters that are held, by name. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct SnapshotRegistry(Arc<Mutex<Vec<Entry>>>);

/// A parameter's name, and where it is read as long as somebody holds it.
type Entry = (String, Weak<Mutex<SharedTensor>>);

impl SnapshotRegistry {
    /// Holds the parameter `name`, whose storage `tensor` shares.
    pub(crate) fn snapshot(&self, name: &str, tensor: Tensor) -> Result<Snapshot> {
        if !tensor.device().is_cpu() {
            return Snapshot::new(&tensor);
        }
        let tensor = tensor.contiguous()?;
        let shape = tensor.shape().clone();
        let source = Arc::new(Mutex::new(SharedTensor {
            tensor,
            copied: false,
        }));
        let mut entries = lock(&self.0);
        entries.retain(|(_, source)| source.strong_count() > 0);
        entries.push((name.to_owned(), Arc::downgrade(&source)));
        Ok(Snapshot {
            shape,
            values: Source::Parameter(source),
        })
    }

    /// To be called before the parameter `name` changes: whoever holds it gets a copy.
    pub(crate) fn copy_before_write(&self, name: &str) -> Result<()> {
        let entries = lock(&self.0);
        for (_, source) in entries.iter().filter(|(entry, _)| entry == name) {
            let Some(source) = source.upgrade() else {
                continue;
            };
            let mut source = lock(&source);
            if !source.copied {
                source.tensor = source.tensor.copy()?;
                source.copied = true;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    fn values(snapshot: &Snapshot) -> Vec<f32> {
        let mut all = Vec::new();
        snapshot
            .try_for_each_chunk::<candle_core::Error>(|chunk| {
                all.extend_from_slice(chunk);
                Ok(())
            })
            .unwrap();
        all
    }

    #[test]
    fn what_is_held_stays_as_it_was() {
        let count = CHUNK + 7;
        let before: Vec<f32> = (0..count).map(|i| i as f32).collect();
        let var = Var::from_slice(&before, count, &Device::Cpu).unwrap();
        let snapshots = SnapshotRegistry::default();
        let snapshot = snapshots.snapshot("a", var.as_detached_tensor()).unwrap();
        let other = snapshots.snapshot("b", var.as_detached_tensor()).unwrap();
        snapshots.copy_before_write("a").unwrap();
        var.set(&var.zeros_like().unwrap()).unwrap();
        assert_eq!(values(&snapshot), before);
        assert_eq!(
            values(&other),
            vec![0.0; count],
            "nobody said that b changes"
        );
    }

    #[test]
    fn a_change_between_two_pieces_is_not_seen() {
        let count = 3 * CHUNK;
        let var = Var::ones(count, candle_core::DType::F32, &Device::Cpu).unwrap();
        let snapshots = SnapshotRegistry::default();
        let snapshot = snapshots.snapshot("a", var.as_detached_tensor()).unwrap();
        let mut sum = 0.0;
        snapshot
            .try_for_each_chunk::<candle_core::Error>(|chunk| {
                sum += chunk.iter().sum::<f32>();
                snapshots.copy_before_write("a")?;
                var.set(&var.zeros_like()?)
            })
            .unwrap();
        assert_eq!(sum, count as f32);
    }

    #[test]
    fn what_is_no_longer_held_is_not_copied() {
        let var = Var::ones(3, candle_core::DType::F32, &Device::Cpu).unwrap();
        let snapshots = SnapshotRegistry::default();
        let source = |snapshot: &Snapshot| match &snapshot.values {
            Source::Parameter(source) => Arc::downgrade(source),
            _ => unreachable!("a parameter"),
        };
        let snapshot = snapshots.snapshot("a", var.as_detached_tensor()).unwrap();
        let dropped = source(&snapshot);
        drop(snapshot);
        snapshots.copy_before_write("a").unwrap();
        assert!(dropped.upgrade().is_none());
        let _again = snapshots.snapshot("a", var.as_detached_tensor()).unwrap();
        assert_eq!(lock(&snapshots.0).len(), 1, "the list does not grow");
    }
}
