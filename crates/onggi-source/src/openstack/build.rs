//! Makes servers, and takes away or hands over what a restore made.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::cloud::{Ask, Cloud, Service, document, list, pages, remove, text};
use super::{Openstack, api, mark};
use crate::context::{Context, Progress};
use crate::percent::escape;
use crate::source::{Result, SourceError, Unit};

/// Between two looks at a server.
const POLL: Duration = Duration::from_secs(1);
/// The longest time that a server may take to start, or to go.
const SERVER_MAX: Duration = Duration::from_mins(20);
/// The microversion in which a server may have no network at all.
const NETWORKS_NONE: u32 = 37;

/// Makes a server and waits until it runs.
pub(super) async fn server(cx: &Context, cloud: &dyn Cloud, body: Value) -> Result<Value> {
    let ask = Ask::post(Service::Compute, "/servers", json!({ "server": body })).version(NETWORKS_NONE).long();
    let made = document(cx, cloud, ask).await?;
    await_server(cx, cloud, text(&made["server"], "id"), "ACTIVE").await
}

/// Waits until a server is in a state and nobody works on it.
pub(super) async fn await_server(cx: &Context, cloud: &dyn Cloud, id: &str, wanted: &str) -> Result<Value> {
    let until = cx.world.elapsed() + SERVER_MAX;
    loop {
        let server = api::server(cx, cloud, id).await?.ok_or(SourceError::Gone)?;
        let (status, task) = (text(&server, "status"), text(&server, "OS-EXT-STS:task_state"));
        if status == wanted && task.is_empty() {
            return Ok(server);
        }
        if status == "ERROR" {
            let fault = text(&server["fault"], "message");
            return Err(SourceError::Incomplete(format!("server {id} is in state ERROR: {fault}")));
        }
        if cx.world.elapsed() >= until {
            return Err(SourceError::Incomplete(format!("server {id} stays in state {status} {task}")));
        }
        cx.monitor.progress(Progress::Phase(format!("waiting for server {id}: {status} {task}")));
        cx.sleep(POLL).await?;
    }
}

/// Removes a server and waits until it is gone.
pub(super) async fn drop_server(cx: &Context, cloud: &dyn Cloud, id: &str) -> Result<()> {
    remove(cx, cloud, Service::Compute, format!("/servers/{id}")).await?;
    let until = cx.world.elapsed() + SERVER_MAX;
    while api::server(cx, cloud, id).await?.is_some() {
        if cx.world.elapsed() >= until {
            return Err(SourceError::Busy(format!("server {id} does not go")));
        }
        cx.sleep(POLL).await?;
    }
    Ok(())
}

/// The servers that a run made for a unit: never the unit's own.
async fn made(cx: &Context, cloud: &dyn Cloud, unit: &Unit) -> Result<Vec<Value>> {
    let mut servers = api::servers(cx, cloud).await?;
    servers.retain(|server| mark::is_of(server, cx, unit) && text(server, "id") != unit.id.as_str());
    Ok(servers)
}

/// The ports that a run made for a unit.
async fn ports(cx: &Context, cloud: &dyn Cloud, unit: &Unit) -> Result<Vec<Value>> {
    if !cloud.has(cx, Service::Network).await? {
        return Ok(Vec::new());
    }
    let path = format!("/ports?name={}", port_name(cx, unit));
    Ok(pages(cx, cloud, Service::Network, path, "ports", None).await?)
}

/// Ports have no metadata: their name is the mark.
pub(super) fn port_name(cx: &Context, unit: &Unit) -> String {
    mark::name(cx, &format!("port-{}", unit.id))
}

/// Removes servers and ports of a run that is no backup. A backup makes none.
pub(super) async fn drop_servers(_source: &Openstack, cx: &Context, cloud: &dyn Cloud, unit: &Unit) -> Result<()> {
    if cx.purpose == crate::context::Purpose::Backup {
        return Ok(());
    }
    for server in made(cx, cloud, unit).await? {
        drop_server(cx, cloud, text(&server, "id")).await?;
    }
    for port in ports(cx, cloud, unit).await? {
        remove(cx, cloud, Service::Network, format!("/ports/{}", text(&port, "id"))).await?;
    }
    Ok(())
}

