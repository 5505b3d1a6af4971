//! The rows of the table: workloads, batch sizes, and the libraries that run them.

use anyhow::{Result, bail};

/// The device that a row runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Device {
    /// The CPU.
    Cpu,
    /// The first NVIDIA GPU.
    Cuda,
}

/// Name of this project's worker.
pub const OURS: &str = "ours";

/// Name of the worker that uses candle's own operations.
pub const CANDLE: &str = "candle";

/// The only batch size at which candle is measured, because it is slow.
const CANDLE_BATCH: usize = 8;

const LAYOUTS: &[&str] = &["torch nchw", "torch channels_last"];
const RUNTIMES: &[&str] = &[
    "torch nchw",
    "torch channels_last",
    "onnxruntime",
    "openvino",
];
const PIPELINES: &[&str] = &["torchvision pillow", "torchvision v2"];

/// A workload, which has one row for each batch size.
#[derive(Debug)]
struct Workload {
    name: &'static str,
    /// Batch sizes, or empty for a workload that processes a whole directory of images.
    batches: &'static [usize],
    peers: &'static [&'static str],
    candle: bool,
    rounds: usize,
}

const WORKLOADS: [Workload; 15] = [
    Workload {
        name: "frozen forward",
        batches: &[1, 8, 32],
        peers: RUNTIMES,
        candle: true,
        rounds: 7,
    },
    Workload {
        name: "predict forward",
        batches: &[1],
        peers: RUNTIMES,
        candle: false,
        rounds: 7,
    },
    Workload {
        name: "features step",
        batches: &[8],
        peers: LAYOUTS,
        candle: true,
        rounds: 5,
    },
    Workload {
        name: "stage-1 step",
        batches: &[32],
        peers: LAYOUTS,
        candle: false,
        rounds: 5,
    },
    Workload {
        name: "stage-2 step",
        batches: &[32],
        peers: LAYOUTS,
        candle: false,
        rounds: 5,
    },
    Workload {
        name: "loader train uncached",
        batches: &[],
        peers: PIPELINES,
        candle: false,
        rounds: 9,
    },
    Workload {
        name: "loader train cached",
        batches: &[],
        peers: PIPELINES,
        candle: false,
        rounds: 9,
    },
    Workload {
        name: "stage-1 epochs",
        batches: &[],
        peers: LAYOUTS,
        candle: false,
        rounds: 3,
    },
    Workload {
        name: "two-stage recipe",
        batches: &[],
        peers: LAYOUTS,
        candle: false,
        rounds: 1,
    },
    on_gpu("cuda stage-1 step f32"),
    on_gpu("cuda stage-1 step tf32"),
    on_gpu("cuda stage-1 step bf16"),
    on_gpu("cuda stage-2 step f32"),
    on_gpu("cuda stage-2 step tf32"),
    on_gpu("cuda stage-2 step bf16"),
];

/// A training step on a GPU, compared with eager PyTorch. The name contains the precision of its
/// matrix products.
const fn on_gpu(name: &'static str) -> Workload {
    Workload {
        name,
        batches: &[32],
        peers: LAYOUTS,
        candle: false,
        rounds: 7,
    }
}

/// A row of the table.
#[derive(Debug)]
pub struct Row {
    name: String,
    workload: &'static Workload,
    batch: Option<usize>,
}

impl Row {
    /// All default rows for a device.
    pub fn all(device: Device) -> Vec<Self> {
        let mut rows = Self::all_devices();
        rows.retain(|row| row.device() == device);
        rows
    }

    fn all_devices() -> Vec<Self> {
        let of_workload = |workload: &'static Workload| {
            let batched = workload.batches.iter().map(move |&batch| Self {
                name: format!("{} b{batch}", workload.name),
                workload,
                batch: Some(batch),
            });
            let whole = workload.batches.is_empty().then(|| Self {
                name: workload.name.to_owned(),
                workload,
                batch: None,
            });
            batched.chain(whole)
        };
        WORKLOADS.iter().flat_map(of_workload).collect()
    }

    /// Parses the name of a row. In addition to the names of [`Row::all`], it accepts other batch
    /// sizes and an image size other than 224, as in `frozen forward b4 112px`.
    ///
    /// # Errors
    ///
    /// Returns an error that lists the names of [`Row::all`] if `name` is invalid.
    pub fn parse(name: &str) -> Result<Self> {
        let mut all = Self::all_devices();
        if let Some(index) = all.iter().position(|row| row.name == name) {
            return Ok(all.swap_remove(index));
        }
        let Some((workload, batch)) = WORKLOADS
            .iter()
            .find_map(|workload| parse_sizes(workload, name))
        else {
            let names: Vec<&str> = all.iter().map(|row| row.name.as_str()).collect();
            bail!(
                "unknown row `{name}`. The rows are: {}. Rows with a batch size also accept other sizes, such as \
                 `frozen forward b4 112px`",
                names.join(", ")
            );
        };
        Ok(Self {
            name: name.to_owned(),
            workload,
            batch: Some(batch),
        })
    }

    /// Device that the row runs on.
    pub fn device(&self) -> Device {
        match self.workload.name.starts_with("cuda ") {
            true => Device::Cuda,
            false => Device::Cpu,
        }
    }

    /// Batch size, or `None` for a workload that processes a whole directory.
    pub fn batch(&self) -> Option<usize> {
        self.batch
    }

    /// Name of the row, such as `frozen forward b8`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names of the workers that run this row, starting with this project's.
    pub fn workers(&self) -> impl Iterator<Item = &'static str> {
        let candle = self.workload.candle && self.batch == Some(CANDLE_BATCH);
        std::iter::once(OURS)
            .chain(self.workload.peers.iter().copied())
            .chain(candle.then_some(CANDLE))
    }

    /// Default number of turns of each worker.
    pub fn rounds(&self) -> usize {
        self.workload.rounds
    }

    /// Number of runs in a turn. A single run of a small batch, or on a GPU, is too short to time
    /// accurately.
    pub fn runs(&self) -> usize {
        let images = match self.device() {
            Device::Cpu => 16,
            Device::Cuda => 320,
        };
        self.batch.map_or(1, |batch| (images / batch).max(1))
    }

    /// Whether the row reads a directory of photographs.
    pub fn reads_images(&self) -> bool {
        self.batch.is_none()
    }
}

