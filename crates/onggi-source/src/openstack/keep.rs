//! What a server says itself of how many of its backups are kept: its metadata `onggi_keep`.

use serde_json::Value;

use super::cloud::text;

/// The key in a server's metadata.
const KEY: &str = "onggi_keep";
/// The tag of a snapshot, before the number.
const TAG: &str = "keep";
/// The most that a server can ask for.
const KEEP_MAX: u32 = 10_000;

/// How many of a server's backups it wants kept; `None` if it does not say.
///
/// The error says what it says instead of a number.
pub fn kept(server: &Value) -> Result<Option<u32>, String> {
    let said = &server["metadata"][KEY];
    if said.is_null() {
        return Ok(None);
    }
    let number = text(&server["metadata"], KEY).parse().ok().filter(|number| (1..=KEEP_MAX).contains(number));
    number.map(Some).ok_or_else(|| {
        format!("its {KEY} is {said}, which is no number from 1 to {KEEP_MAX}: as many are kept as for others")
    })
}

/// The tag by which `repository forget --keep-own` finds the number.
pub(super) fn tag(number: u32) -> String {
    format!("{TAG}:{number}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(said: &Value, expected: Option<Option<u32>>) {
        assert_eq!(kept(&json!({ "metadata": said })).ok(), expected, "{said}");
    }

    #[test]
    fn only_a_number_is_one() {
        check(&json!({}), Some(None));
        check(&json!({ "onggi_keep": "14" }), Some(Some(14)));
        for wrong in ["0", "-3", "all", "", "14 days", "10001"] {
            check(&json!({ "onggi_keep": wrong }), None);
        }
        let text = kept(&json!({ "metadata": { "onggi_keep": "all" } })).unwrap_err();
        assert_eq!(
            text,
            "its onggi_keep is \"all\", which is no number from 1 to 10000: as many are kept as for others"
        );
    }
}
