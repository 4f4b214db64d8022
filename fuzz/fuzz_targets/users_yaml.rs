//! users.yaml as an admin may upload it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| sftpd::fuzzing::users_yaml(text));
