//! A kubeconfig with a client's certificate and its key in it, as kubeadm writes them for the control plane's own parts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

/// What one user shows: the certificate and the key, both PEM.
pub(super) struct Identity {
    pub certificate: Vec<u8>,
    pub key: Zeroizing<Vec<u8>>,
}

#[derive(Deserialize)]
struct Kubeconfig {
    #[serde(default)]
    users: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    user: User,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

/// The first user that has both in the file; a kubelet's lie elsewhere. What cannot be read is not repeated: it may be
/// the key.
pub(super) fn identity(content: &[u8]) -> Result<Option<Identity>, &'static str> {
    let text = std::str::from_utf8(content).map_err(|_| "is not UTF-8")?;
    let config: Kubeconfig = serde_saphyr::from_str(text).map_err(|_| "is no kubeconfig")?;
    for Named { user } in config.users {
        let key = user.client_key_data.map(Zeroizing::new);
        if let (Some(certificate), Some(key)) = (user.client_certificate_data, key) {
            let decode = |text: &str| STANDARD.decode(text.trim()).map_err(|_| "is not in base64 where it should be");
            let (certificate, key) = (decode(&certificate)?, Zeroizing::new(decode(&key)?));
            return Ok(Some(Identity { certificate, key }));
        }
    }
    Ok(None)
}
