//! Key files: the master key, sealed by a key that scrypt derives from a password. Costs are capped, so that a forged
//! file can neither exhaust memory nor time.

use super::{
    fault::{FormatError, Result},
    json::{Object, write_string},
    seal::{self, MasterKey, NONCE},
    time::Time,
};
use crate::sabotage;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

const WHAT: &str = "key file";
/// A key file has about 450 bytes.
const FILE_LENGTH_MAX: usize = 64 << 10;
const N_MAX: u64 = 1 << 20;
const R_MAX: u64 = 16;
const P_MAX: u64 = 16;
const MEMORY_MAX: u64 = 1 << 30;

/// What deriving a key costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KdfCost {
    log_n: u8,
    r: u32,
    p: u32,
}

impl KdfCost {
    /// restic's usual: 32 MiB and about a fifth of a second.
    pub const STANDARD: Self = Self { log_n: 15, r: 8, p: 1 };

    /// Next to nothing: for tests, which open thousands of repositories.
    #[cfg(any(test, feature = "testing"))]
    pub const fn testing() -> Self {
        Self { log_n: 1, r: 1, p: 1 }
    }

    /// The cost a file names, within the caps.
    fn read(n: u64, r: u64, p: u64) -> Option<Self> {
        let is_fine = n.is_power_of_two()
            && (2..=N_MAX).contains(&n)
            && (1..=R_MAX).contains(&r)
            && (1..=P_MAX).contains(&p)
            && 128 * r * (n + p) <= MEMORY_MAX;
        is_fine.then(|| Self { log_n: n.ilog2() as u8, r: r as u32, p: p as u32 })
    }

    fn derive(self, password: &SecretString, salt: &[u8]) -> Result<Zeroizing<[u8; 64]>> {
        let mut key = Zeroizing::new([0; 64]);
        let parameters = scrypt::Params::new(self.log_n, self.r, self.p)
            .map_err(|_| FormatError::invalid(WHAT, "key derivation parameters are not valid"))?;
        scrypt::scrypt(password.expose_secret().as_bytes(), salt, &parameters, &mut *key)
            .map_err(|_| FormatError::invalid(WHAT, "key derivation failed"))?;
        Ok(key)
    }
}

/// The content of a file in `keys/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// When it was made.
    pub created: Time,
    /// Who made it.
    pub username: String,
    /// Where it was made.
    pub hostname: String,
    /// What opening it costs.
    pub cost: KdfCost,
    salt: [u8; 64],
    data: Vec<u8>,
}

/// What a new key file needs besides password and master key.
#[derive(Debug, Clone)]
pub struct NewKeyFile {
    /// Now.
    pub created: Time,
    /// Who makes it.
    pub username: String,
    /// Where it is made.
    pub hostname: String,
    /// What opening it will cost.
    pub cost: KdfCost,
    /// Random.
    pub salt: [u8; 64],
    /// Random.
    pub nonce: [u8; NONCE],
}

/// Why a key file did not give the master key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The file is well-formed but made for another password.
    #[error("wrong password")]
    WrongPassword,
    /// The file is not a usable key file.
    #[error(transparent)]
    Damaged(#[from] FormatError),
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    created: Option<Time>,
    #[serde(default)]
    username: String,
    #[serde(default)]
    hostname: String,
    kdf: String,
    #[serde(rename = "N")]
    n: u64,
    r: u64,
    p: u64,
    salt: String,
    data: String,
}

impl KeyFile {
    /// Seals the master key under a password.
    pub fn create(password: &SecretString, master: &MasterKey, new: NewKeyFile) -> Result<Self> {
        let NewKeyFile { created, username, hostname, cost, salt, nonce } = new;
        let user = user_key(cost, password, &salt)?;
        let mut data = Vec::new();
        seal::seal(&user, nonce, &print_master(master), &mut data);
        Ok(Self { created, username, hostname, cost, salt, data })
    }

