//! What a fake Director answers to each question: one pure step from question to answer, but for the agents.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::FakeDirector;
use super::script::{Command, EntryKind, Order, Script};

type Agents = Box<dyn FnMut(&Order) -> Result<(), String> + Send>;

/// Where requests are answered.
pub(super) struct Desk {
    pub(super) script: Script,
    /// Tokens that let in, and how many requests each.
    pub(super) tokens: Vec<(String, Option<u32>)>,
    pub(super) log: Vec<String>,
    given: u32,
    uaa_url: String,
    tasks: Vec<Task>,
    agents: Agents,
}

struct Task {
    polls: u32,
    state: String,
    events: String,
    result: String,
}

/// A request.
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) authorization: String,
    pub(super) range: String,
    pub(super) body: Bytes,
}

/// Its answer.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    pub(super) body: String,
}

impl Reply {
    fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, location: None, body: body.into() }
    }
}

impl Desk {
    pub(super) fn new(script: Script, uaa_url: String, agents: Agents) -> Self {
        Self { script, tokens: Vec::new(), log: Vec::new(), given: 0, uaa_url, tasks: Vec::new(), agents }
    }

    pub(super) fn answer(&mut self, asked: &Asked) -> Reply {
        self.log(asked);
        if let Some(left) = self.script.unavailable.checked_sub(1) {
            self.script.unavailable = left;
            return Reply::new(503, "being restarted");
        }
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "/info") => Reply::new(200, self.info().to_string()),
            ("POST", "/uaa/oauth/token") => self.token(asked),
            _ if !self.lets_in(&asked.authorization) => Reply::new(401, "Not authorized: '/'"),
            (method, path) => self.inside(method, path, asked),
        }
    }

    fn inside(&mut self, method: &str, path: &str, asked: &Asked) -> Reply {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (method, parts.as_slice()) {
            ("GET", ["deployments"]) => {
                let names = self.script.deployments.iter().map(|deployment| json!({ "name": deployment.name }));
                Reply::new(200, Value::Array(names.collect()).to_string())
            }
            ("GET", ["deployments", name]) => match self.script.deployments.iter().find(|one| one.name == *name) {
                Some(deployment) => Reply::new(200, json!({ "manifest": deployment.manifest }).to_string()),
                None => not_found(name),
            },
            ("GET", ["deployments", name, "vms?format=full"]) => self.vms(name),
            ("POST", ["deployments", name, "ssh"]) => self.ssh(name, &asked.body),
            ("GET", [tasks]) if tasks.starts_with("tasks?state=") => self.tasks(),
            ("GET", ["tasks", rest @ ..]) => self.task(rest, &asked.range),
            _ => Reply::new(404, format!("no such page: {path}")),
        }
    }

    fn log(&mut self, asked: &Asked) {
        let mut line = format!("{} {}", asked.method, asked.path);
        if !asked.range.is_empty() {
            let _ = write!(line, " {}", asked.range); // a string takes everything
        }
        if asked.path.ends_with("/ssh") {
            let _ = write!(line, " {}", String::from_utf8_lossy(&asked.body));
        }
        self.log.push(line);
    }

    fn info(&self) -> Value {
        let how = match self.script.entry {
            EntryKind::Basic => json!({ "type": "basic", "options": {} }),
            EntryKind::Uaa => json!({ "type": "uaa", "options": { "url": self.uaa_url } }),
        };
        json!({ "name": "fake", "uuid": "3b1f-director", "user": null, "user_authentication": how })
    }

    fn token(&mut self, asked: &Asked) -> Reply {
        if asked.authorization != basic() || asked.body != "grant_type=client_credentials" {
            return Reply::new(401, r#"{"error":"unauthorized"}"#);
        }
        self.given += 1;
        let word = format!("token-{}", self.given);
        self.tokens.push((word.clone(), self.script.token_uses));
        let mut answer = json!({ "token_type": "bearer", "access_token": word });
        if let Some(seconds) = self.script.token_seconds {
            answer["expires_in"] = seconds.into();
        }
        Reply::new(200, answer.to_string())
    }

    fn lets_in(&mut self, authorization: &str) -> bool {
        if self.script.entry == EntryKind::Basic {
            return authorization == basic();
        }
        let word = authorization.strip_prefix("bearer ").unwrap_or_default();
        let Some((_, uses)) = self.tokens.iter_mut().find(|(token, _)| token == word) else { return false };
        match uses {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }

    fn vms(&mut self, name: &str) -> Reply {
        let Some(deployment) = self.script.deployments.iter().find(|one| one.name == name) else {
            return not_found(name);
        };
        let line = |instance: &super::Instance| {
            let ip = instance.address.clone();
            let vm = json!({ "job_name": instance.group, "id": instance.id, "index": instance.index,
                "bootstrap": instance.bootstrap, "ips": [ip], "agent_id": "a", "vm_cid": null });
            format!("{vm}\n")
        };
        let result = deployment.instances.iter().map(line).collect();
        self.begin("vms", result)
    }

    fn ssh(&mut self, name: &str, body: &[u8]) -> Reply {
        let Some(deployment) = self.script.deployments.iter().find(|one| one.name == name) else {
            return not_found(name);
        };
        let order: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let ids = order["target"]["ids"].as_array().cloned().unwrap_or_default();
        let is_meant = |instance: &&super::Instance| {
            order["target"]["job"] == instance.group && (ids.is_empty() || ids.contains(&json!(instance.id)))
        };
        let instances: Vec<_> = deployment.instances.iter().filter(is_meant).cloned().collect();
        let params = &order["params"];
        let (what, command) = match order["command"].as_str() {
            Some("setup") => {
                ("setup", Command::Setup { user: text(&params["user"]), public_key: text(&params["public_key"]) })
            }
            Some("cleanup") if self.script.refuses_cleanup => return Reply::new(500, "no"),
            Some("cleanup") => ("cleanup", Command::Cleanup { user_regex: text(&params["user_regex"]) }),
            _ => return Reply::new(400, "no such command"),
        };
        let mut results = Vec::new();
        for instance in instances {
            let scripted = self.script.statuses.iter().find(|(id, _)| *id == instance.id && what == "setup");
            let status = match scripted {
                Some((_, status)) => (*status).to_owned(),
                None => match (self.agents)(&Order { instance: instance.clone(), command: command.clone() }) {
                    Ok(()) => "success".to_owned(),
                    Err(status) => status,
                },
            };
            results.push(json!({ "command": what, "status": status, "ip": instance.address,
                "host_public_key": instance.host_key, "id": instance.id, "index": instance.index }));
        }
        self.begin(what, Value::Array(results).to_string())
    }

    /// Begins a task and leads to it.
    fn begin(&mut self, what: &str, result: String) -> Reply {
        let bad = self.script.failing.iter().find(|(failing, ..)| *failing == what);
        let (state, said) = bad.map_or(("done", ""), |(_, state, said)| (*state, *said));
        let mut events = format!("{}\n", json!({ "time": 1, "stage": what, "state": "started" }));
        if !said.is_empty() {
            let _ = writeln!(events, "{}", json!({ "time": 2, "error": { "code": 1, "message": said } }));
        }
        self.tasks.push(Task { polls: self.script.polls, state: state.to_owned(), events, result });
        let host = self.script.redirect_host.as_deref().unwrap_or_default();
        Reply { status: 302, location: Some(format!("{host}/tasks/{}", self.tasks.len())), body: String::new() }
    }

    fn tasks(&self) -> Reply {
        let task = |(number, (what, deployment)): (usize, &(&str, Option<&str>))| {
            json!({ "id": 9000 + number, "state": "processing", "description": what, "timestamp": 1, "result": null,
                "user": "admin", "deployment": deployment, "context_id": "" })
        };
        let tasks = self.script.under_way.iter().enumerate().map(task);
        Reply::new(200, Value::Array(tasks.collect()).to_string())
    }

    fn task(&mut self, rest: &[&str], range: &str) -> Reply {
        let number = rest.first().and_then(|number| number.parse::<usize>().ok()).unwrap_or_default();
        let Some(task) = number.checked_sub(1).and_then(|index| self.tasks.get_mut(index)) else {
            return Reply::new(404, "no such task");
        };
        match rest.get(1) {
            None => {
                let state = if task.polls > 0 { "processing" } else { &task.state };
                let body = json!({ "id": number, "state": state, "description": "" }).to_string();
                task.polls = task.polls.saturating_sub(1);
                Reply::new(200, body)
            }
            Some(&"output?type=event") => {
                let start = range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
                match start.and_then(|start| start.parse::<usize>().ok()) {
                    Some(start) if start >= task.events.len() => Reply::new(416, "Byte range unsatisfiable\n"),
                    Some(start) => Reply::new(206, &task.events[start..]),
                    None => Reply::new(200, &*task.events),
                }
            }
            Some(&"output?type=result") => Reply::new(200, &*task.result),
            Some(_) => Reply::new(404, "no such output"),
        }
    }
}

fn basic() -> String {
    let pair = BASE64_STANDARD.encode(format!("{}:{}", FakeDirector::CLIENT, FakeDirector::SECRET));
    format!("Basic {pair}")
}

fn not_found(name: &str) -> Reply {
    Reply::new(404, format!(r#"{{"code":70000,"description":"Deployment '{name}' doesn't exist"}}"#))
}
