//! The TCP proxy between each service and each server: every pair has a link of its own, and a link can be made slow,
//! narrow, silent or torn, to the byte.
//!
//! Invariant: a link that is told nothing forwards every byte unchanged, and after [`Link::heal`] so does every link,
//! whatever was done to it before.

mod http;
mod link;
mod shape;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use devstack::{Kind, Needs, Stack};
use engagectl::pipeline::Addresses;
use platform::Schema;

pub use http::Spoil;
pub use link::{Cut, Link};
pub use shape::{At, Conduct, Direction, Flow, Then, Trap};

/// Who talks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pair {
    /// Change events in, enriched events out.
    EnricherKafka,
    /// The lookup of contents.
    EnricherPostgres,
    /// Debezium's output and Connect's own topics.
    ConnectKafka,
    /// The replication stream.
    ConnectPostgres,
    /// Enriched events in.
    ClickHouseSinkKafka,
    /// Inserts and read-backs, over HTTP.
    ClickHouseSinkClickHouse,
    /// Enriched events in.
    RedisAggregatorKafka,
    /// Scripts.
    RedisAggregatorRedis,
    /// Enriched events in.
    WebhookForwarderKafka,
    /// Deliveries, over HTTP.
    WebhookForwarderReceiver,
}

/// The other end of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A server of the stack.
    Server(Kind),
    /// The demo's webhook receiver.
    Receiver,
}

impl Pair {
    /// Every pair.
    pub const ALL: [Self; 10] = [
        Self::EnricherKafka,
        Self::EnricherPostgres,
        Self::ConnectKafka,
        Self::ConnectPostgres,
        Self::ClickHouseSinkKafka,
        Self::ClickHouseSinkClickHouse,
        Self::RedisAggregatorKafka,
        Self::RedisAggregatorRedis,
        Self::WebhookForwarderKafka,
        Self::WebhookForwarderReceiver,
    ];

    /// The service, or `connect`.
    #[must_use]
    pub const fn client(self) -> &'static str {
        match self {
            Self::EnricherKafka | Self::EnricherPostgres => "enricher",
            Self::ConnectKafka | Self::ConnectPostgres => "connect",
            Self::ClickHouseSinkKafka | Self::ClickHouseSinkClickHouse => "clickhouse-sink",
            Self::RedisAggregatorKafka | Self::RedisAggregatorRedis => "redis-aggregator",
            Self::WebhookForwarderKafka | Self::WebhookForwarderReceiver => "webhook-forwarder",
        }
    }

    /// What it talks to.
    #[must_use]
    pub const fn peer(self) -> Peer {
        match self {
            Self::EnricherPostgres | Self::ConnectPostgres => Peer::Server(Kind::Postgres),
            Self::ClickHouseSinkClickHouse => Peer::Server(Kind::ClickHouse),
            Self::RedisAggregatorRedis => Peer::Server(Kind::Redis),
            Self::WebhookForwarderReceiver => Peer::Receiver,
            _ => Peer::Server(Kind::Kafka),
        }
    }

    fn is_kafka(self) -> bool {
        self.peer() == Peer::Server(Kind::Kafka)
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = match self.peer() {
            Peer::Server(kind) => kind.name(),
            Peer::Receiver => "receiver",
        };
        write!(f, "{} - {peer}", self.client())
    }
}

/// One link for each pair.
#[derive(Debug)]
pub struct Proxies {
    links: BTreeMap<Pair, Link>,
}

impl Proxies {
    /// Starts all servers with a link for every pair: the stack, the addresses that lead straight to the servers, and
    /// the links. What the services shall use is [`Proxies::detour`]. `full_compiler`: see [`devstack::Builder`].
    ///
    /// # Errors
    /// A server that does not start.
    pub async fn start(full_compiler: bool) -> anyhow::Result<(Stack, Addresses, Self)> {
        let links = Self::open().await?;
        // A broker must know the ports that it advertises, and Connect needs its link at once.
        let starting = Stack::builder()
            .needs(Needs::none().postgres().kafka().redis().clickhouse())
            .private()
            .full_compiler(full_compiler)
            .kafka_advertised_at(&links.kafka_ports())
            .connect_reaches_kafka_at(links.link(Pair::ConnectKafka).port())
            .start();
        let stack = Box::pin(starting).await?;
        for (pair, listener) in links.kafka_pairs().zip(&stack.kafka().listeners) {
            links.link(pair).lead_to(listener.parse()?);
        }
        Box::pin(stack.ensure(Needs::all())).await?;
        let mut addresses = Addresses::private(&stack, Schema::Uuid);
        addresses.debezium_postgres = Some(links.address(Pair::ConnectPostgres));
        links.attach(&stack, addresses.receiver);
        Ok((stack, addresses, links))
    }

