//! The fleet: who a host is, how a hub enters it, what is read there and what travels; judged by the real OpenSSH, rsync and
//! restic. Each test is one fact.
//!
//! Without sshd or the rights of root a test says on stderr that it is skipped; with CI=true it fails.
//!
//! What a fleet must do, and what shows it. The modules `content`, `economy`, `hanging`, `hostile`, `kill`, `level`, `login`,
//! `operation` and `restore` run twice: here over the system's `ssh`, in `hosts_builtin` over the client that is built in.
//!
//! | | what | shown by |
//! |---|---|---|
//! | A1 | key, agent, certificate; an expired one is refused | `login::a_key_an_agent_and_a_certificate_…` |
//! | A2 | both clients pass the same tests | `hosts_builtin` |
//! | A3 | an unknown host is sent nothing until it is approved | `login::an_unknown_host_…`, `trust::an_unknown_key_…` |
//! | A4 | eight rows of known hosts, as OpenSSH judges them | `trust::our_matcher_and_openssh_judge_alike` |
//! | A5 | a host goes over to keys that it proves | `login::a_key_that_a_known_host_…`, `trust::a_host_goes_over_…` |
//! | A6 | enrolling twice changes nothing | `level::enrolling_makes_a_host_ready_…` |
//! | A7 | four levels of rights | `level::each_level_reads_…`, `level::a_forced_command_…` |
//! | A8 | a root outside the host's own list is refused and logged there | `level::a_forced_command_reads_the_hosts_own_list_…` |
//! | A9 | a home that runs no program, and no place that does | `level::a_home_that_runs_no_program_…`, `level::a_host_without_a_place_…` |
//! | A10 | hosts that a command names, and that are gone | `login::hosts_that_a_command_names_…` |
//! | A11 | a new hub with a certificate | `trust::a_certificate_of_the_users_authority_…` |
//! | A12 | a jump host, another port | `login::a_jump_host_and_another_port_…` |
//! | A13 | banners | `login::a_shell_with_a_banner_…` |
//! | A14 | all kinds of files, by both programs | `content::a_tree_with_everything_…`, back to the host `restore::a_tree_with_everything_…` |
//! | A15 | dumps | `content::the_output_of_commands_…` |
//! | A16 | dumps that fail | `content::a_command_that_fails_…` |
//! | A17 | unreadable files | `content::what_one_user_may_not_read_…` |
//! | A18 | files that vanish | `hanging::what_vanishes_…` |
//! | A19 | files that grow | `content::a_file_that_grows_…` |
//! | A20 | a folder that becomes a link; eight runs instead of a minute | `content::a_folder_that_becomes_a_link_…` |
//! | A21 | a dead mount inside a root, and as a root | `hanging::a_mount_whose_machine_…`, `hanging::a_root_whose_machine_…` |
//! | A22 | nothing changed: nothing is read, the same tree | `economy::what_did_not_change_…` |
//! | A23 | ranges give what a full read gives | `economy::a_changed_file_is_the_same_…` |
//! | A24 | an image with few changes, at a quarter of the size | `economy::a_large_image_…`; blocks below a chunk: not built |
//! | A25 | rates by the hour | `economy::the_rate_of_the_hour_…`; the change of the hour over a clock that tests move in `session` of the source, the change of the rate in `out` of the program |
//! | A26, A27 | devices | `device` |
//! | A28 | a dry run changes nothing | `operation::a_dry_run_…` |
//! | A29 | the last good snapshot stays | `the_last_good_snapshot_stays_while_the_newest_runs_fail` of `onggi-repo` |
//! | A30 | missed runs run once | `operation::a_host_without_a_good_snapshot_…`, `missed` of the engine; starting them and alarms wait for the hub |
//! | A31 | no key, password or place is told to a host; by what travels instead of strace | `operation::nothing_of_the_repository_…` |
//! | A32, A34 | a copy cut short, and where nothing can be removed | `offsite` of `onggi-repo` |
//! | A33 | two stores of one site | `copies::two_stores_of_one_site_are_one_place` of the command line |
//! | A35 | days of another tool, of a smaller tree | `import::days_become_snapshots_…` |
//! | A36 | kills of hub, session and program | `kill`; a hundred points in `cargo xtask reliability`, a sample here |
//! | A37 | speed beside rsync | `cargo xtask bench --fleet` |
//! | | a host that answers nonsense or nothing, or has no room | `hostile` |
//! | | only so many hosts of one rack at once | `operation::hosts_of_one_rack_…` |
//! | | reading that stands back at the disks | `operation::a_host_is_read_when_nobody_…` |
//! | | one run per host at a time | `operation::a_host_that_another_run_reads_…` |
//! | | whatever fails and whenever, nothing is left | `fleet` of the source: the suite of all sources over `hosts` and `device` |
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

mod bed;
mod content;
mod device;
mod economy;
mod hanging;
mod hostile;
mod import;
mod kill;
mod level;
mod login;
mod operation;
mod place;
mod restore;
mod server;
mod trust;

/// Who connects.
const ENGINE: &str = "openssh";
