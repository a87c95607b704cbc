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
    QUORATE_SEEDS=20000 cargo test --release -p quorate-sim --test smoke -- --nocapture
    PROPTEST_CASES=4096 cargo test --release --workspace --lib
    QUORATE_POWER_ROUNDS=100 cargo test --release -p quorate-tests --test power_loss -- --nocapture
    QUORATE_CHAOS_SECONDS=600 cargo test --release -p quorate-tests --test process -- --nocapture

# One seed of the simulated world.
sim seed:
    QUORATE_SEED={{seed}} cargo test --release -p quorate-sim --test smoke one_seed -- --nocapture

doc:
    cargo doc --workspace --no-deps --open
