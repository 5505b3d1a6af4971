//! What the races came to, as a table and as JSON.

use super::race::{Figures, Outcome};
use super::rows::{Device, OURS, Row, decides};
use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// A row that has been measured.
#[derive(Clone, Debug)]
pub struct Measured {
    name: String,
    /// Pictures in a run on a GPU, whose speed is told in pictures a second.
    pictures: Option<usize>,
    ours: Figures,
    peers: Vec<Figures>,
    skipped: Vec<(String, String)>,
}

impl Measured {
    /// The row from its race.
    ///
    /// # Errors
    /// When this project did not take part.
    pub fn new(row: &Row, outcome: Outcome) -> Result<Self> {
        let Outcome {
            mut figures,
            skipped,
        } = outcome;
        let ours = figures
            .iter()
            .position(|figures| figures.name == OURS)
            .with_context(|| format!("this project did not take part: {skipped:?}"))?;
        let ours = figures.remove(ours);
        Ok(Self {
            name: row.name().to_owned(),
            pictures: row.batch().filter(|_| row.device() == Device::Cuda),
            ours,
            peers: figures,
            skipped,
        })
    }

    /// The fastest of the peers that decide.
    fn best(&self) -> Option<&Figures> {
        let deciding = self.peers.iter().filter(|peer| decides(&peer.name));
        deciding.min_by(|a, b| median(&a.seconds).total_cmp(&median(&b.seconds)))
    }

    /// How many times as long the best peer takes, if one took part.
    pub fn ratio(&self) -> Option<f64> {
        self.best().map(|best| self.times_ours(best))
    }

    /// Each contender's pictures a second, in words, where the row is about that.
    fn speeds(&self) -> Option<String> {
        let pictures = self.pictures? as f64;
        let contenders = std::iter::once(&self.ours).chain(&self.peers);
        let speeds = contenders.map(|figures| {
            let speed = pictures / median(&figures.seconds);
            format!("{} {speed:.0}", figures.name)
        });
        Some(speeds.collect::<Vec<_>>().join(", "))
    }

    fn times_ours(&self, peer: &Figures) -> f64 {
        median(&peer.seconds) / median(&self.ours.seconds)
    }

    fn json(&self) -> Value {
        let of_peers = |value: &dyn Fn(&Figures) -> Value| -> Map<String, Value> {
            let pairs = self
                .peers
                .iter()
                .map(|peer| (peer.name.clone(), value(peer)));
            pairs.collect()
        };
        let mut rounds = of_peers(&|peer| json!(peer.seconds));
        rounds.insert(OURS.to_owned(), json!(self.ours.seconds));
        let skipped: Map<String, Value> = self
            .skipped
            .iter()
            .map(|(name, why)| (name.clone(), json!(why)))
            .collect();
        json!({
            "name": self.name,
            "ours_seconds": median(&self.ours.seconds),
            "peers": of_peers(&|peer| json!(median(&peer.seconds))),
            "ratio": self.ratio(),
            "ours_peak_bytes": self.ours.peak_bytes,
            "peers_peak_bytes": of_peers(&|peer| json!(peer.peak_bytes)),
            "rounds": rounds,
            "skipped": skipped,
        })
    }
}

/// The rows as a JSON list, in the order of the table.
pub fn json(measured: &[Measured]) -> String {
    let rows: Vec<Value> = measured.iter().map(Measured::json).collect();
    format!("{:#}\n", Value::Array(rows))
}

/// The rows as a table in Markdown that also reads well as plain text.
pub fn table(measured: &[Measured]) -> String {
    let header = [
        "row",
        "by",
        "seconds",
        "spread",
        "times ours",
        "peak MB",
        "times ours",
    ];
    let mut lines = vec![header.map(str::to_owned)];
    for row in measured {
        let best = row.best().map(|best| &best.name);
        for figures in std::iter::once(&row.ours).chain(&row.peers) {
            let is_ours = figures.name == OURS;
            let mark = if best == Some(&figures.name) {
                " *"
            } else {
                ""
            };
            let times = |value: f64| match is_ours {
                true => String::new(),
                false => format!("{value:.2}"),
            };
            lines.push([
                if is_ours {
                    row.name.clone()
                } else {
                    String::new()
                },
                format!("{}{mark}", figures.name),
                format!("{:.4}", median(&figures.seconds)),
                format!("{:.0} %", 100.0 * spread(&figures.seconds)),
                times(row.times_ours(figures)) + mark,
                format!("{:.0}", figures.peak_bytes as f64 / 1e6),
                times(figures.peak_bytes as f64 / row.ours.peak_bytes as f64),
            ]);
        }
    }
    let widths: [usize; 7] = std::array::from_fn(|column| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or_default()
    });
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let cells = line.iter().zip(widths).enumerate();
        for (column, (cell, width)) in cells {
            text += &match is_number(column) {
                true => format!("| {cell:>width$} "),
                false => format!("| {cell:<width$} "),
            };
        }
        text += "|\n";
        if number == 0 {
            for (column, width) in widths.into_iter().enumerate() {
                let end = if is_number(column) { ":" } else { "-" };
                text += &format!("|{}{end}", "-".repeat(width + 1));
            }
            text += "|\n";
        }
    }
    text += "\nSeconds are the median of the turns, spread is largest less smallest turn over the median, peak is \
             the largest resident memory of the process after its set-up, its libraries included, without the \
             worker processes of a loader. On a GPU it is the most that tensors had there. The row's ratio is \
             marked *.\n";
    for row in measured {
        if let Some(speeds) = row.speeds() {
            text += &format!("{}: pictures a second: {speeds}.\n", row.name);
        }
    }
    for row in measured {
        for (name, why) in &row.skipped {
            text += &format!("{}: without {name}, {why}.\n", row.name);
        }
    }
    text
}

