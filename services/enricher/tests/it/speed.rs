//! How fast a release build drains a backlog of five minutes at 3,333 events per second, and in how much memory. Not part of the usual run:
//! `cargo build --release -p enricher && ENRICHER_BIN=target/release/enricher cargo test -p enricher --test it -- --ignored --nocapture`

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::process::Process;
use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, meaningful for a release build only"]
async fn a_backlog_of_a_million_changes_drains_at_fifty_thousand_per_second_and_core_in_100_mib() {
    const EACH: i64 = 62_500;
    const PARTITIONS: i32 = 16;
    let world = World::new(PARTITIONS).await;
    world.publish_content();
    let changes = World::inserts(1..=EACH);
    for partition in 0..PARTITIONS {
        world
            .broker
            .produce(&world.config.input.cdc_topic, partition, &changes);
    }
    let process = Process::start(&world);
    let ends = || {
        (0..PARTITIONS)
            .map(|partition| world.broker.end(&world.config.output.topic, partition))
            .sum::<i64>()
    };
    while ends() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (started, cpu, mut peak) = (Instant::now(), process.cpu_seconds(), 0);
    while ends() < EACH * i64::from(PARTITIONS) {
        peak = peak.max(process.resident_kib());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let events = f64::from(u32::try_from(EACH).unwrap()) * f64::from(PARTITIONS);
    let (wall, cpu) = (started.elapsed().as_secs_f64(), process.cpu_seconds() - cpu);
    let (per_wall, per_cpu) = (events / wall, events / cpu);
    println!(
        "{events} events: {wall:.1} s, {cpu:.1} s of processor time; {per_wall:.0}/s, {per_cpu:.0}/s and core; {peak} KiB resident at most"
    );
    assert!(peak <= 100 * 1024, "{peak} KiB resident");
    assert!(
        per_cpu >= 50_000.0,
        "{per_cpu:.0} events per second and core"
    );
    process.kill9();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, meaningful for a release build only"]
async fn what_traces_cost_for_each_event() {
    const EACH: i64 = 31_250;
    const PARTITIONS: i32 = 16;
    let collector = collector();
    let changes = World::inserts(1..=EACH);
    for share in ["off", "0", "0.01", "1", "off", "0.01"] {
        let world = World::new(PARTITIONS).await;
        world.publish_content();
        for partition in 0..PARTITIONS {
            let topic = &world.config.input.cdc_topic;
            world.broker.produce(topic, partition, &changes);
        }
        let traced = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.as_str()),
            ("OTEL_TRACES_SAMPLER_ARG", share),
        ];
        let process = Process::with(&world, if share == "off" { &[] } else { &traced });
        let ends = || {
            (0..PARTITIONS)
                .map(|partition| world.broker.end(&world.config.output.topic, partition))
                .sum::<i64>()
        };
        while ends() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let cpu = process.cpu_seconds();
        while ends() < EACH * i64::from(PARTITIONS) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let events = f64::from(u32::try_from(EACH).unwrap()) * f64::from(PARTITIONS);
        let each = (process.cpu_seconds() - cpu) * 1e6 / events;
        println!("share {share}: {each:.2} us of processor time for each of {events} events");
        process.kill9();
    }
}

/// Takes what is sent to it and forgets it.
fn collector() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || swallow(stream.unwrap()));
        }
    });
    url
}

fn swallow(stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut line) = (0, String::new());
        while reader.read_line(&mut line).ok()? > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        reader.get_mut().write_all(answer).ok()?;
    }
}
