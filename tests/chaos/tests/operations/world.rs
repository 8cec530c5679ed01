//! A pipeline whose replicas have no stable names, as those of a Deployment.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chaos::load::{Load, LoadOptions};
use chaos::{Arena, ArenaOptions, Patience, ReplicaId, RunDir, wait};

/// What any step may take on a busy machine.
pub(crate) const WITHIN: Duration = Duration::from_secs(120);

/// Replicas of every service, under load.
pub(crate) struct World {
    pub(crate) arena: Arc<Arena>,
    load: Load,
    _dir: RunDir,
}

impl World {
    /// So many replicas of each of these services, and a mixed load of `rate` rows a second.
    pub(crate) async fn start(
        name: &str,
        services: &[&'static str],
        replicas: usize,
        rate: f64,
    ) -> Self {
        let test = std::env::current_exe().unwrap();
        let dir = RunDir::new(&format!("{name}-{}", std::process::id()));
        let options = ArenaOptions {
            dir: dir.path().to_owned(),
            bin: test.parent().and_then(Path::parent).unwrap().to_owned(),
            services: services.to_vec(),
            replicas,
            stable_names: 0,
            env: Vec::new(),
            direct: true,
            full_compiler: true,
            longest_freeze: Duration::from_secs(10),
            patience: Patience::default(),
        };
        let arena = Arc::new(Box::pin(Arena::start(options)).await.unwrap());
        let load = load(&arena, 1, rate).await;
        Self {
            arena,
            load,
            _dir: dir,
        }
    }

    /// Does something while nobody else writes; then the load goes on with `rate` rows a second.
    pub(crate) async fn alone(self, rate: f64, work: impl AsyncFnOnce(&Arena)) -> Self {
        let Self { arena, load, _dir } = self;
        load.stop().await;
        work(&arena).await;
        let load = self::load(&arena, 2, rate).await;
        Self { arena, load, _dir }
    }

    /// One replica more, once it is ready.
    pub(crate) async fn add(&self, service: &'static str) -> ReplicaId {
        let id = self.arena.fleet.add(service).unwrap();
        let what = format!("{id} is ready");
        let ready = wait::until(&what, WITHIN, || self.arena.fleet.ready(id));
        ready.await.unwrap();
        id
    }

    /// One replica less, told by SIGTERM.
    pub(crate) async fn remove(&self, id: ReplicaId) {
        self.arena.fleet.remove(id).await.unwrap();
    }

    /// The load ends; every sink must then hold exactly what Postgres holds, each event once.
    pub(crate) async fn ends_equal(self) {
        self.ends_equal_in(&verify::Sink::ALL).await;
    }

    /// The same of some sinks.
    pub(crate) async fn ends_equal_in(self, sinks: &[verify::Sink]) {
        let Self { arena, load, _dir } = self;
        load.stop().await;
        let sources = verify::Sources::from(&arena.addresses);
        let options = verify::Options {
            sinks: sinks.iter().copied().collect(),
            ..verify::Options::default()
        };
        let report = verify::settle_with(&sources, &options, Duration::from_secs(300)).await;
        let report = report.unwrap();
        assert!(report.is_equal(), "{report}");
        assert!(report.events > 0, "{report}");
        assert_eq!(arena.fleet.errors(), Vec::<String>::new());
        let arena = Arc::into_inner(arena).expect("nobody else holds the arena");
        Box::pin(arena.shutdown()).await.unwrap();
    }
}

async fn load(arena: &Arena, seed: u64, rate: f64) -> Load {
    let options = LoadOptions {
        url: arena.addresses.postgres_url.clone(),
        seed,
        rate,
        bursts: None,
    };
    Load::start(options).await.unwrap()
}
