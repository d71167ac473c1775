//! Counters for people (a table) and for programs (JSON).

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use rvmm_abi::{StatsKind, StatsScope};
use rvmm_arch::stats::{hot_place, Counter};
use rvmm_patcher::tactic::JumpRefusal;
use rvmm_patcher::{table, SiteReason, Tactic};
use serde_json::{Map, Value};

use crate::cli::StatsFormat;
use crate::engine::Rvmm;
use crate::error::Error;

/// A counter's name and value.
pub type Named = (String, u64);

/// The module's counters by name; `this` is the VM that `rvmm` was made for, or all VMs of a device.
pub fn read(rvmm: &Rvmm, scope: StatsScope) -> Result<Vec<Named>, Error> {
    let counters = rvmm.stats(scope, StatsKind::Counters)?;
    let names = Counter::ALL.iter().map(|counter| counter.name().to_string());
    let mut named = pair(names, &counters.values);
    named.push(("vms.live".into(), counters.live_vms.into()));
    named.push(("vms.made".into(), counters.made_vms.into()));
    for (kind, names) in [(StatsKind::Reasons, reason_names()), (StatsKind::Sites, site_names())] {
        match rvmm.stats(scope, kind) {
            // Most rows have none; zeroes would drown the rest.
            Ok(reply) => named.extend(
                pair(names.into_iter(), &reply.values)
                    .into_iter()
                    .filter(|(_, value)| kind != StatsKind::Sites || *value != 0),
            ),
            Err(error) => tracing::debug!("the module does not tell {kind:?}: {error}"),
        }
    }
    match rvmm.stats(scope, StatsKind::Hottest) {
        Ok(reply) => named.extend(hot_places(&reply.values)),
        Err(error) => tracing::debug!("the module does not tell the hottest places: {error}"),
    }
    Ok(named)
}

/// What the names of guest instructions that cost many exits begin with.
const HOT: &str = "hot.";
/// Of them, those in the table for people; programs get all.
const HOTTEST_SHOWN: usize = 40;

/// Pairs of a place's key and its exits, the hottest first.
fn hot_places(values: &[u64]) -> Vec<Named> {
    let mut places: Vec<Named> = values
        .chunks_exact(2)
        .filter(|pair| pair[1] != 0)
        .map(|pair| {
            let (at, cause) = hot_place(pair[0]);
            let cause = cause.map_or("unknown", |counter| counter.name());
            (format!("{HOT}{at:#010x}.{cause}"), pair[1])
        })
        .collect();
    places.sort_by_key(|place| std::cmp::Reverse(place.1));
    places
}

/// What the names of sites by instruction and tactic begin with.
const SITE: &str = "site.";

fn site_names() -> Vec<String> {
    table::ROWS.iter().flat_map(|row| Tactic::ALL.map(|tactic| site_name(row.name, tactic))).collect()
}

fn site_name(row: &str, tactic: Tactic) -> String {
    format!("{SITE}{}.{}", row.replace(' ', "_"), tactic.name())
}

/// Why sites have an int3, and why sites have no jump.
fn reason_names() -> Vec<String> {
    let sites = SiteReason::ALL.map(|reason| format!("int3.{}", reason.name().replace('-', "_")));
    let refusals = JumpRefusal::ALL.map(|refusal| format!("no_jump.{}", refusal.name().replace('-', "_")));
    sites.into_iter().chain(refusals).collect()
}

/// Names and values; values without a name (a newer module's) are numbered.
fn pair(names: impl Iterator<Item = String>, values: &[u64]) -> Vec<Named> {
    let mut names = names.fuse();
    values
        .iter()
        .enumerate()
        .map(|(index, value)| (names.next().unwrap_or_else(|| format!("unknown.{index}")), *value))
        .collect()
}

/// The counters in the wanted form, with a final newline.
pub fn format(counters: &[Named], format: StatsFormat) -> String {
    match format {
        StatsFormat::Json => {
            let map: Map<String, Value> =
                counters.iter().map(|(name, value)| (name.clone(), Value::from(*value))).collect();
            format!("{}\n", Value::Object(map))
        }
        StatsFormat::Table => {
            let (sites, counters): (Vec<&Named>, Vec<&Named>) =
                counters.iter().partition(|(name, _)| name.starts_with(SITE));
            let (hot, counters): (Vec<&Named>, Vec<&Named>) =
                counters.into_iter().partition(|(name, _)| name.starts_with(HOT));
            let rows = counters.into_iter().map(|(name, value)| vec![name.clone(), grouped(*value)]);
            let mut text = table_text(vec!["counter", "value"], rows);
            if !sites.is_empty() {
                text.push('\n');
                text.push_str(&site_table(&sites));
            }
            if !hot.is_empty() {
                text.push('\n');
                text.push_str(&hot_table(&hot));
            }
            text
        }
    }
}

