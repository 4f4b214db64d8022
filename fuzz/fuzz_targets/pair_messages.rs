//! What the machines of a pair, and the programs of one machine, tell each other.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| sftpd::fuzzing::pair_messages(text));
