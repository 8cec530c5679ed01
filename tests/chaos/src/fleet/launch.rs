//! How one replica is started. Pure.

use std::net::SocketAddr;
use std::path::PathBuf;

use devstack::Launch;
use engagectl::pipeline::Site;

use super::{ReplicaId, State};

/// The log of a replica.
pub(super) fn log(site: &Site, id: ReplicaId) -> PathBuf {
    site.dir.join("logs").join(format!("{id}.log"))
}

/// A stable instance name makes a restarted replica the same member of its group, as in a StatefulSet: it gets its
/// partitions back at once instead of waiting for its predecessor's session to end.
pub(super) fn launch(
    id: ReplicaId,
    admin: SocketAddr,
    state: &State,
    extra: &[(String, String)],
) -> Launch {
    let launch =
        engagectl::pipeline::launch(id.service, &state.options.addresses, &state.options.site)
            .named(id.to_string(), log(&state.options.site, id))
            .env("ADMIN_ADDR", admin.to_string());
    let launch = if id.number <= state.options.stable_names {
        launch.env("KAFKA_PROP_GROUP_INSTANCE_ID", id.to_string())
    } else {
        launch
    };
    let env = state.options.env.iter().chain(extra);
    env.fold(launch, |launch, (name, value)| launch.env(name, value))
}
