//! Columns for people.

/// Characters of a cell; what is longer is cut.
const CELL_MAX: usize = 60;

/// Lays rows out under their heads, columns two blanks apart.
pub(super) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let rows: Vec<Vec<String>> =
        std::iter::once(&heads).chain(rows).map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Names and values, one a line.
pub(super) fn list(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs
        .iter()
        .map(|(name, value)| format!("{name:<width$}  {}\n", plain(value)).replace("  \n", "\n"))
        .collect()
}

/// A cell that keeps its line and the terminal as they are, whatever others put into a name.
pub(super) fn plain(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.chars().count() <= CELL_MAX {
        return clean;
    }
    clean.chars().take(CELL_MAX - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["1".to_owned(), "é\u{1b}[31m".to_owned()], vec!["22222".to_owned(), String::new()]];
        assert_eq!(table(&["ID", "NAME"], &rows), "ID     NAME\n1      é [31m\n22222\n");
        assert_eq!(list(&[("a", "1".to_owned()), ("long", String::new())]), "a     1\nlong\n");
        assert_eq!(plain(&"x".repeat(100)).chars().count(), CELL_MAX);
    }
}
