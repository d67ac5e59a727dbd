//! Addresses as restic reads them, and errors that say what to write.

use super::Location;
use proptest::prelude::*;

/// The text is read, and shown as `expected`, which is read as the same.
#[track_caller]
fn check(text: &str, expected: &str) {
    let location = Location::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(location.to_string(), expected, "{location:?}");
    assert_eq!(Location::parse(expected).unwrap(), location);
}

#[track_caller]
fn refused(text: &str, because: &str) {
    let error = Location::parse(text).expect_err(text).to_string();
    assert!(error.contains(because), "{text}: {error}");
}

#[test]
fn folders() {
    check("/srv/onggi", "/srv/onggi");
    check("/srv/with:colon", "/srv/with:colon");
    check("relative", "local:relative");
    check("./a:b", "local:./a:b");
    check("../up", "local:../up");
    check("local:/srv", "/srv");
    check("local:a b", "local:a b");
}

#[test]
fn buckets() {
    check("s3:host/bucket", "s3:host/bucket");
    check("s3:host/bucket/a/b/", "s3:host/bucket/a/b");
    check("s3://host/bucket/a", "s3:host/bucket/a");
    check("s3:https://host:9000/bucket/", "s3:host:9000/bucket");
    check("s3:http://127.0.0.1:9000/bucket/a", "s3:http://127.0.0.1:9000/bucket/a");
    check("s3:http://[::1]:9000/bucket", "s3:http://[::1]:9000/bucket");
    check("s3:S3.Amazonaws.com/bucket", "s3:s3.amazonaws.com/bucket");
}

#[test]
fn folders_of_other_machines() {
    check("sftp:user@host:/srv/onggi", "sftp:user@host:/srv/onggi");
    check("sftp:host:backups", "sftp:host:backups");
    check("sftp:user@[fe80::1]:/srv", "sftp:user@[fe80::1]:/srv");
    check("sftp:user@host:with:colon", "sftp:user@host:with:colon");
    check("sftp:a@b@host:x", "sftp:a@b@host:x");
    check("sftp://user@host//srv", "sftp:user@host:/srv");
    check("sftp://user@host/srv", "sftp:user@host:srv");
    check("sftp://user@host:2222//srv", "sftp://user@host:2222//srv");
    check("sftp://user@[::1]:2222/srv", "sftp://user@[::1]:2222/srv");
    check("sftp://[::1]/srv", "sftp:[::1]:srv");
    check("sftp://host/[", "sftp:host:[");
    check("sftp://host/a@b:c", "sftp://host/a@b:c");
}

#[test]
fn errors_name_the_remedy() {
    refused("", "it is empty");
    refused("/a\nb", "control characters");
    refused("b2:bucket", "storages of kind b2: are not supported");
    refused("rest:https://host/", "rest: are not supported");
    refused("foo:bar", "write local: before it");
    refused("local:", "names no folder");
    refused("s3:", "names no host");
    refused("s3:host", "names no bucket");
    refused("s3:host/", "names no bucket");
    refused("s3:ftp://host/bucket", "write s3:https://");
    refused("s3:host:0/bucket", "names no host");
    refused("s3:host/bucket/../other", "no prefix");
    refused("s3:host/bucket?x=y", "no prefix");
    refused("sftp:user@host", "names no folder");
    refused("sftp:user@host:", "names no folder");
    refused("sftp://user@host", "names no folder");
    refused("sftp:@host:/x", "names no user");
    refused("sftp:-oProxyCommand=x:/y", "names no user and host");
    refused("sftp://host:99999//srv", "is no port");
    refused("sftp:user@host:~/x", "leave ~/ away");
}

#[test]
fn a_password_in_an_address_is_refused_and_not_repeated() {
    for text in [
        "s3:https://key:hunter2@host/bucket",
        "s3:key:hunter2@host/bucket",
        "sftp://user:hunter2@host//srv",
        "sftp://user:hunter2@host:22//srv",
        "sftp:user:hunter2@host:/srv",
        "user:hunter2@host",
        "https://user:hunter2@host/",
    ] {
        let error = Location::parse(text).expect_err(text).to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn the_region_follows_from_an_amazon_endpoint() {
    for (endpoint, region) in [
        ("s3.amazonaws.com", "us-east-1"),
        ("s3.eu-central-1.amazonaws.com", "eu-central-1"),
        ("s3-eu-west-1.amazonaws.com", "eu-west-1"),
        ("s3.dualstack.ap-northeast-2.amazonaws.com", "ap-northeast-2"),
        ("s3.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("minio.example", "us-east-1"),
    ] {
        let location = Location::parse(&format!("s3:{endpoint}/bucket")).unwrap();
        assert_eq!(location.region(), Some(region), "{endpoint}");
        assert_eq!(location.is_amazon(), endpoint.contains("amazonaws"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn any_text_is_read_and_shown_as_the_same_or_refused(text in "(|local:|s3:|s3:http://|sftp:|sftp://)[ -~]{0,30}") {
        if let Ok(location) = Location::parse(&text) {
            let shown = location.to_string();
            prop_assert_eq!(Location::parse(&shown).map_err(|error| format!("{shown}: {error}")), Ok(location));
        }
    }
}
