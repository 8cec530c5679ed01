//! One target under libFuzzer; `FUZZ_TARGET` names it. `make fuzz` builds and starts it.
#![no_main]

use std::sync::LazyLock;

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.run)(data));

static TARGET: LazyLock<fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    fuzz::target(&name)
        .unwrap_or_else(|| panic!("FUZZ_TARGET={name} is none of {:?}", fuzz::TARGETS))
});
