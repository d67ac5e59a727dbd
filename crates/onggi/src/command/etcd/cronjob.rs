//! `onggi etcd cronjob`: writes jobs of Kubernetes that back up etcd on its own nodes.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use onggi_engine::exit::Exit;
use onggi_source::etcd::cronjob::{self, Backups, KubeVersion, Member, Order, RegistryMode, SECRETS, Schedule};
use onggi_source::etcd::manifest::Manifest;
use onggi_storage::location::Location;
use serde_json::{Value, json};

use super::kubectl;
use crate::escape::escape_text;
use crate::failure::Failure;
use crate::opening;
use crate::session::Session;

/// Where kubeadm puts the static pod of a member.
const MANIFEST: &str = "/etc/kubernetes/manifests/etcd.yaml";

/// Writes a job of Kubernetes that backs up etcd on a node of the control plane.
///
/// Image, address and certificates are read from the static pod: from the file of this machine, or, elsewhere, with
/// kubectl from the cluster. Nothing is changed; the YAML is for `kubectl apply`. With `-r` an s3: or sftp: repository is
/// written to instead of a directory.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  onggi etcd cronjob --node master1 --registry 192.168.50.90:5000\n  onggi etcd cronjob --nodes m1,m2,m3 --schedule '0 */6 * * *' -r s3:s3.example/etcd\n  onggi etcd cronjob --node master1 --engine etcdctl --apply"
)]
pub struct Args {
    /// The node of the control plane that the job runs on.
    #[arg(long, value_name = "NAME", required_unless_present = "nodes", conflicts_with = "nodes")]
    pub node: Option<String>,
    /// Several nodes: a job for each, spread over the minutes, so that one goes on when another is down.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub nodes: Vec<String>,
    /// Who takes the snapshot.
    #[arg(long, value_name = "WHO", default_value = "onggi")]
    pub engine: Engine,
    /// A registry that the nodes pull from, such as 192.168.50.90:5000.
    #[arg(long, value_name = "HOST")]
    pub registry: Option<String>,
    /// What becomes of the image's name there.
    #[arg(long, value_name = "HOW", default_value = "prefix")]
    pub registry_mode: Mode,
    /// The image as the nodes pull it, instead of onggi's or the member's.
    #[arg(long, value_name = "IMAGE", conflicts_with = "registry")]
    pub image: Option<String>,
    /// When.
    #[arg(long, value_name = "CRON", default_value = "*/5 * * * *")]
    pub schedule: Schedule,
    /// Zone that the schedule is meant in [default: that of the control plane].
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
    /// Static pod of a member [default: /etc/kubernetes/manifests/etcd.yaml, or each node's by kubectl].
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// Version of the cluster, if it is older than 1.25.
    #[arg(long, value_name = "1.N")]
    pub kube_version: Option<KubeVersion>,
    /// Directory of the node that backups go to.
    #[arg(long, value_name = "DIR", default_value = "/mnt/backup", conflicts_with = "claim")]
    pub directory: PathBuf,
    /// A persistent volume claim in kube-system that backups go to instead.
    #[arg(long, value_name = "NAME")]
    pub claim: Option<String>,
    /// Secret in kube-system with the repository's `password`, and the credentials of its storage.
    #[arg(long, value_name = "NAME", default_value = "onggi-etcd")]
    pub secret: String,
    /// Name of the cluster in the snapshots [default: etcd].
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Client's certificate and key beside the authority's, without .crt and .key.
    #[arg(long, value_name = "NAME", default_value = "healthcheck-client")]
    pub pair: String,
    /// Hand the YAML to `kubectl apply` instead of printing it.
    #[arg(long)]
    pub apply: bool,
}

/// Who takes the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// It is proved and stored in a repository.
    Onggi,
    /// etcdctl of the member's image leaves files; collect and prune them yourself.
    Etcdctl,
}

/// What becomes of an image's name in a registry of one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// It follows the registry as a whole.
    Prefix,
    /// Its host is replaced by the registry.
    ReplaceHost,
    /// It stays.
    None,
}

/// Does it.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let backups = backups(&args, session)?;
    let nodes = members(&args, session).await?;
    let apply = args.apply;
    let documents = order(args, backups).documents(&nodes);
    let documents = documents.map_err(|error| Failure::usage("write the jobs").because(error))?;
    let output = &session.output;
    if apply {
        let yaml = cronjob::yaml(&documents);
        let told = kubectl::call(session, "apply the jobs", &["apply", "-f", "-"], &yaml).await?;
        told.lines().for_each(|line| output.talk(escape_text(line)));
    }
    if output.is_json() {
        output.json(json!({ "message_type": "cronjob", "applied": apply, "documents": documents }));
    } else if !apply {
        output.raw(cronjob::yaml(&documents).as_bytes());
    }
    Ok(Exit::Done)
}

