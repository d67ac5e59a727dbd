//! Pure: what `known_hosts` files say about a host and the key or certificate it shows.
//!
//! Understood are plain and hashed names, ports, several names, wildcards, negation, `@revoked`, `@cert-authority`.
//! Revoked wins over all; a key is the host's if any line says so; else it is changed if the host has other keys, and
//! unknown if it has none.

use crate::login::host_name;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use russh::keys::{
    Algorithm, Certificate, HashAlg, PublicKey,
    ssh_key::{certificate::CertType, public::KeyData},
};
use sha1::Sha1;
use std::path::{Path, PathBuf};

/// The lines of one or more files that can be read.
#[derive(Debug, Default)]
pub struct KnownHosts {
    lines: Vec<Line>,
}

/// Where something is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which file.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
}

/// What the files say about a host and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The key is this host's.
    Known,
    /// Nothing is said about the host.
    Unknown,
    /// The host is known by other keys.
    Changed(Place),
    /// The key must not be trusted.
    Revoked(Place),
    /// Only an authority vouches for the host, which showed no certificate of it.
    Authority(Place),
    /// The authority's certificate is not good for this host now.
    Certificate(Place, CertificateFault),
}

/// What is wrong with the certificate of a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// It is for users.
    #[error("it is not a certificate of a host")]
    Type,
    /// It names others, or nobody.
    #[error("it is for {0:?}")]
    Principals(Vec<String>),
    /// Its time has not come or is over, or the authority did not sign it.
    #[error("it is not valid now")]
    Validity,
    /// It demands what is not understood.
    #[error("it has options that are not understood")]
    Options,
}

#[derive(Debug)]
struct Line {
    place: Place,
    mark: Mark,
    hosts: Hosts,
    key: PublicKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    None,
    Revoked,
    Authority,
}

#[derive(Debug)]
enum Hosts {
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
    Patterns(Vec<String>),
}

impl KnownHosts {
    /// Adds a file's lines; comments and lines that make no sense are left out, as ssh does.
    pub fn add(&mut self, file: &Path, text: &str) {
        for (index, line) in text.lines().enumerate() {
            let place = Place { file: file.into(), line: index + 1 };
            self.lines.extend(Line::parse(place, line));
        }
    }

    /// Judges the key that a host shows.
    pub fn judge(&self, host: &str, port: u16, key: &PublicKey) -> Verdict {
        let name = host_name(host, port);
        if let Some(place) = self.revoked(&name, key.key_data()) {
            return Verdict::Revoked(place);
        }
        let marked = |mark| self.about(&name, mark);
        // The data alone: equality of whole keys includes their comments.
        if marked(Mark::None).any(|line| line.key.key_data() == key.key_data()) {
            return Verdict::Known;
        }
        // Any other key of this host counts, of whatever kind: the kinds that are known are asked for first, so that
        // one which is not can only be new or false.
        if let Some(line) = marked(Mark::None).next() {
            return Verdict::Changed(line.place.clone());
        }
        marked(Mark::Authority).next().map_or(Verdict::Unknown, |line| Verdict::Authority(line.place.clone()))
    }

    /// Judges the certificate that a host shows. Without an authority that made it, its plain key counts.
    pub fn judge_certificate(&self, host: &str, port: u16, shown: &Certificate, now: Timestamp) -> Verdict {
        let name = host_name(host, port);
        let revoked = self.revoked(&name, shown.public_key()).or_else(|| self.revoked(&name, shown.signature_key()));
        if let Some(place) = revoked {
            return Verdict::Revoked(place);
        }
        let mut authorities = self.about(&name, Mark::Authority);
        let Some(authority) = authorities.find(|line| line.key.key_data() == shown.signature_key()) else {
            return self.judge(host, port, &PublicKey::new(shown.public_key().clone(), ""));
        };
        match certificate_fault(shown, host, &authority.key, now) {
            None => Verdict::Known,
            Some(fault) => Verdict::Certificate(authority.place.clone(), fault),
        }
    }

    /// The kinds of key by which the host is known, to be asked for before all others.
    pub fn algorithms(&self, host: &str, port: u16) -> Vec<Algorithm> {
        self.about(&host_name(host, port), Mark::None).map(|line| line.key.algorithm()).collect()
    }