/// Whether a peer counts for a row's ratio. PyTorch's two layouts and torchvision's two pipelines
/// do.
pub fn counts_for_ratio(peer: &str) -> bool {
    LAYOUTS.contains(&peer) || PIPELINES.contains(&peer)
}

/// Parses `name` as `workload` with a batch size of at least 1 and an optional image size of at
/// least 32.
fn parse_sizes(workload: &'static Workload, name: &str) -> Option<(&'static Workload, usize)> {
    if workload.batches.is_empty() {
        return None;
    }
    let rest = name.strip_prefix(workload.name)?.strip_prefix(" b")?;
    let (batch, size) = match rest.split_once(' ') {
        Some((batch, size)) => (batch, size.strip_suffix("px")?),
        None => (rest, "224"),
    };
    let (batch, size): (usize, usize) = (batch.parse().ok()?, size.parse().ok()?);
    (batch > 0 && size >= 32).then_some((workload, batch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_names_are_stable() {
        let names =
            |device| -> Vec<String> { Row::all(device).into_iter().map(|row| row.name).collect() };
        assert_eq!(
            names(Device::Cuda),
            [
                "cuda stage-1 step f32 b32",
                "cuda stage-1 step tf32 b32",
                "cuda stage-1 step bf16 b32",
                "cuda stage-2 step f32 b32",
                "cuda stage-2 step tf32 b32",
                "cuda stage-2 step bf16 b32",
            ]
        );
        let names = names(Device::Cpu);
        assert_eq!(
            names,
            [
                "frozen forward b1",
                "frozen forward b8",
                "frozen forward b32",
                "predict forward b1",
                "features step b8",
                "stage-1 step b32",
                "stage-2 step b32",
                "loader train uncached",
                "loader train cached",
                "stage-1 epochs",
                "two-stage recipe",
            ]
        );
        for row in Row::all_devices() {
            assert_eq!(Row::parse(&row.name).unwrap().name, row.name);
        }
    }

    #[test]
    fn other_batch_and_image_sizes_are_accepted() {
        let row = Row::parse("frozen forward b4 112px").unwrap();
        assert_eq!(
            (row.name(), row.batch, row.runs()),
            ("frozen forward b4 112px", Some(4), 4)
        );
        assert_eq!(Row::parse("stage-2 step b64").unwrap().runs(), 1);
        assert_eq!(Row::parse("cuda stage-2 step bf16 b64").unwrap().runs(), 5);
        for name in [
            "frozen forward",
            "frozen forward b",
            "frozen forward b0",
            "frozen forward b4 16px",
            "frozen forward b4 112",
            "stage-1 epochs b4",
            "",
        ] {
            let error = Row::parse(name).unwrap_err().to_string();
            assert!(error.contains("stage-2 step b32"), "{name}: {error}");
        }
    }

    #[test]
    fn each_row_has_its_workers() {
        let workers = |name| {
            let row = Row::parse(name).unwrap();
            row.workers().collect::<Vec<_>>()
        };
        assert_eq!(
            workers("frozen forward b8"),
            [&[OURS], RUNTIMES, &[CANDLE]].concat()
        );
        assert_eq!(workers("frozen forward b1"), [&[OURS], RUNTIMES].concat());
        assert_eq!(
            workers("loader train cached"),
            [&[OURS], PIPELINES].concat()
        );
        assert_eq!(workers("stage-2 step b8"), [&[OURS], LAYOUTS].concat());
    }

    #[test]
    fn two_peers_of_every_row_count_for_the_ratio() {
        for row in Row::all_devices() {
            assert_eq!(
                row.workers().filter(|peer| counts_for_ratio(peer)).count(),
                2
            );
        }
    }
}
