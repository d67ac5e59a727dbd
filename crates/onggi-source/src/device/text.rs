//! Pure: from what appears on a terminal to a text, and which answers are none.

use sha2::{Digest as _, Sha256};

use super::model::Model;
use crate::source::{Result, SourceError};

/// A line as a terminal shows it in the end: what was written over is gone, and so are colors.
pub(super) fn render(line: &[u8]) -> Vec<u8> {
    let (mut shown, mut cursor, mut is_overwritten) = (Vec::with_capacity(line.len()), 0_usize, false);
    let mut bytes = line.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' => cursor = 0,
            8 => cursor = cursor.saturating_sub(1),
            // escape sequences: `ESC [ … letter`
            27 if bytes.next_if_eq(&b'[').is_some() => {
                while bytes.next().is_some_and(|byte| !byte.is_ascii_alphabetic()) {}
            }
            0 | 7 | 27 => {}
            byte if cursor < shown.len() => {
                shown[cursor] = byte;
                (cursor, is_overwritten) = (cursor + 1, true);
            }
            byte => {
                shown.push(byte);
                cursor += 1;
            }
        }
    }
    if is_overwritten {
        shown.truncate(shown.trim_ascii_end().len());
    }
    shown
}

/// All that appeared between a command and the next prompt, as lines. The echo of the command and the prompt are not
/// among them.
pub(super) fn answer(appeared: &[u8], command: &str) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = appeared.split(|byte| *byte == b'\n').map(render).collect();
    lines.pop(); // the prompt
    if lines.first().is_some_and(|first| first.trim_ascii_end().ends_with(command.as_bytes())) {
        lines.remove(0);
    }
    let mut text = lines.join(&b'\n');
    if !text.is_empty() {
        text.push(b'\n');
    }
    text
}

/// What of an answer counts for being changed: all but lines that always differ and white space at the ends.
pub(super) fn digest(answer: &[u8], model: &Model) -> String {
    let mut digest = Sha256::new();
    for line in answer.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end) {
        let start = line.trim_ascii_start();
        if !line.is_empty() && !model.volatile.iter().any(|text| start.starts_with(text.as_bytes())) {
            digest.update(line);
            digest.update(b"\n");
        }
    }
    crate::hex::hexadecimal(&digest.finalize())
}

/// Refuses what is no answer. `before`: the length of the last one.
pub(super) fn check(file: &str, answer: &[u8], model: &Model, before: Option<u64>) -> Result<()> {
    let refused = |text: String| Err(SourceError::Refused(format!("{file}: {text}")));
    let length = answer.len() as u64;
    let lines = || answer.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    if lines().next().is_none() {
        return refused("the answer is empty".to_owned());
    }
    let is_error = |line: &&[u8]| model.errors.iter().any(|text| line.starts_with(text.as_bytes()));
    // an error message stands at the start, and a configuration may quote one further down
    if let Some(line) = lines().take(ERROR_LINES).find(is_error) {
        return refused(format!("the device says {:?}", String::from_utf8_lossy(line)));
    }
    if length < model.bytes_min.0 {
        return refused(format!("the answer has only {length} bytes"));
    }
    if let Some(end) =
        model.end.get(file).filter(|end| !lines().next_back().is_some_and(|line| line.starts_with(end.as_bytes())))
    {
        return refused(format!("the answer is cut: it does not end with {end:?}"));
    }
    if let Some(before) = before.filter(|before| length < before / 2) {
        return refused(format!("the answer has {length} bytes, less than half of the {before} of the last one"));
    }
    Ok(())
}

/// Lines at the start in which an error message is looked for.
const ERROR_LINES: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        super::super::model::built_in("cisco-ios").unwrap()
    }

    #[test]
    fn what_was_written_over_is_gone() {
        for (line, expected) in [
            (&b"plain  "[..], "plain  "),
            (b"end\r", "end"),
            (b" --More-- \r          \rvlan 5", "vlan 5"),
            (b"--More--\x08\x08\x08\x08\x08\x08\x08\x08        \x08\x08\x08\x08\x08\x08\x08\x08ip", "ip"),
            (b"\x1b[1;32mgreen\x1b[0m\x07", "green"),
        ] {
            assert_eq!(String::from_utf8(render(line)).unwrap(), expected);
        }
    }

    #[test]
    fn echo_and_prompt_are_no_part_of_the_answer() {
        let seen = b"show run\r\nvlan 5\r\n name x\r\nend\r\n\r\nsw1#";
        assert_eq!(answer(seen, "show run"), b"vlan 5\n name x\nend\n\n");
        assert_eq!(answer(b"vlan 5\r\nsw1#", "show run"), b"vlan 5\n");
        assert_eq!(answer(b"show run\r\nsw1#", "show run"), b"");
    }

    #[test]
    fn a_clock_is_no_change_and_a_vlan_is() {
        let digest = |text: &str| digest(text.as_bytes(), &model());
        let one = "! Last configuration change at 10:00\nvlan 5\nend\n";
        assert_eq!(digest(one), digest("! Last configuration change at 11:11\nvlan 5 \n\nend\n"));
        assert_ne!(digest(one), digest("! Last configuration change at 10:00\nvlan 6\nend\n"));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let whole = format!("{}end\n", "interface x\n".repeat(20));
        let refusal = |text: &str, before| {
            check("running-config", text.as_bytes(), &model(), before)
                .err()
                .map_or(String::new(), |error| error.to_string())
        };
        assert_eq!(refusal(&whole, Some(whole.len() as u64)), "");
        for (text, before, expected) in [
            ("", None, "empty"),
            (" \n\n", None, "empty"),
            ("% Invalid input detected at '^' marker.\n", None, "% Invalid"),
            ("end\n", None, "only 4 bytes"),
            (&whole[..200], None, "is cut"),
            (&whole, Some(1000), "less than half"),
        ] {
            let seen = refusal(text, before);
            assert!(seen.contains(expected), "{text:?}: {seen}");
        }
    }
}
