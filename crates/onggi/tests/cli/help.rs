//! Every verb explains itself: help with an example, a manual page, completions in four shells.

use crate::environment::Environment;

/// All verbs that the help shows, as words on the command line.
fn verbs(env: &Environment) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut waiting = vec![Vec::<String>::new()];
    while let Some(words) = waiting.pop() {
        let help = env.run_bare(words.iter().map(String::as_str).chain(["--help"])).expect(0).data;
        let listed = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap_or_default();
        for line in listed.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
            let word = line.split_whitespace().next().unwrap();
            if word != "help" {
                waiting.push(words.iter().cloned().chain([word.to_owned()]).collect());
            }
        }
        found.push(words);
    }
    found
}

#[test]
fn every_verb_has_help_with_an_example() {
    let env = Environment::new();
    let verbs = verbs(&env);
    assert!(verbs.len() > 3, "{verbs:?}");
    for words in verbs {
        for flag in ["-h", "--help"] {
            let help = env.run_bare(words.iter().map(String::as_str).chain([flag])).expect(0).data;
            let call = format!("  onggi {}", words.join(" "));
            assert!(help.contains("Example") && help.contains(call.trim_end()), "{words:?}:\n{help}");
        }
    }
}

#[test]
fn every_verb_has_a_manual_page_and_is_completed() {
    let env = Environment::new();
    env.run_bare(["man", "--all", "pages"]).expect(0);
    let scripts = ["bash", "zsh", "fish", "powershell"].map(|shell| env.run_bare(["completion", shell]).expect(0).data);
    for words in verbs(&env) {
        let name = std::iter::once("onggi").chain(words.iter().map(String::as_str)).collect::<Vec<_>>().join("-");
        let page = std::fs::read_to_string(env.path(format!("pages/{name}.1"))).unwrap();
        assert!(page.contains(".SH EXAMPLES") || page.contains("Example"), "{name}");
        if let Some(last) = words.last() {
            assert!(scripts.iter().all(|script| script.contains(last.as_str())), "{words:?}");
        }
    }
}

#[test]
fn an_unknown_verb_or_flag_names_the_nearest() {
    let env = Environment::new();
    let run = env.run_bare(["backpu"]).expect(2);
    assert!(run.talk.contains("backup"), "{}", run.talk);
    let run = env.run_bare(["man", "--jsno"]).expect(2);
    assert!(run.talk.contains("--json"), "{}", run.talk);
}
