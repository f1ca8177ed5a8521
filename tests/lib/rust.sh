# shellcheck shell=bash
# The Rust toolchain: the machine's own when it is new enough, else the distribution's newer one.

RUST_MINIMUM=91 # of 1.91, the first cargo that knows the target "host-tuple" (.cargo/config.toml)

need_rust() {
  local minor
  need cc=gcc || return 1
  if minor=$(rust_minor) && [ "$minor" -ge "$RUST_MINIMUM" ]; then
    return
  fi
  say "no cargo of at least 1.$RUST_MINIMUM here; trying the distribution's cargo-web"
  install_packages cargo-web rustc-web rustfmt-web rust-web-clippy libc6-dev || return 1
  hash -r
  minor=$(rust_minor) && [ "$minor" -ge "$RUST_MINIMUM" ] && return
  say "still no cargo of at least 1.$RUST_MINIMUM: install one with rustup (https://rustup.rs)"
  return 1
}

rust_minor() { cargo --version 2>/dev/null | sed -nE 's/^cargo 1\.([0-9]+)\..*/\1/p' | grep .; }

# built NAME: where `cargo build --release` leaves the program NAME.
built() {
  local target
  target=$(rustc -vV | sed -n 's/^host: //p')
  printf '%s\n' "${CARGO_TARGET_DIR:-$CHECKOUT/target}/$target/release/$1"
}

# The programs, as a user would build them. One package a command: cargo unifies features within one.
build_programs() {
  (
    cd "$CHECKOUT" || exit
    cargo build --quiet --locked --release --package oci-hook
    cargo build --quiet --locked --release --package oci-hook --bin oci-hook-inject --features inject
    cargo build --quiet --locked --release --package cdi-gen
  )
}

# cargo_tool NAME VERSION: makes sure of $CACHE/cargo-tools/bin/NAME, quickly built rather than fast.
cargo_tool() {
  local installed
  installed=$("$CACHE/cargo-tools/bin/$1" --version 2>/dev/null | sed 's/.* //') || true
  [ "$installed" = "$2" ] || {
    say "building $1 $2 (once, some minutes)"
    # Away from the checkout, whose configuration is for its own programs.
    (
      cd / || exit
      CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off \
        cargo install --quiet --locked --force --root "$CACHE/cargo-tools" --target-dir "$CACHE/cargo-tools/target" \
        "$1@$2" && rm -rf "$CACHE/cargo-tools/target"
    )
  }
}
