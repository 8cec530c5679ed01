//! What a link does to the bytes it carries.
//!
//! Invariant: bytes are delayed, held or left out from some byte on, never changed, reordered or left out in between.

use std::num::NonZeroU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;

use super::link::Cut;

/// Bytes are written in pieces of at most this size, so that a change of conduct takes hold at once.
const PIECE: usize = 16 * 1024;

/// One way through a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the service to the server.
    Up,
    /// From the server to the service.
    Down,
}

/// What happens to the bytes of one direction until the link is healed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// How much later everything arrives.
    pub delay: Duration,
    /// The bandwidth; `None` is unlimited.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Nothing passes; it arrives after the healing, unless the connection is cut before.
    pub stalled: bool,
}

/// What happens to everything that a link carries until it is healed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conduct {
    /// To the server.
    pub up: Flow,
    /// To the service.
    pub down: Flow,
    /// New connections are reset.
    pub refuse: bool,
}

impl Conduct {
    const fn both(flow: Flow) -> Self {
        Self {
            up: flow,
            down: flow,
            refuse: false,
        }
    }

    /// Everything arrives later, in both directions.
    #[must_use]
    pub fn slow(delay: Duration) -> Self {
        Self::both(Flow {
            delay,
            ..Flow::default()
        })
    }

    /// So many bytes a second in each direction.
    #[must_use]
    pub fn narrow(bytes_per_second: NonZeroU64) -> Self {
        Self::both(Flow {
            bytes_per_second: Some(bytes_per_second),
            ..Flow::default()
        })
    }

    /// Nothing passes, and nobody is told.
    #[must_use]
    pub fn blackhole() -> Self {
        Self::both(Flow {
            stalled: true,
            ..Flow::default()
        })
    }

    /// Requests reach the server, which works on them, but its answers do not come back.
    #[must_use]
    pub fn answers_held() -> Self {
        Self {
            down: Self::blackhole().down,
            ..Self::default()
        }
    }

    /// Nobody gets a connection.
    #[must_use]
    pub fn refusing() -> Self {
        Self {
            refuse: true,
            ..Self::default()
        }
    }

    pub(super) fn flow(&self, direction: Direction) -> Flow {
        match direction {
            Direction::Up => self.up,
            Direction::Down => self.down,
        }
    }
}

/// Where a [`Trap`] springs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// After so many bytes more, counted over all connections of the link.
    Bytes(u64),
    /// In the middle of whatever is sent next.
    HalfOfNext,
}

/// What a sprung trap does to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Ends it.
    Cut(Cut),
    /// Holds the rest of this direction until the link is healed.
    Stall,
}

/// Something that happens once, at an exact byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// The direction that is counted.
    pub direction: Direction,
    /// The byte.
    pub at: At,
    /// The effect.
    pub then: Then,
}

/// The conduct and the trap of a link.
#[derive(Debug, Default)]
pub(super) struct Shape {
    conduct: watch::Sender<Conduct>,
    trap: Mutex<Option<Trap>>,
    /// Rises with each healing, for what a trap has stalled.
    healed: watch::Sender<u64>,
}

impl Shape {
    pub(super) fn conduct(&self) -> Conduct {
        *self.conduct.borrow()
    }

    pub(super) fn set(&self, conduct: Conduct) {
        self.conduct.send_replace(conduct);
    }

    pub(super) fn arm(&self, trap: Trap) {
        *self.trap() = Some(trap);
    }

    pub(super) fn is_armed(&self) -> bool {
        self.trap().is_some()
    }

    pub(super) fn heal(&self) {
        *self.trap() = None;
        self.set(Conduct::default());
        self.healed.send_modify(|count| *count += 1);
    }

