//! Pure: which commands there are, which flags they take, and the texts that say so.

use std::fmt::Write as _;

use super::flag::Flag;

/// What a help text is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// All of it.
    Main,
    /// What is done on one kind of platform.
    Parent(&'static Parent),
    /// One command.
    Verb(&'static Parent, &'static Command),
}

/// A kind of platform.
#[derive(Debug, PartialEq, Eq)]
pub struct Parent {
    /// The word for it.
    pub name: &'static str,
    /// Its flags; those that are required stand first, in the order in which they are missed.
    pub flags: &'static [Flag],
    /// How many are required.
    pub required: usize,
    /// What can be done.
    pub verbs: &'static [Command],
    usage: &'static str,
}

/// What can be done.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    /// The word for it.
    pub name: &'static str,
    /// Another one.
    pub alias: Option<&'static str>,
    /// Its flags.
    pub flags: &'static [Flag],
    usage: &'static str,
}

const fn value(name: &'static str, alias: Option<&'static str>, help: &'static str) -> Flag {
    Flag { name, alias, variables: &[], takes_value: true, help }
}

const fn variable(
    name: &'static str,
    alias: Option<&'static str>,
    variables: &'static [&'static str],
    help: &'static str,
) -> Flag {
    Flag { name, alias, variables, takes_value: true, help }
}

const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag { name, alias: None, variables: &[], takes_value: false, help }
}

const fn command(
    name: &'static str,
    alias: Option<&'static str>,
    flags: &'static [Flag],
    usage: &'static str,
) -> Command {
    Command { name, alias, flags, usage }
}

/// Flags before everything.
pub const MAIN: &[Flag] =
    &[Flag { name: "version", alias: Some("v"), variables: &[], takes_value: false, help: "Print the version" }];

const DEBUG: Flag = switch("debug", "Say everything, also what scripts say");
const PARENT_FOLDER: Flag =
    value("artifact-path", Some("a"), "Folder in which the artifact directory is made [default: the working folder]");
/// Names the repository where no flag does.
pub const REPOSITORY_VARIABLE: &str = "ONGGI_REPOSITORY";
const REPOSITORY: Flag = variable(
    "repo",
    None,
    &[REPOSITORY_VARIABLE],
    "Repository of onggi into which the artifact directory goes as well, once it is whole",
);
const NO_FOLDER: Flag =
    switch("no-artifact-dir", "Make no artifact directory: everything goes straight into the repository");
const ARTIFACT: Flag = value("artifact-path", Some("a"), "The artifact directory itself");

/// All of them.
pub static PARENTS: &[Parent] = &[DIRECTOR, DEPLOYMENT];

const DIRECTOR: Parent = Parent {
    name: "director",
    usage: "Back up and restore a BOSH director",
    flags: &[
        value("host", None, "Host of the director, with :PORT if its SSH server listens elsewhere than on 22"),
        value("username", Some("u"), "User of the director's SSH server"),
        value("private-key-path", Some("key"), "File of that user's private key; a pipe will do"),
        DEBUG,
    ],
    required: 3,
    verbs: &[
        command("pre-backup-check", Some("c"), &[], "Tell whether a backup could go its way"),
        command("backup", Some("b"), &[PARENT_FOLDER, REPOSITORY, NO_FOLDER], "Back up into a new artifact directory"),
        command("backup-cleanup", None, &[], "Unlock and clean up after a backup that died"),
        command("restore", Some("r"), &[ARTIFACT], "Restore from an artifact directory"),
        command("restore-cleanup", None, &[], "Unlock and clean up after a restore that died"),
    ],
};

