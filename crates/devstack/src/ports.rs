//! Ports: the documented ones for the demo, free ones for tests.
//!
//! Invariant: a free port is leased by a locked file, so two stacks of one user on one machine never get the same one,
//! and it lies below the kernel's ephemeral range, so no outgoing connection takes it between choice and use. One that
//! was given back is the last to be leased again: whoever still calls its former server meets nobody.

use std::{
    env, fs,
    fs::File,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::{Kind, StackError};

const FIRST: u16 = 20_000;
const LAST: u16 = 29_999;

/// The ports of one server, held until this is dropped.
#[derive(Debug)]
pub(crate) struct Ports {
    /// The one that clients use.
    pub(crate) public: u16,
    /// Kafka's controller, ClickHouse's native protocol; otherwise unused.
    pub(crate) inner: u16,
    /// One for each further listener of Kafka; Jaeger's OTLP over HTTP and gRPC.
    pub(crate) more: Vec<u16>,
    /// Locks that hold the ports.
    leases: Vec<File>,
}

impl Ports {
    /// Free ports for a private stack.
    pub(crate) fn free() -> Result<Self, StackError> {
        let (public, first) = lease()?;
        let (inner, second) = lease()?;
        Ok(Self {
            public,
            inner,
            more: Vec::new(),
            leases: vec![first, second],
        })
    }

    /// With so many further ones.
    pub(crate) fn and_more(mut self, count: usize) -> Result<Self, StackError> {
        for _ in 0..count {
            let (port, held) = lease()?;
            self.more.push(port);
            self.leases.push(held);
        }
        Ok(self)
    }

    /// The documented port, or the one its variable names; an error if it is taken.
    pub(crate) fn documented(kind: Kind) -> Result<Self, StackError> {
        let public = wanted(kind, variable(kind))?;
        let more = further(kind).iter().map(|port| wanted(kind, *port));
        let more = more.collect::<Result<_, _>>()?;
        let (inner, held) = lease()?;
        Ok(Self {
            public,
            inner,
            more,
            leases: vec![held],
        })
    }

    /// All of them, as [`Ports::known`] takes them.
    pub(crate) fn all(&self) -> Vec<u16> {
        [&[self.public, self.inner], self.more.as_slice()].concat()
    }

    /// The ports of a server that runs already.
    pub(crate) fn known(ports: &[u16]) -> Self {
        Self {
            public: ports.first().copied().unwrap_or_default(),
            inner: ports.get(1).copied().unwrap_or_default(),
            more: ports.get(2..).unwrap_or_default().to_vec(),
            leases: Vec::new(),
        }
    }
}

/// The variable that moves the documented port, and that port.
pub(crate) const fn variable(kind: Kind) -> (&'static str, u16) {
    match kind {
        Kind::Postgres => ("ENGAGE_PORT_POSTGRES", 5432),
        Kind::Kafka => ("ENGAGE_PORT_KAFKA", 9092),
        Kind::Connect => ("ENGAGE_PORT_CONNECT", 8083),
        Kind::Redis => ("ENGAGE_PORT_REDIS", 6379),
        Kind::ClickHouse => ("ENGAGE_PORT_CLICKHOUSE", 8123),
        Kind::Jaeger => ("ENGAGE_PORT_JAEGER", 16686),
    }
}

/// The same of further documented ports.
pub(crate) const fn further(kind: Kind) -> &'static [(&'static str, u16)] {
    match kind {
        Kind::Jaeger => &[
            ("ENGAGE_PORT_OTLP_HTTP", 4318),
            ("ENGAGE_PORT_OTLP_GRPC", 4317),
        ],
        Kind::Postgres | Kind::Kafka | Kind::Connect | Kind::Redis | Kind::ClickHouse => &[],
    }
}

/// That port, if it is free.
fn wanted(server: Kind, (variable, default): (&'static str, u16)) -> Result<u16, StackError> {
    let port = match env::var(variable) {
        Ok(value) if !value.is_empty() => parse(variable, value)?,
        _ => default,
    };
    if is_free(port) {
        return Ok(port);
    }
    Err(StackError::PortTaken {
        server,
        port,
        variable,
    })
}

fn parse(variable: &'static str, value: String) -> Result<u16, StackError> {
    match value.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(StackError::BadPort { variable, value }),
    }
}

/// A port of 127.0.0.1 for a server that the caller starts itself: nobody else gets it while this process lives.
///
/// # Errors
/// When there is none, or its lock cannot be made.
pub fn free_port() -> Result<u16, StackError> {
    static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let (port, lock) = lease()?;
    HELD.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(lock);
    Ok(port)
}

fn lease() -> Result<(u16, File), StackError> {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let dir = lock_dir()?;
    let span = u32::from(LAST - FIRST) + 1;
    for _ in 0..span {
        let step = TRIED.fetch_add(1, Ordering::Relaxed);
        let place = std::process::id().wrapping_mul(97).wrapping_add(step) % span;
        let port = FIRST + u16::try_from(place).unwrap_or(0);
        let path = dir.join(port.to_string());
        let file = File::create(&path).map_err(StackError::io("locking", &path))?;
        if file.try_lock().is_ok() && is_free(port) {
            return Ok((port, file));
        }
    }
    Err(StackError::NoFreePort {
        first: FIRST,
        last: LAST,
    })
}

/// One per user: a file of another user could not be locked.
fn lock_dir() -> Result<PathBuf, StackError> {
    let user = rustix::process::geteuid().as_raw();
    let dir = env::temp_dir().join(format!("engage-ports-{user}"));
    fs::create_dir_all(&dir).map_err(StackError::io("creating", &dir))?;
    Ok(dir)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn parallel_leases_never_meet() {
        let threads: Vec<_> = (0..8)
            .map(|_| std::thread::spawn(|| Ports::free().unwrap()))
            .collect();
        let ports: Vec<Ports> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        let numbers: HashSet<u16> = ports.iter().flat_map(|p| [p.public, p.inner]).collect();
        assert_eq!(numbers.len(), 16);
    }

    #[test]
    fn a_port_given_back_is_not_leased_again_at_once() {
        let first = Ports::free().unwrap();
        let numbers = [first.public, first.inner];
        drop(first);
        let next = Ports::free().unwrap();
        assert!(!numbers.contains(&next.public) && !numbers.contains(&next.inner));
    }

    #[test]
    fn a_port_for_the_callers_own_server_stays_the_callers() {
        let own = free_port().unwrap();
        let lock = File::create(lock_dir().unwrap().join(own.to_string())).unwrap();
        assert!(lock.try_lock().is_err());
        assert!(is_free(own));
    }

    #[test]
    fn zero_and_words_are_no_ports() {
        assert!(parse("ENGAGE_PORT_REDIS", "0".into()).is_err());
        let error = parse("ENGAGE_PORT_REDIS", "many".into())
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "ENGAGE_PORT_REDIS=many is not a port: give a number from 1 to 65535"
        );
        assert_eq!(parse("ENGAGE_PORT_REDIS", "16379".into()).unwrap(), 16379);
    }
}
