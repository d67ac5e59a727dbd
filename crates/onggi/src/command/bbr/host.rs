//! Pure: the text after `--host`, which people write in several ways.

/// Where a director is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name or address.
    pub name: String,
    /// Of its SSH server.
    pub port: u16,
}

/// Reads `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address, with or without a scheme before it.
pub fn parse(text: &str) -> Option<Host> {
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    let text = text.trim_end_matches('/');
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (name, behind) = rest.split_once(']')?;
            (name, behind.strip_prefix(':').or(behind.is_empty().then_some("22"))?)
        }
        None if text.matches(':').count() > 1 => (text, "22"),
        None => text.split_once(':').unwrap_or((text, "22")),
    };
    let port = port.parse().ok()?;
    (!name.is_empty() && !name.contains('/')).then(|| Host { name: name.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, u16)>) {
        assert_eq!(parse(text), expected.map(|(name, port)| Host { name: name.to_owned(), port }), "{text}");
    }

    #[test]
    fn a_host_is_found_in_all_that_people_write() {
        check("10.5.26.5", Some(("10.5.26.5", 22)));
        check("bosh.example:2222", Some(("bosh.example", 2222)));
        check("https://10.5.26.5:53", Some(("10.5.26.5", 53)));
        check("https://10.5.26.5/", Some(("10.5.26.5", 22)));
        check("[2001:db8::1]:2222", Some(("2001:db8::1", 2222)));
        check("[2001:db8::1]", Some(("2001:db8::1", 22)));
        check("2001:db8::1", Some(("2001:db8::1", 22)));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in ["", "host:", "host:ssh", "host:70000", "[::1", "[::1]22", ":22", "a/b"] {
            check(text, None);
        }
    }
}
