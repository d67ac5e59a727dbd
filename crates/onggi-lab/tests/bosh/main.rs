//! Directors and deployments of BOSH as `onggi bbr` backs them up and restores them, over instances that are namespaces with a
//! real SSH server. Each test is one fact.
//!
//! Without root, namespaces, sshd or sudo a test says on stderr that it is skipped; with CI=true it fails.
//!
//! What the contract asks for, and what shows it; `d/` is `tests/director`, `s/` the unit tests of `onggi-source/src/bosh`, `w/`
//! those of `onggi/src/command/bbr`:
//!
//! | contract | shown by |
//! |---|---|
//! | flags, aliases, variables, streams of errors | `w/words`, `stream::help_version_…`, `group::what_is_wrong_with_the_words_…` |
//! | each row of the table of failures | `failure`, `signal`; of deployments `deployment`, from `whatever_fails_…` on |
//! | Control-C, its answers, signals, a closed input | `signal` |
//! | twelve deployments at once, logs after a kill | `group::of_twelve_deployments_…`, `group::the_log_of_a_deployment_…` |
//! | bytes of `metadata`, names of files | `s/record::it_is_written_as_it_is_read_elsewhere`, `artifact::a_directory_holds_…` |
//! | archives of other programs, GNU and PAX | `group::archives_that_other_programs_make_…`; `bbr` itself by `cargo xtask judge` |
//! | links, FIFOs, odd names, long paths, owners, holes, many files, none | `d/native::every_kind_of_file_…`, `d/tree` |
//! | damage of an artifact directory | `artifact`, from `an_archive_with_another_byte_…` on |
//! | environment of scripts | `contract::each_script_is_root_…` |
//! | order of locks | `s/order`, `contract::jobs_are_locked_…`, `group::jobs_of_different_instances_…` |
//! | jobs that are ignored, disabled, discontinued, behind links | `contract::jobs_that_are_ignored_…`, `failure::metadata_that_fails_…`, `failure::a_restore_that_cannot_be_complete_…` |
//! | one backup for all instances, both forms of manifests | `s/director/manifest`, `group::three_instances_take_…` |
//! | Windows, a first instance without scripts | `group::an_instance_with_windows_…` |
//! | the Director's API | `d/entry`, `d/sequence`, `d/trust`, `d/visit`, `group::a_token_that_ends_…` |
//! | proxies, one tunnel | `d/route` |
//! | two connections at most | `contract::a_backup_of_twenty_jobs_…`, `d/native::blobs_that_are_unchanged_…` |
//! | a connection cut, in each phase | `failure::a_connection_that_is_lost_while_locking_…`, `d/resume::a_connection_that_…` |
//! | a drain that stays broken | `d/resume::a_drain_that_stays_broken_…` |
//! | a process killed, what others left | `d/resume`, `d/native::what_another_program_left_…` |
//! | unlocked without a run | `d/deadman` |
//! | nothing travels twice | `d/cost`, `d/native::blobs_that_are_unchanged_…`, `s/native/tests::what_is_unchanged_…` |
//! | nothing is staged on the jumpbox, memory | `d/cost` |
//! | speed, time of a second backup, disk | `cargo xtask bench --bosh`, beside onggi's own `bbr` and, with `--bbr`, the real one |
//! | artifacts of `bbr`, and all that it says and does | `cargo xtask judge --bbr PATH`; what it found is in these tests |
//! | time of locks, its limit | `d/native::jobs_are_held_hardly_longer_…`, `d/native::scripts_that_take_too_long_…` |
//! | no secret in what is said or kept | `group::no_secret_is_said_…`, `d/native::no_secret_is_said_…`, `d/entry::requests_are_told_without_secrets`, `d/resume::a_run_that_is_killed_in_its_drain_…` |
//! | what is looked at beforehand | `failure::a_check_fails_…`, `d/tree`, from `what_would_be_in_a_backups_way_…` on |
//! | into a repository from the command line of `bbr` | `artifact::what_is_backed_up_goes_into_a_repository_as_well`, `direct` |
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

mod artifact;
mod contract;
mod deployment;
mod direct;
mod failure;
mod group;
mod signal;
mod stream;
