use devstack::Stack;
use std::time::Instant;

#[tokio::test]
async fn timing() {
    for _ in 0..2 {
        for (n, b) in [
            ("redis", Stack::builder().redis()),
            ("postgres", Stack::builder().postgres()),
            ("clickhouse", Stack::builder().clickhouse()),
            ("kafka", Stack::builder().kafka()),
            ("all", Stack::builder().all()),
        ] {
            let t = Instant::now();
            let s = b.start().await.unwrap();
            let up = t.elapsed();
            let t = Instant::now();
            drop(s);
            eprintln!("{n} up {up:?} down {:?}", t.elapsed());
        }
    }
}