fn is_number(column: usize) -> bool {
    column >= 2
}

/// The middle of the values, or the mean of the middle two.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

fn spread(values: &[f64]) -> f64 {
    let largest = values.iter().copied().fold(f64::MIN, f64::max);
    let smallest = values.iter().copied().fold(f64::MAX, f64::min);
    (largest - smallest) / median(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(name: &str, seconds: &[f64], peak_bytes: u64) -> Figures {
        Figures {
            name: name.to_owned(),
            seconds: seconds.to_vec(),
            peak_bytes,
        }
    }

    fn named(name: &str) -> Row {
        Row::parse(name).unwrap()
    }

    #[test]
    fn a_gpus_speed_is_in_pictures_a_second() {
        let outcome = Outcome {
            figures: vec![
                figures(OURS, &[0.1, 0.2, 0.1], 1),
                figures("torch nchw", &[0.05], 1),
            ],
            skipped: Vec::new(),
        };
        let row = Measured::new(&named("cuda stage-2 step bf16 b32"), outcome).unwrap();
        assert_eq!(row.speeds().unwrap(), "ours 320, torch nchw 640");
        assert!(table(&[row]).contains("pictures a second: ours 320, torch nchw 640"));
    }

    fn row() -> Measured {
        let outcome = Outcome {
            figures: vec![
                figures(OURS, &[0.25, 1.0, 0.125], 400_000_000),
                figures("torch nchw", &[2.0, 1.0, 3.0], 1_600_000_000),
                figures("torch channels_last", &[0.75, 0.8, 0.7], 1_200_000_000),
                // Faster than both layouts, but it does not decide.
                figures("openvino", &[0.5, 0.5, 0.5], 600_000_000),
            ],
            skipped: vec![("onnxruntime".to_owned(), "not installed".to_owned())],
        };
        Measured::new(&named("frozen forward b8"), outcome).unwrap()
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 8.0]), 3.0);
        assert_eq!(median(&[5.0]), 5.0);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), 1.0);
    }

    #[test]
    fn the_better_layout_of_pytorch_decides() {
        assert_eq!(row().ratio(), Some(3.0));
        let alone = Outcome {
            figures: vec![figures(OURS, &[1.0], 1), figures("openvino", &[1.0], 1)],
            skipped: Vec::new(),
        };
        let alone = Measured::new(&named("frozen forward b8"), alone).unwrap();
        assert_eq!((alone.ratio(), alone.speeds()), (None, None));
    }

    #[test]
    fn a_row_without_us_is_an_error() {
        let outcome = Outcome {
            figures: vec![figures("torch nchw", &[1.0], 1)],
            skipped: vec![(OURS.to_owned(), "tired".to_owned())],
        };
        let error = Measured::new(&named("frozen forward b8"), outcome).unwrap_err();
        assert!(error.to_string().contains("tired"), "{error}");
    }

    #[test]
    fn json_is_a_list_of_rows() {
        let rows: Value = serde_json::from_str(&json(&[row()])).unwrap();
        let expected = json!([{
            "name": "frozen forward b8",
            "ours_seconds": 0.25,
            "peers": {"torch nchw": 2.0, "torch channels_last": 0.75, "openvino": 0.5},
            "ratio": 3.0,
            "ours_peak_bytes": 400_000_000,
            "peers_peak_bytes": {
                "torch nchw": 1_600_000_000, "torch channels_last": 1_200_000_000, "openvino": 600_000_000,
            },
            "rounds": {
                "ours": [0.25, 1.0, 0.125], "torch nchw": [2.0, 1.0, 3.0],
                "torch channels_last": [0.75, 0.8, 0.7], "openvino": [0.5, 0.5, 0.5],
            },
            "skipped": {"onnxruntime": "not installed"},
        }]);
        assert_eq!(rows, expected);
        assert_eq!(json(&[]), "[]\n");
    }

    #[test]
    fn the_table_is_aligned_and_marks_the_ratio() {
        let text = table(&[row()]);
        let lines: Vec<&str> = text.lines().collect();
        let expected = [
            "| row               | by                    | seconds | spread | times ours | peak MB | times ours |",
            "|-------------------|-----------------------|--------:|-------:|-----------:|--------:|-----------:|",
            "| frozen forward b8 | ours                  |  0.2500 |  350 % |            |     400 |            |",
            "|                   | torch nchw            |  2.0000 |  100 % |       8.00 |    1600 |       4.00 |",
            "|                   | torch channels_last * |  0.7500 |   13 % |     3.00 * |    1200 |       3.00 |",
            "|                   | openvino              |  0.5000 |    0 % |       2.00 |     600 |       1.50 |",
        ];
        assert_eq!(lines[..6], expected);
        assert!(
            text.contains("without onnxruntime, not installed"),
            "{text}"
        );
    }
}
