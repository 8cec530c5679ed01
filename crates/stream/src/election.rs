//! Questions to a broker while the cluster decides which of them answers.
//!
//! Invariant: only what passes by itself is asked again. A broker that answers is given the time of an election; for one that does
//! not, nobody waits longer than for one answer.

use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};

/// A busy cluster that lost a broker has chosen again after this.
const ELECTION: Duration = Duration::from_secs(30);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(200);

/// Asks again while a group's coordinator or a partition's leader is being found, or a connection is lost: a broker that has just
/// started, that stood still, or that takes another one's place answers for a moment that it is not the one, and librdkafka
/// passes that on.
///
/// # Errors
/// Any other failure; a lost connection after `patience`, the time of one answer; an election that takes longer than
/// half a minute.
pub fn once_elected<T>(
    patience: Duration,
    mut ask: impl FnMut() -> KafkaResult<T>,
) -> KafkaResult<T> {
    let begun = Instant::now();
    loop {
        let answer = ask();
        let patience = match &answer {
            Err(error) if is_of_an_election(error) => ELECTION,
            Err(error) if is_a_lost_connection(error) => patience,
            _ => return answer,
        };
        if begun.elapsed() >= patience {
            return answer;
        }
        std::thread::sleep(PAUSE);
    }
}

fn is_of_an_election(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::NotCoordinator
                | Code::CoordinatorLoadInProgress
                | Code::CoordinatorNotAvailable
                | Code::NotLeaderForPartition
                // so a broker answers, and the client by itself, that has not learnt again what there is
                | Code::UnknownTopicOrPartition
                | Code::UnknownPartition
                | Code::LeaderNotAvailable
                | Code::FencedLeaderEpoch
                | Code::UnknownLeaderEpoch
                | Code::OffsetNotAvailable
        )
    )
}

/// What a client that goes on reading gets over.
pub(crate) fn passes_by_itself(error: &KafkaError) -> bool {
    is_a_lost_connection(error) || is_of_an_election(error)
}

/// A connection that is lost, which the client opens again.
pub(crate) fn is_a_lost_connection(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::NetworkException
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(code: RDKafkaErrorCode, times: u32) -> (KafkaResult<u32>, u32) {
        let mut asked = 0;
        let answer = once_elected(Duration::from_secs(60), || {
            asked += 1;
            if asked <= times {
                Err(KafkaError::MetadataFetch(code))
            } else {
                Ok(asked)
            }
        });
        (answer, asked)
    }

    #[test]
    fn a_broker_is_asked_again_while_another_is_being_chosen_and_only_then() {
        for code in [
            RDKafkaErrorCode::NotCoordinator,
            RDKafkaErrorCode::CoordinatorLoadInProgress,
            RDKafkaErrorCode::CoordinatorNotAvailable,
            RDKafkaErrorCode::NotLeaderForPartition,
            RDKafkaErrorCode::LeaderNotAvailable,
            RDKafkaErrorCode::UnknownPartition,
            RDKafkaErrorCode::BrokerTransportFailure,
        ] {
            assert_eq!(failing(code, 2), (Ok(3), 3), "{code}");
        }
        for code in [
            RDKafkaErrorCode::GroupAuthorizationFailed,
            RDKafkaErrorCode::TopicAuthorizationFailed,
        ] {
            let (answer, asked) = failing(code, 2);
            assert!(answer.is_err() && asked == 1, "{code}");
        }
    }

    #[test]
    fn it_is_not_asked_for_ever() {
        let never = once_elected(Duration::ZERO, || {
            Err::<(), _>(KafkaError::MetadataFetch(RDKafkaErrorCode::AllBrokersDown))
        });
        assert!(never.is_err());
    }
}
