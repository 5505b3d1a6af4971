//! What is compared: the rows, and who takes part in each.

use anyhow::{Result, bail};

/// What the contenders compute on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Device {
    /// The processor.
    Cpu,
    /// The first NVIDIA GPU.
    Cuda,
}

/// This project.
pub const OURS: &str = "ours";

/// The operations of candle itself.
pub const CANDLE: &str = "candle";

/// The batch at which candle takes part: so slow that one is enough.
const CANDLE_BATCH: usize = 8;

const LAYOUTS: &[&str] = &["torch nchw", "torch channels_last"];
const RUNTIMES: &[&str] = &[
    "torch nchw",
    "torch channels_last",
    "onnxruntime",
    "openvino",
];
const PIPELINES: &[&str] = &["torchvision pillow", "torchvision v2"];

/// A kind of work.
#[derive(Debug)]
struct Work {
    name: &'static str,
    /// The batches of the rows that it makes; none if it is about a whole folder of pictures.
    batches: &'static [usize],
    peers: &'static [&'static str],
    candle: bool,
    rounds: usize,
}

const WORKS: [Work; 15] = [
    Work {
        name: "frozen forward",
        batches: &[1, 8, 32],
        peers: RUNTIMES,
        candle: true,
        rounds: 7,
    },
    Work {
        name: "predict forward",
        batches: &[1],
        peers: RUNTIMES,
        candle: false,
        rounds: 7,
    },
    Work {
        name: "features step",
        batches: &[8],
        peers: LAYOUTS,
        candle: true,
        rounds: 5,
    },
    Work {
        name: "stage-1 step",
        batches: &[32],
        peers: LAYOUTS,
        candle: false,
        rounds: 5,
    },
    Work {
        name: "stage-2 step",
        batches: &[32],
        peers: LAYOUTS,
        candle: false,
        rounds: 5,
    },
    Work {
        name: "loader train uncached",
        batches: &[],
        peers: PIPELINES,
        candle: false,
        rounds: 9,
    },
    Work {
        name: "loader train cached",
        batches: &[],
        peers: PIPELINES,
        candle: false,
        rounds: 9,
    },
    Work {
        name: "stage-1 epochs",
        batches: &[],
        peers: LAYOUTS,
        candle: false,
        rounds: 3,
    },
    Work {
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

/// A training step on a GPU, against PyTorch in its eager mode, with products rounded as the name says.
const fn on_gpu(name: &'static str) -> Work {
    Work {
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
    work: &'static Work,
    batch: Option<usize>,
}

impl Row {
    /// The rows of a device, which are measured when none is named.
    pub fn all(device: Device) -> Vec<Self> {
        let mut rows = Self::everywhere();
        rows.retain(|row| row.device() == device);
        rows
    }

    fn everywhere() -> Vec<Self> {
        let of_work = |work: &'static Work| {
            let batched = work.batches.iter().map(move |&batch| Self {
                name: format!("{} b{batch}", work.name),
                work,
                batch: Some(batch),
            });
            let whole = work.batches.is_empty().then(|| Self {
                name: work.name.to_owned(),
                work,
                batch: None,
            });
            batched.chain(whole)
        };
        WORKS.iter().flat_map(of_work).collect()
    }

    /// The row of a name: one of [`Row::all`], or one of them with another batch, and with a height and width
    /// of the pictures other than 224: `frozen forward b4 112px`.
    ///
    /// # Errors
    /// A name that is none, with those that are.
    pub fn parse(name: &str) -> Result<Self> {
        let mut all = Self::everywhere();
        if let Some(found) = all.iter().position(|row| row.name == name) {
            return Ok(all.swap_remove(found));
        }
        let Some((work, batch)) = WORKS.iter().find_map(|work| sized(work, name)) else {
            let names: Vec<&str> = all.iter().map(|row| row.name.as_str()).collect();
            bail!(
                "there is no row `{name}`. There are: {}; with a batch b also others, and sizes, as in \
                 `frozen forward b4 112px`",
                names.join(", ")
            );
        };
        Ok(Self {
            name: name.to_owned(),
            work,
            batch: Some(batch),
        })
    }

    /// Where it is computed.
    pub fn device(&self) -> Device {
        match self.work.name.starts_with("cuda ") {
            true => Device::Cuda,
            false => Device::Cpu,
        }
    }

    /// Pictures in a run, where a run is about a batch.
    pub fn batch(&self) -> Option<usize> {
        self.batch
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who takes part, this project first.
    pub fn contenders(&self) -> impl Iterator<Item = &'static str> {
        let candle = self.work.candle && self.batch == Some(CANDLE_BATCH);
        std::iter::once(OURS)
            .chain(self.work.peers.iter().copied())
            .chain(candle.then_some(CANDLE))
    }

    /// How many turns each contender has, if nobody says.
    pub fn rounds(&self) -> usize {
        self.work.rounds
    }

    /// How many runs make a turn: small batches, and those on a GPU, are too short to be timed alone.
    pub fn runs(&self) -> usize {
        let pictures = match self.device() {
            Device::Cpu => 16,
            Device::Cuda => 320,
        };
        self.batch.map_or(1, |batch| (pictures / batch).max(1))
    }

    /// Whether it needs a folder of photographs.
    pub fn reads_pictures(&self) -> bool {
        self.batch.is_none()
    }
}

/// Whether a peer decides the ratio of a row: the layouts of PyTorch do, and torchvision's pipelines.
pub fn decides(peer: &str) -> bool {
    LAYOUTS.contains(&peer) || PIPELINES.contains(&peer)
}

/// `name` as `work` with a batch and perhaps a size, both at least what the network can take.
fn sized(work: &'static Work, name: &str) -> Option<(&'static Work, usize)> {
    if work.batches.is_empty() {
        return None;
    }
    let rest = name.strip_prefix(work.name)?.strip_prefix(" b")?;
    let (batch, size) = match rest.split_once(' ') {
        Some((batch, size)) => (batch, size.strip_suffix("px")?),
        None => (rest, "224"),
    };
    let (batch, size): (usize, usize) = (batch.parse().ok()?, size.parse().ok()?);
    (batch > 0 && size >= 32).then_some((work, batch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_have_the_names_that_reports_rely_on() {
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
        for row in Row::everywhere() {
            assert_eq!(Row::parse(&row.name).unwrap().name, row.name);
        }
    }

    #[test]
    fn other_batches_and_sizes_are_rows_too() {
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
    fn each_row_has_its_contenders() {
        let contenders = |name| {
            let row = Row::parse(name).unwrap();
            row.contenders().collect::<Vec<_>>()
        };
        assert_eq!(
            contenders("frozen forward b8"),
            [&[OURS], RUNTIMES, &[CANDLE]].concat()
        );
        assert_eq!(
            contenders("frozen forward b1"),
            [&[OURS], RUNTIMES].concat()
        );
        assert_eq!(
            contenders("loader train cached"),
            [&[OURS], PIPELINES].concat()
        );
        assert_eq!(contenders("stage-2 step b8"), [&[OURS], LAYOUTS].concat());
    }

    #[test]
    fn every_row_has_a_peer_that_decides() {
        for row in Row::everywhere() {
            assert_eq!(row.contenders().filter(|peer| decides(peer)).count(), 2);
        }
    }
}
