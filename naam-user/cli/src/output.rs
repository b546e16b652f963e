//! What the program prints: JSON for programs, text for people.

use std::fmt::Write as _;
use std::io::Write as _;

use serde::Serialize;

/// Where results go, and in which form.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    /// JSON or text, on standard output.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints `value` as JSON, or what `text` makes of it.
    pub fn show<T: Serialize + ?Sized>(self, value: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        let text = if self.json { serde_json::to_string_pretty(value)? } else { text(value) };
        self.print(&text)
    }

    /// Prints that something is done; as JSON `{"done": TEXT}`.
    pub fn done(self, text: &str) -> anyhow::Result<()> {
        self.show(&serde_json::json!({ "done": text }), |_| text.to_owned())
    }

    fn print(self, text: &str) -> anyhow::Result<()> {
        let text = text.trim_end_matches('\n');
        if text.is_empty() {
            // A list without entries has no line.
            return Ok(());
        }
        match writeln!(std::io::stdout().lock(), "{text}") {
            // `naam … | head` is no failure.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            result => Ok(result?),
        }
    }
}

/// Columns of text. Those that hold nothing but numbers stand to the right.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_owned).to_vec()] }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) -> &mut Self {
        self.rows.push(cells.to_vec());
        self
    }

    /// The text, or `none` if there are no rows.
    pub fn or(&self, none: &str) -> String {
        if self.rows.len() == 1 {
            return none.to_owned();
        }
        let columns = self.rows[0].len();
        let cells = |column: usize| self.rows.iter().map(move |row| &row[column]);
        let widths: Vec<_> =
            (0..columns).map(|c| cells(c).map(|cell| cell.chars().count()).max().unwrap_or(0)).collect();
        let is_number = |cell: &String| !cell.is_empty() && cell.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        let numeric: Vec<_> = (0..columns).map(|c| cells(c).skip(1).all(is_number)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let (width, gap) = (widths[column], if column == 0 { "" } else { "  " });
                // Writing to a String cannot fail.
                let _ = match numeric[column] {
                    true => write!(line, "{gap}{cell:>width$}"),
                    false => write!(line, "{gap}{cell:<width$}"),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Bytes in the largest unit that divides them.
pub fn size(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        n if n.is_multiple_of(1 << 30) => format!("{} GiB", n >> 30),
        n if n.is_multiple_of(1 << 20) => format!("{} MiB", n >> 20),
        n if n.is_multiple_of(1 << 10) => format!("{} KiB", n >> 10),
        n => format!("{n} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right() {
        let mut table = Table::new(["name", "n", "x"]);
        assert_eq!(table.or("nothing"), "nothing");
        table.row(["a".into(), "7".into(), "-".into()]).row(["long".into(), "1234".into(), "y".into()]);
        assert_eq!(table.or(""), "name     n  x\na        7  -\nlong  1234  y\n");
    }

    #[test]
    fn sizes_are_read_by_people() {
        assert_eq!(
            [size(0), size(2 << 20), size(1536 << 20), size(4096), size(7)],
            ["0", "2 MiB", "1536 MiB", "4 KiB", "7 B"]
        );
    }
}