    /// Reads a file of `keys/`.
    pub fn parse(json: &[u8]) -> Result<Self> {
        if json.len() > FILE_LENGTH_MAX {
            return Err(FormatError::invalid(WHAT, "longer than any key file"));
        }
        let raw: Raw = serde_json::from_slice(json).map_err(|fault| FormatError::json(WHAT, &fault))?;
        if raw.kdf != "scrypt" {
            return Err(FormatError::invalid(WHAT, "its key derivation is not scrypt"));
        }
        let cost = KdfCost::read(raw.n, raw.r, raw.p)
            .ok_or_else(|| FormatError::invalid(WHAT, "its key derivation costs more than is allowed"))?;
        let salt = decode(&raw.salt)?
            .as_slice()
            .try_into()
            .map_err(|_| FormatError::invalid(WHAT, "its salt has not 64 bytes"))?;
        let created = raw.created.unwrap_or_else(|| Time::utc(jiff::Timestamp::UNIX_EPOCH));
        Ok(Self {
            created,
            username: raw.username,
            hostname: raw.hostname,
            cost,
            salt,
            data: decode(&raw.data)?.to_vec(),
        })
    }

    /// The file's bytes.
    pub fn print(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut object = Object::open(&mut out);
        object.plain("created", self.created);
        object.string("username", &self.username);
        object.string("hostname", &self.hostname);
        object.string("kdf", "scrypt");
        object.number("N", 1 << self.cost.log_n);
        object.number("r", self.cost.r.into());
        object.number("p", self.cost.p.into());
        object.string("salt", BASE64.encode(self.salt));
        object.string("data", BASE64.encode(&self.data));
        object.close();
        out
    }

    /// Derives the user key and opens the master key.
    pub fn open(&self, password: &SecretString) -> Result<MasterKey, KeyError> {
        let user = user_key(self.cost, password, &self.salt)?;
        let _ = sabotage::SHORT_KEY_UNCHECKED.is_on().then(|| &self.data[..seal::OVERHEAD]);
        if self.data.len() < seal::OVERHEAD {
            return Err(FormatError::invalid(WHAT, "its data is cut short").into());
        }
        let mut data = Zeroizing::new(self.data.clone());
        let json = seal::open(&user, &mut data).map_err(|_| KeyError::WrongPassword)?;
        Ok(parse_master(json)?)
    }
}

fn user_key(cost: KdfCost, password: &SecretString, salt: &[u8; 64]) -> Result<MasterKey> {
    let bytes = cost.derive(password, salt)?;
    MasterKey::from_bytes(&bytes).ok_or_else(|| FormatError::invalid(WHAT, "the derived key is zero"))
}

fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>> {
    BASE64.decode(text).map(Zeroizing::new).map_err(|_| FormatError::invalid(WHAT, "not valid base64"))
}

/// `{"mac":{"k":"…","r":"…"},"encrypt":"…"}`
fn print_master(master: &MasterKey) -> Zeroizing<Vec<u8>> {
    let (encrypt, mac) = master.expose().split_at(32);
    let (k, r) = mac.split_at(16);
    let mut out = Zeroizing::new(Vec::with_capacity(256));
    let field = |out: &mut Vec<u8>, before: &[u8], key: &[u8]| {
        out.extend_from_slice(before);
        write_string(out, Zeroizing::new(BASE64.encode(key)).as_bytes());
    };
    field(&mut out, b"{\"mac\":{\"k\":", k);
    field(&mut out, b",\"r\":", r);
    field(&mut out, b"},\"encrypt\":", encrypt);
    out.push(b'}');
    out
}

