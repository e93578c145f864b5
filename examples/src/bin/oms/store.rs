//! The object store that the log repository's tables are in.
//!
//! Credentials come from the variables that each provider's own tools read (`AWS_ACCESS_KEY_ID`,
//! `AZURE_STORAGE_ACCOUNT_KEY`, `GOOGLE_SERVICE_ACCOUNT` and so on), from the machine's identity, or
//! from the configuration; never from an address or an argument.

use anyhow::{Context, Result, anyhow, bail};
use oms_logs::object_store::ObjectStore;
use oms_logs::object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use oms_logs::object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use oms_logs::object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use oms_logs::url::Url;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What a provider is told beside the address, by the names of the `object_store` crate:
/// `endpoint`, `region`, `allow_http`, `access_key_id` …
pub(crate) type Options = BTreeMap<String, String>;

/// An address of tables in an object store, understood.
pub(crate) enum Store {
    S3(Url, Vec<(AmazonS3ConfigKey, String)>),
    Azure(Url, Vec<(AzureConfigKey, String)>),
    Google(Url, Vec<(GoogleConfigKey, String)>),
}

impl fmt::Debug for Store {
    /// Without the options, some of which are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::S3(url, _) | Self::Azure(url, _) | Self::Google(url, _)) = self;
        write!(f, "Store({url})")
    }
}

impl Store {
    /// Reads an address and options.
    pub(crate) fn parse(address: &str, options: &Options) -> Result<Self> {
        let url: Url =
            address.parse().map_err(|error| anyhow!("no address of a store: {error}"))?;
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            bail!("credentials and options do not stand in the address of a store");
        }
        Ok(match url.scheme() {
            "s3" | "az" | "gs" if !url.has_host() => {
                bail!("address of a store names no bucket. store=`{url}`")
            }
            "s3" => Self::S3(url, keys(options)?),
            "az" => Self::Azure(url, keys(options)?),
            "gs" => Self::Google(url, keys(options)?),
            other => bail!(
                "tables are in a folder, or in a store of `s3`, `az` or `gs`. scheme=`{other}`"
            ),
        })
    }

    /// The store and the place of the tables in it. Nothing is asked of it.
    pub(crate) fn open(self) -> Result<(Arc<dyn ObjectStore>, Url)> {
        let named = |url: &Url| format!("store {url}");
        Ok(match self {
            Self::S3(url, options) => {
                let builder = AmazonS3Builder::from_env().with_url(url.as_str());
                let set = |builder: AmazonS3Builder, (key, value)| builder.with_config(key, value);
                let store = options.into_iter().fold(builder, set).build();
                (Arc::new(store.with_context(|| named(&url))?), url)
            }
            Self::Azure(url, options) => {
                let builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str());
                let set =
                    |builder: MicrosoftAzureBuilder, (key, value)| builder.with_config(key, value);
                let store = options.into_iter().fold(builder, set).build();
                (Arc::new(store.with_context(|| named(&url))?), url)
            }
            Self::Google(url, options) => {
                let builder = GoogleCloudStorageBuilder::from_env().with_url(url.as_str());
                let set = |builder: GoogleCloudStorageBuilder, (key, value)| {
                    builder.with_config(key, value)
                };
                let store = options.into_iter().fold(builder, set).build();
                (Arc::new(store.with_context(|| named(&url))?), url)
            }
        })
    }
}

/// Options by the keys of a provider; one that it does not have is refused.
fn keys<K: FromStr>(options: &Options) -> Result<Vec<(K, String)>> {
    let key = |(name, value): (&String, &String)| match name.parse() {
        Ok(key) => Ok((key, value.clone())),
        Err(_) => Err(anyhow!("no such option of a store. option=`{name}`")),
    };
    options.iter().map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(address: &str, options: &[(&str, &str)]) -> Result<Store> {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Store::parse(address, &options.collect())
    }

    #[test]
    fn stores_of_three_providers_open_without_being_asked() {
        let credentials = [("access_key_id", "key"), ("secret_access_key", "hunter2")];
        let (_, url) = parsed("s3://bucket/logs", &credentials).expect("read").open().expect("S3");
        assert_eq!(url.as_str(), "s3://bucket/logs");
        let account = [("account_name", "one"), ("account_key", "aHVudGVyMg==")];
        parsed("az://container/logs", &account).expect("read").open().expect("Azure");
        let skipped = [("google_skip_signature", "true")];
        parsed("gs://bucket/logs", &skipped).expect("read").open().expect("Google");
    }

    #[test]
    fn what_is_no_store_is_refused_and_no_secret_is_told() {
        let secrets = ["s3://me:hunter2@bucket/logs", "s3://bucket/logs?secret=hunter2"];
        for (address, reason) in [
            (secrets[0], "credentials"),
            (secrets[1], "credentials"),
            ("file:///srv/logs", "scheme=`file`"),
            ("ftp://host/logs", "scheme=`ftp`"),
            ("s3:/logs", "no bucket"),
            ("logs", "no address"),
        ] {
            let refused = format!("{:?}", parsed(address, &[]).expect_err(address));
            assert!(refused.contains(reason) && !refused.contains("hunter2"), "{refused}");
        }
        let refused = parsed("s3://bucket/logs", &[("secret", "hunter2")]).expect_err("unknown");
        let refused = format!("{refused:?}");
        assert!(refused.contains("option=`secret`") && !refused.contains("hunter2"), "{refused}");
    }
}
