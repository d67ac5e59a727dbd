//! Pure: the words of `bbr`. Flags of a parent stand before its verb, flags of the verb behind it.

use std::path::PathBuf;

use super::flag::{Flag, Given, read};
use super::help::{self, Topic};
use super::host::{self, Host};

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// To be told how it is called.
    Help(Topic),
    /// To be told which version it is.
    Version,
    /// Something that there is not, which is no error.
    Unknown(String),
    /// Work.
    Run(Request),
}

/// Work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// On what.
    pub parent: Parent,
    /// What.
    pub verb: Verb,
    /// Whether to say everything.
    pub debug: bool,
}

/// What it is done on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parent {
    /// A director.
    Director(Access),
    /// What a Director deploys.
    Deployment(Client),
}

/// How a Director is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Where it is.
    pub target: String,
    /// The client.
    pub user: String,
    /// Its secret.
    pub password: String,
    /// Its authority: a certificate, or a file of it.
    pub authority: Option<String>,
    /// Which deployments.
    pub choice: Choice,
}

/// Which deployments are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The one of this name.
    One(String),
    /// All that there are.
    All,
}

/// How a director is entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Where it is.
    pub host: Host,
    /// Who logs in.
    pub user: String,
    /// The file of the private key, or a pipe.
    pub key: PathBuf,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Whether a backup could go its way.
    Check,
    /// Into a new artifact directory.
    Backup(Backup),
    /// After a backup that died.
    BackupCleanup,
    /// From an artifact directory.
    Restore {
        /// Which.
        artifact: PathBuf,
    },
    /// After a restore that died.
    RestoreCleanup,
}

/// How a backup is made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backup {
    /// Where the artifact directory is made; here, if it is not said.
    pub parent: Option<PathBuf>,
    /// The manifest of the deployment is kept beside the artifacts.
    pub with_manifest: bool,
    /// Jobs are not locked.
    pub is_lock_free: bool,
    /// The repository into which what was made goes as well.
    pub repository: Option<String>,
    /// No artifact directory is made: the repository is the only place.
    pub is_only_stored: bool,
}

/// Words that mean nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is shown of the help.
    pub topic: Topic,
    /// What is said before the help on standard output.
    pub usage: Option<String>,
    /// What is wrong, said on standard error.
    pub error: String,
}

impl Refusal {
    /// What is said on standard output.
    pub fn shown(&self, version: &str) -> String {
        let usage = self.usage.clone().unwrap_or_default();
        usage + &help::text(self.topic, version)
    }
}

