//! Copies between configured repositories, and the rule that judges them.

use crate::environment::Environment;

/// Two repositories, the second at this site and with these labels.
fn with_two(site: &str, labels: &str) -> Environment {
    let env = Environment::new();
    env.write("data/file", "content");
    for name in ["near.key", "far.key"] {
        env.write(name, name);
        env.restrict(name);
    }
    let config = format!(
        "version: 1
storages:
  near: {{ kind: local, path: {near}, site: here }}
  far: {{ kind: local, path: {far}, site: {site}{labels} }}
repositories:
  main: {{ storage: near, password: 'file:{key}near.key' }}
  offsite: {{ storage: far, password: 'file:{key}far.key', chunker-from: main }}
",
        near = env.path("near").display(),
        far = env.path("far").display(),
        key = env.path("").display(),
    );
    env.write("onggi.yaml", config);
    for line in ["--repo main --yes init", "--repo offsite --yes init --chunker-from main", "--repo main backup data"] {
        run(&env, line, 0);
    }
    env
}

#[track_caller]
fn run(env: &Environment, line: &str, code: i32) -> String {
    let config = env.path("onggi.yaml");
    let args = ["--config", config.to_str().unwrap()].into_iter().chain(line.split(' '));
    let run = env.run_bare(args).expect(code);
    run.data + &run.talk
}

#[test]
fn a_unit_is_within_the_rule_once_a_verified_copy_lies_elsewhere_out_of_reach() {
    let env = with_two("there", ", media: tape, offline: true");
    let said = run(&env, "copy status", 3);
    assert!(said.contains("2-1-0-0-?") && said.contains("fewer than three copies"), "{said}");
    run(&env, "copy run --from main --to offsite", 0);
    let said = run(&env, "copy status", 3);
    assert!(said.contains("3-2-1-1-?") && said.contains("not known to be whole: main, offsite"), "{said}");
    run(&env, "--repo main repository verify", 0);
    run(&env, "--repo offsite repository verify --read-data", 0);
    let said = run(&env, "copy status", 0);
    assert!(said.contains("3-2-1-1-0") && said.contains("main, offsite"), "{said}");
    // The copy is one of an older state as soon as there is a newer one.
    env.write("data/new", "new");
    run(&env, "--repo main backup data", 0);
    let said = run(&env, "--json copy status", 3);
    assert!(said.contains(r#""repositories":["main"]"#) && said.contains(r#""sites""#), "{said}");
}

#[test]
fn two_stores_of_one_site_are_one_place() {
    let env = with_two("here", "");
    run(&env, "copy run --from main --to offsite", 0);
    let said = run(&env, "copy status", 3);
    assert!(said.contains("3-1-0-0-?") && said.contains("no copy at another site (all are at: here)"), "{said}");
}

#[test]
fn a_repository_that_cannot_be_reached_is_told_and_the_others_are_judged() {
    let env = with_two("there", "");
    run(&env, "copy run --from main --to offsite", 0);
    std::fs::rename(env.path("far"), env.path("elsewhere")).unwrap();
    let said = run(&env, "copy status", 10);
    assert!(said.contains("2-1-0-0-?"), "{said}");
    run(&Environment::new(), "copy status", 2);
}
