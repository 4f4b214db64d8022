# One command per chore, the same on a laptop and in CI.

.PHONY: demo test check bench lag copying prepare

# A master, a standby and the mirror between them on this machine, until Ctrl-C.
demo:
	@cargo build --release --quiet --workspace
	@./target/release/demo

# Everything: installs what it needs (as root, on Debian), then checks and tests.
test: prepare check
	cargo build --workspace
	@if command -v cargo-nextest >/dev/null; then cargo nextest run --workspace --no-fail-fast; \
	else cargo test --workspace --no-fail-fast; fi

# What needs no running program.
check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@tests/deny

# Our speed beside OpenSSH's, in one run (as root).
bench:
	@cargo build --release --quiet --workspace
	@./target/release/bench

# How far a standby is behind, beside lsyncd where that is installed.
lag:
	@cargo build --release --quiet --workspace
	@./target/release/lag

# How long an empty standby takes to get a tree, beside rsync, rclone and sftp (as root).
copying:
	@cargo build --release --quiet --workspace
	@./target/release/copying

prepare:
	@tests/prepare
