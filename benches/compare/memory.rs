//! The most memory the node ever holds while a lot of data passes, and whether that grows with it.

use crate::Sizes;
use crate::pair::{Pair, Side};
use crate::report::{Goal, Report};
use crate::sequential;

/// Measures the group.
pub fn measure(sizes: &Sizes, report: &mut Report) {
    let pair = Pair::new(sizes.pass_mib * 2 + 1024, sizes.noise);
    let file = pair.root(Side::Bucket).join("passing");
    let idle = pair.memory_peak_mib();
    let part = sizes.pass_mib / 8;
    sequential::write(&file, part);
    sequential::read(&file);
    let early = pair.memory_peak_mib();
    sequential::write(&file, sizes.pass_mib);
    sequential::read(&file);
    let name = format!("memory peak, {} MiB written and read", sizes.pass_mib);
    report.add(&name, "MiB", Goal::Most(512.0), Side::Bucket, pair.memory_peak_mib());
    report.note(format!(
        "Memory peak of the node: {idle:.0} MiB idle, {early:.0} MiB after the first {part} MiB."
    ));
}