const DEPLOYMENT: Parent = Parent {
    name: "deployment",
    usage: "Back up and restore what a BOSH director deploys",
    flags: &[
        variable("target", Some("t"), &["BOSH_ENVIRONMENT"], "Address of the director's API"),
        variable("username", Some("u"), &["BOSH_CLIENT"], "Client of the director"),
        variable("password", Some("p"), &["BOSH_CLIENT_SECRET"], "Secret of the client"),
        variable("deployment", Some("d"), &["BOSH_DEPLOYMENT"], "Name of the deployment"),
        variable("ca-cert", None, &["CA_CERT", "BOSH_CA_CERT"], "Certificate of the director's authority, or its file"),
        switch("all-deployments", "All deployments of the director"),
        DEBUG,
    ],
    required: 3,
    verbs: &[
        command("pre-backup-check", Some("c"), &[], "Tell whether a backup could go its way"),
        command(
            "backup",
            Some("b"),
            &[PARENT_FOLDER, MANIFEST, LOCK_FREE, REPOSITORY, NO_FOLDER],
            "Back up into a new artifact directory",
        ),
        command("backup-cleanup", None, &[], "Unlock and clean up after a backup that died"),
        command("restore", Some("r"), &[ARTIFACT], "Restore from an artifact directory"),
        command("restore-cleanup", None, &[], "Unlock and clean up after a restore that died"),
    ],
};

const MANIFEST: Flag = switch("with-manifest", "Keep the manifest, with its secrets, beside the artifacts");
const LOCK_FREE: Flag = switch("unsafe-lock-free", "Lock nothing: what is stored may not fit together");

const EXAMPLE: &str = "Example:\n  onggi bbr director --host 10.0.0.6 --username bbr --private-key-path bbr.pem \
                       pre-backup-check\n";

/// The text.
pub fn text(topic: Topic, version: &str) -> String {
    let mut text = String::new();
    match topic {
        Topic::Main => {
            let _ = write!(text, "NAME:\n   bbr - BOSH backup and restore, by onggi\n\n");
            let _ = write!(text, "USAGE:\n   bbr command [arguments...] [subcommand]\n\nVERSION:\n   {version}\n\n");
            let parents = PARENTS.iter().map(|parent| (parent.name.to_owned(), parent.usage));
            let own = [("version, v", "Print the version"), ("help, h", "Print this help")];
            let own = own.map(|(name, usage)| (name.to_owned(), usage));
            list(&mut text, "COMMANDS", parents.chain(own));
            flags(&mut text, MAIN);
            text.push_str(EXAMPLE);
        }
        Topic::Parent(parent) => {
            let _ = write!(text, "NAME:\n   bbr {} - {}\n\n", parent.name, parent.usage);
            let _ = write!(text, "USAGE:\n   bbr {} command [command options]\n\n", parent.name);
            let names = parent.verbs.iter().map(|verb| (with_alias(verb.name, verb.alias), verb.usage));
            list(&mut text, "COMMANDS", names);
            flags(&mut text, parent.flags);
        }
        Topic::Verb(parent, verb) => {
            let _ = write!(text, "NAME:\n   bbr {} {} - {}\n\n", parent.name, verb.name, verb.usage);
            let _ = write!(text, "USAGE:\n   bbr {} [options] {} [command options]\n\n", parent.name, verb.name);
            flags(&mut text, verb.flags);
            list(&mut text, &format!("OPTIONS OF {}", parent.name.to_uppercase()), rows(parent.flags));
        }
    }
    text
}

fn flags(text: &mut String, flags: &[Flag]) {
    list(text, "OPTIONS", rows(flags).chain([("--help, -h".to_owned(), "Print this help")]));
}

fn rows(flags: &[Flag]) -> impl Iterator<Item = (String, &'static str)> {
    flags.iter().map(|flag| {
        let dashed = |name: &str| if name.len() == 1 { format!("-{name}") } else { format!("--{name}") };
        let alias = flag.alias.map(|alias| format!(", {}", dashed(alias))).unwrap_or_default();
        let value = if flag.takes_value { " value" } else { "" };
        (format!("{}{alias}{value}", dashed(flag.name)), flag.help)
    })
}

fn with_alias(name: &str, alias: Option<&str>) -> String {
    alias.map_or_else(|| name.to_owned(), |alias| format!("{name}, {alias}"))
}

fn list(text: &mut String, title: &str, rows: impl Iterator<Item = (String, &'static str)>) {
    let _ = writeln!(text, "{title}:");
    for (name, help) in rows {
        let _ = writeln!(text, "   {name:<36}  {help}");
    }
    text.push('\n');
}
