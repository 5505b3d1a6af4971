//! Copy-on-write snapshots, so that a thread can save the training state while training continues.
//!
//! Copying all weights and velocities up front would double their memory use, although most values
//! are read before the next update changes them. A tensor is therefore copied only if it is about
//! to change and a snapshot still refers to it.
//!
//! A snapshot of a tensor on a GPU is copied to the host immediately. Each thread has a CUDA stream
//! of its own. A reader on another stream would not wait for kernels that training has queued, and
//! training could reuse freed memory that the reader still reads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use candle_core::{CpuStorage, Device, Result, Shape, Storage, Tensor, bail};

/// A copy-on-write snapshot of an f32 tensor: a parameter, a velocity, or a constant.
///
/// [`Sgd::step`](crate::Sgd::step) and [`Params::restore`](crate::Params::restore) copy the tensor
/// before they write to it. Direct calls of `Var::set` are not tracked. Drop a snapshot after
/// reading it, because the next update copies the tensor if the snapshot still exists.
#[derive(Debug)]
pub struct Snapshot {
    shape: Shape,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// A parameter, which is updated in place.
    Parameter(Arc<Mutex<SharedTensor>>),
    /// A velocity. An update copies it first if the `Arc` is shared.
    Velocity(Arc<Vec<f32>>),
    /// A tensor that never changes.
    Constant(Tensor),
}

/// A tensor that shares its storage with a parameter until the parameter changes.
#[derive(Debug)]
struct SharedTensor {
    tensor: Tensor,
    /// Whether `tensor` is already a copy with its own storage.
    copied: bool,
}

/// Number of values read under the lock at once. A chunk fits in the CPU cache, and an update waits
/// for at most one chunk.
const CHUNK: usize = 1 << 16;

impl Snapshot {
    /// Creates a snapshot of a tensor that never changes.
    ///
    /// # Errors
    ///
    /// Returns an error if the tensor cannot be copied to the CPU.
    pub fn new(tensor: &Tensor) -> Result<Self> {
        Ok(Self {
            shape: tensor.shape().clone(),
            source: Source::Constant(tensor.to_device(&Device::Cpu)?.contiguous()?),
        })
    }

    /// Creates a snapshot of the velocity of a parameter with shape `shape`.
    pub(crate) fn velocity(values: Arc<Vec<f32>>, shape: &Shape) -> Self {
        Self {
            shape: shape.clone(),
            source: Source::Velocity(values),
        }
    }

    /// Shape of the tensor.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Copies the values to a tensor on the CPU.
    ///
    /// # Errors
    ///
    /// Returns an error if the tensor is not f32.
    pub fn to_tensor(&self) -> Result<Tensor> {
        let mut values = Vec::with_capacity(self.shape.elem_count());
        self.try_for_each_chunk::<candle_core::Error>(|chunk| {
            values.extend_from_slice(chunk);
            Ok(())
        })?;
        Tensor::from_vec(values, &self.shape, &Device::Cpu)
    }

