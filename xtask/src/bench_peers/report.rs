//! Writes the results as a table and as JSON.

use super::rounds::{Measurement, Outcome};
use super::rows::{Device, OURS, Row, counts_for_ratio};
use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// The results of one row.
#[derive(Clone, Debug)]
pub struct RowResult {
    name: String,
    /// Batch size, for rows whose speed is also reported in images per second.
    images: Option<usize>,
    ours: Measurement,
    peers: Vec<Measurement>,
    skipped: Vec<(String, String)>,
}

impl RowResult {
    /// Combines the measurements of a row.
    ///
    /// # Errors
    ///
    /// Returns an error if this project's worker did not run.
    pub fn new(row: &Row, outcome: Outcome) -> Result<Self> {
        let Outcome {
            mut measurements,
            skipped,
        } = outcome;
        let ours = measurements
            .iter()
            .position(|measurement| measurement.name == OURS)
            .with_context(|| format!("this project's worker did not run: {skipped:?}"))?;
        let ours = measurements.remove(ours);
        Ok(Self {
            name: row.name().to_owned(),
            images: row.batch().filter(|_| row.device() == Device::Cuda),
            ours,
            peers: measurements,
            skipped,
        })
    }

    /// The fastest peer that counts for the ratio.
    fn best(&self) -> Option<&Measurement> {
        let counting = self
            .peers
            .iter()
            .filter(|peer| counts_for_ratio(&peer.name));
        counting.min_by(|a, b| median(&a.seconds).total_cmp(&median(&b.seconds)))
    }

    /// Time of the fastest peer that counts, divided by this project's time. Above 1, this project
    /// is faster.
    pub fn ratio(&self) -> Option<f64> {
        self.best().map(|best| self.relative_time(best))
    }

    /// Images per second of each worker, for rows on a GPU.
    fn speeds(&self) -> Option<String> {
        let images = self.images? as f64;
        let measurements = std::iter::once(&self.ours).chain(&self.peers);
        let speeds = measurements.map(|measurement| {
            let speed = images / median(&measurement.seconds);
            format!("{} {speed:.0}", measurement.name)
        });
        Some(speeds.collect::<Vec<_>>().join(", "))
    }

    /// A worker's time divided by this project's time.
    fn relative_time(&self, peer: &Measurement) -> f64 {
        median(&peer.seconds) / median(&self.ours.seconds)
    }

