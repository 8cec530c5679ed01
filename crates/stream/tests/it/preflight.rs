//! What is wrong before the first record is named, each in its own way.

use std::time::Duration;

use stream::settings::SecurityProtocol;
use stream::{KafkaSettings, LaneHandle, RunError, RunErrorKind};

use crate::support::{Member, options, settings, topic, unique, with};

async fn refused(options: stream::LanesOptions) -> RunError {
    let member = Member::start(options, |lane: LaneHandle| async move {
        lane.stopping().cancelled().await;
        Ok(())
    });
    let error = member.outcome().await.unwrap_err();
    assert!(!error.remedy().is_empty());
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_named() {
    let error = refused(options(settings(), "g", "no-such-topic")).await;
    assert!(
        matches!(&error, RunError::MissingTopic { topic, .. } if topic == "no-such-topic"),
        "{error}"
    );
    assert_eq!(error.kind(), RunErrorKind::Repair);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_number_of_partitions_is_named() {
    let topic = topic("count", 3).await;
    let mut options = options(settings(), &unique("g"), &topic);
    options.partitions = Some(16);
    let error = refused(options).await;
    assert!(
        matches!(
            error,
            RunError::PartitionCount {
                found: 3,
                expected: 16,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_never_answers_is_waited_for_and_then_named() {
    let nobody = KafkaSettings {
        bootstrap_servers: "127.0.0.1:1".into(),
        ..KafkaSettings::default()
    };
    let mut options = options(nobody, "g", "t");
    options.startup = Duration::from_secs(2);
    let error = refused(options).await;
    assert!(
        matches!(&error, RunError::Unreachable { servers, .. } if servers == "127.0.0.1:1"),
        "{error}"
    );
    assert!(error.to_string().contains("refused"), "{error}");
    assert_eq!(error.kind(), RunErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_the_broker_does_not_take_is_no_unreachable_broker() {
    let stranger = KafkaSettings {
        security_protocol: SecurityProtocol::SaslPlaintext,
        sasl_mechanism: Some("PLAIN".into()),
        sasl_username: Some("nobody".into()),
        sasl_password: Some("wrong".into()),
        ..settings()
    };
    let mut options = options(stranger, "g", "t");
    options.startup = Duration::from_secs(100);
    let error = refused(options).await;
    assert!(matches!(error, RunError::Authentication { .. }), "{error}");
    assert_eq!(error.kind(), RunErrorKind::Repair);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_property_is_refused_before_connecting() {
    let error = refused(options(with(&[("enable.auto.commit", "true")]), "g", "t")).await;
    assert_eq!(error.kind(), RunErrorKind::Usage);
    assert!(error.to_string().contains("enable.auto.commit"), "{error}");
}
