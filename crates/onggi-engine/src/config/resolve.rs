//! From the raw types to the resolved ones: reads the values that have forms of their own and checks the names that
//! refer to each other. Everything wrong is reported, each at its place.

use super::{
    fault::{Faults, known_here},
    raw::{Common, RawConfig, RawLimits, RawRepository, RawSource, RawStorage},
    resolved::{Chunker, Config, RepositoryConfig, S3Place, SftpPlace, SourceConfig, StorageConfig, StoragePlace},
    tree::Node,
    value::{self, DURATION_FORM, RATE_FORM, SECRET_FORM, SIZE_FORM, SecretReference},
};
use std::path::{Path, PathBuf};

/// Resolves what passed the check of its shape. `folder` is what relative paths start from.
pub(super) fn resolve(raw: RawConfig, tree: &Node, folder: &Path, faults: &mut Faults) -> Config {
    let mut cx = Resolver { tree, folder, faults };
    cx.check_names(&raw);
    if raw.version != 1 {
        cx.wrong("version", format!("version {} is not known", raw.version), Some("this build reads version 1".into()));
    }
    let time_zone = raw.time_zone.and_then(|name| cx.time_zone(&name));
    let storages =
        raw.storages.into_iter().map(|(name, raw)| (name.clone(), cx.storage(&format!("storages.{name}"), raw)));
    let storages = storages.collect();
    let repositories = raw.repositories.into_iter().filter_map(|(name, raw)| {
        let found = cx.repository(&format!("repositories.{name}"), raw)?;
        Some((name, found))
    });
    let repositories = repositories.collect();
    let sources = raw.sources.into_iter().map(|(name, raw)| (name.clone(), cx.source(&format!("sources.{name}"), raw)));
    Config {
        name: raw.name,
        time_zone,
        sources: sources.collect(),
        storages,
        repositories,
        without_adapter: std::collections::BTreeMap::new(),
    }
}

struct Resolver<'a> {
    tree: &'a Node,
    folder: &'a Path,
    faults: &'a mut Faults,
}

