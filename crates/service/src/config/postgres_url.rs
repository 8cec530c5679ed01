//! The URL of a Postgres, which is a secret: `#[serde(deserialize_with = "..")]`.
//! Invariant: a URL of something else is refused where it stands, before anybody connects to it.

use secrecy::SecretString;
use serde::de::{Deserialize, Deserializer, Error, Unexpected};

const RIGHT: &str = "a URL as in `postgres://user:password@host:5432/database`";

/// Reads `postgres://..` or `postgresql://..`.
///
/// # Errors
/// Any other text.
pub fn postgres_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    let text = String::deserialize(deserializer)?;
    let schemes = ["postgres://", "postgresql://"];
    if schemes.iter().any(|scheme| text.starts_with(scheme)) {
        return Ok(text.into());
    }
    Err(D::Error::invalid_value(
        Unexpected::Other("another URL"),
        &RIGHT,
    ))
}

/// [`postgres_url`], if there is one.
///
/// # Errors
/// Any other text.
pub fn postgres_url_option<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SecretString>, D::Error> {
    struct Url(SecretString);
    impl<'de> Deserialize<'de> for Url {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            postgres_url(deserializer).map(Self)
        }
    }
    Ok(Option::<Url>::deserialize(deserializer)?.map(|url| url.0))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::config::{EnvKey, Loader};

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Config {
        #[serde(deserialize_with = "postgres_url_option")]
        url: Option<SecretString>,
    }

    fn loader(url: &str) -> Loader {
        Loader::new(&[EnvKey::secret("DATABASE_URL", "url")]).environment([("DATABASE_URL", url)])
    }

    #[test]
    fn a_url_of_something_else_is_refused_with_what_would_be_right_and_without_its_password() {
        for url in ["postgres://u:p@db/x", "postgresql://db/x"] {
            assert!(loader(url).load::<Config>().unwrap().config.url.is_some());
        }
        let refused = loader("mysql://u:hunter2@db/x").load::<Config>();
        let text = refused.unwrap_err().problems[0].to_string();
        assert!(
            text.contains("DATABASE_URL") && text.contains("postgres://user"),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
    }
}
