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

# What takes longer than CI may: many seeds, many power losses.
soak:
    QUORATE_SEEDS=20000 cargo test --release -p quorate-sim --test smoke -- --nocapture
    QUORATE_POWER_ROUNDS=100 cargo test --release -p quorate-tests --test power_loss -- --nocapture

# One seed of the simulated world.
sim seed:
    QUORATE_SEED={{seed}} cargo test --release -p quorate-sim --test smoke one_seed -- --nocapture

doc:
    cargo doc --workspace --no-deps --open
