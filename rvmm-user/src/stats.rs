//! Counters for people (a table) and for programs (JSON).

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use rvmm_abi::{StatsKind, StatsScope};
use rvmm_arch::stats::Counter;
use rvmm_patcher::{table, Tactic};
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
    match rvmm.stats(scope, StatsKind::Sites) {
        Ok(sites) => {
            let names = table::ROWS.iter().flat_map(|row| Tactic::ALL.map(|tactic| site_name(row.name, tactic)));
            // Most rows have none; zeroes would drown the rest.
            named.extend(pair(names, &sites.values).into_iter().filter(|(_, value)| *value != 0));
        }
        Err(error) => tracing::debug!("no counts of sites: {error}"),
    }
    Ok(named)
}

fn site_name(row: &str, tactic: Tactic) -> String {
    format!("site.{}.{}", row.replace(' ', "_"), tactic.name())
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
            let mut table = Table::new();
            table.load_preset(NOTHING).set_header(["counter", "value"]);
            for (name, value) in counters {
                table.add_row([name.clone(), grouped(*value)]);
            }
            if let Some(column) = table.column_mut(1) {
                column.set_cell_alignment(CellAlignment::Right);
            }
            format!("{}\n", table.trim_fmt())
        }
    }
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
    fn values_of_a_newer_module_are_not_lost() {
        let named = pair(["one".to_string()].into_iter(), &[1, 2]);
        assert_eq!(named, [("one".to_string(), 1), ("unknown.1".to_string(), 2)]);
    }
}
