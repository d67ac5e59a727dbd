//! Drills: a member starts from what is stored, says the same, and leaves nothing.

use crate::place::{Place, source};
use crate::restore::{hashes, revision};
use onggi_lab::service::EtcdCluster;
use serde_json::json;

#[test]
fn a_drill_starts_a_member_that_has_the_same_keys() {
    for version in ["3.4", "3.5"] {
        let Some(cluster) = EtcdCluster::start(&format!("--version {version} --fill 200")) else { return };
        let place = Place::new(&json!({ "lab": source(&cluster, json!({})) }));
        place.onggi("backup lab").ends(0);
        // Without the program the files alone are read.
        let offline = place.onggi("--json drill run lab").ends(0).json();
        assert!(offline["checks"][0].as_str().unwrap().starts_with("the database is whole: 200 keys"), "{offline}");
        let program = cluster.program("etcd");
        let drill = place.onggi_with(program.parent().unwrap(), "--json drill run lab").ends(0).json();
        let checks = drill["checks"].to_string();
        assert!(checks.contains("a member started in") && checks.contains("it counts 200 keys"), "{checks}");
        let drills = place.onggi("--json drill list").ends(0).json();
        assert_eq!((drills.as_array().unwrap().len(), &drills[1]["result"]), (2, &json!("proved")));
        assert!(place.state().iter().all(|name| !name.contains("etcd-")), "{:?}", place.state());
        assert_eq!(hashes(&cluster, revision(&cluster)).len(), 1);
    }
}