    /// Listens for every pair; until it leads somewhere, a link resets who connects.
    async fn open() -> anyhow::Result<Self> {
        let mut links = BTreeMap::new();
        for pair in Pair::ALL {
            let link = if pair == Pair::ClickHouseSinkClickHouse {
                Link::http(pair.to_string()).await
            } else {
                Link::raw(pair.to_string()).await
            };
            let link = link.with_context(|| format!("cannot listen for {pair}"))?;
            links.insert(pair, link);
        }
        Ok(Self { links })
    }

    fn attach(&self, stack: &Stack, receiver: SocketAddr) {
        for pair in Pair::ALL {
            let port = match pair.peer() {
                Peer::Server(Kind::Postgres) => stack.postgres().port(),
                Peer::Server(Kind::ClickHouse) => stack.clickhouse().port(),
                Peer::Server(Kind::Redis) => stack.redis().port(),
                Peer::Server(Kind::Kafka | Kind::Connect | Kind::Jaeger) => continue,
                Peer::Receiver => receiver.port(),
            };
            self.link(pair).lead_to((Ipv4Addr::LOCALHOST, port).into());
        }
    }

    /// The same addresses, but each leads through its link.
    #[must_use]
    pub fn detour(&self, straight: &Addresses) -> Addresses {
        let at = |pair| self.address(pair);
        let mut detour = straight.clone();
        detour.postgres_url = with_port(&straight.postgres_url, at(Pair::EnricherPostgres));
        detour.redis_url = with_port(&straight.redis_url, at(Pair::RedisAggregatorRedis));
        let clickhouse = at(Pair::ClickHouseSinkClickHouse);
        detour.clickhouse_url = with_port(&straight.clickhouse_url, clickhouse);
        detour.receiver = at(Pair::WebhookForwarderReceiver);
        let kafka = |pair: Pair| (pair.client(), at(pair).to_string());
        detour.kafka_detours = self.kafka_pairs().map(kafka).collect();
        detour
    }

    /// The link of a pair.
    #[must_use]
    pub fn link(&self, pair: Pair) -> &Link {
        &self.links[&pair]
    }

    /// `127.0.0.1:PORT` of the link of a pair.
    #[must_use]
    pub fn address(&self, pair: Pair) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.link(pair).port()).into()
    }

    /// Takes every fault off every link.
    pub fn heal(&self) {
        for link in self.links.values() {
            link.heal();
        }
    }

    fn kafka_ports(&self) -> Vec<u16> {
        self.kafka_pairs()
            .map(|pair| self.link(pair).port())
            .collect()
    }

    fn kafka_pairs(&self) -> impl Iterator<Item = Pair> {
        Pair::ALL.into_iter().filter(|pair| pair.is_kafka())
    }
}

/// A URL of a local server with the port of its link instead.
fn with_port(url: &str, link: SocketAddr) -> String {
    let after_user = url.find('@').or_else(|| url.find("//").map(|at| at + 1));
    let host = after_user.map_or(0, |at| at + 1);
    let path = url[host..].find('/').map_or("", |at| &url[host + at..]);
    format!("{}{link}{path}", &url[..host])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_host_and_port_of_a_url_are_replaced() {
        let link = ([127, 0, 0, 1], 7).into();
        let urls = [
            (
                "postgres://engage:engage@127.0.0.1:5432/engage",
                "postgres://engage:engage@127.0.0.1:7/engage",
            ),
            ("redis://127.0.0.1:6379/", "redis://127.0.0.1:7/"),
            ("http://127.0.0.1:8123", "http://127.0.0.1:7"),
        ];
        for (url, wanted) in urls {
            assert_eq!(with_port(url, link), wanted);
        }
    }
}
