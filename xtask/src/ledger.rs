//! The ledger of docs/reliability.md: tables that the harnesses fill in, never a hand.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::workspace::root;

/// What a run of a method adds to the totals.
#[derive(Debug, PartialEq, Eq)]
pub struct Total {
    /// The method and what it was done to.
    pub what: String,
    /// How often it was done.
    pub runs: u64,
    /// How often that hit something: a process that died, a backup that was cut short.
    pub struck: Option<u64>,
}

impl Total {
    /// Reads the line by which a test tells it: `ledger: what | runs | struck`.
    pub fn parse(line: &str) -> Option<Self> {
        let mut cells = line.strip_prefix("ledger: ")?.split(" | ");
        let (what, runs) = (cells.next()?.to_owned(), cells.next()?.trim().parse().ok()?);
        Some(Self { what, runs, struck: cells.next().and_then(|cell| cell.trim().parse().ok()) })
    }
}

/// Adds to the totals and writes them.
pub fn add(totals: &[Total]) -> Result<()> {
    let old = section("Totals")?;
    let table = added(&old, totals, &commit()?);
    write("Totals", &table)
}

/// The old table with the new totals in it: a row that is there grows, a new one goes to the end, none leaves.
fn added(old: &str, totals: &[Total], at: &str) -> String {
    let mut rows: Vec<Vec<String>> = old.lines().filter(|line| line.starts_with("| ")).skip(1).map(cells).collect();
    for total in totals {
        let place = rows.iter().position(|row| row[0] == total.what).unwrap_or_else(|| {
            rows.push(vec![total.what.clone(), "0".into(), String::new(), String::new()]);
            rows.len() - 1
        });
        let row = &mut rows[place];
        let sum = |cell: &str, more: u64| (cell.replace(' ', "").parse::<u64>().unwrap_or(0) + more).to_string();
        row[1] = sum(&row[1], total.runs);
        if let Some(struck) = total.struck {
            row[2] = sum(&row[2], struck);
        }
        at.clone_into(&mut row[3]);
    }
    table(&["what", "runs", "struck", "last, and at which commit"], &rows)
}

/// Enters a row in the place of the one that begins like it; rows are in the order of their first cells.
pub fn replace(heading: &str, head: &[&str], row: Vec<String>) -> Result<()> {
    write(heading, &replaced(&section(heading)?, head, row))
}

fn replaced(old: &str, head: &[&str], row: Vec<String>) -> String {
    let mut rows: Vec<Vec<String>> = old.lines().filter(|line| line.starts_with("| ")).skip(1).map(cells).collect();
    rows.retain(|other| other[0] != row[0]);
    rows.push(row);
    rows.sort();
    table(head, &rows)
}

fn cells(line: &str) -> Vec<String> {
    let mut cells: Vec<_> = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    cells.resize(4, String::new());
    cells
}

/// A Markdown table.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(head.to_vec()) + &format!("|{}\n", "---|".repeat(head.len()));
    for row in rows {
        text += &line(row.iter().map(String::as_str).collect());
    }
    text
}

/// Replaces what a section of the ledger has as its table.
pub fn write(heading: &str, table: &str) -> Result<()> {
    let text = fs::read_to_string(page()).context("read docs/reliability.md")?;
    let (before, section, after) = parted(&text, heading)?;
    // The heading and the paragraph that explains the table.
    let talk: Vec<_> = section.trim_end().split("\n\n").take(2).collect();
    let new = format!("{before}{}\n\n{table}\n{after}", talk.join("\n\n"));
    fs::write(page(), new).context("write docs/reliability.md")
}

fn section(heading: &str) -> Result<String> {
    let text = fs::read_to_string(page()).context("read docs/reliability.md")?;
    Ok(parted(&text, heading)?.1.to_owned())
}

/// What is before a heading, it and what belongs to it, and what comes after.
fn parted<'a>(text: &'a str, heading: &str) -> Result<(&'a str, &'a str, &'a str)> {
    let at = text.find(&format!("\n### {heading}\n")).with_context(|| format!("the ledger has no {heading}"))? + 1;
    let (before, rest) = text.split_at(at);
    let end = rest.find("\n#").map_or(rest.len(), |end| end + 1);
    let (section, after) = rest.split_at(end);
    Ok((before, section, after))
}

fn page() -> PathBuf {
    root().join("docs/reliability.md")
}

/// The date and the name of the commit that is checked out.
fn commit() -> Result<String> {
    let mut git = Command::new("git");
    let output = git.current_dir(root()).args(["show", "-s", "--format=%cs %h"]).output().context("start git")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_grows_and_none_leaves() {
        let old = "### Totals\n\n| what | runs | struck | last |\n|---|---|---|---|\n| kill | 10 | 4 | then |\n| cut | 1 |  | then |\n";
        let more = [Total::parse("ledger: kill | 5 | 2").unwrap(), Total::parse("ledger: fuzz | 7").unwrap()];
        let rows: Vec<_> = added(old, &more, "now").lines().skip(2).map(str::to_owned).collect();
        assert_eq!(rows, ["| kill | 15 | 6 | now |", "| cut | 1 |  | then |", "| fuzz | 7 |  | now |"]);
    }

    #[test]
    fn a_row_takes_the_place_of_the_one_before() {
        let old = "| fault | found by |\n|---|---|\n| SB01 | nothing |\n| SB03 | x |\n";
        let replaced = |name: &str| replaced(old, &["fault", "found by"], vec![name.into(), "y".into()]);
        let rows = |text: String| text.lines().skip(2).map(|line| cells(line)[..2].join(" ")).collect::<Vec<_>>();
        assert_eq!(rows(replaced("SB01")), ["SB01 y", "SB03 x"]);
        assert_eq!(rows(replaced("SB02")), ["SB01 nothing", "SB02 y", "SB03 x"]);
    }

    #[test]
    fn a_section_ends_at_the_next_heading() {
        let (before, section, after) = parted("a\n### One\n\ntext\n\n## Two\n", "One").unwrap();
        assert_eq!((before, section, after), ("a\n", "### One\n\ntext\n\n", "## Two\n"));
    }
}
