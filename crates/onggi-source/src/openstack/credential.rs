//! Who logs in where: out of the configuration, an openrc, a clouds.yaml or the environment, by the names that
//! OpenStack's own clients know.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::config::{Openrc, OpenrcMode, OpenstackConfig};
use super::error::{CloudError, Result};
use crate::carrier::{Launch, run_for_text};
use crate::config::Surroundings;
use crate::context::Context;
use crate::secret::SecretKey;

/// The longest openrc or clouds.yaml, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The domain of names that say none.
const DOMAIN_DEFAULT: &str = "default";

/// What is known before Keystone is asked: keys without `OS_`, in small letters.
#[derive(Clone, Default)]
pub(super) struct Credential {
    pairs: BTreeMap<String, SecretString>,
    /// Where it is from, for messages.
    origin: String,
}

impl Credential {
    /// Reads what the configuration points at.
    pub(super) async fn load(cx: &Context, config: &OpenstackConfig, surroundings: &Surroundings) -> Result<Self> {
        let mut found = match (&config.openrc, &config.cloud) {
            (Some(openrc), _) => Self::of_openrc(cx, openrc, surroundings).await?,
            (None, Some(cloud)) => Self::of_clouds(cloud, surroundings)?,
            (None, None) => Self::of_environment(surroundings)?,
        };
        if let Some(reference) = config.password.as_ref().and_then(SecretKey::reference) {
            let password = surroundings.secrets.fetch(reference).await;
            let key = if found.has("application_credential_id") || found.has("application_credential_name") {
                "application_credential_secret"
            } else {
                "password"
            };
            let password = password.map_err(|error| CloudError::Configuration(error.to_string()))?;
            found.pairs.insert(key.to_owned(), password);
        }
        if let Some(region) = &config.region {
            found.set("region_name", region.clone());
        }
        if let Some(file) = &config.ca {
            found.set("cacert", file.to_string_lossy().into_owned());
        }
        found.check()?;
        Ok(found)
    }

    /// The same login in another project, by its id.
    pub(super) fn for_project(&self, id: &str) -> Self {
        let mut other = self.clone();
        for key in ["project_name", "tenant_name", "tenant_id", "project_domain_name", "project_domain_id"] {
            other.pairs.remove(key);
        }
        other.set("project_id", id.to_owned());
        other
    }

    fn of_environment(surroundings: &Surroundings) -> Result<Self> {
        let pairs = surroundings.environment.iter();
        let own = Self::of_variables(pairs.map(|(name, value)| (name.clone(), value.clone())), "the environment");
        match own.get("cloud") {
            Some(cloud) if own.get("auth_url").is_none() => Self::of_clouds(cloud, surroundings),
            _ => Ok(own),
        }
    }

    /// Out of variables `OS_…`; others are passed over.
    pub(super) fn of_variables(variables: impl IntoIterator<Item = (String, String)>, origin: &str) -> Self {
        let mut found = Self { pairs: BTreeMap::new(), origin: origin.to_owned() };
        for (name, value) in variables {
            if let Some(key) = name.strip_prefix("OS_").filter(|_| !value.is_empty()) {
                found.set(&key.to_ascii_lowercase(), value);
            }
        }
        found
    }

    async fn of_openrc(cx: &Context, openrc: &Openrc, surroundings: &Surroundings) -> Result<Self> {
        let path = surroundings.working_directory.join(&openrc.file);
        let text = match openrc.mode {
            OpenrcMode::Parse => read(&path)?,
            OpenrcMode::Source => sourced(cx, &path, &openrc.args, surroundings).await?,
        };
        let pairs = match openrc.mode {
            OpenrcMode::Parse => exports(&text),
            OpenrcMode::Source => variables(&text),
        };
        // A password that the file asks a person for may stand in the environment.
        let mut found = Self::of_variables(pairs, &path.display().to_string());
        if let Some(password) = surroundings.environment.get("OS_PASSWORD").filter(|_| !found.has("password")) {
            found.set("password", password.clone());
        }
        Ok(found)
    }

    fn of_clouds(cloud: &str, surroundings: &Surroundings) -> Result<Self> {
        for path in places(surroundings) {
            if !path.is_file() {
                continue;
            }
            let file = parsed(&path)?;
            let Some(found) = file["clouds"].get(cloud) else { continue };
            let mut merged = found.clone();
            let secure = path.with_file_name("secure.yaml");
            if secure.is_file() {
                merge(&mut merged, &parsed(&secure)?["clouds"][cloud]);
            }
            return Ok(Self::of_cloud(&merged, &format!("cloud {cloud} of {}", path.display())));
        }
        Err(CloudError::Configuration(format!("no clouds.yaml has the cloud {cloud}")))
    }