    fn json(&self) -> Value {
        let of_peers = |value: &dyn Fn(&Measurement) -> Value| -> Map<String, Value> {
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
            .map(|(name, reason)| (name.clone(), json!(reason)))
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

/// Formats the rows as a JSON list, in the order of the table.
pub fn json(results: &[RowResult]) -> String {
    let rows: Vec<Value> = results.iter().map(RowResult::json).collect();
    format!("{:#}\n", Value::Array(rows))
}

/// Formats the rows as an aligned Markdown table.
pub fn table(results: &[RowResult]) -> String {
    let header = [
        "row", "library", "seconds", "spread", "vs ours", "peak MB", "vs ours",
    ];
    let mut lines = vec![header.map(str::to_owned)];
    for row in results {
        let best = row.best().map(|best| &best.name);
        for measurement in std::iter::once(&row.ours).chain(&row.peers) {
            let is_ours = measurement.name == OURS;
            let mark = if best == Some(&measurement.name) {
                " *"
            } else {
                ""
            };
            let ratio = |value: f64| match is_ours {
                true => String::new(),
                false => format!("{value:.2}"),
            };
            lines.push([
                if is_ours {
                    row.name.clone()
                } else {
                    String::new()
                },
                format!("{}{mark}", measurement.name),
                format!("{:.4}", median(&measurement.seconds)),
                format!("{:.0} %", 100.0 * spread(&measurement.seconds)),
                ratio(row.relative_time(measurement)) + mark,
                format!("{:.0}", measurement.peak_bytes as f64 / 1e6),
                ratio(measurement.peak_bytes as f64 / row.ours.peak_bytes as f64),
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
    text += "\nSeconds is the median of the turns. Spread is the range of the turns divided by the median. Peak is \
             the peak resident memory of the process after setup, including its libraries but not the worker \
             processes of a data loader; on a GPU, the peak memory of tensors. The fastest peer is marked *.\n";
    for row in results {
        if let Some(speeds) = row.speeds() {
            text += &format!("{}: images per second: {speeds}.\n", row.name);
        }
    }
    for row in results {
        for (name, reason) in &row.skipped {
            text += &format!("{}: skipped {name} ({reason}).\n", row.name);
        }
    }
    text
}

/// Whether a column holds numbers, which are aligned to the right.
fn is_number(column: usize) -> bool {
    column >= 2
}

/// The median, or NaN if `values` is empty.
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

/// The range of the values divided by their median.
fn spread(values: &[f64]) -> f64 {
    let largest = values.iter().copied().fold(f64::MIN, f64::max);
    let smallest = values.iter().copied().fold(f64::MAX, f64::min);
    (largest - smallest) / median(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(name: &str, seconds: &[f64], peak_bytes: u64) -> Measurement {
        Measurement {
            name: name.to_owned(),
            seconds: seconds.to_vec(),
            peak_bytes,
        }
    }

    fn named(name: &str) -> Row {
        Row::parse(name).unwrap()
    }

    #[test]
    fn rows_on_a_gpu_report_images_per_second() {
        let outcome = Outcome {
            measurements: vec![
                measurement(OURS, &[0.1, 0.2, 0.1], 1),
                measurement("torch nchw", &[0.05], 1),
            ],
            skipped: Vec::new(),
        };
        let row = RowResult::new(&named("cuda stage-2 step bf16 b32"), outcome).unwrap();
        assert_eq!(row.speeds().unwrap(), "ours 320, torch nchw 640");
        assert!(table(&[row]).contains("images per second: ours 320, torch nchw 640"));
    }

    fn row() -> RowResult {
        let outcome = Outcome {
            measurements: vec![
                measurement(OURS, &[0.25, 1.0, 0.125], 400_000_000),
                measurement("torch nchw", &[2.0, 1.0, 3.0], 1_600_000_000),
                measurement("torch channels_last", &[0.75, 0.8, 0.7], 1_200_000_000),
                // OpenVINO is faster than PyTorch here, but does not count for the ratio.
                measurement("openvino", &[0.5, 0.5, 0.5], 600_000_000),
            ],
            skipped: vec![("onnxruntime".to_owned(), "not installed".to_owned())],
        };
        RowResult::new(&named("frozen forward b8"), outcome).unwrap()
    }

    #[test]
    fn median_and_spread_are_correct() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 8.0]), 3.0);
        assert_eq!(median(&[5.0]), 5.0);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), 1.0);
    }

    #[test]
    fn the_ratio_uses_the_faster_layout_of_pytorch() {
        assert_eq!(row().ratio(), Some(3.0));
        let alone = Outcome {
            measurements: vec![
                measurement(OURS, &[1.0], 1),
                measurement("openvino", &[1.0], 1),
            ],
            skipped: Vec::new(),
        };
        let alone = RowResult::new(&named("frozen forward b8"), alone).unwrap();
        assert_eq!((alone.ratio(), alone.speeds()), (None, None));
    }

    #[test]
    fn a_row_without_this_project_is_an_error() {
        let outcome = Outcome {
            measurements: vec![measurement("torch nchw", &[1.0], 1)],
            skipped: vec![(OURS.to_owned(), "out of memory".to_owned())],
        };
        let error = RowResult::new(&named("frozen forward b8"), outcome).unwrap_err();
        assert!(error.to_string().contains("out of memory"), "{error}");
    }

    #[test]
    fn json_contains_all_measurements() {
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
    fn the_table_is_aligned_and_marks_the_fastest_peer() {
        let text = table(&[row()]);
        let lines: Vec<&str> = text.lines().collect();
        let expected = [
            "| row               | library               | seconds | spread | vs ours | peak MB | vs ours |",
            "|-------------------|-----------------------|--------:|-------:|--------:|--------:|--------:|",
            "| frozen forward b8 | ours                  |  0.2500 |  350 % |         |     400 |         |",
            "|                   | torch nchw            |  2.0000 |  100 % |    8.00 |    1600 |    4.00 |",
            "|                   | torch channels_last * |  0.7500 |   13 % |  3.00 * |    1200 |    3.00 |",
            "|                   | openvino              |  0.5000 |    0 % |    2.00 |     600 |    1.50 |",
        ];
        assert_eq!(lines[..6], expected);
        assert!(
            text.contains("skipped onnxruntime (not installed)"),
            "{text}"
        );
    }
}
