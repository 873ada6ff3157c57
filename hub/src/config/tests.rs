use std::path::PathBuf;

use super::*;

fn loaded(file: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hubd.toml");
    std::fs::write(&path, file).unwrap();
    load(&Layers {
        file: Some(path),
        file_if_present: None,
        variables: variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        flags: flags.iter().map(|(k, v)| (format!("--set {k}"), k.to_string(), v.to_string())).collect(),
    })
}

fn refused(file: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
    loaded(file, variables, flags).unwrap_err().to_string()
}

#[test]
fn the_printed_file_names_every_key_and_changes_nothing() {
    let printed = default_file();
    for key in keys() {
        assert!(printed.contains(&variable_name(key.name)), "{}", key.name);
    }
    assert_eq!(loaded(&printed, &[], &[]).unwrap(), load(&Layers::default()).unwrap());
}

#[test]
fn the_printed_file_with_every_default_uncommented_is_the_same() {
    let uncommented: String = default_file()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    assert!(uncommented.contains("\nfee_ppm = "));
    assert_eq!(loaded(&uncommented, &[], &[]).unwrap(), load(&Layers::default()).unwrap());
}

#[test]
fn flags_win_over_variables_over_the_file_over_the_defaults() {
    let file = "[policy]\nfee_ppm = 1\nfee_base_msat = 1\nminimum_depth = 1\n";
    let variables = [("HUBD_POLICY_FEE_PPM", "2"), ("HUBD_POLICY_FEE_BASE_MSAT", "2")];
    let config = loaded(file, &variables, &[("policy.fee_ppm", "3")]).unwrap();
    assert_eq!(config.policy.fee_ppm, 3);
    assert_eq!(config.policy.fee_base_msat, 2);
    assert_eq!(config.policy.minimum_depth, 1);
    assert_eq!(config.policy.dust_limit_sat, 354);
}

#[test]
fn a_network_with_money_is_refused() {
    let text = refused("network = \"bitcoin\"", &[], &[]);
    assert!(text.contains("network is \"bitcoin\", expected \"regtest\""), "{text}");
}

#[test]
fn an_error_names_the_source_the_key_what_was_found_and_what_is_expected() {
    let rows = [
        (
            refused("", &[("HUBD_POLICY_DUST_LIMIT_SAT", "100")], &[]),
            "the variable HUBD_POLICY_DUST_LIMIT_SAT: policy.dust_limit_sat is 100, expected a whole number from 354 to 10000",
        ),
        (
            refused("[policy]\ncltv_expiry_delta = 33", &[], &[]),
            "policy.cltv_expiry_delta is 33, expected a whole number from 34 to 2016",
        ),
        (
            refused("", &[], &[("operator.listen", "0.0.0.0:1")]),
            "the flag --set operator.listen: operator.listen is \"0.0.0.0:1\", expected a loopback address with a port",
        ),
        (refused("[log]\njson = 1", &[], &[]), "log.json is 1, expected true or false"),
        (
            refused("[policy]\nfee_pmm = 1", &[], &[]),
            "there is no key policy.fee_pmm; did you mean policy.fee_ppm?",
        ),
        (refused("[policy", &[], &[]), "is not TOML"),
        (
            refused(
                "[policy]\nmin_capacity_sat = 5000\nmax_capacity_sat = 4000\n[inbound]\nmax_channel_sat = 1",
                &[],
                &[],
            ),
            "policy.min_capacity_sat is 5000, which must not be above policy.max_capacity_sat, 4000",
        ),
    ];
    for (found, expected) in rows {
        assert!(found.contains(expected), "{found:?} does not contain {expected:?}");
    }
}

#[test]
fn a_missing_file_is_an_error_only_when_it_was_asked_for() {
    let path = PathBuf::from("/nonexistent/hubd.toml");
    let asked = load(&Layers { file: Some(path.clone()), ..Layers::default() }).unwrap_err().to_string();
    assert!(asked.contains("--print-config"), "{asked}");
    assert!(load(&Layers { file_if_present: Some(path), ..Layers::default() }).is_ok());
}

#[test]
fn text_needs_no_quotes_in_flags_and_variables() {
    let config = loaded("", &[("HUBD_LOG_FILTER", "debug")], &[("data_dir", "/somewhere")]).unwrap();
    assert_eq!(config.log.filter, "debug");
    assert_eq!(config.data_dir, PathBuf::from("/somewhere"));
}
