//! Whose word is taken for who a Director is.

use onggi_lab::director::{Certificate, FakeDirector, Script};
use onggi_source::bosh::director::{Authorities, Director, DirectorError};

use crate::place::{Place, script};

async fn connect(place: &Place, authorities: Authorities) -> Result<(), DirectorError> {
    let target = onggi_source::bosh::director::Target { authorities, ..place.target() };
    Director::connect(&place.cx, target).await.map(drop)
}

async fn own(certificate: Certificate) -> Option<Result<(), DirectorError>> {
    let place = Place::with(FakeDirector::start(script(), certificate)?);
    Some(place.connect().await.map(drop))
}

#[tokio::test]
async fn a_certificate_that_is_its_own_authority_is_trusted_when_it_was_handed_over() {
    let Some(connected) = own(Certificate::OwnAuthority).await else { return };
    connected.unwrap();
    let elsewhere = own(Certificate::OwnAuthorityElsewhere).await.unwrap();
    assert!(matches!(elsewhere, Err(DirectorError::Untrusted(..))), "{elsewhere:?}");
}

#[tokio::test]
async fn nobody_else_is_trusted() {
    for certificate in [Certificate::Signed, Certificate::OwnAuthority] {
        let Some(fake) = FakeDirector::start(script(), certificate) else { return };
        let (place, other) = (Place::with(fake), FakeDirector::start(Script::default(), certificate).unwrap());
        let refused = connect(&place, Authorities::Given(other.ca().to_vec())).await;
        assert!(matches!(refused, Err(DirectorError::Untrusted(..))), "{refused:?}");
        assert!(place.fake.take_log().is_empty());
    }
}

#[tokio::test]
async fn the_authorities_of_this_machine_do_not_know_it() {
    let Some(place) = Place::new(script()) else { return };
    let refused = connect(&place, Authorities::System).await;
    // A machine without any says so before.
    assert!(matches!(refused, Err(DirectorError::Untrusted(..) | DirectorError::Configuration(_))), "{refused:?}");
}

#[tokio::test]
async fn what_is_no_certificate_is_said_before_anything_is_asked() {
    let Some(place) = Place::new(script()) else { return };
    let refused = connect(&place, Authorities::Given(b"nothing".to_vec())).await;
    assert!(matches!(refused, Err(DirectorError::Configuration(_))), "{refused:?}");
}
