//! The comparison of runs: settings that differ, results, and McNemar's test on the same val images.

mod page;
pub mod predictions;

use std::path::Path;

use anyhow::bail;
use insight::{McNemar, wilson_interval};

use crate::config::Config;
use crate::error::Diagnostic;
use crate::escape::printable_path;
use crate::metrics::{EpochRow, Metrics};
use crate::report::settings::settings;
use crate::run_dir::Marker;
use crate::shell::quote;
use crate::ui::text::{duration, loss, percent, percent_range};
use predictions::Predictions;

/// Runs side by side.
pub struct Comparison {
    runs: Vec<Run>,
    /// Settings that differ: the name, and the value of each run. `None` if a run lacks the setting.
    pub settings: Vec<(String, Vec<Option<String>>)>,
    /// One test for each pair of runs, given by their indices. The error says why there is none.
    pub tests: Vec<(usize, usize, Result<McNemar, String>)>,
}

struct Run {
    name: String,
    config: Config,
    rows: Vec<EpochRow>,
    predictions: Result<Predictions, String>,
}

impl Comparison {
    /// Reads the runs.
    ///
    /// # Errors
    ///
    /// Returns an error if a run is not finished or given twice, if a directory has no valid
    /// `config.toml` or `metrics.csv`, or if its `predictions.csv` is damaged.
    pub fn read<P: AsRef<Path>>(paths: &[P]) -> anyhow::Result<Self> {
        let runs = paths.iter().map(|path| Run::read(path.as_ref()));
        let runs: Vec<Run> = runs.collect::<anyhow::Result<_>>()?;
        let real: Vec<_> = paths
            .iter()
            .map(|path| path.as_ref().canonicalize())
            .collect::<Result<_, _>>()?;
        for (index, path) in real.iter().enumerate() {
            if real[..index].contains(path) {
                let run = paths[index].as_ref().display();
                bail!(
                    Diagnostic::new(format!("the run {run} is given twice"))
                        .help("pass the directories of different runs")
                );
            }
        }
        Ok(Self {
            settings: differences(&runs)?,
            tests: tests(&runs),
            runs,
        })
    }

    /// The names of the runs.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.runs.iter().map(|run| run.name.as_str())
    }

    /// The results of the runs, below a heading row.
    pub fn results(&self) -> Vec<Vec<String>> {
        let heading = [
            "run",
            "val accuracy",
            "95 % interval",
            "val loss",
            "best epoch",
            "epochs",
            "time",
        ];
        let mut table = vec![heading.map(String::from).to_vec()];
        table.extend(self.runs.iter().map(Run::results));
        table
    }

    /// Whether there is a test of any pair.
    pub fn has_tests(&self) -> bool {
        self.tests.iter().any(|(_, _, test)| test.is_ok())
    }

    /// The tests as rows of text, below a heading row.
    pub fn test_table(&self) -> Vec<Vec<String>> {
        let heading = [
            "run A",
            "run B",
            "only A correct",
            "only B correct",
            "p-value",
        ];
        let mut table = vec![heading.map(String::from).to_vec()];
        for (a, b, test) in &self.tests {
            if let Ok(test) = test {
                table.push(vec![
                    self.runs[*a].name.clone(),
                    self.runs[*b].name.clone(),
                    test.only_first.to_string(),
                    test.only_second.to_string(),
                    p_value(test.p_value),
                ]);
            }
        }
        table
    }
}

impl Run {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let config = Config::read_run(path)?;
        if Marker::read(path).is_ok_and(|marker| !marker.finished) {
            bail!(
                Diagnostic::new(format!("the run {} is not finished", path.display())).help(
                    format!("resume it with `waggle train --resume {}`", quote(path))
                )
            );
        }
        Ok(Self {
            name: printable_path(path),
            config,
            rows: Metrics::read(&path.join(Metrics::FILE))?,
            predictions: Predictions::read(path)?,
        })
    }

    fn results(&self) -> Vec<String> {
        let seconds = self.rows.iter().map(|row| row.seconds).sum();
        let mut cells = vec![self.name.clone()];
        match best(&self.rows) {
            None => cells.extend(["-", "-", "-", "-"].map(String::from)),
            Some((epoch, row)) => {
                let images = self.config.data.val_images as u64;
                let correct = (row.val.accuracy * images as f64).round() as u64;
                cells.extend([
                    percent(row.val.accuracy),
                    percent_range(wilson_interval(correct, images)),
                    loss(row.val.loss),
                    (epoch + 1).to_string(),
                ]);
            }
        }
        cells.extend([self.rows.len().to_string(), duration(seconds)]);
        cells
    }
}

/// The epoch whose weights a run keeps, counted from 0 over all stages: the first with the highest
/// accuracy in the last stage.
fn best(rows: &[EpochRow]) -> Option<(usize, &EpochRow)> {
    let last = rows.last()?.stage;
    let rows = rows.iter().enumerate().filter(|(_, row)| row.stage == last);
    rows.reduce(
        |best, next| match next.1.val.accuracy > best.1.val.accuracy {
            true => next,
            false => best,
        },
    )
}

/// A p-value with two significant digits.
pub fn p_value(p: f64) -> String {
    match p {
        0.1.. => format!("{p:.2}"),
        0.01.. => format!("{p:.3}"),
        0.001.. => format!("{p:.4}"),
        _ => format!("{p:.1e}"),
    }
}

fn differences(runs: &[Run]) -> anyhow::Result<Vec<(String, Vec<Option<String>>)>> {
    let lists = runs.iter().map(|run| settings(&run.config));
    let lists: Vec<Vec<(String, String)>> = lists.collect::<anyhow::Result<_>>()?;
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in lists.iter().flatten() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let value = |list: &Vec<(String, String)>, name: &String| {
        let setting = list.iter().find(|(other, _)| other == name);
        setting.map(|(_, value)| value.clone())
    };
    let rows = names.into_iter().map(|name| {
        let values: Vec<_> = lists.iter().map(|list| value(list, name)).collect();
        (name.clone(), values)
    });
    Ok(rows
        .filter(|(_, values)| values.iter().any(|value| *value != values[0]))
        .collect())
}

fn tests(runs: &[Run]) -> Vec<(usize, usize, Result<McNemar, String>)> {
    let mut tests = Vec::new();
    for (first, a) in runs.iter().enumerate() {
        for (second, b) in runs.iter().enumerate().skip(first + 1) {
            let test = match (&a.predictions, &b.predictions) {
                (Ok(a), Ok(b)) => a.compare(b),
                (Err(reason), _) | (_, Err(reason)) => Err(reason.clone()),
            };
            tests.push((first, second, test));
        }
    }
    tests
}

#[cfg(test)]
mod tests_of_text {
    use super::p_value;

    #[test]
    fn p_values_have_two_significant_digits() {
        let texts = [1.0, 0.146, 0.0312, 0.00511, 4.53e-10].map(p_value);
        assert_eq!(texts, ["1.00", "0.15", "0.031", "0.0051", "4.5e-10"]);
    }
}
