//! How soon onggi says that it is not let in, and why.

use std::fmt::Write as _;
use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::etcd::{Bench, EtcdPlan};
use crate::service::EtcdCluster;

/// The longest that it may take, in seconds.
const TARGET: f64 = 6.0;

/// Measures each way of not being let in, and returns a table as Markdown.
pub(super) fn measure(plan: &EtcdPlan) -> Result<String> {
    let bench = Bench::start(plan, "--auth")?;
    fs::write(bench.path("reader"), "readerpw").context("write a password")?;
    fs::set_permissions(bench.path("reader"), std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let cluster = bench.cluster();
    let auth = json!({ "user": "reader", "password": format!("file:{}", bench.path("reader").display()) });
    let reader = json!({ "auth": auth });
    let dead = json!({ "endpoints": ["https://127.0.0.1:9"] });
    let (own, other) = ("etcd/healthcheck-client", "stranger");
    let ways = [
        ("a user who may read some keys", 13, source(cluster, "etcd/ca", own, reader)),
        ("a client certificate of another authority", 13, source(cluster, "etcd/ca", other, json!({}))),
        ("a member whose certificate is of another authority", 13, source(cluster, "ca", own, json!({}))),
        ("an endpoint where nobody listens", 14, source(cluster, "etcd/ca", own, dead)),
    ];
    let mut table = "\n| who is not let in | told why after seconds | aim |\n|---|---|---|\n".to_owned();
    bench.configure(&ways.iter().enumerate().map(|(number, (.., source))| (number.to_string(), source)).collect())?;
    bench.ask("--yes init")?;
    for (number, (what, exit, _)) in ways.iter().enumerate() {
        let (mut command, began) = (bench.onggi(&format!("backup {number}")), Instant::now());
        let output = command.output().context("start onggi")?;
        let (took, said) = (began.elapsed().as_secs_f64(), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.code() == Some(*exit), "{what}: {}: {said}", output.status);
        let took = if took > TARGET { format!("**{took:.2}**") } else { format!("{took:.2}") };
        let _ = writeln!(table, "| {what} | {took} | {TARGET:.0} |");
    }
    Ok(table)
}

fn source(cluster: &EtcdCluster, authority: &str, client: &str, more: Value) -> Value {
    let file = |name: String| cluster.pki(&name).display().to_string();
    let mut source = json!({
        "kind": "etcd",
        "endpoints": cluster.endpoints(),
        "tls": {
            "ca": file(format!("{authority}.crt")),
            "cert": file(format!("{client}.crt")),
            "key": format!("file:{}", file(format!("{client}.key"))),
        },
    });
    if let (Some(source), Value::Object(more)) = (source.as_object_mut(), more) {
        source.extend(more);
    }
    source
}
