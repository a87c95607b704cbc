# One line per habit.

default:
    @just --list

# Three nodes in one process, with Redis ports.
demo *arguments:
    scripts/demo {{arguments}}

# Everything that a commit has to keep green; the same as CI.
test:
    scripts/test

verify: test

# Criterion benchmarks; the figures go to docs/benchmarks.md with their conditions.
bench *arguments:
    cargo bench -p quorate-benches -- {{arguments}}

# Instructions per operation against benches/instructions.tsv; --update writes it.
instructions *arguments:
    scripts/instructions {{arguments}}

# What takes longer than CI may: many seeds, fresh property cases, many power losses, long chaos.
soak:
    cargo run --release -p quorate-sim -- many 10000
    PROPTEST_CASES=4096 cargo test --release --workspace --lib
    QUORATE_POWER_ROUNDS=100 cargo test --release -p quorate-tests --test power_loss -- --nocapture
    QUORATE_SNAPSHOT_CUTS=1500 cargo test --release -p quorate-tests --test snapshot_power_loss -- --nocapture
    QUORATE_CHAOS_SECONDS=600 QUORATE_SNAPSHOT_MIB=1024 cargo test --release -p quorate-tests --test process -- --nocapture
    cargo test --release -p quorate-tests --test process -- --ignored rejoin --nocapture
    scripts/overwrites 600

# One seed of the simulated world.
sim seed:
    cargo run --release -p quorate-sim -- seed {{seed}}

# Many seeds of the simulated world, on all cores; `just sim-many 1000 --first 5000`.
sim-many count *arguments:
    cargo run --release -p quorate-sim -- many {{count}} {{arguments}}

# Each deliberate bug has to be caught by a property; prints which, and in which seed.
mutants *arguments:
    cargo run --release -p quorate-sim --features mutants -- mutants {{arguments}}

# Changes the pure crates, or these files, line by line; prints the changes that no test notices.
mutate *files:
    scripts/mutate {{files}}

doc:
    cargo doc --workspace --no-deps --open
