//! `--group-by`, and groups as restic's JSON names them.

use onggi_repo::forget::{GroupBy, GroupKey};
use serde_json::{Value, json};

/// Reads `host,paths,tags` in any order, `unit` for onggi's own grouping; nothing puts all in one group.
pub fn parse_group_by(text: &str) -> Result<GroupBy, String> {
    if text == "unit" {
        return Ok(GroupBy::Unit);
    }
    let (mut by_host, mut by_paths, mut by_tags) = (false, false, false);
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "host" | "hosts" => by_host = true,
            "path" | "paths" => by_paths = true,
            "tag" | "tags" => by_tags = true,
            _ => return Err(format!("`{word}` is none of host, paths, tags, unit")),
        }
    }
    Ok(GroupBy::Fields { host: by_host, paths: by_paths, tags: by_tags })
}

/// What the snapshots of a group have in common.
pub fn document(key: &GroupKey) -> Value {
    match key {
        GroupKey::Unit { source, unit } => {
            json!({"source": source, "unit": unit, "hostname": "", "paths": null, "tags": null})
        }
        GroupKey::Fields { host, paths, tags } => {
            json!({"hostname": host.clone().unwrap_or_default(), "paths": paths, "tags": tags})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_in_any_order_and_others_refused() {
        let fields = |host, paths, tags| GroupBy::Fields { host, paths, tags };
        assert_eq!(parse_group_by("tags,host"), Ok(fields(true, false, true)));
        assert_eq!(parse_group_by(""), Ok(fields(false, false, false)));
        assert_eq!(parse_group_by("unit"), Ok(GroupBy::Unit));
        assert!(parse_group_by("hots").is_err());
    }
}
