//! In what two programs differ, and what of it is meant.

use super::seen::Seen;

/// A difference that is meant.
pub struct Expected {
    /// Part of the line in which it shows.
    pub text: &'static str,
    /// Why it is meant.
    pub why: &'static str,
}

/// All of them.
pub const EXPECTED: &[Expected] = &[
    Expected {
        text: "`director --host h -u u --key k backpu`",
        why: "a misspelt verb does nothing and ends with 0 under bbr; a script would believe that it backed up",
    },
    Expected { text: "words: help before what is required: `--help`", why: "bbr calls it an error to ask for help" },
    Expected {
        text: "words: of a deployment: `deployment -t t -u u -p p backup` failed",
        why: "each program says in its own words which of two flags is to be given",
    },
    Expected {
        text: "words: of a deployment: `deployment -t t -u u -p p -d d --all-deployments backup` failed",
        why: "each program says in its own words that two flags exclude each other",
    },
    Expected {
        text: "director: a circle: `backup-cleanup`",
        why: "bbr unlocks nothing if the jobs' wishes have become a circle; onggi unlocks all in no order",
    },
    Expected { text: "discontinued metadata keys", why: "each program says in its own words what it makes of them" },
    Expected {
        text: "ERROR - cannot copy backup of job",
        why: "onggi says at once which artifact did not arrive, bbr only at the end",
    },
    Expected {
        text: "deployment: another is meant: `-d other pre-backup-check` said",
        why: "each program says in its own words what it asked of the Director",
    },
    Expected {
        text: "deployment: users stay: `-d cf backup` asked",
        why: "onggi asks a second time that a user be removed before it gives up",
    },
    Expected { text: "deployment: users stay: `-d cf backup-cleanup` asked", why: "the same in a clean-up" },
    Expected {
        text: "WARN - could not find release name",
        why: "jobs of add-ons are in no manifest of a deployment; nothing is wrong with them",
    },
];

/// What differs and is not expected, one line each; expectations that were met are marked.
pub fn between(
    act: &str,
    judge: &[(&'static str, Seen)],
    ours: &[(&'static str, Seen)],
    used: &mut [bool],
) -> Vec<String> {
    let mut found = Vec::new();
    for ((command, judge), (_, ours)) in judge.iter().zip(ours) {
        for (kind, theirs) in judge {
            let ours = ours.get(kind).map_or(&[][..], Vec::as_slice);
            let only = |those: &[String], others: &[String], whose: &str| -> Vec<String> {
                let mut left = others.to_vec();
                let mut lines = Vec::new();
                for line in those {
                    match left.iter().position(|other| other == line) {
                        Some(at) => drop(left.swap_remove(at)),
                        None => lines.push(format!("{act}: `{command}` {kind}, {whose} only: {line}")),
                    }
                }
                lines
            };
            found.extend(only(theirs, ours, "bbr"));
            found.extend(only(ours, theirs, "onggi"));
        }
    }
    found.retain(|line| {
        let met = EXPECTED.iter().position(|expected| line.contains(expected.text));
        if let Some(at) = met {
            used[at] = true;
        }
        met.is_none()
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_only_one_has_is_a_difference() {
        let seen = |lines: &[&str]| {
            vec![("backup", Seen::from([("said", lines.iter().map(|line| (*line).to_owned()).collect())]))]
        };
        let check = |judge: &[&str], ours: &[&str], expected: &[&str]| {
            assert_eq!(between("act", &seen(judge), &seen(ours), &mut vec![false; EXPECTED.len()]), expected);
        };
        check(&["a", "b"], &["b", "a"], &[]);
        check(&["a", "a"], &["a"], &["act: `backup` said, bbr only: a"]);
        check(&["a"], &["b"], &["act: `backup` said, bbr only: a", "act: `backup` said, onggi only: b"]);
    }
}