fn parse_master(json: &[u8]) -> Result<MasterKey> {
    // Borrowed, so that no copy of a key is left behind in memory.
    #[derive(Deserialize)]
    struct Master<'a> {
        #[serde(borrow)]
        mac: Mac<'a>,
        encrypt: &'a str,
    }
    #[derive(Deserialize)]
    struct Mac<'a> {
        k: &'a str,
        r: &'a str,
    }
    // The fault is not quoted: it could show a part of the key.
    let master: Master<'_> =
        serde_json::from_slice(json).map_err(|_| FormatError::invalid(WHAT, "the key inside is not valid JSON"))?;
    let mut bytes = Zeroizing::new([0; 64]);
    for (text, part) in [(master.encrypt, 0..32), (master.mac.k, 32..48), (master.mac.r, 48..64)] {
        let key = decode(text)?;
        if key.len() != part.len() {
            return Err(FormatError::invalid(WHAT, "the key inside has a wrong length"));
        }
        bytes[part].copy_from_slice(&key);
    }
    MasterKey::from_bytes(&bytes).ok_or_else(|| FormatError::invalid(WHAT, "the key inside is zero"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key_file() -> KeyFile {
        let new = NewKeyFile {
            created: "2026-11-20T11:26:36.243103549Z".parse().unwrap(),
            username: "root".into(),
            hostname: "vm".into(),
            cost: KdfCost::testing(),
            salt: [9; 64],
            nonce: [1; 16],
        };
        KeyFile::create(&"secret".into(), &MasterKey::from_random(&[7; 64]), new).unwrap()
    }

    #[test]
    fn scrypt_gives_the_known_key() {
        let cost = KdfCost::read(16384, 8, 1).unwrap();
        let salt: [u8; 64] = std::array::from_fn(|i| i as u8);
        let key = cost.derive(&"correct horse".into(), &salt).unwrap();
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "e292f86417d1235e6820f4e8efe7518a41b683631ca08c5d35c8939bf5564912\
             de26f3530ae729b2c6f0a7e254b78c2026e0211791c17ce15f6c4ef2f1e3588b"
        );
    }

    #[test]
    fn the_right_password_opens_and_another_is_told() {
        let file = KeyFile::parse(&key_file().print()).unwrap();
        assert_eq!(file, key_file());
        assert_eq!(file.open(&"secret".into()).unwrap().expose(), &[7; 64]);
        assert_eq!(file.open(&"Secret".into()).unwrap_err(), KeyError::WrongPassword);
    }

    #[test]
    fn fields_come_in_the_order_of_the_format() {
        let text = String::from_utf8(key_file().print()).unwrap();
        let start = r#"{"created":"2026-11-20T11:26:36.243103549Z","username":"root","hostname":"vm","kdf":"scrypt","N":2,"r":1,"p":1,"salt":""#;
        assert!(text.starts_with(start), "{text}");
    }

    #[test]
    fn absurd_costs_and_short_files_are_damage() {
        let text = String::from_utf8(key_file().print()).unwrap();
        for (from, to) in [
            ("\"N\":2", "\"N\":3"),
            ("\"N\":2", "\"N\":2097152"),
            ("\"N\":2", "\"N\":0"),
            ("\"r\":1", "\"r\":17"),
            ("\"p\":1", "\"p\":18446744073709551615"),
            ("\"r\":1", "\"r\":0"),
            ("scrypt", "argon2"),
            ("\"salt\":\"CQkJ", "\"salt\":\""),
        ] {
            assert!(KeyFile::parse(text.replace(from, to).as_bytes()).is_err(), "{to}");
        }
        for length in 0..text.len() {
            assert!(KeyFile::parse(&text.as_bytes()[..length]).is_err());
        }
        assert!(KdfCost::read(1 << 20, 8, 1).is_none(), "just above 1 GiB");
    }

    #[test]
    fn short_data_is_damage_and_no_wrong_password() {
        let mut file = key_file();
        file.data.truncate(31);
        assert!(matches!(file.open(&"secret".into()), Err(KeyError::Damaged(_))));
    }

    proptest! {
        #[test]
        fn a_changed_byte_never_panics(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = key_file().print();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(file) = KeyFile::parse(&bytes) && file.cost == KdfCost::testing() {
                let _ = file.open(&"secret".into());
            }
        }
    }
}
