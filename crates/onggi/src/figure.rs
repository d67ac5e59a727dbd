//! Figures for people: sizes, counts, durations, times, and how a table of them is laid out.

use std::time::Duration;

/// A size in bytes with three significant digits and a binary unit: `611 MiB`.
pub fn bytes(size: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if size < 1024 {
        return format!("{size} B");
    }
    let mut value = size as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1023.5 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if value < 9.995 {
        format!("{value:.2} {unit}")
    } else if value < 99.95 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// A whole number in groups of three digits: `1 204`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// A number with its noun, in the right form: `1 file`, `1 204 files`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A duration in at most two units: `0.4 s`, `9 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..1 => format!("{:.1} s", time.as_secs_f64()),
        1..60 => format!("{seconds} s"),
        60..3600 => two(seconds, 60, "min", "s"),
        3600..86_400 => two(seconds / 60, 60, "h", "min"),
        _ => two(seconds / 3600, 24, "d", "h"),
    }
}

fn two(total: u64, base: u64, high: &str, low: &str) -> String {
    match total % base {
        0 => format!("{} {high}", total / base),
        rest => format!("{} {high} {rest} {low}", total / base),
    }
}

/// A share in percent, never rounded up to a hundred.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "0.0%".to_owned();
    }
    let share = (part as f64 / whole as f64 * 1000.0).floor() / 10.0;
    format!("{share:.1}%")
}

/// The width of text on a terminal, near enough: wide East Asian characters count two.
pub fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

fn char_width(char: char) -> usize {
    match char {
        '\u{0300}'..='\u{036f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// The beginning of a text that fits into so many columns; a cut is shown as `..`.
pub fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 2;
    for char in text.chars() {
        used += char_width(char);
        if used > columns {
            break;
        }
        out.push(char);
    }
    out.push_str("..");
    out
}

/// Rows of text in columns, as wide as they must be.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<usize>,
}

impl Table {
    /// A table with this head.
    pub fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|&text| text.to_owned()).collect()], right: Vec::new() }
    }

    /// Aligns these columns, counted from 0, to the right.
    #[must_use]
    pub fn right(mut self, columns: &[usize]) -> Self {
        self.right = columns.to_vec();
        self
    }

    /// Adds one row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The lines, head first; columns are two spaces apart and nothing trails.
    pub fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0))
            .collect();
        self.rows.iter().map(|row| self.line(row, &widths)).collect()
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let gap = " ".repeat(widths[column].saturating_sub(width(cell)));
            if column > 0 {
                line.push_str("  ");
            }
            if self.right.contains(&column) {
                line.push_str(&gap);
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.push_str(&gap);
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let shown: Vec<_> = [0, 1023, 1024, 10_240, 851_443_712, u64::MAX].map(bytes).into();
        assert_eq!(shown, ["0 B", "1023 B", "1.00 KiB", "10.0 KiB", "812 MiB", "16.0 EiB"]);
        assert_eq!(bytes(1024 * 1024 - 1), "1.00 MiB");
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!([1, 999, 1204, 1_000_000].map(count), ["1", "999", "1 204", "1 000 000"]);
        assert_eq!(counted(1, "file", "files"), "1 file");
    }

    #[test]
    fn durations_have_two_units() {
        let shown: Vec<_> = [0, 9, 60, 200, 7500, 273_600].map(|s| duration(Duration::from_secs(s))).into();
        assert_eq!(shown, ["0.0 s", "9 s", "1 min", "3 min 20 s", "2 h 5 min", "3 d 4 h"]);
    }

    #[test]
    fn percent_is_a_hundred_only_at_the_end() {
        assert_eq!(percent(9999, 10_000), "99.9%");
        assert_eq!(percent(10_000, 10_000), "100.0%");
    }

    #[test]
    fn a_table_is_aligned() {
        let mut table = Table::new(&["ID", "Size", "Name"]).right(&[1]);
        table.row(vec!["4f1c09ab".into(), "9 B".into(), "가나".into()]);
        table.row(vec!["x".into(), "12 KiB".into(), String::new()]);
        assert_eq!(table.lines(), ["ID          Size  Name", "4f1c09ab     9 B  가나", "x         12 KiB"]);
    }

    #[test]
    fn a_cut_is_shown() {
        assert_eq!(fit("0123456789", 6), "0123..");
        assert_eq!(fit("012345", 6), "012345");
    }
}
