//! What a secured stack is given: certificates, users and their rights. The stack makes none of it itself, and knows nothing
//! of what the users are for.
//!
//! Invariant: a secured server has no way in without a password or a certificate but for what cannot do otherwise
//! (ClickHouse's `/ping` and Connect's REST interface, both on loopback), and no secret is an argument of a process.

use std::path::PathBuf;

/// Everything that a secured stack needs to know.
#[derive(Clone)]
pub struct Secured {
    /// The authority of `certificate` (PEM).
    pub ca: PathBuf,
    /// The servers' certificate (PEM), for `127.0.0.1`, good for servers and clients. Its subject is `CN=` and
    /// [`Secured::common_name`] alone: Kafka's super user.
    pub certificate: PathBuf,
    /// Its private key (PEM, PKCS#8).
    pub key: PathBuf,
    /// See `certificate`.
    pub common_name: String,
    /// Users of Kafka (SCRAM-SHA-512).
    pub kafka_users: Vec<Login>,
    /// What they may do; everything else is denied.
    pub kafka_rules: Vec<KafkaRule>,
    /// The user that Connect is in Kafka.
    pub connect_user: String,
    /// A properties file for Connect: its password in Kafka under the key `kafka`, and whatever else the connectors refer to as
    /// `${file:<this file>:<key>}`.
    pub connect_secrets: PathBuf,
    /// The password of Postgres' superuser.
    pub postgres_password: String,
    /// The lines of Redis' ACL file.
    pub redis_users: Vec<String>,
    /// A user of Redis that may `PING`.
    pub redis_probe: Login,
    /// The password of ClickHouse's user `admin`.
    pub clickhouse_password: String,
    /// ClickHouse's other users.
    pub clickhouse_users: Vec<ClickHouseUser>,
}

/// A name and a password.
#[derive(Clone)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password; letters and digits only, so that no file has to quote it.
    pub password: String,
}

/// What a user of Kafka may do with a resource.
#[derive(Clone, Debug)]
pub struct KafkaRule {
    /// Who.
    pub user: String,
    /// `topic` or `group`.
    pub resource: String,
    /// Its name, or the beginning of its name.
    pub name: String,
    /// Whether `name` is only the beginning.
    pub prefixed: bool,
    /// `Read`, `Write`, `DescribeConfigs` ..
    pub operations: Vec<String>,
}

/// A user of ClickHouse.
#[derive(Clone, Debug)]
pub struct ClickHouseUser {
    /// Its name, fit for an XML element.
    pub name: String,
    /// SHA-256 of its password, in hex.
    pub password_sha256: String,
    /// `GRANT .. ON ..`, each without `TO`.
    pub grants: Vec<String>,
}

impl std::fmt::Debug for Secured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secured")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Secured {
    /// One line for each user and for each right, as `templates/Grant.java` reads them.
    pub(crate) fn kafka_lines(&self) -> String {
        let users = self
            .kafka_users
            .iter()
            .map(|login| format!("user\t{}\t{}\n", login.user, login.password));
        let rules = self.kafka_rules.iter().flat_map(|rule| {
            let pattern = if rule.prefixed { "prefixed" } else { "literal" };
            rule.operations.iter().map(move |operation| {
                format!(
                    "acl\t{}\t{}\t{}\t{pattern}\t{operation}\n",
                    rule.user, rule.resource, rule.name
                )
            })
        });
        users.chain(rules).collect()
    }

    /// The `<users>` beside `default` and `admin`.
    pub(crate) fn clickhouse_elements(&self) -> String {
        let grants = |user: &ClickHouseUser| -> String {
            let elements = user
                .grants
                .iter()
                .map(|grant| format!("<query>{grant}</query>"));
            elements.collect()
        };
        let elements = self.clickhouse_users.iter().map(|user| {
            format!(
                "<{name}><password_sha256_hex>{hash}</password_sha256_hex><networks><ip>127.0.0.1</ip></networks>\
                 <profile>default</profile><quota>default</quota><grants>{grants}</grants></{name}>\n",
                name = user.name,
                hash = user.password_sha256,
                grants = grants(user)
            )
        });
        elements.collect()
    }
}