    /// Whether an authority vouches for the host, so that a certificate is asked for.
    pub fn has_authority(&self, host: &str, port: u16) -> bool {
        self.about(&host_name(host, port), Mark::Authority).next().is_some()
    }

    fn about<'a>(&'a self, name: &'a str, mark: Mark) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| line.mark == mark && line.hosts.include(name))
    }

    fn revoked(&self, name: &str, key: &KeyData) -> Option<Place> {
        let line = self.about(name, Mark::Revoked).find(|line| line.key.key_data() == key);
        line.map(|line| line.place.clone())
    }
}

/// What is wrong with a certificate that bears the signature of this authority.
fn certificate_fault(
    shown: &Certificate,
    host: &str,
    authority: &PublicKey,
    now: Timestamp,
) -> Option<CertificateFault> {
    let host = host.to_lowercase();
    if shown.cert_type() != CertType::Host {
        return Some(CertificateFault::Type);
    }
    // Nobody is not everybody: a certificate without names would stand for every host there is.
    if !shown.valid_principals().iter().any(|principal| fits(&principal.to_lowercase(), &host)) {
        return Some(CertificateFault::Principals(shown.valid_principals().to_vec()));
    }
    if !shown.critical_options().is_empty() {
        return Some(CertificateFault::Options);
    }
    let second = u64::try_from(now.as_second()).unwrap_or(0);
    let valid = shown.validate_at(second, [&authority.fingerprint(HashAlg::Sha256)]);
    valid.is_err().then_some(CertificateFault::Validity)
}

impl Line {
    fn parse(place: Place, line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace().peekable();
        let mark = match *words.peek()? {
            "@revoked" => Mark::Revoked,
            "@cert-authority" => Mark::Authority,
            word if word.starts_with(['@', '#']) => return None,
            _ => Mark::None,
        };
        if mark != Mark::None {
            words.next();
        }
        let hosts = Hosts::parse(words.next()?)?;
        let (_kind, key) = (words.next()?, words.next()?);
        let key = PublicKey::from_bytes(&BASE64_STANDARD.decode(key).ok()?).ok()?;
        Some(Self { place, mark, hosts, key })
    }
}

impl Hosts {
    fn parse(text: &str) -> Option<Self> {
        let Some(hashed) = text.strip_prefix("|1|") else {
            return Some(Self::Patterns(text.split(',').map(str::to_lowercase).collect()));
        };
        let (salt, hash) = hashed.split_once('|')?;
        Some(Self::Hashed { salt: BASE64_STANDARD.decode(salt).ok()?, hash: BASE64_STANDARD.decode(hash).ok()? })
    }

    fn include(&self, name: &str) -> bool {
        match self {
            Self::Hashed { salt, hash } => {
                let mac = Hmac::<Sha1>::new_from_slice(salt).map(|mac| mac.chain_update(name));
                mac.is_ok_and(|mac| mac.verify_slice(hash).is_ok())
            }
            Self::Patterns(patterns) => {
                let refused = patterns.iter().filter_map(|pattern| pattern.strip_prefix('!'));
                let mut meant = patterns.iter().filter(|pattern| !pattern.starts_with('!'));
                !refused.into_iter().any(|pattern| fits(pattern, name)) && meant.any(|pattern| fits(pattern, name))
            }
        }
    }
}

