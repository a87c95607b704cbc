//! Stub.
use quorate_sim::{World, WorldConfig};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (first, count): (u64, u64) = (args[1].parse().expect("seed"), args.get(2).map_or(1, |c| c.parse().expect("count")));
    let begin = std::time::Instant::now();
    for seed in first..first + count {
        let at = std::time::Instant::now();
        match std::panic::catch_unwind(|| World::new(WorldConfig::new(seed)).run()) {
            Ok(Ok(report)) => println!("{seed} ok {} ms {report:?}", at.elapsed().as_millis()),
            Ok(Err(failure)) => println!("{}", failure),
            Err(_) => println!("{seed} panicked"),
        }
    }
    println!("{} ms", begin.elapsed().as_millis());
}
