//! Tables of text with aligned columns.

use console::measure_text_width;

use super::text::{pad_left, pad_right};

/// Space between two columns.
const GAP: &str = "  ";

/// Appends a table. The first `names` columns are aligned left, the others right.
pub fn push_table<R: AsRef<[String]>>(text: &mut String, table: &[R], names: usize) {
    let widths = widths(table);
    for row in table {
        let cells = row.as_ref().iter().zip(&widths).enumerate();
        let cells: Vec<String> = cells
            .map(|(column, (cell, &width))| match column {
                _ if column < names => pad_right(cell, width),
                _ => pad_left(cell, width),
            })
            .collect();
        text.push_str(cells.join(GAP).trim_end());
        text.push('\n');
    }
}

/// The width of a table in columns of the terminal.
pub fn width<R: AsRef<[String]>>(table: &[R]) -> usize {
    let widths = widths(table);
    widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1)
}

/// The width of each column.
fn widths<R: AsRef<[String]>>(table: &[R]) -> Vec<usize> {
    let rows = || table.iter().map(AsRef::as_ref);
    let columns = rows().map(<[String]>::len).max().unwrap_or(0);
    let column_width = |column: usize| {
        let cells = rows().filter_map(|row| row.get(column));
        let widths = cells.map(|cell| measure_text_width(cell));
        widths.max().unwrap_or(0)
    };
    (0..columns).map(column_width).collect()
}