impl Resolver<'_> {
    fn wrong(&mut self, key: &str, text: impl Into<String>, remedy: Option<String>) {
        self.faults.wrong(&self.tree.nearest(key).place, key, text, remedy);
    }

    fn read<T>(
        &mut self,
        key: &str,
        text: Option<String>,
        parse: impl Fn(&str) -> Result<T, String>,
        form: &str,
    ) -> Option<T> {
        match parse(text?.as_str()) {
            Ok(value) => Some(value),
            Err(text) => {
                if !(crate::sabotage::BAD_DURATION_IS_NONE.is_on() && form == DURATION_FORM) {
                    self.wrong(key, text, Some(form.to_owned()));
                }
                None
            }
        }
    }

    fn secret(&mut self, key: &str, text: Option<String>) -> Option<SecretReference> {
        self.read(key, text, |text| SecretReference::parse(text).map_err(ToOwned::to_owned), SECRET_FORM)
    }

    fn path(&self, text: &str) -> PathBuf {
        self.folder.join(text)
    }

    fn time_zone(&mut self, name: &str) -> Option<jiff::tz::TimeZone> {
        let parse = |name: &str| jiff::tz::TimeZone::get(name).map_err(|_| format!("no time zone is named {name:?}"));
        self.read("time-zone", Some(name.to_owned()), parse, "write a name of the time zone database: Asia/Seoul")
    }

    fn check_names(&mut self, raw: &RawConfig) {
        let sections: [(&str, Vec<&String>); 4] = [
            ("storages", raw.storages.keys().collect()),
            ("repositories", raw.repositories.keys().collect()),
            ("sources", raw.sources.keys().collect()),
            ("policies", raw.policies.keys().collect()),
        ];
        for (section, names) in sections {
            for name in names.into_iter().filter(|name| !value::is_name(name)) {
                let key = format!("{section}.{name}");
                self.wrong(
                    &key,
                    format!("{name:?} is no name"),
                    Some("use letters, digits, dot, underscore and hyphen".into()),
                );
            }
        }
    }

    /// Checks that `name` is a key of a section.
    fn check_reference(&mut self, key: &str, section: &str, name: &str) {
        let known: Vec<&str> =
            self.tree.get(section).map_or(&[][..], Node::entries).iter().map(|(key, _)| key.text.as_str()).collect();
        if !known.contains(&name) {
            let remedy = if known.is_empty() { format!("add it under {section}") } else { known_here(name, &known) };
            let place = self.tree.nearest(key).place.clone();
            self.faults.wrong(&place, key, format!("no entry of {section} is named {name:?}"), Some(remedy));
        }
    }

    fn storage(&mut self, key: &str, raw: RawStorage) -> StorageConfig {
        let sub = |name: &str| format!("{key}.{name}");
        let (place, common) = match raw {
            RawStorage::Local { path, common } => (StoragePlace::Local { path: self.path(&path) }, common),
            RawStorage::S3 {
                endpoint,
                bucket,
                prefix,
                region,
                access_key,
                secret_key,
                session_token,
                keys_lifetime,
                path_style,
                ca,
                immutable,
                common,
            } => {
                if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
                    self.wrong(&sub("endpoint"), format!("{endpoint:?} is no URL"), Some("write https://host".into()));
                }
                let place = S3Place {
                    endpoint,
                    bucket,
                    prefix: prefix.unwrap_or_default().trim_matches('/').to_owned(),
                    region,
                    access_key: self.secret(&sub("access-key"), access_key),
                    secret_key: self.secret(&sub("secret-key"), secret_key),
                    session_token: self.secret(&sub("session-token"), session_token),
                    keys_lifetime: self.read(&sub("keys-lifetime"), keys_lifetime, value::duration, DURATION_FORM),
                    path_style,
                    ca: ca.map(|ca| self.path(&ca)),
                    immutable: self.read(&sub("immutable"), immutable, value::duration, DURATION_FORM),
                };
                if place.access_key.is_some() != place.secret_key.is_some() {
                    self.wrong(key, "access-key and secret-key belong together", Some("give both or none".into()));
                }
                (StoragePlace::S3(place), common)
            }
            RawStorage::Sftp {
                host,
                port,
                user,
                path,
                key: private,
                key_passphrase,
                password,
                host_key,
                known_hosts,
                common,
            } => {
                let place = SftpPlace {
                    host,
                    port: port.unwrap_or(22),
                    user,
                    path,
                    key: self.key_file(&sub("key"), private),
                    key_passphrase: self.secret(&sub("key-passphrase"), key_passphrase),
                    password: self.secret(&sub("password"), password),
                    host_key,
                    known_hosts: known_hosts.map(|file| self.path(&file)),
                };
                (StoragePlace::Sftp(place), common)
            }
        };
        self.with_common(key, place, common)
    }

    fn with_common(&mut self, key: &str, place: StoragePlace, common: Common) -> StorageConfig {
        let limits = common.limits.unwrap_or(RawLimits { rate: None, upload: None, download: None });
        let mut rate = |name: &str, text| self.read(&format!("{key}.limits.{name}"), text, value::rate, RATE_FORM);
        let both = rate("rate", limits.rate);
        let (upload, download) = (rate("upload", limits.upload), rate("download", limits.download));
        if common.connections == Some(0) {
            self.wrong(&format!("{key}.connections"), "0 connections reach nothing", Some("write 1 or more".into()));
        }
        let is_locked = matches!(&place, StoragePlace::S3(S3Place { immutable: Some(_), .. }));
        StorageConfig {
            place,
            site: common.site,
            media: common.media,
            is_out_of_reach: is_locked || common.offline.unwrap_or(false),
            upload: upload.or(both),
            download: download.or(both),
            connections: common.connections.map(usize::from),
        }
    }

    fn repository(&mut self, key: &str, raw: RawRepository) -> Option<RepositoryConfig> {
        self.check_reference(&format!("{key}.storage"), "storages", &raw.storage);
        if let Some(other) = &raw.chunker_from {
            self.check_reference(&format!("{key}.chunker-from"), "repositories", other);
        }
        Some(RepositoryConfig {
            storage: raw.storage,
            password: self.secret(&format!("{key}.password"), Some(raw.password))?,
            chunker_from: raw.chunker_from,
            is_protected: raw.protected.unwrap_or(false),
            verifies_writes: raw.verify_writes.unwrap_or(false),
        })
    }

    fn source(&mut self, key: &str, raw: RawSource) -> SourceConfig {
        let RawSource { run, source } = raw;
        let sub = |name: &str| format!("{key}.{name}");
        for fault in source.faults() {
            self.wrong(&sub(&fault.key), fault.text, Some(fault.remedy));
        }
        if run.compression.is_some_and(|level| level > 22) {
            self.wrong(&sub("compression"), "zstd has no such level", Some("write 0 (off) to 22".into()));
        }
        SourceConfig {
            source,
            rate: self.read(&sub("limits.rate"), run.limits.and_then(|limits| limits.rate), value::rate, RATE_FORM),
            time_limit: self.read(&sub("time-limit"), run.time_limit, value::duration, DURATION_FORM),
            chunker: self.read(&sub("chunker"), run.chunker, chunker, CHUNKER_FORM),
            compression: run.compression,
            full_read_every: run.full_read_every,
            tags: run.tags,
        }
    }

    /// A private key is read by the protocol itself, so it must be a file.
    fn key_file(&mut self, key: &str, text: Option<String>) -> Option<PathBuf> {
        if let SecretReference::File(path) = self.secret(key, text)? {
            return Some(self.path(&path));
        }
        self.wrong(key, "a private key must be a file", Some("write file:/path".into()));
        None
    }
}

const CHUNKER_FORM: &str = "write default, fixed:64KiB or cdc:128KiB";

fn chunker(text: &str) -> Result<Chunker, String> {
    let length = |text: &str, range: std::ops::RangeInclusive<u64>| {
        let size = value::size(text).map_err(|fault| format!("{fault}; {SIZE_FORM}"))?;
        let fits = range.contains(&size);
        u32::try_from(size).ok().filter(|_| fits).ok_or(format!(
            "{text} is not between {} and {} bytes",
            range.start(),
            range.end()
        ))
    };
    match text.split_once(':') {
        None if text == "default" => Ok(Chunker::Default),
        Some(("fixed", size)) => length(size, 4096..=8 << 20).map(Chunker::Fixed),
        Some(("cdc", size)) => {
            let mean = length(size, 16_384..=4 << 20)?;
            if mean.is_power_of_two() { Ok(Chunker::Content(mean)) } else { Err(format!("{size} is no power of two")) }
        }
        _ => Err(format!("{text:?} is no chunker")),
    }
}
