//! qcow2 images that are damaged anywhere: opened or refused; reads and writes of them end, with data or with an error. PROPTEST_CASES=N
//! runs longer.

use std::fs::{self, OpenOptions};

use proptest::prelude::*;

use super::qcow2::Qcow2;
use super::testing::scratch;
use super::Disk;

const CLUSTER: usize = 0x1_0000;

/// A version 3 image of 1 MiB: header, refcount table, refcount block, L1 table, one L2 table and one cluster of data.
fn image() -> Vec<u8> {
    let mut file = vec![0u8; 6 * CLUSTER];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xFB");
    for (at, value) in [(4, 3u32), (20, 16), (36, 1), (56, 1), (96, 4), (100, 104)] {
        put(at, &value.to_be_bytes());
    }
    let cluster = |n: u64| n * CLUSTER as u64;
    for (at, value) in [(24, 1 << 20), (40, cluster(3)), (48, cluster(1))] {
        put(at, &u64::to_be_bytes(value));
    }
    put(CLUSTER, &cluster(2).to_be_bytes());
    for n in 0..6 {
        put(2 * CLUSTER + 2 * n, &1u16.to_be_bytes());
    }
    put(3 * CLUSTER, &(cluster(4) | 1 << 63).to_be_bytes());
    put(4 * CLUSTER, &(cluster(5) | 1 << 63).to_be_bytes());
    file[5 * CLUSTER..].fill(0x5A);
    file
}

/// Where damage counts: the header and the heads of the tables.
fn place() -> impl Strategy<Value = usize> {
    (0..5usize, 0..128usize).prop_map(|(cluster, at)| cluster * CLUSTER + at)
}

fn open(name: &str, bytes: &[u8]) -> Option<Qcow2> {
    let path = scratch(name);
    fs::write(&path, bytes).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    Qcow2::new(file, &path, 512, true).ok()
}

#[test]
fn the_undamaged_one_is_read() {
    let mut disk = open("undamaged.qcow2", &image()).unwrap();
    let mut data = [0; 512];
    disk.read(0, &mut data).unwrap();
    assert_eq!(data, [0x5A; 512]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_image_is_opened_or_refused(
        changes in prop::collection::vec((place(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.1, 0..6 * CLUSTER),
        accesses in prop::collection::vec((0u64..2100, any::<bool>()), 0..8),
    ) {
        let mut bytes = image();
        for (at, value) in changes {
            bytes[at] = value;
        }
        bytes.truncate(cut.unwrap_or(bytes.len()));
        if let Some(mut disk) = open("damaged.qcow2", &bytes) {
            for (sector, write) in accesses {
                let mut data = [0; 1024];
                let _ = if write { disk.write(sector * 512, &data).map(drop) } else { disk.read(sector * 512, &mut data).map(drop) };
            }
            let _ = disk.flush();
        }
    }
}