    fn of_cloud(cloud: &Value, origin: &str) -> Self {
        let mut found = Self { pairs: BTreeMap::new(), origin: origin.to_owned() };
        for part in [cloud, &cloud["auth"]] {
            for (key, value) in part.as_object().into_iter().flatten() {
                let text = match value {
                    Value::String(text) => text.clone(),
                    Value::Number(number) => number.to_string(),
                    Value::Bool(one) if key == "verify" => {
                        found.set("insecure", (!one).to_string());
                        continue;
                    }
                    _ => continue,
                };
                found.set(key, text);
            }
        }
        found
    }

    fn check(&self) -> Result<()> {
        let missing = |what: &str| Err(CloudError::Configuration(format!("{} says no {what}", self.origin)));
        let is_application = self.has("application_credential_id") || self.has("application_credential_name");
        if !self.has("auth_url") {
            return missing("OS_AUTH_URL");
        }
        if is_application && !self.has("application_credential_secret") {
            return missing("OS_APPLICATION_CREDENTIAL_SECRET");
        }
        if is_application || self.has("token") || self.has("password") {
            return Ok(());
        }
        missing("OS_PASSWORD; name it with `password:`, or in the environment")
    }

    fn set(&mut self, key: &str, value: String) {
        self.pairs.insert(key.to_owned(), value.into());
    }

    fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// A value by its key, in small letters and without `OS_`.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.pairs.get(key).map(ExposeSecret::expose_secret).filter(|value| !value.is_empty())
    }

    fn first(&self, keys: &[&str]) -> Option<&str> {
        keys.iter().find_map(|key| self.get(key))
    }

    /// Whether certificates are not checked.
    pub(super) fn is_insecure(&self) -> bool {
        self.get("insecure").is_some_and(|word| matches!(word.to_ascii_lowercase().as_str(), "1" | "true" | "yes"))
    }

    /// Which of a service's addresses.
    pub(super) fn interface(&self) -> &str {
        let word = self.first(&["interface", "endpoint_type"]).unwrap_or("public");
        word.strip_suffix("URL").unwrap_or(word)
    }

    /// What Keystone is asked for.
    pub(super) fn request(&self) -> Value {
        if let Some(identity) = self.application() {
            // Its project is its own: a scope beside it is refused.
            return json!({ "auth": { "identity": identity } });
        }
        let identity = match (self.get("password"), self.get("token")) {
            (None, Some(token)) => json!({ "methods": ["token"], "token": { "id": token } }),
            (password, _) => {
                let mut user = self.user();
                user["password"] = password.unwrap_or_default().into();
                json!({ "methods": ["password"], "password": { "user": user } })
            }
        };
        let mut auth = json!({ "identity": identity });
        if let Some(scope) = self.scope() {
            auth["scope"] = scope;
        }
        json!({ "auth": auth })
    }

    fn application(&self) -> Option<Value> {
        let secret = self.get("application_credential_secret")?;
        let mut credential = json!({ "secret": secret });
        if let Some(id) = self.get("application_credential_id") {
            credential["id"] = id.into();
        } else {
            credential["name"] = self.get("application_credential_name")?.into();
            credential["user"] = self.user();
        }
        Some(json!({ "methods": ["application_credential"], "application_credential": credential }))
    }

    fn user(&self) -> Value {
        if let Some(id) = self.get("user_id") {
            return json!({ "id": id });
        }
        let name = self.get("username").unwrap_or_default();
        json!({ "name": name, "domain": self.domain("user_domain_id", "user_domain_name") })
    }

    fn scope(&self) -> Option<Value> {
        if let Some(id) = self.first(&["project_id", "tenant_id"]) {
            return Some(json!({ "project": { "id": id } }));
        }
        let name = self.first(&["project_name", "tenant_name"])?;
        let domain = self.domain("project_domain_id", "project_domain_name");
        Some(json!({ "project": { "name": name, "domain": domain } }))
    }

    fn domain(&self, id: &str, name: &str) -> Value {
        match (self.get(id), self.get(name)) {
            (Some(id), _) => json!({ "id": id }),
            (None, Some(name)) => json!({ "name": name }),
            (None, None) => json!({ "id": self.get("default_domain").unwrap_or(DOMAIN_DEFAULT) }),
        }
    }
}

/// Where a clouds.yaml may lie.
fn places(surroundings: &Surroundings) -> Vec<PathBuf> {
    let variable = |name: &str| surroundings.environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(file) = variable("OS_CLIENT_CONFIG_FILE") {
        return vec![file];
    }
    let own = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
    let folders = [Some(surroundings.working_directory.clone()), own.map(|own| own.join("openstack"))];
    let folders = folders.into_iter().flatten().chain([PathBuf::from("/etc/openstack")]);
    folders.map(|folder| folder.join("clouds.yaml")).collect()
}

fn read(path: &Path) -> Result<String> {
    let fault = |error: &dyn std::fmt::Display| CloudError::Configuration(format!("read {}: {error}", path.display()));
    let length = std::fs::metadata(path).map_err(|error| fault(&error))?.len();
    if length > FILE_BYTES_MAX {
        return Err(fault(&"it is too long"));
    }
    std::fs::read_to_string(path).map_err(|error| fault(&error))
}