    fn trap(&self) -> MutexGuard<'_, Option<Trap>> {
        self.trap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes bytes as the link's conduct lets them pass; the error is how the connection ends.
    pub(super) async fn pour<W: AsyncWrite + Unpin>(
        &self,
        direction: Direction,
        writer: &mut W,
        bytes: &[u8],
    ) -> Result<(), Cut> {
        for piece in bytes.chunks(PIECE) {
            let (pass, sprung) = self.spring(direction, piece.len());
            self.write(direction, writer, &piece[..pass]).await?;
            match sprung {
                None => {}
                Some(Then::Cut(cut)) => return Err(cut),
                Some(Then::Stall) => {
                    self.wait_healed().await;
                    self.write(direction, writer, &piece[pass..]).await?;
                }
            }
        }
        Ok(())
    }

    /// How much of the next `length` bytes passes before the trap springs, and what it then does.
    fn spring(&self, direction: Direction, length: usize) -> (usize, Option<Then>) {
        let mut slot = self.trap();
        let Some(trap) = slot.as_mut().filter(|trap| trap.direction == direction) else {
            return (length, None);
        };
        let pass = match &mut trap.at {
            At::HalfOfNext => length / 2,
            At::Bytes(left) => {
                let pass = usize::try_from(*left).unwrap_or(usize::MAX);
                if pass >= length {
                    *left -= length as u64;
                    return (length, None);
                }
                pass
            }
        };
        let then = trap.then;
        *slot = None;
        (pass, Some(then))
    }

    async fn write<W: AsyncWrite + Unpin>(
        &self,
        direction: Direction,
        writer: &mut W,
        bytes: &[u8],
    ) -> Result<(), Cut> {
        self.wait_open(direction).await;
        if let Some(rate) = self.conduct().flow(direction).bytes_per_second {
            let micros = (bytes.len() as u64).saturating_mul(1_000_000) / rate;
            tokio::time::sleep(Duration::from_micros(micros)).await;
        }
        // A peer that is gone abruptly shows as abruptly on the other side.
        writer.write_all(bytes).await.map_err(|_| Cut::Reset)
    }

    /// Returns when nothing stalls this direction (any more).
    pub(super) async fn wait_open(&self, direction: Direction) {
        let mut conduct = self.conduct.subscribe();
        // The sender lives as long as `self`.
        let _ = conduct
            .wait_for(|conduct| !conduct.flow(direction).stalled)
            .await;
    }

    async fn wait_healed(&self) {
        let mut healed = self.healed.subscribe();
        let _ = healed.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trap(at: At) -> Trap {
        Trap {
            direction: Direction::Up,
            at,
            then: Then::Cut(Cut::Reset),
        }
    }

    #[tokio::test]
    async fn a_trap_lets_exactly_its_bytes_pass_and_springs_once() {
        for after in [0, 1, 9, 10, 11, 20_000, 49_999] {
            let shape = Shape::default();
            shape.arm(trap(At::Bytes(after)));
            let (mut first, mut rest) = (Vec::new(), Vec::new());
            let all = vec![7; 50_000];
            shape
                .pour(Direction::Down, &mut rest, &all)
                .await
                .expect("the other direction is not counted");
            let ended = shape.pour(Direction::Up, &mut first, &all).await;
            assert_eq!((ended, first.len() as u64), (Err(Cut::Reset), after));
            shape
                .pour(Direction::Up, &mut rest, &all)
                .await
                .expect("it has sprung already");
            assert_eq!(rest.len(), 100_000);
        }
    }

    #[tokio::test]
    async fn what_a_trap_has_stalled_arrives_whole_after_the_healing() {
        let shape = Shape::default();
        shape.arm(Trap {
            then: Then::Stall,
            ..trap(At::HalfOfNext)
        });
        let (mut writer, mut reader) = tokio::io::duplex(1000);
        let pour = shape.pour(Direction::Up, &mut writer, b"0123456789");
        let heal = async {
            let mut half = [0; 5];
            tokio::io::AsyncReadExt::read_exact(&mut reader, &mut half)
                .await
                .unwrap();
            shape.heal();
            half
        };
        let (poured, half) = tokio::join!(pour, heal);
        assert_eq!((poured, &half), (Ok(()), b"01234"));
        let mut rest = [0; 5];
        tokio::io::AsyncReadExt::read_exact(&mut reader, &mut rest)
            .await
            .unwrap();
        assert_eq!(&rest, b"56789");
    }
}
