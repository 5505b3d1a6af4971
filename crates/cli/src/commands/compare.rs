//! `waggle compare`: settings that differ, results and McNemar's test of finished runs.

use std::process::ExitCode;

use crate::args::CompareArgs;
use crate::compare::Comparison;
use crate::error::{Diagnostic, warn};
use crate::escape::printable_path;
use crate::files::{TEMPORARY, write_atomically};
use crate::ui::table::push_table;
use crate::ui::text::shorten;

/// Maximum width in columns of the names of runs and of settings in the tables.
const MAX_WIDTH: usize = 40;

/// Runs `waggle compare`.
pub fn run(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    if let Some(out) = &args.out {
        super::check_output_file(out, args.overwrite, "--out")?;
    }
    let comparison = Comparison::read(&args.runs)?;
    super::print(&text(&comparison))?;
    for (_, _, test) in &comparison.tests {
        if let Err(reason) = test {
            warn(Diagnostic::new(format!("no test: {reason}")));
        }
    }
    if let Some(out) = &args.out {
        let page = comparison.page();
        write_atomically(out, TEMPORARY, |out| Ok(out.write_all(page.as_bytes())?))?;
        super::print(&format!("\nWrote {}\n", printable_path(out)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(comparison: &Comparison) -> String {
    let mut text = String::new();
    push_table(&mut text, &short(comparison.results()), 1);
    text.push_str("\nSettings that differ\n");
    if comparison.settings.is_empty() {
        text.push_str("none\n");
    } else {
        let heading = ["setting"].into_iter().chain(comparison.names());
        let mut table = vec![heading.map(String::from).collect::<Vec<_>>()];
        for (name, values) in &comparison.settings {
            let values = values
                .iter()
                .map(|value| value.clone().unwrap_or("-".to_string()));
            table.push([name.clone()].into_iter().chain(values).collect());
        }
        let columns = table[0].len();
        push_table(&mut text, &short(table), columns);
    }
    if comparison.has_tests() {
        text.push_str("\nMcNemar's test on the same val images\n");
        push_table(&mut text, &short(comparison.test_table()), 2);
    }
    text
}

/// Shortens the cells, whose settings can come from anyone.
fn short(table: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let rows = table.into_iter();
    let short = |cell: String| shorten(&crate::escape::printable(&cell), MAX_WIDTH);
    rows.map(|row| row.into_iter().map(short).collect())
        .collect()
}
