//! Tables and lists of facts for a terminal: columns as wide as their widest cell, two spaces between. Whatever
//! control characters a cell has become spaces.

use crate::text::plain;

/// Where a column's cells stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// A table: a line of titles, then a line a row.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(columns: impl Into<Vec<(&'static str, Align)>>) -> Self {
        Table { columns: columns.into(), rows: Vec::new() }
    }

    /// Adds a row; a cell missing at its end is empty, one too many is left out.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().take(self.columns.len()).map(|cell| plain(&cell)).collect());
    }

    /// The text, each line ended. Without rows only `nothing` is said.
    pub fn text(&self, nothing: &str) -> String {
        if self.rows.is_empty() { format!("{nothing}\n") } else { self.to_string() }
    }
}

/// Titles and rows, each line ended. Without rows only the titles.
impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let titles: Vec<String> = self.columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        let all: Vec<&Vec<String>> = std::iter::once(&titles).chain(&self.rows).collect();
        let width = |column: usize| {
            all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        for row in all {
            let mut line = String::new();
            for (column, (_, align)) in self.columns.iter().enumerate() {
                let (cell, width) = (row.get(column).map_or("", String::as_str), widths[column]);
                let gap = if column == 0 { "" } else { "  " };
                match align {
                    Align::Left => line.push_str(&format!("{gap}{cell:<width$}")),
                    Align::Right => line.push_str(&format!("{gap}{cell:>width$}")),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// One fact a line, names to the left. Facts with an empty value are left out.
pub fn facts<'a>(facts: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let facts: Vec<_> = facts.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    facts.iter().map(|(name, value)| format!("{name:<width$}  {}\n", plain(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_without_spaces() {
        let mut table = Table::new([("name", Align::Left), ("sat", Align::Right), ("note", Align::Left)]);
        table.row(["a".into(), "1,000".into(), String::new()]);
        table.row(["longer".into(), "1".into(), "x".into()]);
        let expected = "\
name      sat  note
a       1,000
longer      1  x
";
        assert_eq!(table.text("none"), expected);
    }

    #[test]
    fn an_empty_table_says_so() {
        let table = Table::new([("name", Align::Left)]);
        assert_eq!(table.text("no channels"), "no channels\n");
        assert_eq!(table.to_string(), "name\n");
    }

    #[test]
    fn facts_without_a_value_are_left_out() {
        assert_eq!(facts([("height", "7".into()), ("trouble", String::new())]), "height  7\n");
    }
}