/// One line for each instruction, one column for each tactic that counts its sites.
fn site_table(sites: &[&Named]) -> String {
    const TACTICS: [Tactic; 2] = [Tactic::Int3, Tactic::Jump];
    let count = |row: &str, tactic| {
        let name = site_name(row, tactic);
        sites.iter().find(|site| site.0 == name).map_or(0, |site| site.1)
    };
    let rows = table::ROWS.iter().filter_map(|row| {
        let counts = TACTICS.map(|tactic| count(row.name, tactic));
        let cells = std::iter::once(row.name.to_string()).chain(counts.into_iter().map(grouped));
        counts.iter().any(|value| *value != 0).then(|| cells.collect())
    });
    let header = std::iter::once("sites of").chain(TACTICS.map(Tactic::name)).collect();
    table_text(header, rows)
}

/// The guest instructions that cost the most exits.
fn hot_table(hot: &[&Named]) -> String {
    let rows = hot.iter().filter_map(|(name, exits)| {
        let (at, cause) = name.strip_prefix(HOT)?.split_once('.')?;
        Some(vec![at.to_string(), grouped(*exits), cause.to_string()])
    });
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(vec!["hottest at", "exits", "counted as"]).add_rows(rows.take(HOTTEST_SHOWN));
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{}\n", table.trim_fmt())
}

/// A table whose first column is text; the others are numbers.
fn table_text(header: Vec<&str>, rows: impl Iterator<Item = Vec<String>>) -> String {
    let numbers = 1..header.len();
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(header).add_rows(rows);
    for index in numbers {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{}\n", table.trim_fmt())
}

/// Digits in groups of three.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn json_is_an_object_of_numbers() {
        let text = format(&[("a.b".into(), 7), ("c".into(), u64::MAX)], StatsFormat::Json);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["a.b"], 7);
        assert_eq!(value["c"], u64::MAX);
    }

    #[test]
    fn the_table_names_every_counter() {
        let text = format(&[("exit.gp".into(), 12_345)], StatsFormat::Table);
        assert!(text.contains("exit.gp"), "{text}");
        assert!(text.contains("12,345"), "{text}");
    }

    #[test]
    fn sites_have_a_table_of_their_own() {
        let counters = [("exit.gp".into(), 1), ("site.popf.int3".into(), 1_200), ("site.popf.jump".into(), 7)];
        let text = format(&counters, StatsFormat::Table);
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let expected: [&[&str]; 5] =
            [&["counter", "value"], &["exit.gp", "1"], &[], &["sites", "of", "int3", "jump"], &["popf", "1,200", "7"]];
        assert_eq!(words, expected);
    }

    #[test]
    fn the_hottest_places_come_first_with_address_and_cause() {
        let key = rvmm_arch::stats::hot_key;
        let high = key(0xffff_ffff_c100_0001, Counter::InterpretedSite);
        let values = [high, 64, 0, 0, key(0x10, Counter::InterpretedMmio), 1280];
        let named = hot_places(&values);
        assert_eq!(named[0], ("hot.0x00000010.interp.mmio".to_string(), 1280));
        assert_eq!(named.len(), 2, "unused pairs are left out");
        let text = format(&named, StatsFormat::Table);
        let last: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(last, ["0xffffffffc1000001", "64", "interp.site"]);
    }

    #[test]
    fn every_site_and_reason_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<String> = site_names().into_iter().chain(reason_names()).collect();
        assert_eq!(names.len(), table::ROW_COUNT * Tactic::ALL.len() + SiteReason::ALL.len() + JumpRefusal::COUNT);
        assert!(names.iter().all(|name| !name.contains(' ')));
    }

    #[test]
    fn values_of_a_newer_module_are_not_lost() {
        let named = pair(["one".to_string()].into_iter(), &[1, 2]);
        assert_eq!(named, [("one".to_string(), 1), ("unknown.1".to_string(), 2)]);
    }
}
