//! Counts the rows of each table in a dump of MySQL while it flows past: there is no second session that sees the same
//! moment, but the dump itself does.

use std::collections::BTreeMap;

/// Longest statement head that is looked at, in bytes: 4096 columns with names of 64 letters fit.
const HEAD_BYTES_MAX: usize = 512 << 10;
const INSERT: &[u8] = b"INSERT INTO `";
const CREATE: &[u8] = b"CREATE TABLE `";

/// Where in the dump it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// At the start of a line or in its first bytes, which are kept.
    Head,
    /// In a line that does not matter.
    Line,
    /// In the rows of an `INSERT`.
    Rows,
    /// In a text inside of a row.
    Text,
    /// After a backslash in a text.
    Escaped,
}

/// The counter.
pub(super) struct RowCounter {
    at: At,
    head: Vec<u8>,
    table: Vec<u8>,
    depth: u32,
    rows: u64,
    /// Inside of a routine or trigger, whose statements are nobody's rows.
    routine: bool,
    counts: BTreeMap<String, u64>,
}

impl RowCounter {
    pub(super) fn new() -> Self {
        let (head, table) = (Vec::new(), Vec::new());
        Self { at: At::Head, head, table, depth: 0, rows: 0, routine: false, counts: BTreeMap::new() }
    }

    /// The rows of each table.
    pub(super) fn finish(self) -> BTreeMap<String, u64> {
        self.counts
    }

    /// Takes the next bytes.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match self.at {
                At::Head => self.head_byte(*byte),
                At::Line if *byte == b'\n' => self.start_line(),
                At::Rows => self.row_byte(*byte),
                At::Text if *byte == b'\\' => self.at = At::Escaped,
                At::Text if *byte == b'\'' => self.at = At::Rows,
                At::Line | At::Text => {}
                At::Escaped => self.at = At::Text,
            }
        }
    }

    fn start_line(&mut self) {
        self.head.clear();
        self.at = At::Head;
    }

    fn head_byte(&mut self, byte: u8) {
        self.head.push(byte);
        let head = &self.head[..];
        if byte == b'\n' {
            match head {
                b"DELIMITER ;;\n" => self.routine = true,
                b"DELIMITER ;\n" => self.routine = false,
                _ => {}
            }
            return self.start_line();
        }
        let may_be = |start: &[u8]| head.starts_with(start) || start.starts_with(head);
        if self.routine || head.len() > HEAD_BYTES_MAX || !(may_be(INSERT) || may_be(CREATE) || may_be(b"DELIMITER ;;"))
        {
            // the head of a line in a routine still has to be read to its end
            if !may_be(b"DELIMITER ;;") {
                self.at = At::Line;
            }
            return;
        }
        if let Some(name) = head.strip_prefix(CREATE).and_then(quoted_name) {
            self.counts.entry(text(&name)).or_default();
            self.at = At::Line;
        } else if head.ends_with(b"VALUES")
            && let Some(name) = head.strip_prefix(INSERT).and_then(quoted_name)
        {
            (self.table, self.depth, self.rows, self.at) = (name, 0, 0, At::Rows);
        }
    }

    fn row_byte(&mut self, byte: u8) {
        match byte {
            b'\'' => self.at = At::Text,
            b'(' => {
                self.rows += u64::from(self.depth == 0);
                self.depth += 1;
            }
            b')' => self.depth = self.depth.saturating_sub(1),
            b';' if self.depth == 0 => {
                *self.counts.entry(text(&self.table)).or_default() += self.rows;
                self.at = At::Line;
            }
            _ => {}
        }
    }
}

/// The name up to its closing quote; `None` while that has not come.
fn quoted_name(rest: &[u8]) -> Option<Vec<u8>> {
    let (mut name, mut at) = (Vec::new(), 0);
    while at < rest.len() {
        match (rest[at], rest.get(at + 1)) {
            (b'`', Some(b'`')) => {
                name.push(b'`');
                at += 2;
            }
            (b'`', Some(_)) => return Some(name),
            (b'`', None) => return None,
            (byte, _) => {
                name.push(byte);
                at += 1;
            }
        }
    }
    None
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(dump: &str, expected: &[(&str, u64)]) {
        for step in [1, 2, 7, dump.len()] {
            let mut counter = RowCounter::new();
            dump.as_bytes().chunks(step).for_each(|piece| counter.take(piece));
            let expected = expected.iter().map(|(name, rows)| ((*name).to_owned(), *rows)).collect();
            assert_eq!(counter.finish(), expected, "in steps of {step}");
        }
    }

    #[test]
    fn rows_are_counted_across_statements_and_lines() {
        let create = "CREATE TABLE `a` (\n  `i` int\n);\n";
        check(create, &[("a", 0)]);
        check(&format!("{create}INSERT INTO `a` VALUES (1),(2);\nINSERT INTO `a` VALUES\n(3),\n(4);\n"), &[("a", 4)]);
        check("INSERT INTO `a` (`i`, `j`) VALUES (1,NULL);\n", &[("a", 1)]);
    }

    #[test]
    fn what_stands_in_a_text_is_no_row() {
        check("INSERT INTO `a``b` VALUES ('),(;\\'x\nINSERT INTO `c` VALUES (1)','it''s'),(0x28);\n", &[("a`b", 2)]);
        check("INSERT INTO `a` VALUES ('\\\\'),('b');\n", &[("a", 2)]);
    }

    #[test]
    fn what_stands_in_a_routine_is_no_row() {
        let routine = "DELIMITER ;;\nCREATE PROCEDURE p() BEGIN\nINSERT INTO `a` VALUES (1);\nEND ;;\nDELIMITER ;\n";
        check(&format!("{routine}INSERT INTO `b` VALUES (1);\n"), &[("b", 1)]);
    }
}
