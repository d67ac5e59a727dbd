//! What Kubernetes encrypts its secrets with before etcd sees them. Only where the keys lie is read, never a key.

use serde::Deserialize;

#[derive(Deserialize)]
struct EncryptionConfiguration {
    kind: String,
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    providers: Vec<Provider>,
}

/// The keys of the others lie in the file itself.
#[derive(Deserialize)]
struct Provider {
    kms: Option<Kms>,
}

#[derive(Deserialize)]
struct Kms {
    #[serde(default)]
    name: String,
    #[serde(default)]
    endpoint: String,
}

/// Key management services by name and address. What cannot be read is not repeated: it may be a key.
pub(super) fn services(content: &[u8]) -> Result<Vec<String>, &'static str> {
    let text = std::str::from_utf8(content).map_err(|_| "is not UTF-8")?;
    let read = serde_saphyr::from_str::<EncryptionConfiguration>(text);
    let config = read.map_err(|_| "is no EncryptionConfiguration")?;
    if config.kind != "EncryptionConfiguration" {
        return Err("is no EncryptionConfiguration");
    }
    let providers = config.resources.into_iter().flat_map(|resource| resource.providers);
    let mut services: Vec<_> =
        providers.filter_map(|provider| provider.kms).map(|kms| format!("{} at {}", kms.name, kms.endpoint)).collect();
    services.sort();
    services.dedup();
    Ok(services)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_named_once_and_keys_never() {
        let config = "
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - kms: {apiVersion: v2, name: vault, endpoint: unix:///run/kms.sock, timeout: 3s}
  - aescbc: {keys: [{name: one, secret: aHVudGVyMg==}]}
  - identity: {}
- resources: [configmaps]
  providers: [{kms: {name: vault, endpoint: unix:///run/kms.sock}}]
";
        assert_eq!(services(config.as_bytes()), Ok(vec!["vault at unix:///run/kms.sock".to_owned()]));
        for text in ["", "kind: Pod\nresources: []", "kind: [hunter2", "a: b", "\u{0}"] {
            let said = services(text.as_bytes()).unwrap_err();
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}
