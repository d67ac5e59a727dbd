//! The keys of a bucket as the configuration refers to them: fetched when it is opened, and again when they expire.

use super::Habits;
use crate::{
    config::{S3Place, value::SecretReference},
    edge::{SecretError, fetch},
};
use async_trait::async_trait;
use onggi_storage::s3::{S3Credentials, S3Keys};
use secrecy::ExposeSecret as _;
use std::{collections::BTreeMap, error::Error, time::Duration};

/// Where the keys of one bucket are.
#[derive(Debug)]
pub(super) struct PlaceKeys {
    access_key: SecretReference,
    secret_key: SecretReference,
    session_token: Option<SecretReference>,
    lifetime: Option<Duration>,
    variables: BTreeMap<String, String>,
}

impl PlaceKeys {
    /// `None` if the configuration names none.
    pub(super) fn of(place: &S3Place, habits: &Habits) -> Option<Self> {
        Some(Self {
            access_key: place.access_key.clone()?,
            secret_key: place.secret_key.clone()?,
            session_token: place.session_token.clone(),
            lifetime: place.keys_lifetime,
            variables: habits.variables.clone(),
        })
    }

    pub(super) async fn fetch_now(&self) -> Result<S3Credentials, SecretError> {
        let variables = &self.variables;
        Ok(S3Credentials {
            access_key: fetch(&self.access_key, variables).await?.expose_secret().to_owned(),
            secret_key: fetch(&self.secret_key, variables).await?,
            session_token: match &self.session_token {
                Some(token) => Some(fetch(token, variables).await?),
                None => None,
            },
        })
    }
}

#[async_trait]
impl S3Keys for PlaceKeys {
    async fn fetch(&self) -> Result<S3Credentials, Box<dyn Error + Send + Sync>> {
        Ok(self.fetch_now().await?)
    }

    fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }
}