    /// Calls `work` with consecutive chunks of the values, in row-major order.
    ///
    /// # Errors
    ///
    /// Returns the first error from `work`, or an error if the tensor is not f32.
    pub fn try_for_each_chunk<E: From<candle_core::Error>>(
        &self,
        mut work: impl FnMut(&[f32]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let shared = match &self.source {
            Source::Velocity(values) => return values.chunks(CHUNK).try_for_each(work),
            Source::Constant(tensor) => {
                return with_values(tensor, |values| values.chunks(CHUNK).try_for_each(work))?;
            }
            Source::Parameter(shared) => shared,
        };
        // `work` runs without the lock, so that a concurrent update does not wait for it.
        let count = self.shape.elem_count();
        let mut chunk = Vec::with_capacity(CHUNK.min(count));
        for from in (0..count).step_by(CHUNK) {
            chunk.clear();
            with_values(&lock(shared).tensor, |values| {
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
        _ => bail!(
            "the tensor of a snapshot must be f32, but is {:?}",
            tensor.dtype()
        ),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A poisoned mutex still guards a consistent value: no code panics between related assignments.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The existing snapshots of parameters, so that an update can copy a parameter before
/// writing to it. Clones refer to the same registry.
#[derive(Clone, Debug, Default)]
pub(crate) struct SnapshotRegistry(Arc<Mutex<Vec<Entry>>>);

/// The name of a parameter, and the tensor read by its snapshot.
type Entry = (String, Weak<Mutex<SharedTensor>>);

impl SnapshotRegistry {
    /// Takes a snapshot of the parameter `name`, whose storage `tensor` shares.
    pub(crate) fn snapshot(&self, name: &str, tensor: Tensor) -> Result<Snapshot> {
        if !tensor.device().is_cpu() {
            return Snapshot::new(&tensor);
        }
        let tensor = tensor.contiguous()?;
        let shape = tensor.shape().clone();
        let shared = Arc::new(Mutex::new(SharedTensor {
            tensor,
            copied: false,
        }));
        let mut entries = lock(&self.0);
        entries.retain(|(_, shared)| shared.strong_count() > 0);
        entries.push((name.to_owned(), Arc::downgrade(&shared)));
        Ok(Snapshot {
            shape,
            source: Source::Parameter(shared),
        })
    }

    /// Copies the parameter `name` for the snapshots that refer to it. Call this before each write.
    pub(crate) fn copy_before_write(&self, name: &str) -> Result<()> {
        let entries = lock(&self.0);
        for (_, shared) in entries.iter().filter(|(entry, _)| entry == name) {
            let Some(shared) = shared.upgrade() else {
                continue;
            };
            let mut shared = lock(&shared);
            if !shared.copied {
                shared.tensor = shared.tensor.copy()?;
                shared.copied = true;
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
        snapshot.to_tensor().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_snapshot_keeps_its_values_after_a_write() {
        let count = CHUNK + 7;
        let before: Vec<f32> = (0..count).map(|i| i as f32).collect();
        let var = Var::from_slice(&before, count, &Device::Cpu).unwrap();
        let registry = SnapshotRegistry::default();
        let snapshot = registry.snapshot("a", var.as_detached_tensor()).unwrap();
        let other = registry.snapshot("b", var.as_detached_tensor()).unwrap();
        registry.copy_before_write("a").unwrap();
        var.set(&var.zeros_like().unwrap()).unwrap();
        assert_eq!(values(&snapshot), before);
        assert_eq!(
            values(&other),
            vec![0.0; count],
            "`copy_before_write(\"a\")` also copied `b`"
        );
    }

    #[test]
    fn a_write_between_two_chunks_is_not_visible() {
        let count = 3 * CHUNK;
        let var = Var::ones(count, candle_core::DType::F32, &Device::Cpu).unwrap();
        let registry = SnapshotRegistry::default();
        let snapshot = registry.snapshot("a", var.as_detached_tensor()).unwrap();
        let mut sum = 0.0;
        snapshot
            .try_for_each_chunk::<candle_core::Error>(|chunk| {
                sum += chunk.iter().sum::<f32>();
                registry.copy_before_write("a")?;
                var.set(&var.zeros_like()?)
            })
            .unwrap();
        assert_eq!(sum, count as f32);
    }

    #[test]
    fn a_dropped_snapshot_is_not_copied() {
        let var = Var::ones(3, candle_core::DType::F32, &Device::Cpu).unwrap();
        let registry = SnapshotRegistry::default();
        let shared = |snapshot: &Snapshot| match &snapshot.source {
            Source::Parameter(shared) => Arc::downgrade(shared),
            _ => unreachable!("the snapshot must refer to a parameter on the CPU"),
        };
        let snapshot = registry.snapshot("a", var.as_detached_tensor()).unwrap();
        let dropped = shared(&snapshot);
        drop(snapshot);
        registry.copy_before_write("a").unwrap();
        assert!(dropped.upgrade().is_none());
        let _second = registry.snapshot("a", var.as_detached_tensor()).unwrap();
        assert_eq!(
            lock(&registry.0).len(),
            1,
            "the registry still contains the dropped snapshot"
        );
    }
}
