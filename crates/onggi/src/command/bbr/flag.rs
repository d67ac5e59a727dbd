//! Pure: flags in the way of Go's programs: one dash or two, a value after `=` or as the next word, up to the first word
//! that is no flag.

use std::collections::BTreeMap;

/// A flag that a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    /// Its long name.
    pub name: &'static str,
    /// Another one.
    pub alias: Option<&'static str>,
    /// Stands for it where it is not given, the first that is set.
    pub variables: &'static [&'static str],
    /// Whether a value follows.
    pub takes_value: bool,
    /// What it is for.
    pub help: &'static str,
}

/// What was given, by long name. A switch that is on has the value `true`.
pub type Given = BTreeMap<&'static str, String>;

/// Reads the flags at the front; what was given, whether help is wanted, and the words behind them.
pub fn read<'w>(flags: &[Flag], words: &'w [String]) -> Result<(Given, bool, &'w [String]), String> {
    let (mut given, mut wants_help, mut rest) = (Given::new(), false, words);
    while let Some((word, behind)) = rest.split_first() {
        let Some(text) = word.strip_prefix('-').filter(|text| !text.is_empty()) else { break };
        rest = behind;
        let text = text.strip_prefix('-').unwrap_or(text);
        if text.is_empty() {
            break;
        }
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        if matches!(name, "help" | "h") {
            wants_help = true;
            continue;
        }
        let flag = flags.iter().find(|flag| flag.name == name || flag.alias == Some(name));
        let flag = flag.ok_or_else(|| format!("flag provided but not defined: -{name}"))?;
        let value = match (value, flag.takes_value) {
            (Some(value), true) => value.to_owned(),
            (Some(value), false) => switch(name, value)?,
            (None, false) => "true".to_owned(),
            (None, true) => {
                let (value, behind) = rest.split_first().ok_or(format!("flag needs an argument: -{name}"))?;
                rest = behind;
                value.clone()
            }
        };
        given.insert(flag.name, value);
    }
    given.retain(|_, value| value != "false");
    Ok((given, wants_help, rest))
}

fn switch(name: &str, value: &str) -> Result<String, String> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok("true".to_owned()),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok("false".to_owned()),
        _ => Err(format!("invalid boolean value \"{value}\" for -{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        Flag { name: "host", alias: Some("u"), variables: &[], takes_value: true, help: "" },
        Flag { name: "debug", alias: None, variables: &[], takes_value: false, help: "" },
    ];

    #[track_caller]
    fn check(line: &str, expected: &str) {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let shown = match read(FLAGS, &words) {
            Err(error) => error,
            Ok((given, help, rest)) => {
                let given: Vec<_> = given.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{} | {help} | {}", given.join(" "), rest.join(" "))
            }
        };
        assert_eq!(shown, expected, "{line}");
    }

    #[test]
    fn one_dash_is_as_good_as_two_and_a_value_may_be_glued() {
        check("--host a -debug backup -x", "debug=true host=a | false | backup -x");
        check("-u=a=b --debug=false", "host=a=b | false | ");
        check("-host --debug rest", "host=--debug | false | rest");
        check("-h -- a", " | true | a");
        check("- a", " | false | - a");
    }

    #[test]
    fn what_is_no_flag_of_the_command_is_an_error() {
        check("--hots a", "flag provided but not defined: -hots");
        check("--host", "flag needs an argument: -host");
        check("--debug=maybe", "invalid boolean value \"maybe\" for -debug");
    }
}
