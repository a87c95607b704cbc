//! Tables without lines: columns stay readable in a ticket, in a pager, and through `awk`.

use comfy_table::{CellAlignment, Table, presets};

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    /// Numbers.
    Right,
}

/// Shown where nothing is known.
pub(super) const NOTHING: &str = "-";

/// A table with its headers; rows have as many cells.
pub(super) fn table(columns: &[(&str, Side)], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|(header, _)| *header));
    table.add_rows(rows.into_iter().map(|row| {
        assert_eq!(row.len(), columns.len(), "a cell for each column");
        row.iter().map(|cell| one_line(cell)).collect::<Vec<_>>()
    }));
    for (place, (_, side)) in columns.iter().enumerate() {
        let column = table.column_mut(place).expect("the header has it");
        column.set_padding((1, 1));
        column.set_cell_alignment(match side {
            Side::Left => CellAlignment::Left,
            Side::Right => CellAlignment::Right,
        });
    }
    table.lines().map(|line| format!(" {}\n", line.trim_end())).collect()
}

/// Text from other nodes on one line, without codes that a terminal would obey.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// A number, if it is known.
pub(super) fn number(value: Option<u64>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), |value| value.to_string())
}