fn parsed(path: &Path) -> Result<Value> {
    // The parser's own words may repeat a line, and with it a password.
    let unreadable = |_| CloudError::Configuration(format!("{} is no YAML of clouds", path.display()));
    serde_saphyr::from_str(&read(path)?).map_err(unreadable)
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) if !from.is_null() => *into = from.clone(),
        _ => {}
    }
}

/// Has a shell read the file and say what its variables are then.
async fn sourced(cx: &Context, path: &Path, args: &[String], surroundings: &Surroundings) -> Result<String> {
    const SCRIPT: &str = r#"file=$1; shift; . "$file" >&2 && exec env -0"#;
    let mut words = vec!["bash".to_owned(), "-c".to_owned(), SCRIPT.to_owned(), "bash".to_owned()];
    words.push(path.to_string_lossy().into_owned());
    words.extend(args.iter().cloned());
    let launch = Launch::new([words]);
    let text = run_for_text(cx, &*surroundings.launcher, &launch, FILE_BYTES_MAX as usize).await;
    text.map_err(|error| CloudError::Configuration(format!("source {}: {error}", path.display())))
}

/// What `env -0` printed.
fn variables(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The lines `export NAME=value` of an openrc, which nobody runs. A value that only a shell knows is none.
fn exports(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        let Some((name, value)) = line.strip_prefix("export ").unwrap_or(line).split_once('=') else { continue };
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if let Some(value) = unquoted(value.trim()).filter(|_| is_name) {
            found.push((name.to_owned(), value));
        }
    }
    found
}

/// One word of a shell; `None` if it is none, or is to be computed.
pub(super) fn unquoted(text: &str) -> Option<String> {
    let (mut word, mut quote) = (String::new(), None);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None | Some('"'), '$' | '`') => return None,
            (None | Some('"'), '\\') => word.push(letters.next()?),
            (None, ' ' | '\t' | ';' | '#') => break,
            (_, letter) => word.push(letter),
        }
    }
    quote.is_none().then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &Value) {
        assert_eq!(Credential::of_variables(exports(text), "t").request(), *expected);
    }

    const BASE: &str = "#!/bin/sh\n# rc\nexport OS_AUTH_URL=\"http://k/v3\"\nexport OS_USERNAME='de mo'\n";

    #[test]
    fn an_openrc_is_read_and_not_run() {
        let user = |domain: Value| json!({"name": "de mo", "domain": domain, "password": "p$w"});
        let text = format!("{BASE}export OS_PASSWORD='p$w'\nexport OS_PROJECT_NAME=a__b # c\nunset OS_CLOUD\nid\n");
        let domain = json!({"id": "default"});
        let scope = json!({"project": {"name": "a__b", "domain": domain}});
        let identity = json!({"methods": ["password"], "password": {"user": user(domain)}});
        check(&text, &json!({"auth": {"identity": identity, "scope": scope}}));
    }

    #[test]
    fn a_password_that_a_person_is_asked_for_is_none() {
        let text = format!("{BASE}read -sr OS_PASSWORD_INPUT\nexport OS_PASSWORD=$OS_PASSWORD_INPUT\n");
        let fault = Credential::of_variables(exports(&text), "/etc/rc").check().unwrap_err().to_string();
        assert!(fault.starts_with("/etc/rc says no OS_PASSWORD"), "{fault}");
    }

    #[test]
    fn an_application_credential_has_no_scope() {
        let text = "OS_AUTH_URL=http://k\nOS_APPLICATION_CREDENTIAL_ID=i\nOS_APPLICATION_CREDENTIAL_SECRET=s\n\
            OS_PROJECT_ID=p";
        let credential = json!({"secret": "s", "id": "i"});
        let identity = json!({"methods": ["application_credential"], "application_credential": credential});
        check(text, &json!({"auth": {"identity": identity}}));
    }

    #[test]
    fn a_cloud_is_joined_with_what_is_secret_beside_it() {
        let mut cloud = json!({"region_name": "R", "auth": {"auth_url": "http://k", "username": "u"}, "verify": false});
        merge(&mut cloud, &json!({"auth": {"password": "p"}}));
        let found = Credential::of_cloud(&cloud, "t");
        assert_eq!((found.get("password"), found.get("region_name")), (Some("p"), Some("R")));
        assert!(found.is_insecure() && found.check().is_ok());
        assert_eq!(found.interface(), "public");
    }

    #[test]
    fn values_that_only_a_shell_knows_are_none() {
        for (text, expected) in [
            (r#"a"b c"'d$'"#, Some("ab cd$")),
            (r#""x\"y""#, Some("x\"y")),
            ("${1:-demo}", None),
            ("`id`", None),
            ("'open", None),
            ("plain # note", Some("plain")),
        ] {
            assert_eq!(unquoted(text).as_deref(), expected, "{text}");
        }
    }
}