/// Takes our marks off what a restore made.
pub(super) async fn hand_over(cx: &Context, cloud: &dyn Cloud, unit: &Unit) -> Result<()> {
    for port in ports(cx, cloud, unit).await? {
        let path = format!("/ports/{}", text(&port, "id"));
        document(cx, cloud, Ask::put(Service::Network, path, json!({ "port": { "name": "" } }))).await?;
    }
    for server in made(cx, cloud, unit).await? {
        let own = server["metadata"].as_object().cloned().unwrap_or_default();
        let kept: Map<_, _> = own.into_iter().filter(|(key, _)| !key.starts_with("onggi.")).collect();
        let path = format!("/servers/{}/metadata", text(&server, "id"));
        document(cx, cloud, Ask::put(Service::Compute, path, json!({ "metadata": kept }))).await?;
    }
    Ok(())
}

/// A flavor like the captured one: the same, else one of its name and size, else the smallest that holds it.
pub(super) async fn flavor(
    cx: &Context,
    cloud: &dyn Cloud,
    captured: &Value,
    asked: Option<&str>,
) -> Result<Option<Value>> {
    let all = pages(cx, cloud, Service::Compute, "/flavors/detail".to_owned(), "flavors", None).await?;
    if let Some(asked) = asked {
        return Ok(all.into_iter().find(|one| text(one, "id") == asked || text(one, "name") == asked));
    }
    let same = |key: &str, one: &Value| one[key] == captured[key];
    let sizes = |one: &Value| ["ram", "vcpus", "disk"].iter().all(|key| same(key, one));
    let exact = all.iter().find(|one| same("id", one) && sizes(one));
    if let Some(found) = exact.or_else(|| all.iter().find(|one| same("name", one) && sizes(one))) {
        return Ok(Some(found.clone()));
    }
    let size = |one: &Value, key: &str| one[key].as_u64().unwrap_or(0);
    let holds = |one: &&Value| ["ram", "vcpus", "disk"].iter().all(|key| size(one, key) >= size(captured, key));
    Ok(all.iter().filter(holds).min_by_key(|one| (size(one, "ram"), size(one, "vcpus"), size(one, "disk"))).cloned())
}

/// Where a captured port is connected in the destination: the same network, else one of its name with a subnet of its
/// addresses.
pub(super) async fn network(
    cx: &Context,
    cloud: &dyn Cloud,
    captured: &Value,
    subnets: &[&Value],
    asked: Option<&str>,
) -> Result<Option<Value>> {
    let all = pages(cx, cloud, Service::Network, "/networks".to_owned(), "networks", None).await?;
    if let Some(asked) = asked {
        return Ok(all.into_iter().find(|one| text(one, "id") == asked || text(one, "name") == asked));
    }
    if let Some(found) = all.iter().find(|one| one["id"] == captured["id"]) {
        return Ok(Some(found.clone()));
    }
    let there = pages(cx, cloud, Service::Network, "/subnets".to_owned(), "subnets", None).await?;
    let wanted: Vec<_> =
        subnets.iter().filter(|one| one["network_id"] == captured["id"]).map(|one| &one["cidr"]).collect();
    let fits = |one: &&Value| {
        one["name"] == captured["name"]
            && there.iter().any(|subnet| subnet["network_id"] == one["id"] && wanted.contains(&&subnet["cidr"]))
    };
    Ok(all.iter().find(fits).cloned())
}

/// The security group of a captured one's name; made with its rules, where there is none.
pub(super) async fn security_group(cx: &Context, cloud: &dyn Cloud, captured: &Value) -> Result<String> {
    let name = text(captured, "name");
    let path = format!("/security-groups?name={}", escape(name));
    let there = pages(cx, cloud, Service::Network, path, "security_groups", None).await?;
    if let Some(found) = there.iter().find(|one| one["id"] == captured["id"]).or(there.first()) {
        return Ok(text(found, "id").to_owned());
    }
    let body = json!({ "security_group": { "name": name, "description": captured["description"] } });
    let made = document(cx, cloud, Ask::post(Service::Network, "/security-groups", body)).await?;
    let id = text(&made["security_group"], "id").to_owned();
    for rule in list(captured, "security_group_rules") {
        let keys = ["direction", "ethertype", "protocol", "port_range_min", "port_range_max", "remote_ip_prefix"];
        let mut order: Map<_, _> = keys
            .iter()
            .filter(|key| !rule[**key].is_null())
            .map(|key| ((*key).to_owned(), rule[*key].clone()))
            .collect();
        order.insert("security_group_id".to_owned(), json!(id));
        let ask = Ask::post(Service::Network, "/security-group-rules", json!({ "security_group_rule": order }));
        // A new group has rules of its own, which may be among these.
        match document(cx, cloud, ask).await {
            Err(error) if error.status() == Some(409) => {}
            made => drop(made?),
        }
    }
    Ok(id)
}
