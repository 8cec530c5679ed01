//! The receiver over real HTTP.

use std::time::Duration;

use engagement::profile::{Profile, RenderOptions};
use engagement::testing::Sample;
use serde_json::{Value, json};

use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

struct Running {
    url: String,
    client: reqwest::Client,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), ReceiverError>>,
}

async fn start(secrets: &[&str]) -> Running {
    start_with(ReceiverOptions {
        secrets: secrets.iter().map(|s| (*s).into()).collect(),
        ..ReceiverOptions::default()
    })
    .await
}

async fn start_with(options: ReceiverOptions) -> Running {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let options = ReceiverOptions {
        addr: "127.0.0.1:0".parse().unwrap(),
        ..options
    };
    let receiver = Receiver::bind(&options).await.unwrap();
    let url = format!("http://{}", receiver.addr());
    let stop = CancellationToken::new();
    let task = tokio::spawn(receiver.run(stop.clone()));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    Running {
        url,
        client,
        stop,
        task,
    }
}

impl Running {
    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.client.post(format!("{}{path}", self.url)).json(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> Value {
        let response = self.client.get(format!("{}{path}", self.url)).send().await;
        response.unwrap().json().await.unwrap()
    }

    async fn end(self) {
        drop(self.client);
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn body(event_id: i64) -> Value {
    let event = Sample::new().event_id(event_id).build();
    Profile::Canonical.value(&event, &RenderOptions::default())
}

#[tokio::test]
async fn objects_arrays_and_batches_are_taken_and_counted() {
    let receiver = start(&[]).await;
    assert_eq!(
        receiver.post("/webhook", &json!({"data": body(1)})).await.0,
        200
    );
    assert_eq!(receiver.post("/events", &body(2)).await.0, 200);
    assert_eq!(
        receiver.post("/events", &json!([body(2), body(3)])).await.0,
        200
    );
    let (status, answer) = receiver
        .post("/batch", &json!([body(4), {}, body(5)]))
        .await;
    assert_eq!(status, 207);
    let items = json!([{"status": 200}, {"status": 422}, {"status": 200}]);
    assert_eq!(answer, json!({"accepted": 2, "items": items}));
    let stats = receiver.get("/stats").await;
    assert_eq!(stats["requests"], 4);
    assert_eq!(stats["events"], 6);
    assert_eq!(stats["unique_events"], 5);
    assert_eq!(stats["duplicates"], 1);
    assert_eq!(stats["malformed"], 1);
    assert!(stats["freshness_ms"]["p99"].as_u64().is_some());
    assert_eq!(
        receiver
            .get("/events?limit=3")
            .await
            .as_array()
            .unwrap()
            .len(),
        3
    );
    assert_eq!(receiver.get("/health").await["status"], "ok");
    receiver.end().await;
}

#[tokio::test]
async fn malformed_bodies_are_refused_and_counted() {
    let receiver = start(&[]).await;
    for bad in ["", "{", "7", "\"x\"", "[1", "{}", "\u{0}"] {
        let request = receiver.client.post(format!("{}/webhook", receiver.url));
        let status = request.body(bad).send().await.unwrap().status();
        assert!(status.is_client_error(), "{bad:?}: {status}");
    }
    let stats = receiver.get("/stats").await;
    assert_eq!(stats["malformed"], 7);
    assert_eq!(stats["events"], 0);
    receiver.end().await;
}

#[tokio::test]
async fn with_secrets_only_signed_requests_are_taken() {
    let receiver = start(&[SECRET]).await;
    assert_eq!(receiver.post("/webhook", &body(1)).await.0, 401);
    let text = body(1).to_string();
    let now = service::clock::now() / 1_000_000;
    let webhook = standardwebhooks::Webhook::new(SECRET).unwrap();
    let signature = webhook.sign("msg_1", now, text.as_bytes()).unwrap();
    let request = receiver
        .client
        .post(format!("{}/webhook", receiver.url))
        .header("webhook-id", "msg_1")
        .header("webhook-timestamp", now)
        .header("webhook-signature", signature)
        .body(text);
    assert_eq!(request.send().await.unwrap().status(), 200);
    let stats = receiver.get("/stats").await;
    assert_eq!(stats["signature_failures"], 1);
    assert_eq!(stats["events"], 1);
    assert_eq!(receiver.get("/events").await[0]["webhook_id"], "msg_1");
    receiver.end().await;
}

#[tokio::test]
async fn faults_fail_and_slow_requests_and_take_nothing() {
    let receiver = start(&[]).await;
    let put = |faults: Value| {
        let request = receiver.client.put(format!("{}/faults", receiver.url));
        async move { request.json(&faults).send().await.unwrap().status() }
    };
    assert_eq!(
        put(json!({"fail_percent": 100, "slow_ms": 30, "status": 418})).await,
        200
    );
    let begin = std::time::Instant::now();
    assert_eq!(receiver.post("/webhook", &body(1)).await.0, 418);
    assert!(begin.elapsed() >= Duration::from_millis(30));
    assert_eq!(put(json!({"fail_percent": 200})).await, 422);
    assert_eq!(receiver.get("/faults").await["status"], 418);
    assert_eq!(put(json!({})).await, 200);
    assert_eq!(receiver.post("/webhook", &body(1)).await.0, 200);
    let stats = receiver.get("/stats").await;
    assert_eq!(
        (&stats["faults_injected"], &stats["events"]),
        (&json!(1), &json!(1))
    );
    receiver.end().await;
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let receiver = start(&[]).await;
    let page = receiver.client.get(&receiver.url).send().await.unwrap();
    let text = page.text().await.unwrap();
    assert!(text.starts_with("<!doctype html>"));
    assert!(!text.contains("http://") && !text.contains("https://"));
    receiver.end().await;
}

#[tokio::test]
async fn a_port_in_use_and_a_bad_secret_are_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = ReceiverOptions {
        addr: taken.local_addr().unwrap(),
        ..ReceiverOptions::default()
    };
    let error = Receiver::bind(&options).await.unwrap_err().to_string();
    assert!(error.contains(&options.addr.to_string()), "{error}");
    options.secrets = vec![SECRET.into(), "nonsense!".into()];
    let error = Receiver::bind(&options).await.unwrap_err().to_string();
    assert!(
        error.contains("number 2") && !error.contains("nonsense"),
        "{error}"
    );
}

#[tokio::test]
async fn what_was_recorded_is_known_after_a_restart_and_told_slot_by_slot() {
    use ::verify::delivery::{Delivered, Page, SLOTS, Summary, hash_of, key_of, slot_of};

    let dir = tempfile::tempdir().unwrap();
    let recording = || ReceiverOptions {
        record: Some(dir.path().join("deliveries")),
        ..ReceiverOptions::default()
    };
    let receiver = start_with(recording()).await;
    for id in [1, 2, 2] {
        assert_eq!(receiver.post("/webhook", &body(id)).await.0, 200);
    }
    receiver.end().await;
    let receiver = start_with(recording()).await;
    assert_eq!(receiver.post("/webhook", &body(1)).await.0, 200);
    let stats = receiver.get("/stats").await;
    assert_eq!(
        (&stats["unique_events"], &stats["duplicates"]),
        (&json!(2), &json!(2))
    );
    let summary: Summary = serde_json::from_value(receiver.get("/deliveries").await).unwrap();
    assert_eq!((summary.slots.len(), summary.repeats), (SLOTS, 2));
    let key = key_of("1/42000/false");
    let path = format!("/deliveries/{}", slot_of(key));
    let Page(page) = serde_json::from_value(receiver.get(&path).await).unwrap();
    let hash = hash_of(body(1).to_string().as_bytes());
    assert_eq!(page, [Delivered::Live(key, hash)]);
    let behind = format!("{path}?after={key}");
    assert_eq!(receiver.get(&behind).await, json!([]));
    receiver.end().await;
}

#[tokio::test]
async fn the_run_of_a_delivery_is_that_of_its_header_also_after_a_restart() {
    use ::verify::delivery::{Delivered, Page, RunSum, Summary, key_of, slot_of};

    let dir = tempfile::tempdir().unwrap();
    let recording = || ReceiverOptions {
        record: Some(dir.path().join("deliveries")),
        ..ReceiverOptions::default()
    };
    let receiver = start_with(recording()).await;
    assert_eq!(receiver.post("/webhook", &body(1)).await.0, 200);
    for id in [2, 3, 3] {
        let request = receiver.client.post(format!("{}/webhook", receiver.url));
        let request = request.header("engage-backfill-run", "1767882112123");
        let answer = request.json(&body(id)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    receiver.end().await;
    let receiver = start_with(recording()).await;
    let summary: Summary = serde_json::from_value(receiver.get("/deliveries").await).unwrap();
    let expected = RunSum {
        run: 1_767_882_112_123,
        messages: 2,
        repeats: 1,
    };
    assert_eq!(summary.runs, Some(vec![expected]));
    let alone = receiver.get("/deliveries?run=1767882112123").await;
    let alone: Summary = serde_json::from_value(alone).unwrap();
    let slot = slot_of(key_of("2/42000/false"));
    assert_eq!(alone.slots[slot].0, 1);
    assert_eq!(alone.slots.iter().map(|slot| slot.0).sum::<u64>(), 2);
    let page = receiver.get(&format!("/deliveries/{slot}")).await;
    let Page(page) = serde_json::from_value(page).unwrap();
    assert!(
        matches!(page[..], [Delivered::Past(_, _, 1_767_882_112_123)]),
        "{page:?}"
    );
    receiver.end().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_recorded_to_is_named() {
    let options = ReceiverOptions {
        addr: "127.0.0.1:0".parse().unwrap(),
        record: Some("/no/such/directory/deliveries".into()),
        ..ReceiverOptions::default()
    };
    let error = Receiver::bind(&options).await.unwrap_err().to_string();
    assert!(
        error.contains("/no/such/directory") && error.contains("--record"),
        "{error}"
    );
}
