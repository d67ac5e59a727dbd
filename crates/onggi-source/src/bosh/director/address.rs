//! Where something listens: a host and a port, out of all the forms in which operators write them.

use std::fmt;

use http::Uri;
use http::uri::Authority;

use super::DirectorError;

/// A host and its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Address {
    /// Reads `scheme://host:port/…`, `host:port`, `host`; scheme, path and user are passed over.
    pub fn parse(text: &str, port: u16) -> Result<Self, DirectorError> {
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let authority: Option<Authority> = rest.split('/').next().and_then(|part| part.parse().ok());
        let host = authority.as_ref().map(|found| found.host().trim_matches(['[', ']']).to_owned());
        match (host, authority) {
            (Some(host), Some(authority)) if !host.is_empty() => {
                Ok(Self { host, port: authority.port_u16().unwrap_or(port) })
            }
            _ => Err(DirectorError::Configuration(format!("{text:?} is no address"))),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The path and query of an address, wherever it points.
pub(super) fn path_of(location: &str) -> Option<String> {
    let uri: Uri = location.parse().ok()?;
    uri.path_and_query().map(|path| path.as_str().to_owned()).filter(|path| path.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let shown = Address::parse(text, 25555).map_or_else(|error| error.to_string(), |address| address.to_string());
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn an_address_is_read_in_every_form() {
        check("10.0.0.6", "10.0.0.6:25555");
        check("https://10.0.0.6:4443/", "10.0.0.6:4443");
        check("http://director.example", "director.example:25555");
        check("[fd00::6]:443", "[fd00::6]:443");
        check("[fd00::6]", "[fd00::6]:25555");
        check("", "\"\" is no address");
        check("https://", "\"https://\" is no address");
        check("a b", "\"a b\" is no address");
    }

    #[test]
    fn a_redirect_keeps_its_path_and_nothing_else() {
        for location in ["/tasks/7?x=1", "https://elsewhere.example:99/tasks/7?x=1"] {
            assert_eq!(path_of(location).unwrap(), "/tasks/7?x=1");
        }
    }
}