/// Reads the words; variables are asked for by their names, of which the first that is set counts.
pub fn parse(words: &[String], variable: &dyn Fn(&[&'static str]) -> Option<String>) -> Result<Asked, Refusal> {
    let usage = |topic| {
        // the dot is that of what stands before a verb
        let mark = if matches!(topic, Topic::Verb(..)) { ':' } else { '.' };
        let shown = move |usage| Some(format!("Incorrect Usage{mark} {usage}\n\n"));
        move |usage: String| Refusal { topic, usage: shown(usage), error: String::new() }
    };
    let (given, wants_help, rest) = read(help::MAIN, words).map_err(usage(Topic::Main))?;
    if given.contains_key("version") {
        return Ok(Asked::Version);
    }
    let Some((word, rest)) = rest.split_first().filter(|_| !wants_help) else { return Ok(Asked::Help(Topic::Main)) };
    match word.as_str() {
        "help" | "h" => return Ok(Asked::Help(Topic::Main)),
        "version" | "v" => return Ok(Asked::Version),
        _ => {}
    }
    let Some(parent) = help::PARENTS.iter().find(|parent| parent.name == word) else {
        return Ok(Asked::Unknown(word.clone()));
    };
    let topic = Topic::Parent(parent);
    let (mut given, wants_help, rest) = read(parent.flags, rest).map_err(usage(topic))?;
    if wants_help || rest.first().is_some_and(|word| matches!(word.as_str(), "help" | "h")) {
        return Ok(Asked::Help(topic));
    }
    let refusal = |topic| move |error| Refusal { topic, usage: None, error };
    add(parent.flags, &mut given, variable);
    let wants_help = rest.iter().any(|word| matches!(word.as_str(), "--help" | "-h"));
    if !wants_help {
        complete(parent, &given).map_err(refusal(topic))?;
    }
    let Some((word, rest)) = rest.split_first() else { return Ok(Asked::Help(topic)) };
    let verb = parent.verbs.iter().find(|verb| verb.name == word || verb.alias == Some(word));
    let Some(verb) = verb else {
        let error = format!("command '{word}' not found");
        return Err(Refusal { topic, usage: Some(not_found(word)), error });
    };
    let topic = Topic::Verb(parent, verb);
    let (mut own, wants_help, _) = read(verb.flags, rest).map_err(usage(topic))?;
    if wants_help {
        return Ok(Asked::Help(topic));
    }
    add(verb.flags, &mut own, variable);
    request(parent, verb.name, &given, &own).map(Asked::Run).map_err(refusal(topic))
}

/// What stands before the help where a word means nothing.
pub fn not_found(word: &str) -> String {
    format!("Error command '{word}' not found\n\n")
}

/// Adds what variables say where flags say nothing.
fn add(flags: &[Flag], given: &mut Given, variable: &dyn Fn(&[&'static str]) -> Option<String>) {
    for flag in flags.iter().filter(|flag| !flag.variables.is_empty()) {
        if let (false, Some(value)) = (given.contains_key(flag.name), variable(flag.variables)) {
            given.insert(flag.name, value);
        }
    }
}

/// What a parent requires is there.
fn complete(parent: &help::Parent, given: &Given) -> Result<(), String> {
    let is_given = |flag: &&Flag| given.get(flag.name).is_some_and(|value| !value.is_empty());
    let mut required = parent.flags.iter().take(parent.required);
    if let Some(flag) = required.find(|flag| !is_given(flag)) {
        return Err(format!("--{} flag is required.", flag.name));
    }
    if parent.name == "deployment" { choice(given).map(drop) } else { Ok(()) }
}

fn request(parent: &help::Parent, verb: &str, given: &Given, own: &Given) -> Result<Request, String> {
    let (parent, verb) = if parent.name == "director" {
        (Parent::Director(director(given)?), verb_of(verb, own)?)
    } else {
        let choice = choice(given)?;
        let verb = verb_of(verb, own)?;
        fits(&choice, &verb)?;
        (Parent::Deployment(client(given, choice)), verb)
    };
    Ok(Request { parent, verb, debug: given.contains_key("debug") })
}

fn director(given: &Given) -> Result<Access, String> {
    let host = host::parse(&given["host"]).ok_or("--host is neither a host nor a host and a port.")?;
    Ok(Access { host, user: given["username"].clone(), key: PathBuf::from(&given["private-key-path"]) })
}

fn choice(given: &Given) -> Result<Choice, String> {
    let name = given.get("deployment").filter(|name| !name.is_empty());
    match (name, given.contains_key("all-deployments")) {
        (Some(name), false) => Ok(Choice::One(name.clone())),
        (None, true) => Ok(Choice::All),
        (Some(_), true) => Err("--deployment and --all-deployments exclude each other.".to_owned()),
        (None, false) => Err("--deployment or --all-deployments flag is required.".to_owned()),
    }
}

fn client(given: &Given, choice: Choice) -> Client {
    Client {
        target: given["target"].clone(),
        user: given["username"].clone(),
        password: given["password"].clone(),
        authority: given.get("ca-cert").filter(|text| !text.is_empty()).cloned(),
        choice,
    }
}

/// What is done to all deployments must be safe to be done to each.
fn fits(choice: &Choice, verb: &Verb) -> Result<(), String> {
    match (choice, verb) {
        (Choice::All, Verb::Backup(Backup { is_lock_free: true, .. })) => {
            Err("--unsafe-lock-free cannot be used with --all-deployments.".to_owned())
        }
        (Choice::All, Verb::Restore { .. } | Verb::RestoreCleanup) => {
            Err("--all-deployments cannot be restored; name one with --deployment.".to_owned())
        }
        _ => Ok(()),
    }
}

fn verb_of(name: &str, own: &Given) -> Result<Verb, String> {
    let said = |name| own.get(name).filter(|value: &&String| !value.is_empty());
    let path = said("artifact-path").map(PathBuf::from);
    Ok(match name {
        "pre-backup-check" => Verb::Check,
        "backup" => {
            let how = Backup {
                parent: path,
                with_manifest: own.contains_key("with-manifest"),
                is_lock_free: own.contains_key("unsafe-lock-free"),
                repository: said("repo").cloned(),
                is_only_stored: own.contains_key("no-artifact-dir"),
            };
            agrees(&how)?;
            Verb::Backup(how)
        }
        "backup-cleanup" => Verb::BackupCleanup,
        "restore" => Verb::Restore { artifact: path.ok_or("--artifact-path flag is required.")? },
        _ => Verb::RestoreCleanup,
    })
}

/// What goes into a repository alone needs one, makes no directory anywhere, and is locked as all that goes there.
fn agrees(how: &Backup) -> Result<(), String> {
    let wrong = match how {
        Backup { is_only_stored: false, .. } => return Ok(()),
        Backup { repository: None, .. } => "--no-artifact-dir needs --repo.",
        Backup { parent: Some(_), .. } => "--artifact-path and --no-artifact-dir exclude each other.",
        Backup { is_lock_free: true, .. } => "--unsafe-lock-free cannot be used with --no-artifact-dir.",
        _ => return Ok(()),
    };
    Err(wrong.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str, variables: &[(&str, &str)]) -> Result<Asked, Refusal> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words, &|names| {
            let set = |name: &&'static str| variables.iter().find(|(other, _)| other == name);
            names.iter().find_map(set).map(|(_, value)| (*value).to_owned())
        })
    }

    #[track_caller]
    fn check(line: &str, verb: Verb) {
        let Ok(Asked::Run(request)) = parsed(line, &[]) else { panic!("{line}: {:?}", parsed(line, &[])) };
        assert_eq!(request.verb, verb, "{line}");
        let host = Host { name: "10.0.0.6".into(), port: 22 };
        let access = Access { host, user: "bbr".into(), key: "key".into() };
        assert_eq!(request.parent, Parent::Director(access), "{line}");
    }

    #[track_caller]
    fn refused(line: &str, error: &str) {
        assert_eq!(parsed(line, &[]).unwrap_err().error, error, "{line}");
    }

    const DIRECTOR: &str = "director --host 10.0.0.6 --username bbr --private-key-path key";

    #[test]
    fn every_verb_and_alias_is_read() {
        check(&format!("{DIRECTOR} pre-backup-check"), Verb::Check);
        check("director --host=10.0.0.6 -u bbr --key key c", Verb::Check);
        let backup = |parent: &str| Verb::Backup(Backup { parent: Some(parent.into()), ..Backup::default() });
        check(&format!("{DIRECTOR} backup --artifact-path /srv"), backup("/srv"));
        check(&format!("{DIRECTOR} b -a /srv"), backup("/srv"));
        check(&format!("{DIRECTOR} backup"), Verb::Backup(Backup::default()));
        check(&format!("{DIRECTOR} backup-cleanup"), Verb::BackupCleanup);
        check(&format!("{DIRECTOR} r -a dir"), Verb::Restore { artifact: "dir".into() });
        check(&format!("{DIRECTOR} restore-cleanup"), Verb::RestoreCleanup);
    }

    #[test]
    fn flags_of_the_parent_are_missed_in_order() {
        refused("director backup", "--host flag is required.");
        refused("director --host h backup", "--username flag is required.");
        refused("director --host h -u x backup", "--private-key-path flag is required.");
        refused("director --host h: -u x --key k backup", "--host is neither a host nor a host and a port.");
        refused(&format!("{DIRECTOR} restore"), "--artifact-path flag is required.");
        refused(&format!("{DIRECTOR} backpu"), "command 'backpu' not found");
    }

    #[test]
    fn a_deployment_is_found_by_flags_or_variables_and_flags_come_first() {
        let variables = [
            ("BOSH_ENVIRONMENT", "https://a"),
            ("BOSH_CLIENT", "admin"),
            ("BOSH_CLIENT_SECRET", "secret"),
            ("BOSH_DEPLOYMENT", "cf"),
            ("BOSH_CA_CERT", "second"),
            ("CA_CERT", "first"),
        ];
        let client = |target: &str, authority: &str| Client {
            target: target.into(),
            user: "admin".into(),
            password: "secret".into(),
            authority: Some(authority.into()),
            choice: Choice::One("cf".into()),
        };
        let read = |line: &str, variables: &[(&str, &str)]| match parsed(line, variables) {
            Ok(Asked::Run(Request { parent: Parent::Deployment(client), verb, .. })) => (client, verb),
            other => panic!("{line}: {other:?}"),
        };
        let all = Backup { with_manifest: true, is_lock_free: true, ..Backup::default() };
        let line = "deployment backup --with-manifest --unsafe-lock-free";
        assert_eq!(read(line, &variables), (client("https://a", "first"), Verb::Backup(all)));
        assert_eq!(read("deployment c", &variables[..5]), (client("https://a", "second"), Verb::Check));
        let variables = [&variables[..], &[("ONGGI_REPOSITORY", "/srv/onggi")]].concat();
        for (line, repository) in [("backup", "/srv/onggi"), ("backup --repo sftp:host:/srv", "sftp:host:/srv")] {
            let Verb::Backup(how) = read(&format!("deployment {line}"), &variables).1 else { panic!("{line}") };
            assert_eq!(how.repository.as_deref(), Some(repository), "{line}");
        }
        let line = "deployment -t b --ca-cert third c";
        assert_eq!(read(line, &variables), (client("b", "third"), Verb::Check));
    }

    #[test]
    fn one_deployment_or_all_of_them_is_said_and_not_all_is_done_to_all() {
        let base = "deployment -t a -u b -p c";
        refused("deployment backup", "--target flag is required.");
        refused("deployment -t a backup", "--username flag is required.");
        refused("deployment -t a -u b backup", "--password flag is required.");
        refused(&format!("{base} backup"), "--deployment or --all-deployments flag is required.");
        let both = format!("{base} -d x --all-deployments backup");
        refused(&both, "--deployment and --all-deployments exclude each other.");
        let free = format!("{base} --all-deployments backup --unsafe-lock-free");
        refused(&free, "--unsafe-lock-free cannot be used with --all-deployments.");
        for verb in ["restore -a x", "restore-cleanup"] {
            let line = format!("{base} --all-deployments {verb}");
            refused(&line, "--all-deployments cannot be restored; name one with --deployment.");
        }
    }

    #[test]
    fn without_an_artifact_directory_there_must_be_a_repository() {
        let line = format!("{DIRECTOR} backup --no-artifact-dir");
        refused(&line, "--no-artifact-dir needs --repo.");
        let repository = Some("/srv/onggi".to_owned());
        check(
            &format!("{line} --repo /srv/onggi"),
            Verb::Backup(Backup { repository, is_only_stored: true, ..Backup::default() }),
        );
        let both = format!("{line} --repo /srv/onggi -a /srv");
        refused(&both, "--artifact-path and --no-artifact-dir exclude each other.");
        let free = "deployment -t a -u b -p c -d x backup --unsafe-lock-free --no-artifact-dir --repo r";
        refused(free, "--unsafe-lock-free cannot be used with --no-artifact-dir.");
    }

    #[test]
    fn an_unknown_flag_is_told_with_the_help() {
        let refusal = parsed(&format!("{DIRECTOR} backup --nope"), &[]).unwrap_err();
        assert!(refusal.error.is_empty(), "{refusal:?}");
        let shown = refusal.shown("1.9.81");
        assert!(shown.starts_with("Incorrect Usage: flag provided but not defined: -nope\n"), "{shown}");
        assert!(shown.contains("--artifact-path"), "{shown}");
        let shown = parsed("director --nope backup", &[]).unwrap_err().shown("1.9.81");
        assert!(shown.starts_with("Incorrect Usage. flag provided but not defined: -nope\n"), "{shown}");
    }

    #[test]
    fn help_is_never_an_error() {
        for line in ["", "help", "h", "--help", "-h"] {
            assert_eq!(parsed(line, &[]), Ok(Asked::Help(Topic::Main)), "{line}");
        }
        for line in ["director --help", "director help", "director backup --help"] {
            assert!(matches!(parsed(line, &[]), Ok(Asked::Help(_))), "{line}");
        }
        for line in ["version", "v", "--version", "-v"] {
            assert_eq!(parsed(line, &[]), Ok(Asked::Version), "{line}");
        }
        assert_eq!(parsed("dierctor backup", &[]), Ok(Asked::Unknown("dierctor".into())));
    }
}
