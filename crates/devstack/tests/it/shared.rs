//! The stack that all tests of this binary share.

use devstack::{Needs, shared_for_tests};

#[tokio::test]
async fn a_shared_stack_is_the_same_in_every_test() {
    let stack = shared_for_tests(Needs::none().redis());
    assert!(stack.redis().is_running());
    let again = tokio::task::spawn_blocking(|| shared_for_tests(Needs::none().redis()))
        .await
        .unwrap();
    assert_eq!(stack.redis().pid(), again.redis().pid());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_stack_grows_with_what_is_asked_for() {
    let stack = shared_for_tests(Needs::none().redis());
    let stack_with_more = shared_for_tests(Needs::all());
    assert_eq!(stack.redis().pid(), stack_with_more.redis().pid());
    for server in [
        &**stack.postgres(),
        &**stack.kafka(),
        &**stack.connect(),
        &**stack.redis(),
        &**stack.clickhouse(),
    ] {
        assert!(server.is_running(), "{}", server.kind());
        assert!(server.log_path().starts_with(stack.dir()));
    }
}