fn order(args: Args, backups: Backups) -> Order {
    let mode = match args.registry_mode {
        Mode::Prefix => RegistryMode::Prefix,
        Mode::ReplaceHost => RegistryMode::ReplaceHost,
        Mode::None => RegistryMode::None,
    };
    Order {
        engine: match args.engine {
            Engine::Onggi => cronjob::Engine::Onggi,
            Engine::Etcdctl => cronjob::Engine::Etcdctl,
        },
        image: args.image,
        registry: args.registry.map(|registry| (registry, mode)),
        schedule: args.schedule,
        time_zone: args.time_zone,
        version: args.kube_version,
        backups,
        secret: args.secret,
        cluster: args.cluster,
        pair: args.pair,
    }
}

fn backups(args: &Args, session: &Session) -> Result<Backups, Failure> {
    let Some(repository) = &session.globals.repo else {
        let directory = || Backups::Directory(args.directory.clone());
        return Ok(args.claim.clone().map_or_else(directory, Backups::Claim));
    };
    let location = opening::location(repository, &session.machine)?;
    let storage = storage(&location).ok_or_else(|| {
        Failure::usage(format!("write jobs for the repository {}", escape_text(repository)))
            .because("it would lie in the container")
            .hint("give the address of an s3: or sftp: repository, or the node's directory with --directory")
    })?;
    Ok(Backups::Storage(storage))
}

/// As the configuration has it below `storages:`; credentials come from the Secret.
fn storage(location: &Location) -> Option<Value> {
    let secret = |key: &str| format!("file:{SECRETS}/{key}");
    let mut storage = match location {
        Location::Local(_) => return None,
        Location::S3 { endpoint, bucket, prefix } => json!({
            "kind": "s3", "endpoint": endpoint, "bucket": bucket, "prefix": prefix,
            "access-key": secret("access-key"), "secret-key": secret("secret-key"),
        }),
        Location::Sftp { user, host, port, path } => json!({
            "kind": "sftp", "host": host, "port": port, "user": user, "path": path,
            "key": secret("id_ed25519"), "known-hosts": format!("{SECRETS}/known_hosts"),
        }),
    };
    if let Value::Object(keys) = &mut storage {
        keys.retain(|_, value| !value.is_null() && *value != json!(""));
    }
    Some(storage)
}

/// Each node with its member: of the file that is given, of this machine's, or of the pods in the cluster.
async fn members(args: &Args, session: &Session) -> Result<Vec<(String, Member)>, Failure> {
    let nodes: Vec<String> = args.node.iter().chain(&args.nodes).cloned().collect();
    let local = local(args, session).await?;
    if let Some((path, bytes)) = local {
        let member = member(&bytes, &path.display().to_string())?;
        if let Some(name) = member.name.as_ref().filter(|name| !nodes.contains(name)) {
            let (path, name) = (path.display(), escape_text(name));
            session.output.talk(format_args!("note: {path} is that of member {name}, not of the node named"));
        }
        return Ok(nodes.into_iter().map(|node| (node, member.clone())).collect());
    }
    let mut members = Vec::new();
    for node in nodes {
        let pod = format!("etcd-{node}");
        let act = format!("read the pod {} of kube-system", escape_text(&pod));
        let words = ["get", "pod", "--namespace=kube-system", "--output=yaml", "--", &pod];
        let text = kubectl::call(session, &act, &words, "").await;
        let text = text.map_err(|failure| failure.hint("or copy a node's etcd.yaml here and say --manifest FILE"))?;
        members.push((node, member(text.as_bytes(), &format!("pod kube-system/{pod}"))?));
    }
    Ok(members)
}

/// The file of a static pod, if one is given or lies here.
async fn local(args: &Args, session: &Session) -> Result<Option<(PathBuf, Vec<u8>)>, Failure> {
    let path = session.machine.absolute(args.manifest.as_deref().unwrap_or(Path::new(MANIFEST)));
    match tokio::fs::read(&path).await {
        Ok(bytes) => Ok(Some((path, bytes))),
        Err(error) if error.kind() == ErrorKind::NotFound && args.manifest.is_none() => Ok(None),
        Err(error) => Err(Failure::local(format!("read {}", path.display()), &error)),
    }
}

fn member(bytes: &[u8], from: &str) -> Result<Member, Failure> {
    let act = || format!("read the static pod {}", escape_text(from));
    let manifest = Manifest::parse(bytes).map_err(|error| Failure::usage(act()).because(error))?;
    Member::of(&manifest).map_err(|error| Failure::usage(act()).because(error))
}
