//! Widths of tables of text.

use console::measure_text_width;

/// Space between two columns.
const GAP: &str = "  ";

/// The width of a table of [`push_table`](crate::ui::text::push_table) in columns of the terminal.
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
