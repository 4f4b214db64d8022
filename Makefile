# One command per chore, the same on a laptop and in CI.

.PHONY: demo image test check bench growth lag copying million takeovers clients fuzz ssh-audit sbom prepare

# A master, a standby and the mirror between them on this machine, until Ctrl-C.
demo:
	@cargo build --release --quiet --workspace
	@./target/release/demo

# The image of all programs, as the compose files build it at their first start.
image:
	docker build --file docker/Dockerfile --tag sftp-ha:local .

# Everything: installs what it needs (as root, on Debian), then checks and tests.
test: prepare check
	cargo build --workspace
	@tests/ssh-audit "$${CARGO_TARGET_DIR:-./target}/debug/sftpd"
	@if command -v cargo-nextest >/dev/null; then cargo nextest run --workspace --no-fail-fast; \
	else cargo test --workspace --no-fail-fast; fi

# What needs no running program.
check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@tests/deny

# Our speed beside OpenSSH's, rclone's and ProFTPD's, in one run (as root; rclone, and proftpd-core with proftpd-mod-crypto, where they are to be seen; 20 minutes).
bench:
	@cargo build --release --quiet --workspace
	@./target/release/bench

# What sftpd and filesync cost while the work grows, as charts in docs/growth.md (as root; 10 GB of disk, 12 GB of memory or disk, half an hour).
growth:
	@cargo build --release --quiet --workspace
	@./target/release/growth

# How far a standby is behind, beside lsyncd where that is installed.
lag:
	@cargo build --release --quiet --workspace
	@./target/release/lag

# How long an empty standby takes to get a tree, beside rsync, rclone and sftp (as root).
copying:
	@cargo build --release --quiet --workspace
	@./target/release/copying

# A pass over a million unchanged files: seconds and memory, beside rsync (as root; 10 GB of disk, half an hour).
million:
	@cargo build --release --quiet --workspace
	@./target/release/million

# How long clients wait at a switchover or a promotion; then 300 takeovers under load with faults (half an hour).
takeovers:
	@cargo build --release --quiet --workspace
	@./target/release/takeovers
	@cargo build --quiet --workspace
	@TAKEOVERS=300 cargo test --quiet -p tests --test takeovers -- --nocapture

# The matrix of clients in docs/clients.md, with files of full size. FileZilla: packages filezilla, xvfb, xdotool.
clients: prepare
	@cargo build --release --quiet --workspace
	@[ -x target/python/bin/python ] || python3 -m venv target/python
	@target/python/bin/pip install --quiet paramiko asyncssh
	@CLIENTS_PYTHON=target/python/bin/python ./target/release/clients

# Every fuzzer for a while, from the kept corpus (the nightly compiler and cargo-fuzz).
FUZZ_SECONDS ?= 600
fuzz:
	@tests/fuzz $(FUZZ_SECONDS)

# What is built in, as CycloneDX: one file a program in target/sbom (cargo install cargo-cyclonedx --locked).
sbom:
	@tests/sbom

# What the daemon offers to clients, beside our policy (ssh-audit from PyPI).
ssh-audit:
	@cargo build --release --quiet -p sftpd
	@tests/ssh-audit

prepare:
	@tests/prepare
