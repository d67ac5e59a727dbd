//! What the JCloud script runs from: a folder with its settings, its list of jobs, and the folders that it names. The
//! script itself is somebody else's and not part of this tree; whoever has it names its path.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Openstack;
use crate::service::Sshd;

/// One such folder.
#[derive(Debug)]
pub struct Desk {
    folder: PathBuf,
    project: String,
}

impl Desk {
    /// Lays out a folder for a project. `more` are further lines of the settings, which count before those above them.
    pub fn lay(lab: &Openstack, sshd: &Sshd, folder: PathBuf, project: &str, more: &str) -> io::Result<Self> {
        let desk = Self { folder, project: project.to_owned() };
        for name in ["home", "staging", "backup", "programs"] {
            fs::create_dir_all(desk.path(name))?;
        }
        sshd.introduce(&desk.path("home"));
        // The script's `ssh` looks into the home that the system knows, where the lab's server is unknown.
        let known = desk.path("home/.ssh/known_hosts");
        let ssh = format!("#!/bin/sh\nexec /usr/bin/ssh -o UserKnownHostsFile={} \"$@\"\n", known.display());
        fs::write(desk.path("programs/ssh"), ssh)?;
        fs::set_permissions(desk.path("programs/ssh"), fs::Permissions::from_mode(0o755))?;
        let shown = |name: &str| desk.path(name).display().to_string();
        let text = format!(
            "PATH_TO_JOBLIST=joblist\nPATH_TO_SNAPSHOT_DIR={}\nPATH_TO_SNAPSHOT_WITH_METADATA_DIR={}\n\
             PATH_TO_SNAPSHOT_BACKUP_DIR={}\nPATH_TO_SNAPSHOT_BACKUP_DIR_REMOTE={}\nPATH_TO_PRIVATE_KEY={}\n\
             PATH_TO_OPENRC_FILE={}\nMAX_COUNT_OF_SNAPSHOT=1\nIPADDRESS_REMOTE=127.0.0.1\nUSERNAME_REMOTE={}\n\
             PORT_REMOTE={}\nBANDWIDTH_LIMIT=500000\nTIMELIMIT=3600\nPROJECT_NAME={project}\nACCOUNT_NAME=demo\n{more}",
            lab.file("glance/images").display(),
            shown("staging"),
            shown("backup"),
            shown("backup"),
            sshd.key().display(),
            lab.file("openrc").display(),
            sshd.user(),
            sshd.port(),
        );
        fs::write(desk.path(".env"), text)?;
        Ok(desk)
    }

    /// Something in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes the list of jobs.
    pub fn list(&self, ids: &[&str]) -> io::Result<()> {
        fs::write(self.path("joblist"), ids.iter().flat_map(|id| [id, "\n"]).collect::<String>())
    }

    /// `onggi` with these words in this folder.
    pub fn onggi(&self, program: &Path, words: &[&str]) -> Command {
        let mut command = self.command(program);
        command.args(words).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    /// The script in this folder.
    pub fn script(&self, script: &Path) -> Command {
        let mut command = self.command(Path::new("/bin/bash"));
        command.arg(script).env("PATH", format!("{}:/usr/bin:/bin", self.path("programs").display()));
        command.env("LC_ALL", "C.UTF-8");
        command
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", self.path("home")).current_dir(&self.folder);
        command
    }

    /// The folder of a server on the backup server.
    pub fn stored_at(&self, server: &str) -> PathBuf {
        self.path("backup/staging").join(&self.project).join(server)
    }

    /// The files on the backup server of a server, with their content.
    pub fn stored(&self, server: &str) -> io::Result<BTreeMap<String, Vec<u8>>> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(self.stored_at(server)).into_iter().flatten() {
            let entry = entry?;
            files.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
        }
        Ok(files)
    }
}