/// `*` stands for any text, `?` for any character; brackets stand for themselves.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut from, mut retry) = (0, 0, None);
    while from < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                retry = Some((at, from));
                at += 1;
            }
            Some(&sign) if sign == b'?' || sign == name[from] => {
                at += 1;
                from += 1;
            }
            _ => {
                // The last star takes one more.
                let Some((star, start)) = retry else { return false };
                retry = Some((star, start + 1));
                at = star + 1;
                from = start + 1;
            }
        }
    }
    pattern[at..].iter().all(|sign| *sign == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";
    const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBMxBTpMIGvo7CnordO7wP0QQRqpBwUjOLl4eMhfucfE1sjTYyK5wmTl1UqoSDS1PtRVTBdl+0+9pquFb46U7fwg=";

    #[test]
    fn a_plain_name_is_known_by_its_key_alone() {
        check(&format!("example.org {ONE}"), "known");
        check(&format!("example.org {TWO}"), "changed 1");
        check(&format!("example.org {TWO}\nexample.org {ONE}"), "known");
        check(&format!("other.org {ONE}"), "unknown");
        check(&format!("example.org.evil {ONE}"), "unknown");
        check(&format!("EXAMPLE.org {ONE} comment with words"), "known");
        check("", "unknown");
    }

    #[test]
    fn another_kind_of_key_does_not_make_a_host_new() {
        check(&format!("# first\nexample.org {ECDSA}"), "changed 2");
    }

    #[test]
    fn names_are_listed_with_wildcards_and_negations() {
        check(&format!("a,example.org,192.0.2.1 {ONE}"), "known");
        check(&format!("*.org {ONE}"), "known");
        check(&format!("ex?mple.* {ONE}"), "known");
        check(&format!("* {ONE}"), "known");
        check(&format!("*.org,!example.org {ONE}"), "unknown");
        check(&format!("!example.* {ONE}"), "unknown");
        check(&format!("?.org {ONE}"), "unknown");
    }

    #[test]
    fn hashed_names_are_recognized() {
        // `ssh-keygen -H` made this of `example.org`.
        let hashed = "|1|IJtb7dsfXThXOrhDjTM6FPjfe2U=|NpMlSU+U/QbTS27yBoYuoLNkKjg=";
        check(&format!("{hashed} {ONE}"), "known");
        check(&format!("{hashed} {TWO}"), "changed 1");
        check(&format!("{} {ONE}", hashed.replace("NpMl", "NpMm")), "unknown");
    }

    #[test]
    fn another_port_is_another_host() {
        let mut hosts = KnownHosts::default();
        hosts.add("known_hosts".as_ref(), &format!("[example.org]:2222 {ONE}"));
        let key = PublicKey::from_openssh(ONE).unwrap();
        assert_eq!(hosts.judge("example.org", 2222, &key), Verdict::Known);
        assert_eq!(hosts.judge("example.org", 22, &key), Verdict::Unknown);
        assert_eq!(hosts.judge("example.org", 2223, &key), Verdict::Unknown);
    }

    #[test]
    fn a_revoked_key_is_refused_even_if_known() {
        check(&format!("example.org {ONE}\n@revoked * {ONE}"), "revoked 2");
        check(&format!("example.org {ONE}\n@revoked * {TWO}"), "known");
    }

    #[test]
    fn an_authority_alone_is_named() {
        check(&format!("@cert-authority *.org {ONE}"), "authority 1");
        check(&format!("@cert-authority *.org {TWO}\nexample.org {ONE}"), "known");
    }

    #[test]
    fn lines_without_sense_are_left_out() {
        for line in [
            "example.org",
            "example.org ssh-ed25519",
            "example.org ssh-ed25519 !!!",
            "@odd example.org x y",
            "|1|x {ONE}",
        ] {
            check(&format!("{line}\n#example.org {TWO}\n\nexample.org {ONE}"), "known");
        }
    }

    #[test]
    fn the_known_kinds_are_told() {
        let mut hosts = KnownHosts::default();
        hosts.add("known_hosts".as_ref(), &format!("example.org {ECDSA}\nother {ONE}\n@revoked * {ONE}"));
        let ecdsa = PublicKey::from_openssh(ECDSA).unwrap().algorithm();
        assert_eq!(hosts.algorithms("example.org", 22), [ecdsa]);
    }

    #[test]
    fn many_stars_take_no_age() {
        assert!(!fits(&"*a".repeat(60), &"a".repeat(59)));
        assert!(fits(&"*a".repeat(60), &"a".repeat(60)));
        assert!(fits("a*", "a"));
        assert!(!fits("", "a"));
    }

    /// What the files say of `example.org`, port 22, with key `ONE`.
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let mut hosts = KnownHosts::default();
        hosts.add("known_hosts".as_ref(), text);
        let seen = match hosts.judge("Example.org", 22, &PublicKey::from_openssh(ONE).unwrap()) {
            Verdict::Known => "known".into(),
            Verdict::Unknown => "unknown".into(),
            Verdict::Changed(place) => format!("changed {}", place.line),
            Verdict::Revoked(place) => format!("revoked {}", place.line),
            Verdict::Authority(place) => format!("authority {}", place.line),
            Verdict::Certificate(place, fault) => format!("certificate {}: {fault}", place.line),
        };
        assert_eq!(seen, expected, "{text}");
    }
}
