//! What makes a host ready: a user, a key that may do one thing, a rule. Text only; who runs it, and how, is not decided here.
//! Running it again changes nothing.

use std::fmt::Write as _;

use super::config::Become;
use super::start::INSTALLED;
use crate::carrier::ssh::quote;

/// What a host is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrollment {
    /// Who logs in.
    pub user: String,
    /// The hub's public key, or that of another hub.
    pub key: String,
    /// What may be read.
    pub level: Become,
    /// Name of the program, with its digest in it.
    pub program: String,
    /// SHA-256 of the program.
    pub digest: String,
    /// With `forced`: the only roots.
    pub roots: Vec<String>,
}

/// The form in which it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For `sh`, as root.
    Shell,
    /// User data of a cloud's image.
    CloudInit,
    /// A task.
    Ansible,
    /// A manifest.
    Puppet,
}

/// The node's own list.
const POLICY: &str = "/etc/onggi-node.conf";

impl Enrollment {
    /// The line of `authorized_keys`.
    pub fn key_line(&self) -> String {
        let key = self.key.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        match self.level {
            Become::Forced => {
                format!("restrict,command=\"{INSTALLED}/{} read --policy {POLICY}\" {key} onggi", self.program)
            }
            Become::None | Become::Sudo | Become::Capability => format!("restrict {key} onggi"),
        }
    }

    /// The rule of sudo, where the level needs one. The digest holds wherever the program lies.
    pub fn rule(&self) -> Option<String> {
        let Self { user, program, digest, .. } = self;
        (self.level == Become::Sudo).then(|| {
            let places = [INSTALLED.to_owned(), format!("/home/{user}/.cache/onggi")];
            let commands = places.map(|place| format!("sha256:{digest} {place}/{program} read"));
            format!("{user} ALL=(root) NOPASSWD: {}", commands.join(", "))
        })
    }

    fn policy(&self) -> String {
        self.roots.iter().fold(String::new(), |mut text, root| {
            let _ = writeln!(text, "root {root}"); // a string takes everything
            text
        })
    }

    /// For `sh`, as root. With `length` the program follows on standard input and is installed.
    pub fn script(&self, length: Option<usize>) -> String {
        let (user, line) = (quote(&self.user), quote(&self.key_line()));
        let mut steps = vec![
            "set -eu; umask 077".to_owned(),
            format!(
                "id {user} >/dev/null 2>&1 || useradd --system --create-home --home-dir /home/{user} --shell /bin/sh --password '*' {user}"
            ),
            format!("h=$(getent passwd {user} | cut -d: -f6); g=$(id -gn {user})"),
            format!("install -d -m 0700 -o {user} -g \"$g\" \"$h/.ssh\""),
            format!(
                "k=$h/.ssh/authorized_keys; touch \"$k\"; grep -qxF {line} \"$k\" || printf '%s\\n' {line} >>\"$k\""
            ),
            format!("chmod 600 \"$k\"; chown {user}:\"$g\" \"$k\""),
        ];
        if let Some(length) = length {
            let path = format!("{INSTALLED}/{}", self.program);
            steps.push(format!("install -d -m 0755 {INSTALLED}"));
            steps.push(format!(
                "head -c {length} >{path}.new; if cmp -s {path}.new {path}; then rm -f {path}.new; else chmod 0755 {path}.new; mv -f {path}.new {path}; fi"
            ));
            if self.level == Become::Capability {
                steps
                    .push(format!("chown root:\"$g\" {path}; chmod 0750 {path}; setcap cap_dac_read_search+ep {path}"));
            }
        }
        let file = |path: &str, mode: &str, content: &str| {
            let content = quote(content);
            format!(
                "printf '%s\\n' {content} >{path}.new; chmod {mode} {path}.new; if cmp -s {path}.new {path}; then rm -f {path}.new; else mv -f {path}.new {path}; fi"
            )
        };
        steps.extend(self.rule().map(|rule| file(&format!("/etc/sudoers.d/{}", self.user), "0440", &rule)));
        if self.level == Become::Forced {
            steps.push(file(POLICY, "0644", self.policy().trim_end()));
        }
        steps.join("\n") + "\n"
    }

    /// Written down for others to carry out. The program itself is sent when it is first needed; what must be installed
    /// before is said in a comment.
    pub fn written(&self, form: Form) -> String {
        let script = self.script(None);
        let indent = |by: &str| {
            script.lines().fold(String::new(), |mut text, line| {
                let _ = writeln!(text, "{by}{line}"); // a string takes everything
                text
            })
        };
        let note = match self.level {
            Become::Capability | Become::Forced => {
                format!("# this level needs the program at {INSTALLED}/{}, sha256 {}\n", self.program, self.digest)
            }
            Become::None | Become::Sudo => String::new(),
        };
        match form {
            Form::Shell => format!("#!/bin/sh\n{note}{script}"),
            Form::CloudInit => {
                format!("#cloud-config\n{note}runcmd:\n  - - sh\n    - -c\n    - |\n{}", indent("      "))
            }
            Form::Ansible => format!(
                "{note}- name: onggi may read this host\n  become: true\n  ansible.builtin.shell:\n    cmd: |\n{}",
                indent("      ")
            ),
            Form::Puppet => format!(
                "{note}exec {{ 'onggi may read this host':\n  provider => shell,\n  unless   => 'grep -qF \"{}\" ~{}/.ssh/authorized_keys',\n  command  => @(END)\n{}    | END\n}}\n",
                self.key.split_whitespace().nth(1).unwrap_or_default(),
                self.user,
                indent("    ")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enrollment(level: Become) -> Enrollment {
        Enrollment {
            user: "onggi-backup".to_owned(),
            key: "ssh-ed25519 AAAA hub".to_owned(),
            level,
            program: "onggi-node-1-abc".to_owned(),
            digest: "abc".to_owned(),
            roots: vec!["/etc".to_owned()],
        }
    }

    #[test]
    fn a_key_never_opens_more_than_it_must() {
        assert_eq!(enrollment(Become::Sudo).key_line(), "restrict ssh-ed25519 AAAA onggi");
        let forced = enrollment(Become::Forced).key_line();
        assert!(
            forced.starts_with("restrict,command=\"/usr/local/lib/onggi/onggi-node-1-abc read --policy "),
            "{forced}"
        );
    }

    #[test]
    fn the_rule_names_the_digest_wherever_the_program_lies() {
        let rule = enrollment(Become::Sudo).rule().unwrap();
        assert_eq!(rule.matches("sha256:abc ").count(), 2, "{rule}");
        assert_eq!(enrollment(Become::None).rule(), None);
    }

    #[test]
    fn every_form_holds_the_same_steps() {
        for form in [Form::Shell, Form::CloudInit, Form::Ansible, Form::Puppet] {
            let text = enrollment(Become::Sudo).written(form);
            for part in ["useradd", "authorized_keys", "/etc/sudoers.d/onggi-backup"] {
                assert!(text.contains(part), "{form:?} lacks {part}");
            }
        }
    }
}
