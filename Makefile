# One command per chore, the same on a laptop and in CI.

.PHONY: demo test check bench prepare

# A master, a standby and the mirror between them on this machine, until Ctrl-C.
demo:
	@cargo build --release --quiet --workspace
	@./target/release/demo

# Everything: installs what it needs (as root, on Debian), then checks and tests.
test: prepare check
	cargo build --workspace
	cargo test --workspace --no-fail-fast -- --test-threads=4

# What needs no running program.
check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check; else echo "cargo-deny is not installed: skipped (cargo install cargo-deny)"; fi

# Our speed beside OpenSSH's, in one run.
bench:
	@cargo build --release --quiet --workspace
	@./target/release/bench

prepare:
	@tests/prepare
